"""One segment file of an outbox lane: its records, and which of them still have to be delivered."""

from __future__ import annotations

import json
import re
import struct
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watchroom.signals import Lane

_HEAD = struct.Struct("<4sBBHIQI")
_CRC = struct.Struct("<I")
_MAGIC = b"WRO1"
HEAD_BYTES = _HEAD.size + _CRC.size
FRAME = 1
STATE = 2
_NAME = re.compile(r"([ud])-(\d{20})\.log")
_LETTER = {Lane.URGENT: "u", Lane.TELEMETRY: "d"}
_LANE = {letter: lane for lane, letter in _LETTER.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of a segment.

    Attributes:
        kind: FRAME, or STATE (JSON about the outbox itself).
        seq: Of a frame; of a state, the next seq at that moment.
        count: Samples or events of a frame, for the books of a loss.
        at: Where the payload starts in the file.
    """

    kind: int
    lane: Lane
    seq: int
    count: int
    payload: bytes
    at: int = 0


def pack(record: Record) -> bytes:
    """Return a record's bytes; the checksum covers head and payload."""
    head = _HEAD.pack(_MAGIC, record.kind, record.lane, 0, len(record.payload), record.seq, record.count)
    return head + _CRC.pack(zlib.crc32(record.payload, zlib.crc32(head))) + record.payload


def pack_state(lane: Lane, next_seq: int, state: dict[str, Any]) -> bytes:
    """Return a state record."""
    payload = json.dumps(state, separators=(",", ":")).encode()
    return pack(Record(kind=STATE, lane=lane, seq=next_seq, count=0, payload=payload))


def scan(data: bytes) -> Iterator[Record]:
    """Yield the undamaged records of a file; a damaged byte costs the record it stands in, not those behind it."""
    at = 0
    while len(data) - at >= HEAD_BYTES:
        record = _record(data, at)
        if record is not None:
            yield record
            at = record.at + len(record.payload)
            continue
        at = data.find(_MAGIC, at + 1)
        if at < 0:
            return


def is_torn(tail: bytes) -> bool:
    """Whether the bytes after the last good record are a write that a power cut ended.

    A record that was synced is as long as it says. One that runs beyond the end of the file was never committed,
    so that its seq was never seen outside; of anything else nobody can say so.
    """
    if len(tail) < HEAD_BYTES:
        return tail[: len(_MAGIC)] == _MAGIC[: len(tail)]
    magic, kind, lane, zero, size, seq, count = _HEAD.unpack_from(tail)
    if magic != _MAGIC or kind not in {FRAME, STATE} or lane > 1 or zero or HEAD_BYTES + size <= len(tail):
        return False
    # a whole record whose length is what was damaged
    payload = tail[HEAD_BYTES:]
    head = _HEAD.pack(magic, kind, lane, zero, len(payload), seq, count)
    crc: int = _CRC.unpack_from(tail, _HEAD.size)[0]
    return crc != zlib.crc32(payload, zlib.crc32(head))


def _record(data: bytes, at: int) -> Record | None:
    if len(data) - at < HEAD_BYTES:
        return None
    magic, kind, lane, _, size, seq, count = _HEAD.unpack_from(data, at)
    end = at + HEAD_BYTES + size
    if magic != _MAGIC or end > len(data) or lane > 1:
        return None
    payload = data[at + HEAD_BYTES : end]
    crc = _CRC.unpack_from(data, at + _HEAD.size)[0]
    if crc != zlib.crc32(payload, zlib.crc32(data[at : at + _HEAD.size])):
        return None
    return Record(kind=kind, lane=Lane(lane), seq=seq, count=count, payload=payload, at=at + HEAD_BYTES)


def segment_name(lane: Lane, first: int) -> str:
    """Return the file name of the lane's segment that was begun when ``first`` was the next seq."""
    return f"{_LETTER[lane]}-{first:020d}.log"


def parse_name(name: str) -> tuple[Lane, int] | None:
    """Return lane and first seq of a segment's file name, None for other files."""
    match = _NAME.fullmatch(name)
    return (_LANE[match[1]], int(match[2])) if match else None


@dataclass(slots=True, eq=False)
class Segment:
    """The index of one segment file; frames stand in rising order of seq.

    Attributes:
        size: Bytes of the file that count (a torn tail does not).
        open: Frames that still have to be delivered.
        open_bytes: Their payload bytes.
    """

    lane: Lane
    first: int
    path: Path
    size: int = 0
    open: int = 0
    open_bytes: int = 0
    _seq: array[int] = field(default_factory=lambda: array("Q"))
    _at: array[int] = field(default_factory=lambda: array("L"))
    _size: array[int] = field(default_factory=lambda: array("L"))
    _count: array[int] = field(default_factory=lambda: array("L"))
    _done: bytearray = field(default_factory=bytearray)
    _start: int = 0

    @property
    def last(self) -> int:
        """Seq of the last frame, 0 when there is none."""
        return self._seq[-1] if self._seq else 0

    @property
    def seqs(self) -> list[int]:
        """Seqs of all its frames, rising."""
        return self._seq.tolist()

    def add(self, seq: int, *, at: int, size: int, count: int) -> None:
        """Enter a frame that is durable now."""
        self._seq.append(seq)
        self._at.append(at)
        self._size.append(size)
        self._count.append(count)
        self._done.append(0)
        self.open += 1
        self.open_bytes += size

    def after(self, seq: int) -> int | None:
        """Return the first undelivered seq beyond ``seq``."""
        i = self._done.find(0, max(self._start, bisect_right(self._seq, seq)))
        return None if i < 0 else self._seq[i]

    def place(self, seq: int) -> tuple[int, int] | None:
        """Return where the payload of an undelivered frame stands: (offset, size)."""
        i = bisect_left(self._seq, seq)
        if i == len(self._seq) or self._seq[i] != seq or self._done[i]:
            return None
        return self._at[i], self._size[i]

    def deliver(self, a: int, b: int) -> bool:
        """Mark the frames a .. b as delivered; return whether any of them was not yet."""
        low, high = max(self._start, bisect_left(self._seq, a)), bisect_right(self._seq, b)
        news = self._done.count(0, low, high) if low < high else 0
        if not news:
            return False
        self.open -= news
        self.open_bytes -= sum(self._size[i] for i in range(low, high) if not self._done[i])
        self._done[low:high] = b"\x01" * (high - low)
        start = self._done.find(0, self._start)
        self._start = len(self._done) if start < 0 else start
        return True

    def undelivered(self) -> tuple[list[list[int]], int]:
        """Return the ranges of undelivered seqs and how many samples or events they hold."""
        ranges: list[list[int]] = []
        count = 0
        for i in range(self._start, len(self._seq)):
            if self._done[i]:
                continue
            count += self._count[i]
            seq = self._seq[i]
            if ranges and ranges[-1][1] == seq - 1:
                ranges[-1][1] = seq
            else:
                ranges.append([seq, seq])
        return ranges, count

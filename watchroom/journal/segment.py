"""The segment files of one partition: their names, their heads, and reading from any offset."""

from __future__ import annotations

import re
import struct
import threading
import zlib
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from watchroom.disk import Disk
from watchroom.errors import StoreError
from watchroom.journal.record import HEAD_BYTES, Record, parse
from watchroom.journal.resync import Found, next_whole

log = structlog.get_logger(__name__)

_NAME = re.compile(r"(\d{20})\.seg")
_HEAD = struct.Struct("<4sQqI")
_MAGIC = b"WRJ1"
SEGMENT_HEAD_BYTES = _HEAD.size
MARK_BYTES = 256 * 1024
CHUNK_BYTES = 512 * 1024


def segment_name(first: int) -> str:
    """Return the file name of the segment whose first record has this offset."""
    return f"{first:020d}.seg"


def segment_head(first: int, created_ms: int) -> bytes:
    """Return the bytes at the start of a segment."""
    front = _HEAD.pack(_MAGIC, first, created_ms, 0)[:-4]
    return front + zlib.crc32(front).to_bytes(4, "little")


def read_head(data: bytes, first: int) -> int | None:
    """Return when a segment was made, UTC ms; None if its head is not whole."""
    if len(data) < SEGMENT_HEAD_BYTES:
        return None
    magic, found, created_ms, crc = _HEAD.unpack_from(data)
    whole = magic == _MAGIC and found == first and crc == zlib.crc32(data[: SEGMENT_HEAD_BYTES - 4])
    return int(created_ms) if whole else None


@dataclass(slots=True)
class Segment:
    """One file.

    Attributes:
        first: Offset of its first record.
        marks: Known (offset, byte) pairs, rising; a sparse index that grows while reading.
    """

    first: int
    path: Path
    marks: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.marks.append((self.first, SEGMENT_HEAD_BYTES))

    def mark(self, offset: int, at: int) -> None:
        """Remember where a record starts, if that is far enough from the last mark."""
        if at - self.marks[-1][1] >= MARK_BYTES:
            self.marks.append((offset, at))

    def nearest(self, offset: int) -> tuple[int, int]:
        """Return the last mark at or before an offset."""
        return self.marks[bisect_right(self.marks, (offset, 1 << 62)) - 1]


class Segments:
    """The segments of one partition in order; safe for several reading threads.

    Args:
        disk: File operations.
        folder: The partition's folder.
        is_quiet: Damage is counted but not logged: a tool tells it in its own words.
    """

    def __init__(self, disk: Disk, folder: Path, *, is_quiet: bool = False) -> None:
        self._disk, self.folder, self._is_quiet = disk, folder, is_quiet
        self._lock = threading.Lock()
        self._all: list[Segment] = []
        self._next: dict[int, tuple[int, int]] = {}  # offset wanted next -> (segment, byte)
        self._holes: dict[int, int] = {}  # first damaged record -> the next whole one
        self.reload()

    @property
    def lost(self) -> int:
        """Records found damaged since the start; readers have passed over them."""
        with self._lock:
            return sum(end - first for first, end in self._holes.items())

    def note_hole(self, first: int, end: int, path: Path) -> None:
        """Remember that the records first .. end - 1 are damaged; told once."""
        with self._lock:
            if first in self._holes:
                return
            self._holes[first] = end
        if not self._is_quiet:
            log.error("journal segment damaged", path=str(path), offset=first, records=end - first, going_on_at=end)

    def resync(self, segment: Segment, offset: int, at: int, *, limit: int) -> Found | None:
        """Return the next whole record after a damaged one at byte ``at``, before limit; None if there is none."""
        data = self._disk.read(segment.path, at)
        created_ms = read_head(self._disk.read(segment.path, 0, SEGMENT_HEAD_BYTES), segment.first) or 0
        found = next_whole(data, offset=offset, near_ms=created_ms, limit=limit)
        return None if found is None else Found(found.offset, at + found.at)

    def reload(self) -> None:
        """Look at the folder again: another process adds and removes segments."""
        found = [int(match[1]) for name in self._disk.names(self.folder) if (match := _NAME.fullmatch(name))]
        with self._lock:
            known = {segment.first: segment for segment in self._all}
            self._all = [known.get(first) or Segment(first, self.folder / segment_name(first)) for first in found]

    def all(self) -> list[Segment]:
        """Return the segments, oldest first."""
        with self._lock:
            return list(self._all)

    def add(self, first: int) -> Segment:
        """Take a segment that was just made at the end."""
        segment = Segment(first, self.folder / segment_name(first))
        with self._lock:
            self._all.append(segment)
        return segment

    def remove(self, segment: Segment) -> None:
        """Forget a segment that is being deleted."""
        with self._lock:
            self._all.remove(segment)

    def read(self, offset: int, *, end: int, max_bytes: int) -> list[Record]:
        """Return records from offset on, before end; see `Journal.read`.

        Raises:
            StoreError: If the newest segment is damaged before its durable end.
        """
        while offset < end:
            found = self._locate(offset)
            if found is None:
                return []
            segment, limit = found
            offset, limit = max(offset, segment.first), end if limit is None else min(limit, end)
            if offset >= end:
                return []
            try:
                records = self._read_segment(segment, offset, limit=limit, max_bytes=max_bytes)
            except FileNotFoundError:  # trimmed meanwhile
                self.reload()
                if (again := self._locate(offset)) is not None and again[0].first <= segment.first:
                    raise StoreError(f"{segment.path} cannot be read") from None
                continue
            if records:
                return records
            if limit >= end:
                raise StoreError(f"{segment.path} is damaged at record {offset}")
            self.note_hole(offset, limit, segment.path)
            offset = limit
        return []

    def _locate(self, offset: int) -> tuple[Segment, int | None] | None:
        with self._lock:
            if not self._all:
                return None
            at = max(bisect_right(self._all, offset, key=lambda segment: segment.first) - 1, 0)
            following = self._all[at + 1].first if at + 1 < len(self._all) else None
            return self._all[at], following

    def _read_segment(self, segment: Segment, offset: int, *, limit: int, max_bytes: int) -> list[Record]:
        with self._lock:
            hint = self._next.pop(offset, None)
            here, at = (offset, hint[1]) if hint and hint[0] == segment.first else segment.nearest(offset)
        chunk = max(HEAD_BYTES + max_bytes, CHUNK_BYTES) if here == offset else CHUNK_BYTES
        records: list[Record] = []
        while not records:
            data = self._disk.read(segment.path, at, chunk)
            parsed = parse(data, offset=here, limit=limit - here)
            here, at = here + len(parsed.records), at + parsed.used
            records = parsed.records[max(0, len(parsed.records) - (here - offset)) :]
            if records:
                break
            # before the durable end a record that seems to reach beyond its file is damaged too
            if parsed.is_damaged or len(data) < chunk:
                found = self.resync(segment, here, at, limit=limit)
                if found is None:
                    break
                self.note_hole(here, found.offset, segment.path)
                here, at = found
                continue
            if not parsed.records:
                chunk *= 2
        if records:
            with self._lock:
                segment.mark(here, at)
        kept = _cut(records, max_bytes)
        if kept:
            at -= sum(len(row.payload) + len(row.gateway.encode()) + HEAD_BYTES for row in records[len(kept) :])
            with self._lock:
                if len(self._next) > 64:
                    self._next.clear()
                self._next[kept[-1].offset + 1] = (segment.first, at)
        return kept


def _cut(records: list[Record], max_bytes: int) -> list[Record]:
    """Return the first records, at least one, whose payloads stay within max_bytes."""
    total = 0
    for index, record in enumerate(records):
        total += len(record.payload)
        if total > max_bytes and index:
            return records[:index]
    return records

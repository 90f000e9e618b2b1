"""Frames of GB/T 26875.3-2011 between a fire transmitter and a centre, whatever TCP makes of them. Pure.

Source: the field table of the standard as public parsers have it; where parsers disagree about the start, two bytes
``@@`` and a 25-byte control unit follow the table. Numbers are little-endian, times are local and without a zone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from zoneinfo import ZoneInfo

from watchroom.errors import ContractError

START = b"@@"
END = b"##"
HEAD_BYTES = 27
"""Start and control unit, up to the application data."""
TAIL_BYTES = 3
MAX_DATA = 1024
MAX_FRAME = HEAD_BYTES + MAX_DATA + TAIL_BYTES
MAX_SERIAL = 0xFFFF
NO_ADDRESS = bytes(6)


class Command(IntEnum):
    """What a frame wants; 7 is a vendor's keep-alive."""

    CONTROL = 1
    SEND = 2
    CONFIRM = 3
    REQUEST = 4
    ANSWER = 5
    DENY = 6
    KEEP_ALIVE = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class FireFrame:
    """One frame.

    Attributes:
        serial: Number of the exchange, 0 to 65535; an answer carries the number of its question.
        command: ``Command``, or another number of a vendor's.
        data: Application data, at most 1024 bytes.
        stamp: The sender's clock, six bytes as on the wire, see ``local_ms``.
        source: Address of the sender, six bytes as on the wire.
        target: Address of the receiver, six bytes as on the wire.
        version: Main and user version of the protocol.
    """

    serial: int
    command: int
    data: bytes = b""
    stamp: bytes = bytes(6)
    source: bytes = NO_ADDRESS
    target: bytes = NO_ADDRESS
    version: tuple[int, int] = (1, 1)

    def encode(self) -> bytes:
        """Return the bytes of the frame.

        Raises:
            ValueError: If a part does not fit its field.
        """
        if len(self.data) > MAX_DATA:
            raise ValueError(f"{len(self.data)} bytes of application data; a frame holds {MAX_DATA}")
        if not len(self.stamp) == len(self.source) == len(self.target) == 6:
            raise ValueError("a time and an address are six bytes")
        body = b"".join(
            (
                self.serial.to_bytes(2, "little"),
                bytes(self.version),
                self.stamp,
                self.source,
                self.target,
                len(self.data).to_bytes(2, "little"),
                bytes([self.command]),
                self.data,
            )
        )
        return START + body + bytes([checksum(body)]) + END

    def reply(self, command: Command, stamp: bytes, data: bytes = b"") -> FireFrame:
        """Return the answer to this frame: same number, addresses exchanged."""
        return FireFrame(
            serial=self.serial,
            command=command,
            data=data,
            stamp=stamp,
            source=self.target,
            target=self.source,
            version=self.version,
        )


@dataclass(frozen=True, slots=True)
class BadFrame:
    """Bytes with a frame's outline and a wrong checksum; ``frame`` may be wrong anywhere."""

    frame: FireFrame


def checksum(body: bytes) -> int:
    """Return the sum of control unit and application data, modulo 256."""
    return sum(body) & 0xFF


class Splitter:
    """Cuts a stream into frames: split, glued and with rubbish between them.

    Holds at most one incomplete frame. A beginning that turns out to be none costs nothing but itself: the search
    goes on one byte further, so that a good frame inside rubbish is always found.

    Attributes:
        counts: What was thrown away, by reason: ``rubbish`` in bytes, ``checksum``, ``length`` and ``end`` in frames.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.counts: Counter[str] = Counter()

    @property
    def held(self) -> int:
        """Bytes of an incomplete frame."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[FireFrame | BadFrame]:
        """Take what the line gave and return the frames that are complete now."""
        self._buffer += data
        return self._cut(is_last=False)

    def expire(self) -> list[FireFrame | BadFrame]:
        """Give an incomplete frame up, after the line was silent; return frames that were hidden behind it."""
        return self._cut(is_last=True)

    def _cut(self, *, is_last: bool) -> list[FireFrame | BadFrame]:
        found: list[FireFrame | BadFrame] = []
        data, at = bytes(self._buffer), 0
        while True:
            start = data.find(START, at)
            if start < 0:
                # the last byte may be the first half of a start
                keep = 1 if data.endswith(b"@") and at < len(data) and not is_last else 0
                self.counts["rubbish"] += len(data) - at - keep
                at = len(data) - keep
                break
            self.counts["rubbish"] += start - at
            at = start
            size = self._size(data, at)
            if size is None:
                if not is_last:
                    break
                self.counts["length"] += 1
            elif size:
                frame = _decode(data[at : at + size])
                found.append(frame)
                self.counts["checksum"] += isinstance(frame, BadFrame)
                if isinstance(frame, FireFrame) or (
                    self._is_boundary(data, at + size) and not _holds_frame(data, at, at + size)
                ):
                    at += size
                    continue
            self.counts["rubbish"] += 1
            at += 1
        del self._buffer[:at]
        self.counts = +self.counts
        return found

    def _size(self, data: bytes, at: int) -> int | None:
        """Length of the frame at a place; 0 if there is none, None if more bytes must tell."""
        if len(data) < at + HEAD_BYTES:
            return None
        length = int.from_bytes(data[at + 24 : at + 26], "little")
        if length > MAX_DATA:
            self.counts["length"] += 1
            return 0
        size = HEAD_BYTES + length + TAIL_BYTES
        if len(data) < at + size:
            return None
        if data[at + size - 2 : at + size] != END:
            self.counts["end"] += 1
            return 0
        return size

    @staticmethod
    def _is_boundary(data: bytes, at: int) -> bool:
        """Whether a damaged frame seems to end where it says: then all of it is thrown away."""
        return at == len(data) or data[at : at + 2] == START[: len(data) - at]


def _holds_frame(data: bytes, at: int, end: int) -> bool:
    """Whether a good frame stands inside a damaged one, which then was rubbish with the outline of a frame."""
    inner = data.find(START, at + 1)
    while 0 <= inner < end:
        length = int.from_bytes(data[inner + 24 : inner + 26], "little")
        raw = data[inner : inner + HEAD_BYTES + length + TAIL_BYTES]
        is_whole = len(raw) == HEAD_BYTES + length + TAIL_BYTES and length <= MAX_DATA
        if is_whole and raw.endswith(END) and isinstance(_decode(raw), FireFrame):
            return True
        inner = data.find(START, inner + 1)
    return False


def _decode(raw: bytes) -> FireFrame | BadFrame:
    body = raw[2:-3]
    frame = FireFrame(
        serial=int.from_bytes(body[0:2], "little"),
        version=(body[2], body[3]),
        stamp=body[4:10],
        source=body[10:16],
        target=body[16:22],
        command=body[24],
        data=body[25:],
    )
    return frame if checksum(body) == raw[-3] else BadFrame(frame)


def encode_time(time_ms: int, zone: ZoneInfo) -> bytes:
    """Return a time as six bytes: second, minute, hour, day, month, year of the century."""
    moment = datetime.fromtimestamp(time_ms / 1000, zone)
    return bytes((moment.second, moment.minute, moment.hour, moment.day, moment.month, moment.year % 100))


def local_ms(stamp: bytes, zone: ZoneInfo) -> int:
    """Return the UTC ms of six bytes of local time.

    Raises:
        ContractError: ``time`` if they are no time.
    """
    second, minute, hour, day, month, year = stamp
    try:
        moment = datetime(2000 + year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError as exc:
        raise ContractError("time", f"{stamp.hex(' ')}: {exc}") from exc
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)


def parse_address(text: str) -> bytes:
    """Return the six bytes of an address written as 12 hex digits in the order of the wire.

    Raises:
        ValueError: With a sentence for people.
    """
    digits = text.replace(" ", "").replace(":", "")
    try:
        address = bytes.fromhex(digits)
    except ValueError:
        address = b""
    if len(address) != 6:
        raise ValueError(f"{text!r} is not an address of a transmitter: 12 hex digits, as in 060504030201")
    return address

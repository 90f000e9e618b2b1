"""What a journal holds, and the bytes of one record in a segment file. Pure."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple, Protocol


class Record(NamedTuple):
    """One frame as it arrived at the centre.

    Attributes:
        offset: Number of the record in its partition, growing by 1; a partition begins anywhere.
        arrived_ms: The centre's clock, UTC ms.
        gateway: Who sent it; empty for the centre itself.
        payload: The frame's bytes; empty for a tick.
    """

    offset: int
    arrived_ms: int
    gateway: str
    payload: bytes


def is_tick(record: Record) -> bool:
    """Whether the record only says what the centre's clock was."""
    return not record.gateway and not record.payload


class Unread(NamedTuple):
    """What a journal keeps for its slowest durable reader.

    Attributes:
        reader: Its name.
        records: How many records it has not passed.
        size: Bytes kept for it, rounded up to what is trimmed at once.
        since_ms: When the oldest of them arrived, UTC ms; None if there is none.
    """

    reader: str
    records: int
    size: int
    since_ms: int | None


class Journal(Protocol):
    """An append-only stream of records for each site. One thread appends to a site; any number read."""

    def append(self, site: str, gateway: str, payload: bytes, *, arrived_ms: int) -> int:
        """Append a record and return its offset; readers see it after the next `sync`.

        It stays in memory until then, so whoever appends bounds the batch.
        """
        ...

    def sync(self, site: str) -> int:
        """Make everything appended durable, wake the readers, and return the new end.

        Raises:
            StoreError: If the disk refuses. Everything since the last sync is then gone from the journal. A thread
                whose records were taken along by the failed sync of another is told so by its own next sync.
        """
        ...

    def begin(self, site: str) -> int:
        """Return the oldest offset still kept."""
        ...

    def end(self, site: str) -> int:
        """Return the offset after the newest record that readers may see."""
        ...

    def read(self, site: str, offset: int, *, max_bytes: int = 1 << 20) -> list[Record]:
        """Return the next records from an offset on, in order.

        Args:
            site: The partition.
            offset: First record wanted; where it was trimmed, the oldest one kept comes first.
            max_bytes: Stop before the payloads pass this; at least one record comes if there is one.

        Returns:
            Records with rising offsets, empty at the end. Offsets are consecutive but where records are damaged:
            those are passed over and counted by `lost`.
        """
        ...

    def wait(self, site: str, offset: int, timeout_s: float) -> bool:
        """Block until the end passes offset; return whether it has."""
        ...

    def checkpoint(self, site: str, reader: str, offset: int) -> None:
        """Note that a durable reader needs nothing before offset any more."""
        ...

    def lost(self, site: str) -> int:
        """Return how many records were found damaged since this process began to read."""
        ...

    def unread(self, site: str) -> Unread:
        """Return what is kept because the slowest durable reader has not passed it."""
        ...

    def trim(self, site: str, *, now_ms: int, keep_bytes: int, keep_ms: int) -> int:
        """Drop old records that no durable reader needs; return the new begin.

        Args:
            site: The partition.
            now_ms: The centre's clock, UTC ms.
            keep_bytes: Drop only what is beyond this size ...
            keep_ms: ... or older than this.
        """
        ...


_HEAD = struct.Struct("<IqHI")  # payload bytes, arrived_ms, gateway bytes, checksum
_SUMMED = struct.Struct("<IqH")
HEAD_BYTES = _HEAD.size
MAX_PAYLOAD = 1 << 24
_names: dict[bytes, str] = {}


def pack(offset: int, arrived_ms: int, gateway: str, payload: bytes) -> bytes:
    """Return a record's bytes.

    The checksum starts from the offset: bytes left over from an older file at the same place never pass.

    Raises:
        ValueError: If the payload is larger than MAX_PAYLOAD.
    """
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"{len(payload)} bytes are too many for one record")
    name = gateway.encode()
    summed = _SUMMED.pack(len(payload), arrived_ms, len(name))
    crc = zlib.crc32(payload, zlib.crc32(summed + name, offset & 0xFFFFFFFF))
    return b"".join((summed, crc.to_bytes(4, "little"), name, payload))


class Parsed(NamedTuple):
    """Records found in a piece of a segment.

    Attributes:
        records: Whole records, consecutive.
        used: Bytes they take.
        is_damaged: Whether the bytes after them are no beginning of a record.
    """

    records: list[Record]
    used: int
    is_damaged: bool


def parse(data: bytes, *, offset: int, limit: int) -> Parsed:
    """Return the records at the start of data.

    Args:
        data: Bytes from a record's first byte on; may end in the middle of a record.
        offset: Offset of that record.
        limit: Parse at most so many.
    """
    records: list[Record] = []
    at, size = 0, len(data)
    view = memoryview(data)
    head_bytes, unpack, crc32 = HEAD_BYTES, _HEAD.unpack_from, zlib.crc32
    while limit > len(records) and at + head_bytes <= size:
        length, arrived, name_length, crc = unpack(data, at)
        start = at + head_bytes + name_length
        stop = start + length
        if length > MAX_PAYLOAD:
            return Parsed(records, at, True)
        if stop > size:
            break
        name = data[at + head_bytes : start]
        found = crc32(view[start:stop], crc32(data[at : at + 14] + name, offset & 0xFFFFFFFF))
        if found != crc:
            return Parsed(records, at, True)
        gateway = _names.get(name)
        if gateway is None:
            gateway = _names[name] = name.decode()
        records.append(Record(offset, arrived, gateway, data[start:stop]))
        offset += 1
        at = stop
    return Parsed(records, at, False)

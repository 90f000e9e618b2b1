"""Where a damaged segment goes on: the next whole record after rubbish. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from watchroom.journal.record import HEAD_BYTES, MAX_PAYLOAD, parse

NAME_MAX: Final = 63
CLOCK_MS: Final = 10 * 365 * 24 * 3600 * 1000
"""A record's arrival is this near to that of the records before; narrows the search, the checksum decides."""
OFFSETS: Final = 4096
"""Most records that one damage is searched beyond within its segment."""


class Found(NamedTuple):
    """A whole record.

    Attributes:
        offset: Its offset.
        at: Its first byte.
    """

    offset: int
    at: int


def next_whole(data: bytes, *, offset: int, near_ms: int, limit: int) -> Found | None:
    """Return the first whole record beyond the start of data, None if there is none.

    The checksum of a record starts from its offset, so a record is found together with its number.

    Args:
        data: Bytes from the damaged record's first byte on.
        offset: Offset of the damaged record.
        near_ms: Arrival of a record near it, UTC ms; 0 if not known.
        limit: Only offsets before this one.
    """
    last = min(limit, offset + OFFSETS)
    for at in _candidates(data, near_ms):
        for number in range(offset + 1, last):
            if parse(data[at : at + _length(data, at)], offset=number, limit=1).records:
                return Found(number, at)
    return None


def _candidates(data: bytes, near_ms: int) -> list[int]:
    """Return the positions, from the second byte on, at which the head of a record may stand."""
    n = len(data) - HEAD_BYTES
    if n < 1:
        return []
    octets = np.frombuffer(data, np.uint8)

    def column(at: int, size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        total = np.zeros(n, np.int64)
        for i in range(size):
            total |= octets[1 + at + i : 1 + at + i + n].astype(np.int64) << (8 * i)
        return total

    name = column(12, 2)
    found = np.flatnonzero(name <= NAME_MAX)
    length = column(0, 4)[found]
    ends = found + 1 + HEAD_BYTES + name[found] + length
    found = found[(length <= MAX_PAYLOAD) & (ends <= len(data))]
    if near_ms:
        found = found[np.abs(column(4, 8)[found] - near_ms) < CLOCK_MS]
    return (found + 1).tolist()


def _length(data: bytes, at: int) -> int:
    payload = int.from_bytes(data[at : at + 4], "little")
    return HEAD_BYTES + int.from_bytes(data[at + 12 : at + 14], "little") + payload

"""Sets of sequence numbers as ranges: what was received, what is missing. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

from watchroom.errors import ContractError

Range = list[int]
"""[first, last], both included."""


class IntervalSet:
    """A set of whole numbers from 1 on, held as sorted ranges that neither touch nor overlap.

    Args:
        ranges: [first, last] pairs to start with, in any order.
    """

    __slots__ = ("_first", "_last")

    def __init__(self, ranges: Iterable[tuple[int, int] | Range] = ()) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        for a, b in ranges:
            self.add(a, b)

    def add(self, a: int, b: int | None = None) -> bool:
        """Put a .. b (or a alone) into the set; return whether anything was new.

        Raises:
            ValueError: If a < 1 or b < a.
        """
        b = a if b is None else b
        if a < 1 or b < a:
            raise ValueError(f"{a}..{b} is no range of sequence numbers from 1 on")
        last = self._last
        if last and a == last[-1] + 1:  # the usual case: the next number
            last[-1] = b
            return True
        # ranges that overlap a .. b or touch it
        low = bisect_left(last, a - 1)
        high = bisect_right(self._first, b + 1)
        if low < high:
            if self._first[low] <= a and b <= last[low]:
                return False
            a, b = min(a, self._first[low]), max(b, last[high - 1])
        self._first[low:high] = [a]
        last[low:high] = [b]
        return True

    def __contains__(self, seq: int) -> bool:
        at = bisect_right(self._first, seq) - 1
        return at >= 0 and seq <= self._last[at]

    def acknowledges(self, seq: int) -> bool:
        """Whether an acknowledgement made of this set covers the frame."""
        return seq in self

    def __iter__(self) -> Iterator[Range]:
        """Yield the ranges [first, last], rising."""
        for a, b in zip(self._first, self._last, strict=True):
            yield [a, b]

    def __len__(self) -> int:
        """Return how many numbers the set holds."""
        return sum(self._last) - sum(self._first) + len(self._first)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntervalSet):
            return NotImplemented
        return self._first == other._first and self._last == other._last

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"IntervalSet({list(self)})"

    @property
    def upto(self) -> int:
        """Every number from 1 to this one is in the set; 0 if 1 is missing."""
        return self._last[0] if self._first and self._first[0] == 1 else 0

    @property
    def top(self) -> int:
        """The largest number of the set; 0 if it is empty."""
        return self._last[-1] if self._last else 0

    @property
    def have(self) -> list[Range]:
        """Ranges above `upto`."""
        return [row for row in self if row[0] > 1]

    def missing(self, limit: int | None = None) -> list[Range]:
        """Return the gaps below `top`, lowest first, at most `limit` of them."""
        gaps: list[Range] = []
        expected = 1
        for a, b in zip(self._first, self._last, strict=True):
            if limit is not None and len(gaps) >= limit:
                break
            if a > expected:
                gaps.append([expected, a - 1])
            expected = b + 1
        return gaps

    @property
    def gap_count(self) -> int:
        """How many gaps there are below `top`."""
        return len(self._first) - (1 if self.upto else 0)

    def to_json(self, limit: int | None = None, *, near: Iterable[tuple[int, int] | Range] = ()) -> dict[str, Any]:
        """Return ``{"upto": ..., "have": [[a, b], ...]}`` with at most `limit` ranges.

        Those that hold numbers of ``near`` come first, then the lowest. A sender's window is full of what it sent
        last: an acknowledgement that left just that out would stop it for ever.
        """
        have = self.have
        if limit is not None and len(have) > limit:
            have = self._chosen(limit, near)
        return {"upto": self.upto, "have": have}

    def _chosen(self, limit: int, near: Iterable[tuple[int, int] | Range]) -> list[Range]:
        skip = 1 if self.upto else 0
        chosen: dict[int, None] = {}
        for a, b in near:
            chosen.update(dict.fromkeys(range(bisect_left(self._last, a), bisect_right(self._first, b))))
        chosen.update(dict.fromkeys(range(skip, skip + limit)))
        chosen.pop(skip - 1, None)
        return [[self._first[i], self._last[i]] for i in sorted(list(chosen)[:limit])]

    @classmethod
    def from_json(cls, content: object) -> IntervalSet:
        """Return the set of an acknowledgement.

        Raises:
            ContractError: ``json`` if it is no such object.
        """
        try:
            upto = content["upto"]  # type: ignore[index]
            ranges = [(a, b) for a, b in content["have"]]  # type: ignore[index]
            if type(upto) is not int or upto < 0 or any(type(x) is not int for row in ranges for x in row):
                raise ValueError("whole numbers expected")
            return cls([(1, upto), *ranges] if upto else ranges)
        except (TypeError, KeyError, ValueError) as exc:
            raise ContractError("json", f"no acknowledgement: {exc}") from exc

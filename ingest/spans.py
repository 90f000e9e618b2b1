"""What follows from the samples of one signal, page by page: time in each state, increase of a counter, checksum. Pure.

Each class takes pages by rising time and keeps only a few numbers, so a range of any length needs the memory of a page.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from watchroom.signals import USABLE

_USABLE = np.zeros(256, np.bool_)
_USABLE[[int(quality) for quality in USABLE]] = True
MOST_STATES = 1_000
"""Distinct values a signal may have to be read as a state."""


def usable(value: NDArray[np.float64], quality: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which samples may be judged and averaged: good enough quality and a number, shape (n,)."""
    return _USABLE[quality] & ~np.isnan(value)


@dataclass(slots=True, kw_only=True)
class StateClock:
    """How long a signal stood at each value between start and end.

    A sample holds until the next one, at most ``hold_ms`` (then nobody knows). Before the first sample nobody knows.

    Attributes:
        start_ms: Begin of the range; a sample before it (`HistoryReads.last`) may be fed first.
        end_ms: End of the range.
        hold_ms: Longest silence a sample stands for; None for any.
        by_value: Value -> ms.
        bad_ms: Time whose newest sample was not usable.
        unknown_ms: Time without a sample that still holds.
        changes: How often the usable value changed inside the range.
    """

    start_ms: int
    end_ms: int
    hold_ms: int | None = None
    by_value: dict[float, int] = field(default_factory=dict)
    bad_ms: int = 0
    unknown_ms: int = 0
    changes: int = 0
    _time: int | None = None
    _value: float = float("nan")
    _is_usable: bool = False
    _known: float = float("nan")

    def feed(self, time_ms: NDArray[np.int64], value: NDArray[np.float64], quality: NDArray[np.uint8]) -> None:
        """Take the next page.

        Raises:
            ValueError: If the signal has more distinct values than a state can have.
        """
        if not len(time_ms):
            return
        good = usable(value, quality)
        if self._time is not None:
            self._account(self._time, int(time_ms[0]))
        else:
            self.unknown_ms += max(0, int(time_ms[0]) - self.start_ms)
        self._account_page(time_ms, value, good)
        self._count_changes(time_ms, value, good)
        self._time, self._value, self._is_usable = int(time_ms[-1]), float(value[-1]), bool(good[-1])

    def finish(self) -> None:
        """Count the last sample until the end of the range."""
        if self._time is None:
            self.unknown_ms += self.end_ms - self.start_ms
        else:
            self._account(self._time, self.end_ms)
            self._time = None

    def _account(self, begin: int, end: int) -> None:
        begins, ends = max(begin, self.start_ms), min(end, self.end_ms)
        held = ends if self.hold_ms is None else min(ends, begin + self.hold_ms)
        length = max(0, held - begins)
        self.unknown_ms += max(0, ends - max(held, begins))
        if not self._is_usable:
            self.bad_ms += length
        elif length:
            self._add(self._value, length)

    def _account_page(self, time_ms: NDArray[np.int64], value: NDArray[np.float64], good: NDArray[np.bool_]) -> None:
        begins = np.maximum(time_ms[:-1], self.start_ms)
        ends = np.minimum(time_ms[1:], self.end_ms)
        held = ends if self.hold_ms is None else np.minimum(ends, time_ms[:-1] + self.hold_ms)
        length = np.maximum(0, held - begins)
        self.unknown_ms += int(np.maximum(0, ends - np.maximum(held, begins)).sum())
        known = good[:-1]
        self.bad_ms += int(length[~known].sum())
        values, where = np.unique(value[:-1][known], return_inverse=True)
        sums = np.zeros(len(values), np.int64)
        np.add.at(sums, where, length[known])
        for state, total in zip(values.tolist(), sums.tolist(), strict=True):
            if total:
                self._add(state, total)

    def _count_changes(self, time_ms: NDArray[np.int64], value: NDArray[np.float64], good: NDArray[np.bool_]) -> None:
        inside = value[good]
        if not len(inside):
            return
        before = np.concatenate(([self._known], inside[:-1]))
        is_change = (inside != before) & ~np.isnan(before) & (time_ms[good] >= self.start_ms)
        self.changes += int(is_change.sum())
        self._known = float(inside[-1])

    def _add(self, value: float, length: int) -> None:
        self.by_value[value] = self.by_value.get(value, 0) + length
        if len(self.by_value) > MOST_STATES:
            raise ValueError(f"more than {MOST_STATES} different values: this signal is no state")


@dataclass(slots=True, kw_only=True)
class CounterTally:
    """How much a counter grew, over restarts and roll-overs.

    A fall of more than half the modulus is a roll-over. Any other fall is a restart: the counter began at 0 again, so
    its new value counts. The usable sample before the range (`HistoryReads.last`) may be fed first.

    Attributes:
        modulus: Value after the largest, None for a counter that does not roll over.
        increase: Growth so far, in the signal's unit.
        restarts: Falls that were no roll-over.
        roll_overs: Falls that were one.
        count: Usable samples.
    """

    modulus: float | None = None
    increase: float = 0.0
    restarts: int = 0
    roll_overs: int = 0
    count: int = 0
    _last: float | None = None

    def feed(self, value: NDArray[np.float64], quality: NDArray[np.uint8]) -> None:
        """Take the next page."""
        values = value[usable(value, quality)]
        if not len(values):
            return
        self.count += len(values)
        if self._last is not None:
            values = np.concatenate(([self._last], values))
        step, after = np.diff(values), values[1:]
        fell = step < 0
        rolled = fell & (-step > self.modulus / 2) if self.modulus is not None else np.zeros(len(step), np.bool_)
        restarted = fell & ~rolled
        self.restarts += int(restarted.sum())
        self.roll_overs += int(rolled.sum())
        step = np.where(restarted, after, np.where(rolled, step + (self.modulus or 0.0), step))
        self.increase += float(step.sum())
        self._last = float(values[-1])


@dataclass(slots=True, kw_only=True)
class Digest:
    """Count and checksum of samples, the same in any order and any split.

    Two stores that agree in both hold the same samples (up to one chance in 2**64).

    Attributes:
        count: Samples, bad ones included.
        checksum: Sum modulo 2**64 of a 64-bit mix of time, value and quality of each sample.
    """

    count: int = 0
    checksum: int = 0

    def feed(self, time_ms: NDArray[np.int64], value: NDArray[np.float64], quality: NDArray[np.uint8]) -> None:
        """Take some samples; all NaNs count as one value, and -0.0 as 0.0."""
        self.count += len(time_ms)
        bits = np.where(np.isnan(value), np.nan, value + 0.0).view(np.uint64)
        bits = np.where(np.isnan(value), np.uint64(0x7FF8000000000000), bits)
        mixed = _mix(_mix(time_ms.astype(np.uint64)) ^ _mix(bits + quality.astype(np.uint64)))
        self.checksum = (self.checksum + int(mixed.sum(dtype=np.uint64))) & 0xFFFFFFFFFFFFFFFF

    def text(self) -> str:
        """Return both as people compare them."""
        return f"{self.count} samples, {self.checksum:016x}"


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

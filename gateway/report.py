"""Report by exception: which samples of a poll are worth a frame (pure, numpy columns)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from watchroom.signals import Kind, Lane, Quality, SignalSpec

IntArray = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_NEVER = np.iinfo(np.int64).min // 4
_EARLY_MS = 2000  # a re-send goes out this much before max_silence_s is over, so that travel time fits in


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Samples as columns of equal length n, in the order they were observed.

    Attributes:
        alias: Aliases of the signals, i64, shape (n,).
        time_ms: UTC milliseconds; samples of one signal have strictly increasing times.
        value: NaN where the device gave no number.
        quality: Codes of ``watchroom.signals.Quality``.
    """

    alias: IntArray
    time_ms: IntArray
    value: F64
    quality: U8

    def __len__(self) -> int:
        return len(self.alias)

    def where(self, mask: Mask) -> Samples:
        """Return the samples whose mask is true."""
        return Samples(
            alias=self.alias[mask],
            time_ms=self.time_ms[mask],
            value=self.value[mask],
            quality=self.quality[mask],
        )


def join(parts: Sequence[Samples]) -> Samples:
    """Return the samples of several blocks behind each other; at least one block."""
    if len(parts) == 1:
        return parts[0]
    return Samples(
        alias=np.concatenate([part.alias for part in parts]),
        time_ms=np.concatenate([part.time_ms for part in parts]),
        value=np.concatenate([part.value for part in parts]),
        quality=np.concatenate([part.quality for part in parts]),
    )


class Reporter:
    """Remembers what was reported last and says what has to be reported now.

    A sample is reported when its value is further than the deadband from the last reported value (states: when it
    differs at all), when its quality differs, and when the signal was silent for ``max_silence_s``.

    Args:
        specs: All signals of the gateway; aliases dense from 0.
    """

    def __init__(self, specs: Sequence[SignalSpec]) -> None:
        ordered = sorted(specs, key=lambda spec: spec.alias)
        if [spec.alias for spec in ordered] != list(range(len(ordered))):
            raise ValueError("aliases must be dense from 0")
        self._deadband = np.array([0.0 if s.kind == Kind.STATE else s.deadband for s in ordered], dtype=np.float64)
        silence = np.array([round(s.max_silence_s * 1000) for s in ordered], dtype=np.int64)
        self._silence_ms = silence - np.minimum(_EARLY_MS, silence // 5)
        self._is_urgent = np.array([s.lane == Lane.URGENT for s in ordered], dtype=np.bool_)
        n = len(ordered)
        self._value: F64 = np.full(n, np.nan)
        self._quality: U8 = np.full(n, Quality.NO_COMMUNICATION, dtype=np.uint8)
        self._sent_value: F64 = np.full(n, np.nan)
        self._sent_quality: U8 = np.full(n, 255, dtype=np.uint8)
        self._sent_ms: IntArray = np.full(n, _NEVER, dtype=np.int64)
        self._is_seen: Mask = np.zeros(n, dtype=np.bool_)

    def is_complete(self, lane: Lane) -> bool:
        """Whether every signal of a lane was seen since the start."""
        return bool(self._is_seen[self._is_urgent == (lane == Lane.URGENT)].all())

    @property
    def is_urgent(self) -> Mask:
        """Which aliases travel on the urgent lane, shape (number of signals,)."""
        return self._is_urgent

    def changed(self, alias: IntArray, *, time_ms: int, value: F64, quality: U8, floor_ms: IntArray | int) -> Samples:
        """Take one block of a poll and return what of it must be reported.

        Args:
            alias: Aliases, shape (n,); an alias that stands there twice is two samples in that order.
            time_ms: When the block was measured.
            value: Shape (n,), NaN = no number.
            quality: Shape (n,).
            floor_ms: Earliest time a sample may have (its lane has already claimed everything before), a number or
                shape (n,); an older sample is stamped with it.
        """
        if len(alias) > 1 and len(np.unique(alias)) != len(alias):
            return self._one_by_one(alias, time_ms=time_ms, value=value, quality=quality, floor_ms=floor_ms)
        self._value[alias] = value
        self._quality[alias] = quality
        self._is_seen[alias] = True
        sent = self._sent_value[alias]
        with np.errstate(invalid="ignore"):
            is_far = np.abs(value - sent) > self._deadband[alias]
        # infinities and NaN: a difference of kind is a change although the subtraction gives NaN
        is_odd = ~(np.isfinite(value) & np.isfinite(sent))
        is_same = (value == sent) | (np.isnan(value) & np.isnan(sent))
        mask = np.where(is_odd, ~is_same, is_far)
        mask |= quality != self._sent_quality[alias]
        mask |= time_ms - self._sent_ms[alias] >= self._silence_ms[alias]
        floor = floor_ms if isinstance(floor_ms, int) else floor_ms[mask]
        alias = alias[mask]
        return self._stamp(alias, np.full(len(alias), np.maximum(time_ms, floor), dtype=np.int64))

    def silent(self, *, now_ms: int) -> Samples:
        """Return the last observation of every signal whose ``max_silence_s`` is nearly over, stamped now."""
        mask = self._is_seen & (now_ms - self._sent_ms >= self._silence_ms)
        alias = np.flatnonzero(mask)
        return self._stamp(alias, np.full(len(alias), now_ms, dtype=np.int64))

    def snapshot(self, *, now_ms: int) -> Samples:
        """Return the last observation of every signal that was seen since the start, stamped now."""
        alias = np.flatnonzero(self._is_seen)
        return self._stamp(alias, np.full(len(alias), now_ms, dtype=np.int64))

    def forget_times(self) -> None:
        """After a step of the clock: times of before say nothing about times of now."""
        self._sent_ms[:] = _NEVER

    def forget_sent(self, alias: IntArray) -> None:
        """The samples could not be kept: report these signals again whatever their value."""
        self._sent_quality[alias] = 255

    def _one_by_one(
        self, alias: IntArray, *, time_ms: int, value: F64, quality: U8, floor_ms: IntArray | int
    ) -> Samples:
        floors = np.broadcast_to(np.asarray(floor_ms, dtype=np.int64), alias.shape)
        parts = [
            self.changed(
                alias[i : i + 1],
                time_ms=time_ms,
                value=value[i : i + 1],
                quality=quality[i : i + 1],
                floor_ms=floors[i : i + 1],
            )
            for i in range(len(alias))
        ]
        return join(parts)

    def _stamp(self, alias: IntArray, time_ms: IntArray) -> Samples:
        """Enter unique aliases as sent; two samples of one signal never share a millisecond."""
        stamped = np.maximum(time_ms, self._sent_ms[alias] + 1)
        self._sent_ms[alias] = stamped
        self._sent_value[alias] = self._value[alias]
        self._sent_quality[alias] = self._quality[alias]
        return Samples(alias=alias, time_ms=stamped, value=self._value[alias], quality=self._quality[alias])

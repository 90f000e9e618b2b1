"""The gateway's clock: an anchor plus the monotonic clock, so that a step of the system's clock is seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from watchroom.clock import utc_ms

STEP_MS = 2000
"""A difference beyond this is a step; below it the clock is led back slowly."""

_SLEW = 0.01  # share of real time by which a small difference is led back


def monotonic_ms() -> int:
    """Return the monotonic clock in milliseconds; its zero means nothing."""
    return time.monotonic_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The system's clock was set by more than two seconds.

    Attributes:
        by_ms: How far the clock moved; negative is back.
        clock_gen: Number of the clock generation that begins.
    """

    by_ms: int
    clock_gen: int


class Clock:
    """Time stamps that never go back within one clock generation.

    Args:
        clock_gen: Generation to go on with, from the outbox; 0 for a new one.
        not_before_ms: The latest time already stamped in that generation. When the system's clock is more than two
            seconds before it, it was set back while the gateway was down: a new generation begins.
        wall: The system's clock, UTC ms.
        monotonic: Monotonic clock, ms.
    """

    def __init__(
        self,
        *,
        clock_gen: int = 0,
        not_before_ms: int = 0,
        wall: Callable[[], int] = utc_ms,
        monotonic: Callable[[], int] = monotonic_ms,
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._anchor_mono = monotonic()
        self._anchor_ms = self._last_ms = wall()
        self._gen = max(1, clock_gen)
        if not_before_ms - self._anchor_ms > STEP_MS:
            self._gen = _next(self._gen)
        else:
            self._last_ms = max(self._last_ms, not_before_ms)

    @property
    def clock_gen(self) -> int:
        """Number of the present clock generation, 1 to 65535."""
        return self._gen

    def now_ms(self) -> int:
        """Return UTC milliseconds; within a generation never less than before."""
        self._last_ms = max(self._last_ms, self._anchor_ms + self._monotonic() - self._anchor_mono)
        return self._last_ms

    def check(self) -> Step | None:
        """Compare with the system's clock; call about once a second.

        Returns:
            The step, when the system's clock is more than two seconds away: from now on the time is the system's.
        """
        mono, wall = self._monotonic(), self._wall()
        elapsed = mono - self._anchor_mono
        ours = self._anchor_ms + elapsed
        off = wall - ours
        if abs(off) > STEP_MS:
            self._anchor_mono, self._anchor_ms, self._last_ms = mono, wall, wall
            self._gen = _next(self._gen)
            return Step(by_ms=off, clock_gen=self._gen)
        limit = max(1, int(elapsed * _SLEW))
        self._anchor_mono, self._anchor_ms = mono, ours + max(-limit, min(limit, off))
        return None


def _next(gen: int) -> int:
    return gen % 0xFFFF + 1

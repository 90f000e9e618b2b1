"""The clocks of a ticket: accept, arrive and restore, each with a due time that a pause moves. Pure; UTC ms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

ClockKind = Literal["accept", "arrive", "restore"]
KINDS: tuple[ClockKind, ...] = get_args(ClockKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """How long one part of the work may take, and how it went.

    Attributes:
        target_ms: Due time as it was when the clock started; pauses come on top.
        paused_ms: Length of the pauses that have ended.
        pause_start_ms: Begin of the pause that lasts; None when there is none.
        stop_ms: When the part was done; None while the clock runs.
        breached_ms: The due time that passed with the part not done. Never erased.
    """

    kind: ClockKind
    start_ms: int
    target_ms: int
    paused_ms: int = 0
    pause_start_ms: int | None = None
    stop_ms: int | None = None
    breached_ms: int | None = None

    @property
    def is_running(self) -> bool:
        """Whether time counts now."""
        return self.stop_ms is None and self.pause_start_ms is None

    @property
    def due_ms(self) -> int:
        """When it is due, as long as no further pause comes."""
        return self.target_ms + self.paused_ms


def started(allowed_ms: Mapping[ClockKind, int], now_ms: int) -> list[Clock]:
    """Return the clocks of a new ticket; a kind that is not allowed any time has no clock."""
    return [
        Clock(kind=kind, start_ms=now_ms, target_ms=now_ms + allowed_ms[kind]) for kind in KINDS if kind in allowed_ms
    ]


def checked(clock: Clock, now_ms: int) -> Clock:
    """Return the clock with its breach noted, if it ran past its due time."""
    if clock.is_running and clock.breached_ms is None and now_ms >= clock.due_ms:
        return replace(clock, breached_ms=clock.due_ms)
    return clock


def paused(clock: Clock, now_ms: int) -> Clock:
    """Return the clock standing still from now on."""
    clock = checked(clock, now_ms)
    return replace(clock, pause_start_ms=now_ms) if clock.is_running else clock


def resumed(clock: Clock, now_ms: int) -> Clock:
    """Return the clock running again, its due time later by the pause."""
    if clock.pause_start_ms is None:
        return clock
    # a wall clock that was set back must not shorten what was allowed
    length = max(0, now_ms - clock.pause_start_ms)
    return replace(clock, pause_start_ms=None, paused_ms=clock.paused_ms + length)


def stopped(clock: Clock, now_ms: int) -> Clock:
    """Return the clock with its part done; the first stop counts."""
    if clock.stop_ms is not None:
        return clock
    return replace(checked(resumed(clock, now_ms), now_ms), stop_ms=now_ms)


def continued(clock: Clock, now_ms: int) -> Clock:
    """Return the clock running on from its original start: the work was not accepted, so the time counted all along."""
    return checked(replace(clock, stop_ms=None), now_ms)


def restarted(clock: Clock, now_ms: int) -> Clock:
    """Return the clock of a reopened ticket: the whole time again, an earlier breach kept."""
    allowed = clock.target_ms - clock.start_ms
    return Clock(
        kind=clock.kind, start_ms=now_ms, target_ms=now_ms + allowed, breached_ms=checked(clock, now_ms).breached_ms
    )


def after_step(clocks: list[Clock], step: str, now_ms: int) -> list[Clock]:
    """Return the clocks after one step of the ticket. Only *restore* pauses, and only while the ticket is on hold."""
    return [_after(clock, step, now_ms) for clock in clocks]


def _after(clock: Clock, step: str, now_ms: int) -> Clock:
    is_restore = clock.kind == "restore"
    if step in {"done", "cancel"} or step == clock.kind or (step == "arrive" and not is_restore):
        return stopped(clock, now_ms)
    if step == "hold" and is_restore:
        return paused(clock, now_ms)
    if step == "resume":
        return checked(resumed(clock, now_ms), now_ms)
    if step == "reject" and is_restore:
        return continued(clock, now_ms)
    if step == "reopen":
        return restarted(clock, now_ms)
    return checked(clock, now_ms)

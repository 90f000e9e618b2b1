"""The gateway's clock in virtual time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import STEP_MS, Clock

START = 1_763_800_000_000


class Times:
    """A wall clock and a monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.wall, self.mono = START, 77

    def run(self, ms: int, *, wall_ms: int | None = None) -> None:
        self.mono += ms
        self.wall += ms if wall_ms is None else wall_ms

    def clock(self, *, clock_gen: int = 0, not_before_ms: int = 0) -> Clock:
        return Clock(
            clock_gen=clock_gen,
            not_before_ms=not_before_ms,
            wall=lambda: self.wall,
            monotonic=lambda: self.mono,
        )


def test_runs_with_the_monotonic_clock() -> None:
    """A jump of the system's clock is not in the time stamps until it was noticed as a step."""
    times = Times()
    clock = times.clock()
    times.run(1000, wall_ms=3_601_000)
    assert clock.now_ms() == START + 1000
    step = clock.check()
    assert step is not None
    assert (step.by_ms, step.clock_gen) == (3_600_000, 2)
    assert clock.now_ms() == START + 3_601_000
    assert clock.clock_gen == 2


def test_step_back() -> None:
    """A clock that was set back by an hour begins a new generation and shows the new time."""
    times = Times()
    clock = times.clock()
    clock.now_ms()
    times.run(1000, wall_ms=-3_599_000)
    step = clock.check()
    assert step is not None
    assert step.by_ms == -3_600_000
    assert clock.now_ms() == START - 3_599_000


def test_two_seconds_are_no_step() -> None:
    """A difference of two seconds or less is led back slowly, and no time stamp ever goes back."""
    times = Times()
    clock = times.clock()
    times.run(1000, wall_ms=1000 - STEP_MS)
    assert clock.check() is None
    assert clock.clock_gen == 1
    last = clock.now_ms()
    for _ in range(210):
        times.run(1000)
        assert clock.check() is None
        assert clock.now_ms() >= last
        last = clock.now_ms()
    assert clock.now_ms() == times.wall


def test_set_back_while_the_gateway_was_off() -> None:
    """After a restart with a clock far behind the outbox's newest frame a new generation begins."""
    clock = Times().clock(clock_gen=4, not_before_ms=START + STEP_MS + 1)
    assert clock.clock_gen == 5
    assert clock.now_ms() == START


def test_restart_goes_on_in_the_same_generation() -> None:
    """A restart keeps the generation, and no time stamp of before is used again."""
    clock = Times().clock(clock_gen=4, not_before_ms=START + 1500)
    assert clock.clock_gen == 4
    assert clock.now_ms() == START + 1500


def test_generation_never_becomes_zero() -> None:
    """The 16-bit generation wraps past 65535 to 1: zero means that there is none yet."""
    assert Times().clock(clock_gen=0xFFFF, not_before_ms=START + 10_000).clock_gen == 1


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(-10_000, 10_000), st.booleans()), max_size=60))
def test_never_back_within_a_generation(moves: list[tuple[int, int, bool]]) -> None:
    """Whatever the system's clock does, time stamps of one generation never go back."""
    times = Times()
    clock = times.clock()
    last, gen = clock.now_ms(), clock.clock_gen
    for elapsed, jump, is_checked in moves:
        times.run(elapsed, wall_ms=elapsed + jump)
        if is_checked:
            clock.check()
        now = clock.now_ms()
        if clock.clock_gen == gen:
            assert now >= last
        else:
            assert now == times.wall
        last, gen = now, clock.clock_gen

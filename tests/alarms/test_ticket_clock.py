"""Clocks of a ticket: due times, pauses, breaches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alarms.ticket_clock import KINDS, Clock, after_step, checked, started

MIN = 60_000
ALLOWED = {"accept": 5 * MIN, "arrive": 15 * MIN, "restore": 120 * MIN}


def run(*steps: tuple[str, int], start_ms: int = 0) -> dict[str, Clock]:
    """Return the clocks after steps (name, minute)."""
    clocks = started({"accept": 5 * MIN, "arrive": 15 * MIN, "restore": 120 * MIN}, start_ms)
    for step, minute in steps:
        clocks = after_step(clocks, step, start_ms + minute * MIN)
    return {clock.kind: clock for clock in clocks}


def test_all_clocks_start_when_the_ticket_opens() -> None:
    """Accept, arrive and restore are each counted from the moment the ticket exists."""
    assert {kind: clock.due_ms for kind, clock in run().items()} == ALLOWED


def test_a_kind_without_a_time_has_no_clock() -> None:
    """A rule that allows no time for arriving makes no clock for it."""
    assert [clock.kind for clock in started({"restore": MIN}, 0)] == ["restore"]


def test_work_in_time_breaches_nothing() -> None:
    """Accepted after 3, arrived after 10, done after 60 minutes: every clock stopped in time."""
    clocks = run(("dispatch", 1), ("accept", 3), ("arrive", 10), ("done", 60))
    assert [clocks[kind].stop_ms for kind in KINDS] == [3 * MIN, 10 * MIN, 60 * MIN]
    assert [clocks[kind].breached_ms for kind in KINDS] == [None, None, None]


def test_a_late_accept_is_a_breach_at_its_due_time() -> None:
    """Accepted after 7 minutes of 5: the breach stands at minute 5, not when somebody looked."""
    clocks = run(("accept", 7))
    assert clocks["accept"].breached_ms == 5 * MIN
    assert clocks["accept"].stop_ms == 7 * MIN


def test_a_breach_is_never_erased() -> None:
    """Neither resuming, nor rejecting, nor reopening takes a breach away."""
    clocks = run(
        ("accept", 7), ("arrive", 8), ("done", 9), ("reject", 10), ("accept", 11), ("done", 12), ("reopen", 20)
    )
    assert clocks["accept"].breached_ms == 5 * MIN


def test_hold_moves_the_due_time_of_restore_alone() -> None:
    """Waiting for parts for an hour gives restore an hour; arriving does not become later."""
    clocks = run(("accept", 1), ("hold", 2), ("resume", 62))
    assert clocks["restore"].due_ms == 180 * MIN
    assert clocks["arrive"].due_ms == 15 * MIN
    assert clocks["restore"].paused_ms == 60 * MIN


def test_arrive_goes_on_counting_on_hold() -> None:
    """A ticket put on hold before anybody arrived is late all the same."""
    assert run(("accept", 1), ("hold", 2), ("resume", 62))["arrive"].breached_ms == 15 * MIN


def test_a_paused_clock_cannot_breach() -> None:
    """On hold for ten days: no breach, however often it is looked at."""
    clock = run(("accept", 1), ("arrive", 2), ("hold", 3))["restore"]
    assert checked(clock, 10 * 24 * 60 * MIN).breached_ms is None


def test_a_hold_that_comes_too_late_does_not_hide_the_breach() -> None:
    """Put on hold after the due time: the breach was there before."""
    assert run(("accept", 1), ("arrive", 2), ("hold", 130))["restore"].breached_ms == 120 * MIN


def test_rejected_work_counts_from_the_original_start() -> None:
    """Done after 100 minutes, not accepted at 130: restore has run on and is breached."""
    clock = run(("accept", 1), ("arrive", 2), ("done", 100), ("reject", 130))["restore"]
    assert clock.stop_ms is None
    assert clock.breached_ms == 120 * MIN


def test_cancelling_stops_every_clock() -> None:
    """A cancelled ticket is not late tomorrow."""
    clocks = run(("cancel", 2))
    assert all(checked(clock, 10**12).breached_ms is None for clock in clocks.values())


def test_a_reopened_ticket_has_its_whole_time_again() -> None:
    """The alarm comes back a day later: the same times are allowed, counted from now."""
    clocks = run(("accept", 1), ("arrive", 2), ("done", 3), ("close", 4), ("reopen", 1000))
    assert {kind: clock.due_ms - 1000 * MIN for kind, clock in clocks.items()} == ALLOWED
    assert all(clock.is_running for clock in clocks.values())


def test_a_clock_set_back_does_not_shorten_what_was_allowed() -> None:
    """The computer's clock steps back during a hold: the due time stays."""
    assert run(("hold", 10), ("resume", 5))["restore"].due_ms == 120 * MIN


STEPS = ["dispatch", "accept", "decline", "arrive", "hold", "resume", "done", "close", "reject", "cancel", "reopen"]


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 100)), max_size=20))
def test_breaches_only_grow_and_pauses_only_add(moves: list[tuple[str, int]]) -> None:
    """Whatever people do in whatever order: a breach stays, and only reopening gives a shorter pause or a new start."""
    clocks, now_ms = started({"accept": 5 * MIN, "arrive": 15 * MIN, "restore": 120 * MIN}, 0), 0
    for step, minutes in moves:
        now_ms += minutes * MIN
        before, clocks = clocks, after_step(clocks, step, now_ms)
        for old, new in zip(before, clocks, strict=True):
            assert old.breached_ms is None or new.breached_ms == old.breached_ms
            assert new.target_ms - new.start_ms == old.target_ms - old.start_ms
            assert step == "reopen" or (new.paused_ms >= old.paused_ms and new.start_ms == old.start_ms)
            assert new.pause_start_ms is None or new.kind == "restore"


@pytest.mark.parametrize("late_by", [-1, 0, 1])
def test_the_due_time_itself_is_late(late_by: int) -> None:
    """One millisecond before the due time is in time; the due time is not."""
    clock = Clock(kind="accept", start_ms=0, target_ms=1000)
    assert (checked(clock, 1000 + late_by).breached_ms is not None) == (late_by >= 0)

"""Controlled doors and the people who use them."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.door import Access, Direction, Door, DoorState, Happening, Method

BUSY_S = 7.5 * 3600.0
READERS: tuple[tuple[Method, Direction], ...] = (("card", "in"), ("face", "in"))
GATE: tuple[tuple[Method, Direction], ...] = (("face", "in"), ("qr", "in"), ("card", "out"))


def door(
    seed: int = 1, *, passages_per_h: float = 60.0, methods: tuple[tuple[Method, Direction], ...] = READERS
) -> Door:
    return Door(Random(seed), name="DR-X1", methods=methods, passages_per_h=passages_per_h, residents=range(1000, 1200))


def run(one: Door, seconds: float, dt: float = 0.2) -> list[tuple[float, Happening]]:
    """Run and return (time, happening)."""
    found: list[tuple[float, Happening]] = []
    for step in range(round(seconds / dt)):
        found += [((step + 1) * dt, happening) for happening in one.step(dt, BUSY_S)]
    return found


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(1, 600))
def test_no_door_opens_by_itself(seed: int, passages_per_h: float) -> None:
    """Each opening has a reason within the five seconds before it: a granted record or the exit button."""
    reason, was_open = -99.0, False
    for when, happening in run(door(seed, passages_per_h=passages_per_h), 1800):
        if isinstance(happening, Access):
            reason = when if happening.result == "granted" else reason
            continue
        reason = when if happening.button else reason
        if happening.contact and not was_open:
            assert when - reason <= 5.0
            assert happening.lock == 1
        was_open = bool(happening.contact)


def test_refused_people_stay_out() -> None:
    """A lost, expired or unknown card opens nothing."""
    one = door(methods=(("card", "in"),), passages_per_h=400.0)
    happened = run(one, 4 * 3600)
    records = [h for _, h in happened if isinstance(h, Access)]
    refused = [record for record in records if record.result != "granted"]
    assert 0 < len(refused) < 0.03 * len(records)
    opened = sum(isinstance(h, DoorState) and h.contact == 1 for _, h in happened)
    assert opened > 0
    alone = door(methods=(("card", "in"),), passages_per_h=0.0)
    assert run(alone, 600) == []


def test_a_passage_ends_closed_and_locked() -> None:
    """After the last person the door is shut and locked again, and was never held open."""
    one = door(passages_per_h=300.0)
    opened_at: float | None = None
    longest = 0.0
    for when, happening in run(one, 3600):
        if isinstance(happening, DoorState):
            opened_at = (opened_at or when) if happening.contact and not happening.lock else None
            longest = max(longest, when - opened_at) if opened_at else longest
    assert longest < 20.0
    one.passages_per_h = 0.0
    run(one, 30)
    assert one.state == DoorState(door="DR-X1", contact=0, button=0, lock=0, tamper=0)


def test_serials_count_without_holes() -> None:
    """Each reader numbers its records one by one, so that a lost record shows."""
    records = [h for _, h in run(door(passages_per_h=400.0, methods=GATE), 3600) if isinstance(h, Access)]
    for method in ("card", "face", "qr"):
        serials = [record.serial for record in records if record.method == method]
        assert len(serials) > 5
        assert serials == list(range(serials[0], serials[0] + len(serials)))


def test_ways_in_and_out() -> None:
    """With a reader on the way out people show their card; without one they press the button."""
    with_reader = run(door(methods=GATE, passages_per_h=200.0), 3600)
    ways = {h.direction for _, h in with_reader if isinstance(h, Access)}
    assert ways == {"in", "out"}
    assert not any(isinstance(h, DoorState) and h.button for _, h in with_reader)
    without = run(door(passages_per_h=200.0), 3600)
    assert {h.direction for _, h in without if isinstance(h, Access)} == {"in"}
    assert any(isinstance(h, DoorState) and h.button for _, h in without)


def test_forced_door_has_no_reason() -> None:
    """A forced door opens with the lock locked and nobody allowed, stays open as long as told, then closes."""
    one = door(passages_per_h=0.0)
    run(one, 10)
    one.force(45.0)
    happened = run(one, 60)
    assert [(h.contact, h.lock, h.button) for _, h in happened if isinstance(h, DoorState)] == [(1, 0, 0), (0, 0, 0)]
    assert happened[1][0] - happened[0][0] == pytest.approx(45.0, abs=0.5)


@pytest.mark.parametrize("seed", range(5))
def test_levering_waits_for_a_quiet_moment(seed: int) -> None:
    """At a busy door it happens soon all the same, but never within the five seconds that a passage explains."""
    one = door(seed=seed, passages_per_h=400.0)
    run(one, 60)
    one.force(45.0)
    happened = run(one, 90)
    changes = [(t, h.contact) for t, h in happened if isinstance(h, DoorState)]
    stays = [(t, after - t) for (t, contact), (after, _) in pairwise(changes) if contact]
    (levered,) = [t for t, stay in stays if stay > 44]
    assert levered < 32
    reasons = [t for t, h in happened if isinstance(h, Access) or h.button or h.lock]
    assert not [t for t in reasons if levered - 5 <= t <= levered + 44]


def test_fire_release() -> None:
    """Released for a fire the lock stays open until it is taken back, whoever passes."""
    one = door(passages_per_h=600.0)
    one.release(True)
    states = [h for _, h in run(one, 300) if isinstance(h, DoorState)]
    assert states
    assert all(state.lock == 1 for state in states)
    one.passages_per_h = 0.0
    one.release(False)
    assert any(isinstance(h, DoorState) and h.lock == 0 for _, h in run(one, 10))


def test_faces_have_a_score_and_cards_do_not() -> None:
    """Known faces score high, strangers low, cards nothing; card numbers are eight hex digits."""
    records = [h for _, h in run(door(passages_per_h=900.0), 3 * 3600) if isinstance(h, Access)]
    for record in records:
        if record.method == "card":
            assert record.score == 0.0
            assert len(record.token) == 8
            assert int(record.token, 16) >= 0
        elif record.result == "granted":
            assert record.score > 75
        else:
            assert 38 <= record.score <= 61

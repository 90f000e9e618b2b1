"""Overlays: every reachable state of an alarm row with every event, and what must always hold."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from alarms.lifecycle import State, Step
from alarms.overlays import Cover, Effect, Shelf, Standing, advance
from watchroom.errors import StateError

EVENTS: tuple[Step | Cover, ...] = (*Step, *Cover)
LATCHING = pytest.mark.parametrize("is_latching", [False, True])


def reachable(is_latching: bool) -> set[Standing]:
    """Return every standing that events can lead to."""
    seen: set[Standing] = set()
    todo = [Standing()]
    while todo:
        standing = todo.pop()
        if standing in seen:
            continue
        seen.add(standing)
        todo += [effect.standing for _, effect in effects(standing, is_latching)]
    return seen


def effects(standing: Standing, is_latching: bool) -> Iterator[tuple[Step | Cover, Effect]]:
    for event in EVENTS:
        outcome = outcome_of(standing, event, is_latching)
        if isinstance(outcome, Effect):
            yield event, outcome


def outcome_of(standing: Standing, event: Step | Cover, is_latching: bool) -> Effect | str:
    try:
        return advance(standing, event, is_latching=is_latching)
    except StateError as refusal:
        return refusal.code


def run(*events: Step | Cover, is_latching: bool = False) -> list[State]:
    standing, shown = Standing(), []
    for event in events:
        standing = advance(standing, event, is_latching=is_latching).standing
        shown.append(standing.shown)
    return shown


@LATCHING
def test_every_pair_of_state_and_event_is_defined(is_latching: bool) -> None:
    """Whatever happens in whatever state, there is an outcome or a refusal with a stable code."""
    for standing, event in itertools.product(reachable(is_latching), EVENTS):
        outcome = outcome_of(standing, event, is_latching)
        assert isinstance(outcome, Effect) or outcome.startswith("alarm."), (standing, event)


def test_the_exploration_is_of_a_known_size() -> None:
    """The table has not lost or won states unnoticed: three shelves, suppression and service over each core."""
    found = {is_latching: len(reachable(is_latching)) for is_latching in (False, True)}
    assert found == {False: 44, True: 74}
    shown = {standing.shown for is_latching in (False, True) for standing in reachable(is_latching)}
    assert shown == set(State)


@LATCHING
def test_nothing_sounds_while_hidden(is_latching: bool) -> None:
    """A shelved, suppressed or out-of-service alarm never sounds, opens no popup and no ticket."""
    for standing in reachable(is_latching):
        for event, effect in effects(standing, is_latching):
            assert not (effect.annunciate and effect.standing.is_hidden), (standing, event)
            assert not (effect.annunciate and effect.standing.shown is not State.UNACK), (standing, event)


@LATCHING
def test_what_is_shown_as_active_is_active(is_latching: bool) -> None:
    """UNACK and ACKED are shown when the condition is true and only then; the truth survives every overlay."""
    for standing in reachable(is_latching):
        if not standing.is_hidden:
            assert standing.shown.is_active is standing.is_active, standing
        for event, effect in effects(standing, is_latching):
            if isinstance(event, Cover):
                assert effect.standing.is_active is standing.is_active, (standing, event)


@LATCHING
def test_latching_never_returns_by_itself(is_latching: bool) -> None:
    """A latching row never shows RTNUN, the others never a latched state."""
    shown = {standing.shown for standing in reachable(is_latching)}
    assert (State.RTNUN in shown) is not is_latching
    assert ({State.LUNACK, State.LACKED} <= shown) is is_latching
    assert is_latching or not {State.LUNACK, State.LACKED} & shown


@LATCHING
def test_every_state_leads_home(is_latching: bool) -> None:
    """From every state the same six actions bring the row to rest: no overlay can strand an alarm."""
    home = (Cover.UNSHELVE, Cover.UNSUPPRESS, Cover.RETURN, Step.CLEAR, Step.ACK, Step.RESET)
    for start in reachable(is_latching):
        standing = start
        for event in home:
            outcome = outcome_of(standing, event, is_latching)
            standing = outcome.standing if isinstance(outcome, Effect) else standing
        assert standing == Standing(), start


@LATCHING
def test_order_of_several_overlays(is_latching: bool) -> None:
    """Out of service shows before suppressed, suppressed before shelved; the core comes when all are gone."""
    for standing in reachable(is_latching):
        expected = (
            State.OOSRV
            if standing.is_out
            else State.DSUPR
            if standing.is_suppressed
            else State.SHLVD
            if standing.shelf is not Shelf.NONE
            else standing.core
        )
        assert standing.shown is expected
        assert not standing.is_hidden or standing.core is State.NORM


@LATCHING
def test_people_cannot_act_on_what_is_hidden(is_latching: bool) -> None:
    """Acknowledging or resetting an alarm that nobody sees is refused."""
    for standing in reachable(is_latching):
        if standing.is_hidden:
            for event in (Step.ACK, Step.RESET, Step.REALARM):
                assert outcome_of(standing, event, is_latching) == "alarm.hidden"


def test_unshelved_by_hand_is_acknowledged_by_itself_is_not() -> None:
    """Who takes an alarm off the shelf has seen it; one whose time is over sounds again (ISA-18.2, 11.7.3)."""
    assert run(Step.RAISE, Cover.SHELVE_TIMED, Cover.UNSHELVE)[-1] is State.ACKED
    assert run(Step.RAISE, Cover.SHELVE_TIMED, Cover.SHELF_EXPIRE)[-1] is State.UNACK
    shelved = advance(Standing(core=State.UNACK, is_active=True), Cover.SHELVE_TIMED, is_latching=False)
    assert shelved.silence
    assert advance(shelved.standing, Cover.SHELF_EXPIRE, is_latching=False).annunciate
    assert not advance(shelved.standing, Cover.UNSHELVE, is_latching=False).annunciate


def test_a_timed_shelf_survives_any_number_of_transitions() -> None:
    """A flickering alarm shelved for an hour stays quiet for an hour."""
    flicker: list[Step | Cover] = [Step.RAISE, Cover.SHELVE_TIMED, *[Step.CLEAR, Step.RAISE] * 5, Step.CLEAR]
    assert set(run(*flicker)[1:]) == {State.SHLVD}
    assert run(*flicker, Cover.SHELF_EXPIRE)[-1] is State.NORM


def test_a_one_shot_shelf_ends_with_the_alarm() -> None:
    """Shelved for this once: when it clears, the shelf is gone and the next one sounds."""
    assert run(Step.RAISE, Cover.SHELVE_ONCE, Step.CLEAR, Step.RAISE) == [
        State.UNACK,
        State.SHLVD,
        State.NORM,
        State.UNACK,
    ]
    assert run(Cover.SHELVE_ONCE, Step.RAISE, Step.CLEAR) == [State.SHLVD, State.SHLVD, State.NORM]


def test_a_latched_alarm_is_not_lost_behind_a_shelf() -> None:
    """A latching alarm that came or went behind a shelf still waits for a person."""
    once = run(Step.RAISE, Cover.SHELVE_ONCE, Step.CLEAR, is_latching=True)
    assert once[-1] is State.LACKED
    behind = run(Step.RAISE, Cover.SHELVE_TIMED, Step.CLEAR, Step.RAISE, Step.CLEAR, Cover.UNSHELVE, is_latching=True)
    assert behind[-1] is State.LUNACK
    quiet = run(Cover.SHELVE_TIMED, Cover.SHELF_EXPIRE, is_latching=True)
    assert quiet[-1] is State.NORM
    hidden_once = run(Cover.SHELVE_ONCE, Step.RAISE, Step.CLEAR, is_latching=True)
    assert hidden_once[-1] is State.LUNACK


def test_suppression_does_not_swallow_a_latched_alarm() -> None:
    """A fire that nobody has acknowledged is still there when the suppression ends; a trip by design is not."""
    stood = run(Step.RAISE, Step.CLEAR, Cover.SUPPRESS, Cover.UNSUPPRESS, is_latching=True)
    assert stood[-1] is State.LUNACK
    by_design = run(Cover.SUPPRESS, Step.RAISE, Step.CLEAR, Cover.UNSUPPRESS, is_latching=True)
    assert by_design[-1] is State.NORM
    assert run(Cover.SUPPRESS, Step.RAISE, Cover.UNSUPPRESS)[-1] is State.UNACK


def test_trips_during_work_are_tests() -> None:
    """What trips while the equipment is out of service and is over at its return raises nothing."""
    tested = run(Cover.OUT, Step.RAISE, Step.CLEAR, Cover.RETURN, is_latching=True)
    assert tested == [State.OOSRV, State.OOSRV, State.OOSRV, State.NORM]
    assert run(Cover.OUT, Step.RAISE, Cover.RETURN)[-1] is State.UNACK


def test_overlays_end_one_by_one() -> None:
    """Only the last overlay to go uncovers the alarm."""
    path = run(Step.RAISE, Cover.SHELVE_TIMED, Cover.SUPPRESS, Cover.OUT, Cover.UNSHELVE, Cover.RETURN)
    assert path[1:] == [State.SHLVD, State.DSUPR, State.OOSRV, State.OOSRV, State.DSUPR]


@pytest.mark.parametrize(
    ("before", "event", "code"),
    [
        ((Cover.SHELVE_TIMED,), Cover.SHELVE_ONCE, "alarm.already_shelved"),
        ((Cover.SUPPRESS,), Cover.SHELVE_TIMED, "alarm.hidden"),
        ((Cover.OUT,), Cover.SHELVE_TIMED, "alarm.hidden"),
        ((), Cover.UNSHELVE, "alarm.not_shelved"),
        ((), Cover.SHELF_EXPIRE, "alarm.not_shelved"),
        ((Cover.SUPPRESS,), Cover.SUPPRESS, "alarm.already_suppressed"),
        ((), Cover.UNSUPPRESS, "alarm.not_suppressed"),
        ((Cover.OUT,), Cover.OUT, "alarm.already_out"),
        ((), Cover.RETURN, "alarm.not_out"),
        ((Cover.SUPPRESS, Step.RAISE), Step.RAISE, "alarm.already_active"),
        ((Cover.SUPPRESS,), Step.CLEAR, "alarm.not_active"),
        ((Cover.SUPPRESS,), Step.ESCALATE, "alarm.not_active"),
    ],
)
def test_refusals_say_why(before: tuple[Step | Cover, ...], event: Step | Cover, code: str) -> None:
    """A button that does nothing tells the reason."""
    standing = Standing()
    for item in before:
        standing = advance(standing, item, is_latching=False).standing
    assert outcome_of(standing, event, False) == code

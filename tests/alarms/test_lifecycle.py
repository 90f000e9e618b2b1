"""The life cycle of one alarm row: every state, every event, and what must always hold."""

from __future__ import annotations

import itertools

import pytest

from alarms.lifecycle import Outcome, State, Step, step
from watchroom.errors import StateError

PROCESS = (Step.RAISE, Step.CLEAR, Step.ESCALATE, Step.EASE)


def states(*events: Step, is_latching: bool = False) -> list[State]:
    state, seen = State.NORM, []
    for event in events:
        state = step(state, event, is_latching=is_latching).state
        seen.append(state)
    return seen


def explore(is_latching: bool) -> set[tuple[State, bool]]:
    """Return every (state, truth of the condition) that events can lead to; process events follow the truth."""
    seen, todo = set(), [(State.NORM, False)]
    while todo:
        state, is_true = todo.pop()
        if (state, is_true) in seen:
            continue
        seen.add((state, is_true))
        for event in Step:
            if (event is Step.RAISE) == is_true and event in PROCESS:
                continue
            try:
                after = step(state, event, is_latching=is_latching).state
            except StateError:
                continue
            todo.append((after, {Step.RAISE: True, Step.CLEAR: False}.get(event, is_true)))
    return seen


def test_activate_clear_ack() -> None:
    """An alarm that went away by itself waits until somebody has seen it."""
    assert states(Step.RAISE, Step.CLEAR, Step.ACK) == [State.UNACK, State.RTNUN, State.NORM]


def test_latched_alarm_needs_both_ack_and_reset() -> None:
    """A fire alarm stays after the smoke is gone until it was acknowledged and reset, in this order."""
    path = states(Step.RAISE, Step.CLEAR, Step.ACK, Step.RESET, is_latching=True)
    assert path == [State.UNACK, State.LUNACK, State.LACKED, State.NORM]
    with pytest.raises(StateError, match=r"alarm\.not_acked"):
        step(State.LUNACK, Step.RESET, is_latching=True)
    with pytest.raises(StateError, match=r"alarm\.still_active"):
        step(State.ACKED, Step.RESET, is_latching=True)


@pytest.mark.parametrize("is_latching", [False, True])
def test_active_states_follow_the_condition(is_latching: bool) -> None:
    """UNACK and ACKED mean that the condition is true now; the others that it is not."""
    found = explore(is_latching)
    assert {state for state, _ in found} == (
        {State.NORM, State.UNACK, State.ACKED, State.LUNACK, State.LACKED}
        if is_latching
        else {State.NORM, State.UNACK, State.ACKED, State.RTNUN}
    )
    assert all(state.is_active == is_true for state, is_true in found)


@pytest.mark.parametrize("is_latching", [False, True])
def test_every_state_leads_home(is_latching: bool) -> None:
    """From every state CLEAR, ACK, RESET bring the row to rest; what does not apply is refused, not lost."""
    for start, _ in explore(is_latching):
        state = start
        for event in (Step.CLEAR, Step.ACK, Step.RESET):
            try:
                state = step(state, event, is_latching=is_latching).state
            except StateError:
                continue
        assert state is State.NORM, start


@pytest.mark.parametrize("is_latching", [False, True])
def test_every_pair_is_defined(is_latching: bool) -> None:
    """Each event in each state has an outcome or a refusal with a stable code, never anything else."""
    for state, event in itertools.product(State, Step):
        outcome = _outcome(state, event, is_latching=is_latching)
        if isinstance(outcome, str):
            assert outcome.startswith("alarm.")
        else:
            assert not (outcome.annunciate and outcome.silence)
            assert not outcome.annunciate or outcome.state is State.UNACK


def _outcome(state: State, event: Step, *, is_latching: bool) -> Outcome | str:
    try:
        return step(state, event, is_latching=is_latching)
    except StateError as refusal:
        return refusal.code


@pytest.mark.parametrize("is_latching", [False, True])
def test_only_news_sounds_the_horn(is_latching: bool) -> None:
    """Raising, escalating and re-alarming sound; acknowledging silences; easing a level is quiet."""
    sounding = {
        event for state, event in itertools.product(State, Step) if _annunciates(state, event, is_latching=is_latching)
    }
    assert sounding == {Step.RAISE, Step.ESCALATE, Step.REALARM}
    assert step(State.UNACK, Step.ACK, is_latching=is_latching).silence


def _annunciates(state: State, event: Step, *, is_latching: bool) -> bool:
    outcome = _outcome(state, event, is_latching=is_latching)
    return isinstance(outcome, Outcome) and outcome.annunciate


def test_latched_horn_goes_on_after_the_condition_is_gone() -> None:
    """Fire and entrapment keep sounding until somebody acknowledges; others fall silent when they clear."""
    assert not step(State.UNACK, Step.CLEAR, is_latching=True).silence
    assert step(State.UNACK, Step.CLEAR, is_latching=False).silence


@pytest.mark.parametrize(
    ("state", "event", "code"),
    [
        (State.NORM, Step.ACK, "alarm.nothing_to_ack"),
        (State.ACKED, Step.ACK, "alarm.already_acked"),
        (State.LACKED, Step.ACK, "alarm.already_acked"),
        (State.NORM, Step.RESET, "alarm.nothing_to_reset"),
        (State.UNACK, Step.RAISE, "alarm.already_active"),
        (State.NORM, Step.CLEAR, "alarm.not_active"),
        (State.RTNUN, Step.REALARM, "alarm.not_active"),
    ],
)
def test_refusals_say_why(state: State, event: Step, code: str) -> None:
    """A button that does nothing tells the guard the reason."""
    with pytest.raises(StateError) as refusal:
        step(state, event, is_latching=False)
    assert refusal.value.code == code

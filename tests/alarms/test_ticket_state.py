"""The table of ticket steps, walked through completely."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import get_args

import pytest

from alarms.ticket_state import (
    DAY_MS,
    TicketFacts,
    TicketState,
    TicketStep,
    allowed_steps,
    next_state,
)
from watchroom.errors import RightsError, StateError
from watchroom.site import Role

NOW = 100 * DAY_MS
ROLES = get_args(Role)
S, T = TicketState, TicketStep

# state -> {step -> state after it}; HOLD came from ARRIVED
TABLE = {
    S.NEW: {T.DISPATCH: S.DISPATCHED, T.CANCEL: S.CANCELLED},
    S.DISPATCHED: {T.ACCEPT: S.ACCEPTED, T.DECLINE: S.NEW, T.CANCEL: S.CANCELLED},
    S.ACCEPTED: {T.ARRIVE: S.ARRIVED, T.HOLD: S.HOLD, T.CANCEL: S.CANCELLED},
    S.ARRIVED: {T.HOLD: S.HOLD, T.DONE: S.DONE, T.CANCEL: S.CANCELLED},
    S.HOLD: {T.RESUME: S.ARRIVED, T.CANCEL: S.CANCELLED},
    S.DONE: {T.CLOSE: S.CLOSED, T.REJECT: S.DISPATCHED, T.CANCEL: S.CANCELLED},
    S.CLOSED: {T.REOPEN: S.DISPATCHED},
    S.CANCELLED: {},
}
WHO = {
    "patrol": {
        "guard": set(T) - {T.CANCEL},
        "leader": set(T),
        "technician": {T.ACCEPT, T.DECLINE, T.ARRIVE, T.HOLD, T.RESUME, T.DONE},
        "manager": set(T),
        "admin": set(T),
    },
    "repair": {
        "guard": {T.DISPATCH, T.CLOSE, T.REJECT, T.REOPEN},
        "leader": set(T),
        "technician": {T.ACCEPT, T.DECLINE, T.ARRIVE, T.HOLD, T.RESUME, T.DONE},
        "contractor": {T.ACCEPT, T.DECLINE, T.ARRIVE, T.HOLD, T.RESUME, T.DONE},
        "manager": set(T),
        "admin": set(T),
    },
}
FIELDS = {"reason": "parts", "until_ms": NOW + DAY_MS, "comment": "said"}


def facts(state: TicketState, **changes: object) -> TicketFacts:
    values: dict[str, object] = {
        "type": "repair",
        "state": state,
        "priority": 2,
        "assignee": None,
        "worker": "wang",
        "held_from": S.ARRIVED if state is S.HOLD else None,
        "closed_ms": NOW - DAY_MS if not state.is_open else None,
    }
    return TicketFacts(**{**values, **changes})  # type: ignore[arg-type]


def attempt(what: TicketFacts, step: TicketStep, *, role: str, user: str = "zhao") -> TicketState | str:
    try:
        return next_state(what, step, user=user, role=role, now_ms=NOW, fields=FIELDS)
    except RightsError:
        return "rights"
    except StateError as exc:
        return exc.code


def cases() -> Iterator[tuple[str, TicketState, TicketStep, str]]:
    return product(("patrol", "repair"), S, T, ROLES)


def test_the_whole_table() -> None:
    """Every type, state, step and role: exactly the steps of the table, by exactly those people."""
    count = 0
    for type_, state, step, role in cases():
        got = attempt(facts(state, type=type_), step, role=role)
        if step not in TABLE[state]:
            assert got == "ticket.state", (type_, state, step, role)
        elif step not in WHO[type_].get(role, set()):
            assert got == "rights", (type_, state, step, role)
        else:
            assert got == TABLE[state][step], (type_, state, step, role)
        count += 1
    assert count == 2 * 8 * 11 * 9


def test_offered_steps_are_the_possible_ones() -> None:
    """The buttons a person sees are exactly the steps that would be taken."""
    for type_, state, role in product(("patrol", "repair"), S, ROLES):
        what = facts(state, type=type_)
        offered = allowed_steps(what, user="zhao", role=role, now_ms=NOW)
        possible = [step.value for step in T if isinstance(attempt(what, step, role=role), TicketState)]
        assert offered == possible


def test_every_open_state_leads_to_an_end() -> None:
    """No ticket can get stuck: from every open state some chain of steps closes it."""
    for start in S:
        seen, frontier = {start}, [start]
        while frontier:
            for target in TABLE[frontier.pop()].values():
                if target not in seen:
                    seen.add(target)
                    frontier.append(target)
        assert S.CLOSED in seen or start is S.CANCELLED


def test_nobody_accepts_his_own_work() -> None:
    """Who reported the work done cannot close the ticket, whatever his role."""
    for role in ("guard", "leader", "manager", "admin"):
        assert attempt(facts(S.DONE), T.CLOSE, role=role, user="wang") == "ticket.own_work"
        assert attempt(facts(S.DONE), T.CLOSE, role=role, user="zhao") is S.CLOSED


def test_an_emergency_is_neither_held_nor_cancelled() -> None:
    """Fire and entrapment wait for nobody and are not cancelled away."""
    assert attempt(facts(S.ACCEPTED, priority=1), T.HOLD, role="manager") == "ticket.emergency_hold"
    assert attempt(facts(S.NEW, priority=1), T.CANCEL, role="manager") == "ticket.emergency_cancel"
    assert attempt(facts(S.NEW, priority=2), T.CANCEL, role="manager") is S.CANCELLED


def test_work_is_not_done_while_the_alarm_is_active() -> None:
    """The technician cannot report done while the alarm stands; a leader can, and must say why."""
    what = facts(S.ARRIVED, has_active_alarm=True)
    assert attempt(what, T.DONE, role="technician") == "ticket.alarm_active"
    assert attempt(what, T.DONE, role="leader") is S.DONE
    with pytest.raises(StateError, match=r"ticket\.needs_waiver"):
        next_state(what, T.DONE, user="zhao", role="leader", now_ms=NOW, fields={})


def test_a_ticket_given_to_one_person_is_not_taken_by_another() -> None:
    """Only the assignee works on it, or a leader in his place."""
    what = facts(S.DISPATCHED, assignee="chen")
    assert attempt(what, T.ACCEPT, role="technician") == "ticket.not_yours"
    assert attempt(what, T.ACCEPT, role="technician", user="chen") is S.ACCEPTED
    assert attempt(what, T.ACCEPT, role="leader") is S.ACCEPTED


@pytest.mark.parametrize(("closed_ago", "expected"), [(7 * DAY_MS, S.DISPATCHED), (7 * DAY_MS + 1, "ticket.too_late")])
def test_reopening_ends_after_seven_days(closed_ago: int, expected: object) -> None:
    """A closed ticket can be opened again for seven days, then a new one is needed."""
    assert attempt(facts(S.CLOSED, closed_ms=NOW - closed_ago), T.REOPEN, role="guard") == expected


@pytest.mark.parametrize("held_from", [S.ACCEPTED, S.ARRIVED])
def test_hold_returns_to_where_it_came_from(held_from: TicketState) -> None:
    """Resuming leads back to on the way or on site, whichever it was."""
    assert attempt(facts(S.HOLD, held_from=held_from), T.RESUME, role="technician") is held_from


@pytest.mark.parametrize("step", [T.DECLINE, T.REJECT, T.CANCEL, T.REOPEN])
def test_some_steps_need_a_reason(step: TicketStep) -> None:
    """Declining, rejecting, cancelling and reopening say why, in a reason or a comment."""
    state = next(state for state in S if step in TABLE[state])
    for fields in ({}, {"reason": ""}, {"comment": ""}):
        with pytest.raises(StateError, match=r"ticket\.needs_reason"):
            next_state(facts(state), step, user="zhao", role="manager", now_ms=NOW, fields=fields)
    given = next_state(facts(state), step, user="zhao", role="manager", now_ms=NOW, fields={"comment": "why"})
    assert given is TABLE[state][step]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"until_ms": NOW + 1}, "ticket.needs_reason"),
        ({"reason": "tea", "until_ms": NOW + 1}, "ticket.needs_reason"),
        ({"reason": "parts"}, "ticket.needs_until"),
        ({"reason": "parts", "until_ms": NOW}, "ticket.needs_until"),
        ({"reason": "parts", "until_ms": NOW + 61 * DAY_MS}, "ticket.needs_until"),
        ({"reason": "parts", "until_ms": "tomorrow"}, "ticket.needs_until"),
    ],
)
def test_a_hold_says_why_and_until_when(fields: dict[str, object], code: str) -> None:
    """A hold has one of the known reasons and ends within sixty days."""
    with pytest.raises(StateError) as caught:
        next_state(facts(S.ARRIVED), T.HOLD, user="zhao", role="leader", now_ms=NOW, fields=fields)
    assert caught.value.code == code

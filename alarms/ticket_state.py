"""What may happen to a ticket, who may do it and what it needs, as a pure table.

Nobody accepts work that he did himself; an emergency is neither put on hold nor cancelled; work is not *done* while
its alarm is still active, unless a leader or manager says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from watchroom.errors import RightsError, StateError

DAY_MS = 86_400_000
REOPEN_DAYS = 7
HOLD_DAYS = 60
HOLD_REASONS = frozenset({"parts", "access", "contractor", "weather", "other"})


class TicketState(StrEnum):
    """Where a ticket stands."""

    NEW = "NEW"
    DISPATCHED = "DISPATCHED"
    ACCEPTED = "ACCEPTED"
    ARRIVED = "ARRIVED"
    HOLD = "HOLD"
    DONE = "DONE"
    CLOSED = "CLOSED"
    CANCELLED = "CANCELLED"

    @property
    def is_open(self) -> bool:
        """Whether somebody still has something to do."""
        return self not in (TicketState.CLOSED, TicketState.CANCELLED)


class TicketStep(StrEnum):
    """What people do with a ticket."""

    DISPATCH = "dispatch"
    ACCEPT = "accept"
    DECLINE = "decline"
    ARRIVE = "arrive"
    HOLD = "hold"
    RESUME = "resume"
    DONE = "done"
    CLOSE = "close"
    REJECT = "reject"
    CANCEL = "cancel"
    REOPEN = "reopen"


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketFacts:
    """What the decision depends on.

    Attributes:
        worker: Who reported the work done.
        held_from: State to return to from HOLD.
        has_active_alarm: Whether a linked alarm's condition is true now.
    """

    type: str
    state: TicketState
    priority: int
    assignee: str | None = None
    worker: str | None = None
    held_from: TicketState | None = None
    closed_ms: int | None = None
    has_active_alarm: bool = False


S, T = TicketState, TicketStep
DESK = frozenset({"guard", "leader", "manager", "admin"})
LEADERS = frozenset({"leader", "manager", "admin"})
REPAIRERS = frozenset({"technician", "contractor"}) | LEADERS
PATROLLERS = frozenset({"guard", "technician"}) | LEADERS
WORKERS = {"patrol": PATROLLERS, "round": PATROLLERS, "drill": PATROLLERS}
"""Who carries out a ticket, by its type; REPAIRERS the others."""

_OPEN = frozenset(state for state in S if state.is_open)
_FROM: dict[TicketStep, frozenset[TicketState]] = {
    T.DISPATCH: frozenset({S.NEW}),
    T.ACCEPT: frozenset({S.DISPATCHED}),
    T.DECLINE: frozenset({S.DISPATCHED}),
    T.ARRIVE: frozenset({S.ACCEPTED}),
    T.HOLD: frozenset({S.ACCEPTED, S.ARRIVED}),
    T.RESUME: frozenset({S.HOLD}),
    T.DONE: frozenset({S.ARRIVED}),
    T.CLOSE: frozenset({S.DONE}),
    T.REJECT: frozenset({S.DONE}),
    T.CANCEL: _OPEN,
    T.REOPEN: frozenset({S.CLOSED}),
}
_TO: dict[TicketStep, TicketState] = {
    T.DISPATCH: S.DISPATCHED,
    T.ACCEPT: S.ACCEPTED,
    T.DECLINE: S.NEW,
    T.ARRIVE: S.ARRIVED,
    T.HOLD: S.HOLD,
    T.DONE: S.DONE,
    T.CLOSE: S.CLOSED,
    T.REJECT: S.DISPATCHED,
    T.CANCEL: S.CANCELLED,
    T.REOPEN: S.DISPATCHED,
}
_OF_WORKERS = frozenset({T.ACCEPT, T.DECLINE, T.ARRIVE, T.HOLD, T.RESUME, T.DONE})
_ROLES: dict[TicketStep, frozenset[str]] = {
    T.DISPATCH: DESK,
    T.CLOSE: DESK,
    T.REJECT: DESK,
    T.CANCEL: LEADERS,
    T.REOPEN: DESK,
}
_NEEDS_REASON = frozenset({T.DECLINE, T.REJECT, T.CANCEL, T.REOPEN})


def allowed_steps(facts: TicketFacts, *, user: str, role: str, now_ms: int) -> list[str]:
    """Return the steps this person could take now, given a reason or date where the step needs one."""
    return [step.value for step in TicketStep if _is_permitted(facts, step, user=user, role=role, now_ms=now_ms)]


def next_state(
    facts: TicketFacts, step: TicketStep, *, user: str, role: str, now_ms: int, fields: Mapping[str, Any]
) -> TicketState:
    """Return the state a step leads to.

    Args:
        facts: The ticket as it is.
        step: What is to be done.
        user: Who does it.
        role: That person's role.
        now_ms: UTC ms.
        fields: ``comment``, ``assignee``, ``reason``, ``until_ms``, ``result`` as far as given.

    Raises:
        RightsError: If the role may not do this.
        StateError: If the ticket is not in a state for it or something is missing; the code says what.
    """
    permit(facts, step, user=user, role=role, now_ms=now_ms)
    _complete(facts, step, now_ms=now_ms, fields=fields)
    if step is T.RESUME:
        return facts.held_from or S.ACCEPTED
    return _TO[step]


def permit(facts: TicketFacts, step: TicketStep, *, user: str, role: str, now_ms: int) -> None:
    """Check state, role and person, not what the step has to tell.

    Raises:
        RightsError: If the role may not do this.
        StateError: If the ticket or the person does not fit.
    """
    if facts.state not in _FROM[step]:
        raise StateError("ticket.state", f"{step} in {facts.state}")
    workers = WORKERS.get(facts.type, REPAIRERS)
    if role not in (workers if step in _OF_WORKERS else _ROLES[step]):
        raise RightsError(f"role {role} may not {step} a {facts.type} ticket")
    if step in _OF_WORKERS and facts.assignee not in (None, user) and role not in LEADERS:
        raise StateError("ticket.not_yours", f"given to {facts.assignee}")
    if step is T.HOLD and facts.priority == 1:
        raise StateError("ticket.emergency_hold")
    if step is T.CANCEL and facts.priority == 1:
        raise StateError("ticket.emergency_cancel")
    if step is T.DONE and facts.has_active_alarm and role not in LEADERS:
        raise StateError("ticket.alarm_active")
    if step is T.CLOSE and user == facts.worker:
        raise StateError("ticket.own_work")
    if step is T.REOPEN and now_ms - (facts.closed_ms or 0) > REOPEN_DAYS * DAY_MS:
        raise StateError("ticket.too_late", f"closed more than {REOPEN_DAYS} days ago")


def _is_permitted(facts: TicketFacts, step: TicketStep, *, user: str, role: str, now_ms: int) -> bool:
    try:
        permit(facts, step, user=user, role=role, now_ms=now_ms)
    except (RightsError, StateError):
        return False
    return True


def _complete(facts: TicketFacts, step: TicketStep, *, now_ms: int, fields: Mapping[str, Any]) -> None:
    told = fields.get("reason") or fields.get("comment")
    if step in _NEEDS_REASON and not told:
        raise StateError("ticket.needs_reason", step.value)
    if step is T.DONE and facts.has_active_alarm and not told:
        raise StateError("ticket.needs_waiver", "the alarm is still active: say why the work counts as done")
    if step is T.HOLD:
        until = fields.get("until_ms")
        if fields.get("reason") not in HOLD_REASONS:
            raise StateError("ticket.needs_reason", f"one of {', '.join(sorted(HOLD_REASONS))}")
        if not isinstance(until, int) or not now_ms < until <= now_ms + HOLD_DAYS * DAY_MS:
            raise StateError("ticket.needs_until", f"a time within the next {HOLD_DAYS} days")

"""The life cycle of one alarm row (ISA-18.2 / IEC 62682 shape), as a pure table.

Source: the state names are ISA-18.2's; the latching states LUNACK and LACKED hold an alarm whose condition is gone
until a person has acknowledged **and** reset it (fire, entrapment, forced door).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from watchroom.errors import StateError


class State(StrEnum):
    """Where one alarm row stands."""

    NORM = "NORM"
    UNACK = "UNACK"
    ACKED = "ACKED"
    RTNUN = "RTNUN"
    LUNACK = "LUNACK"
    LACKED = "LACKED"
    SHLVD = "SHLVD"
    DSUPR = "DSUPR"
    OOSRV = "OOSRV"

    @property
    def is_hidden(self) -> bool:
        """Whether an overlay hides the alarm: shelved, suppressed by design, out of service."""
        return self in (State.SHLVD, State.DSUPR, State.OOSRV)

    @property
    def is_active(self) -> bool:
        """Whether the condition is true now; nothing is said about a hidden one."""
        return self in (State.UNACK, State.ACKED)


class Step(StrEnum):
    """What may happen to an alarm row; the first four come from the evaluator, the others from people and timers."""

    RAISE = "RAISE"
    CLEAR = "CLEAR"
    ESCALATE = "ESCALATE"
    EASE = "EASE"
    ACK = "ACK"
    RESET = "RESET"
    REALARM = "REALARM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one step leads to.

    Attributes:
        annunciate: Horn, banner and ticket policy start (again).
        silence: The horn of this alarm stops.
    """

    state: State
    annunciate: bool = False
    silence: bool = False


_ANNUNCIATED = Outcome(state=State.UNACK, annunciate=True)

_TABLE: dict[tuple[State, Step], Outcome] = {
    (State.NORM, Step.RAISE): _ANNUNCIATED,
    (State.UNACK, Step.ACK): Outcome(state=State.ACKED, silence=True),
    (State.UNACK, Step.ESCALATE): _ANNUNCIATED,
    (State.UNACK, Step.EASE): Outcome(state=State.UNACK),
    (State.ACKED, Step.ESCALATE): _ANNUNCIATED,
    (State.ACKED, Step.EASE): Outcome(state=State.ACKED),
    (State.ACKED, Step.REALARM): _ANNUNCIATED,
    (State.RTNUN, Step.RAISE): _ANNUNCIATED,
    (State.RTNUN, Step.ACK): Outcome(state=State.NORM),
    (State.LUNACK, Step.RAISE): _ANNUNCIATED,
    (State.LUNACK, Step.ACK): Outcome(state=State.LACKED, silence=True),
    (State.LACKED, Step.RAISE): _ANNUNCIATED,
    (State.LACKED, Step.RESET): Outcome(state=State.NORM),
}

_CLEARED: dict[tuple[State, bool], Outcome] = {
    (State.UNACK, False): Outcome(state=State.RTNUN, silence=True),
    (State.ACKED, False): Outcome(state=State.NORM),
    (State.UNACK, True): Outcome(state=State.LUNACK),
    (State.ACKED, True): Outcome(state=State.LACKED),
}


def step(state: State, event: Step, *, is_latching: bool) -> Outcome:
    """Return the state after one event, and what the horn does.

    Args:
        state: State before the event.
        event: What happened.
        is_latching: Whether the rule keeps the alarm until a person resets it.

    Raises:
        StateError: If this state rejects the event; codes ``alarm.already_active``, ``alarm.not_active``,
            ``alarm.already_acked``, ``alarm.nothing_to_ack``, ``alarm.still_active``, ``alarm.not_acked``,
            ``alarm.nothing_to_reset``, ``alarm.hidden``.
    """
    state, event = State(state), Step(event)
    outcome = _CLEARED.get((state, is_latching)) if event is Step.CLEAR else _TABLE.get((state, event))
    if outcome is None:
        raise StateError(_refusal(state, event), f"{event} in {state}")
    return outcome


def _refusal(state: State, event: Step) -> str:
    if state.is_hidden:
        return "alarm.hidden"
    if event is Step.RAISE:
        return "alarm.already_active"
    if event is Step.ACK:
        return "alarm.nothing_to_ack" if state is State.NORM else "alarm.already_acked"
    if event is Step.RESET and state.is_active:
        return "alarm.still_active"
    if event is Step.RESET:
        return "alarm.not_acked" if state is State.LUNACK else "alarm.nothing_to_reset"
    return "alarm.not_active"

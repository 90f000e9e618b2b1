"""Overlays of one alarm row: shelved, suppressed by design, out of service. Pure, as a table over the core.

An overlay hides the row: nothing sounds, the truth of the condition is tracked all the same. Several may lie over
one row; what the row shows is OOSRV over DSUPR over SHLVD over the core. When the last is taken away, the row comes
back by what is true then and by how it was uncovered.

Source: ISA-18.2 names the overlays and tells apart manual and automatic unshelving (11.7.3): by hand the alarm comes
back acknowledged, by itself unacknowledged and with the horn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from alarms.lifecycle import State, Step, step
from watchroom.errors import StateError


class Shelf(StrEnum):
    """How a row is shelved."""

    NONE = ""
    TIMED = "timed"
    ONCE = "once"


class Cover(StrEnum):
    """What puts overlays on a row and takes them away."""

    SHELVE_TIMED = "SHELVE_TIMED"
    SHELVE_ONCE = "SHELVE_ONCE"
    UNSHELVE = "UNSHELVE"
    SHELF_EXPIRE = "SHELF_EXPIRE"
    SUPPRESS = "SUPPRESS"
    UNSUPPRESS = "UNSUPPRESS"
    OUT = "OUT"
    RETURN = "RETURN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one alarm row stands, with everything that lies over it.

    Attributes:
        core: State without overlays; NORM while the row is hidden.
        is_active: Whether the condition is true, hidden or not.
        is_tripped: It became true while hidden.
        is_held: A latched alarm stood when the row was hidden; a person has still to see its end.
    """

    core: State = State.NORM
    is_active: bool = False
    is_tripped: bool = False
    is_held: bool = False
    shelf: Shelf = Shelf.NONE
    is_suppressed: bool = False
    is_out: bool = False

    @property
    def is_hidden(self) -> bool:
        """Whether any overlay lies over the row."""
        return self.is_out or self.is_suppressed or self.shelf is not Shelf.NONE

    @property
    def shown(self) -> State:
        """The state people see."""
        if self.is_out:
            return State.OOSRV
        if self.is_suppressed:
            return State.DSUPR
        return State.SHLVD if self.shelf is not Shelf.NONE else self.core


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one event leads to; ``annunciate`` and ``silence`` as in `alarms.lifecycle.Outcome`."""

    standing: Standing
    annunciate: bool = False
    silence: bool = False


def advance(standing: Standing, event: Step | Cover, *, is_latching: bool) -> Effect:
    """Return where a row stands after one event, and what the horn does.

    Args:
        standing: Before the event.
        event: What happened.
        is_latching: Whether the rule keeps the alarm until a person resets it.

    Raises:
        StateError: If the event is refused: the codes of `alarms.lifecycle.step`, ``alarm.hidden``,
            ``alarm.already_shelved``, ``alarm.not_shelved``, ``alarm.already_suppressed``,
            ``alarm.not_suppressed``, ``alarm.already_out``, ``alarm.not_out``.
    """
    if isinstance(event, Cover):
        return _cover(standing, event, is_latching=is_latching)
    if standing.is_hidden:
        return Effect(standing=_hidden(standing, event, is_latching=is_latching))
    outcome = step(standing.core, event, is_latching=is_latching)
    after = Standing(core=outcome.state, is_active=outcome.state.is_active)
    return Effect(standing=after, annunciate=outcome.annunciate, silence=outcome.silence)


def _hidden(standing: Standing, event: Step, *, is_latching: bool) -> Standing:
    if event is Step.RAISE:
        if standing.is_active:
            raise StateError("alarm.already_active", "RAISE while hidden and active")
        return replace(standing, is_active=True, is_tripped=True)
    if event in (Step.ACK, Step.RESET, Step.REALARM):
        raise StateError("alarm.hidden", f"{event} in {standing.shown}")
    if not standing.is_active:
        raise StateError("alarm.not_active", f"{event} while hidden and inactive")
    if event is not Step.CLEAR:
        return standing
    after = replace(standing, is_active=False)
    if standing.shelf is not Shelf.ONCE:
        return after
    after = replace(after, shelf=Shelf.NONE)
    if after.is_hidden:
        return after
    if not is_latching:
        return Standing()
    # what stood when it was shelved has been seen; what came behind the shelf has not
    return Standing(core=State.LUNACK if after.is_tripped else State.LACKED)


_PUTS = {
    Cover.SHELVE_TIMED: {"shelf": Shelf.TIMED},
    Cover.SHELVE_ONCE: {"shelf": Shelf.ONCE},
    Cover.SUPPRESS: {"is_suppressed": True},
    Cover.OUT: {"is_out": True},
}
_TAKES = {
    Cover.UNSHELVE: {"shelf": Shelf.NONE},
    Cover.SHELF_EXPIRE: {"shelf": Shelf.NONE},
    Cover.UNSUPPRESS: {"is_suppressed": False},
    Cover.RETURN: {"is_out": False},
}


def _cover(standing: Standing, event: Cover, *, is_latching: bool) -> Effect:
    refusal = _refusal(standing, event)
    if refusal:
        raise StateError(refusal, f"{event} in {standing.shown}")
    if event in _TAKES:
        after = replace(standing, **_TAKES[event])  # type: ignore[arg-type]
        return Effect(standing=after) if after.is_hidden else _uncovered(after, event, is_latching=is_latching)
    if standing.is_hidden:
        return Effect(standing=replace(standing, **_PUTS[event]))  # type: ignore[arg-type]
    covered = Standing(
        is_active=standing.is_active,
        is_held=is_latching and standing.core is not State.NORM,
        **_PUTS[event],  # type: ignore[arg-type]
    )
    return Effect(standing=covered, silence=True)


def _refusal(standing: Standing, event: Cover) -> str:
    is_shelved = standing.shelf is not Shelf.NONE
    if event in (Cover.SHELVE_TIMED, Cover.SHELVE_ONCE):
        return "alarm.already_shelved" if is_shelved else "alarm.hidden" if standing.is_hidden else ""
    if event in (Cover.UNSHELVE, Cover.SHELF_EXPIRE):
        return "" if is_shelved else "alarm.not_shelved"
    if event in (Cover.SUPPRESS, Cover.UNSUPPRESS):
        wanted = event is Cover.UNSUPPRESS
        return "" if standing.is_suppressed is wanted else f"alarm.{'not' if wanted else 'already'}_suppressed"
    wanted = event is Cover.RETURN
    return "" if standing.is_out is wanted else f"alarm.{'not' if wanted else 'already'}_out"


def _uncovered(standing: Standing, event: Cover, *, is_latching: bool) -> Effect:
    if standing.is_active:
        if event is Cover.UNSHELVE:
            return Effect(standing=Standing(core=State.ACKED, is_active=True))
        return Effect(standing=Standing(core=State.UNACK, is_active=True), annunciate=True)
    if not is_latching or event is Cover.RETURN:
        # what tripped during work under a permit was a test
        return Effect(standing=Standing())
    # a suppressed trip meant nothing by design, but an alarm that stood before must not get lost behind one
    must_be_seen = standing.is_held or (standing.is_tripped and event is not Cover.UNSUPPRESS)
    return Effect(standing=Standing(core=State.LUNACK if must_be_seen else State.NORM))

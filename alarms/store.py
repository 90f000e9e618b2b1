"""Alarm rows and their journal in SQL: transitions and operators' actions become rows, all in one writer's turn."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, select, update

from alarms.chain import first_break, link
from alarms.feed import Turn
from alarms.judged import Change, Transition
from alarms.lifecycle import State, Step, step
from alarms.rules import RuleRow
from alarms.ticket_clock import ClockKind
from alarms.ticket_opening import CHUNK, TicketOrder
from watchroom.database.tables import alarm, alarm_event, position
from watchroom.errors import StateError

NAMESPACE: Final = uuid.UUID("6f1c1f0a-5a6e-5b7e-9d0f-77617463687d")
RETIRED: Final = "retired"
_CHANGED: Final = (
    "is_live",
    "priority",
    "level",
    "state",
    "is_active",
    "cleared_ms",
    "acked_ms",
    "acked_by",
    "value",
    "limit",
    "title",
    "detail",
)
# statements of every transition are made once: making one costs more than running it
_INSERT_ALARM: Final = alarm.insert()
_INSERT_EVENT: Final = alarm_event.insert()
_UPDATE_ALARM: Final = (
    update(alarm).where(alarm.c.id == bindparam("old_id")).values({name: bindparam(f"new_{name}") for name in _CHANGED})
)
_OF_SITE: Final = select(alarm).where(alarm.c.site == bindparam("site"))
_LIVE_OF_ROWS: Final = _OF_SITE.where(alarm.c.row.in_(bindparam("wanted", expanding=True)), alarm.c.is_live)
_OF_IDS: Final = _OF_SITE.where(alarm.c.id.in_(bindparam("wanted", expanding=True)))
_EVENT_COLUMNS: Final = tuple(column.key for column in alarm_event.c if column.key not in {"seq", "hash"})


def occurrence_id(row: RuleRow, event_ms: int) -> str:
    """Return the id of an alarm: the same transition gives the same id however often it is judged."""
    return str(uuid.uuid5(NAMESPACE, f"{row.key}\n{event_ms}\n{row.version}"))


class AlarmRows:
    """The live alarms of some rows while a turn changes them; `write` puts everything into SQL at once.

    Args:
        turn: The writer's turn.
        rows: Keys of the rule rows concerned.
        ids: Occurrences that may be there already.
        places: Equipment id -> place, for tickets.
    """

    def __init__(
        self, turn: Turn, rows: Iterable[str], *, ids: Iterable[str] = (), places: Mapping[str, str] | None = None
    ) -> None:
        self._turn, self._places = turn, places or {}
        self._live = {row["row"]: row for row in _select(turn, _LIVE_OF_ROWS, rows)}
        self._known = {row["id"] for row in _select(turn, _OF_IDS, ids)}
        self._new: dict[str, dict[str, Any]] = {}
        self._old: dict[str, dict[str, Any]] = {}
        self._events: list[dict[str, Any]] = []
        self.orders: list[TicketOrder] = []
        self.ignored = 0

    def apply(self, transition: Transition) -> None:
        """Take one transition of the evaluator; one that was taken before changes nothing."""
        if transition.kind is Change.RAISE:
            self._raise(transition)
            return
        current = self._live.get(transition.row.key)
        if current is None:
            self.ignored += 1
            return
        is_older = transition.event_ms < current["raised_ms"]
        if is_older or (transition.is_late and not current["is_late"]):
            self._reject(current, transition, "alarm.late")
            return
        try:
            outcome = step(State(current["state"]), Step(transition.kind), is_latching=current["is_latching"])
        except StateError as exc:
            self._reject(current, transition, exc.code)
            return
        if transition.kind is Change.CLEAR:
            current |= {"is_active": False, "cleared_ms": transition.event_ms}
        else:
            current |= _measured(transition)
        self._enter(current, outcome.state)
        self._record(current, transition)
        if outcome.annunciate:
            current |= {"acked_ms": None, "acked_by": None}
            self._order(current, transition)

    def act(
        self,
        current: dict[str, Any],
        kind: Step,
        *,
        user: str,
        comment: str | None,
        at_ms: int,
        reason: str | None = None,
    ) -> str | None:
        """Take an operator's or the system's action on a live occurrence; return why it was refused, None if done."""
        try:
            outcome = step(State(current["state"]), kind, is_latching=current["is_latching"])
        except StateError as exc:
            self._event(current, kind, at_ms=at_ms, user=user, comment=comment, refusal=exc.code)
            return exc.code
        if kind is Step.ACK:
            current |= {"acked_ms": at_ms, "acked_by": user}
        elif kind is Step.CLEAR:
            current |= {"is_active": False, "cleared_ms": at_ms}
        self._enter(current, outcome.state)
        self._event(current, kind, at_ms=at_ms, user=user, comment=comment, reason=reason)
        return None

    def refuse(
        self, row: Mapping[str, Any], kind: Step, *, user: str, comment: str | None, at_ms: int, code: str
    ) -> None:
        """Note in the journal that an action on an occurrence was refused."""
        self._event(row, kind, at_ms=at_ms, user=user, comment=comment, refusal=code)

    def live(self, row: str) -> dict[str, Any] | None:
        """Return the live occurrence of a row."""
        return self._live.get(row)

    def write(self) -> list[str]:
        """Insert and update all rows; return the ids of the occurrences that changed."""
        connection = self._turn.connection
        if self._new:
            connection.execute(_INSERT_ALARM, list(self._new.values()))
        changed = [row for row in self._old.values() if row["id"] not in self._new]
        if changed:
            values = [{"old_id": row["id"], **{f"new_{name}": row[name] for name in _CHANGED}} for row in changed]
            connection.execute(_UPDATE_ALARM, values)
        if self._events:
            connection.execute(_INSERT_EVENT, self._events)
        ids = list({**self._new, **self._old})
        for alarm_id in ids:
            self._turn.changed("alarm", alarm_id)
        return ids

    def _raise(self, transition: Transition) -> None:
        row = transition.row
        alarm_id = occurrence_id(row, transition.event_ms)
        if alarm_id in self._known:
            self.ignored += 1
            return
        current = self._live.get(row.key)
        if current is not None:
            try:
                step(State(current["state"]), Step.RAISE, is_latching=current["is_latching"])
            except StateError as exc:
                self._reject(current, transition, exc.code)
                return
            self._supersede(current, transition)
        new = self._row(alarm_id, transition)
        self._known.add(alarm_id)
        self._live[row.key] = self._new[alarm_id] = new
        self._record(new, transition)
        self._order(new, transition)

    def _row(self, alarm_id: str, transition: Transition) -> dict[str, Any]:
        row = transition.row
        return {
            "id": alarm_id,
            "site": self._turn.site,
            "row": row.key,
            "is_live": True,
            "rule": row.rule,
            "rule_version": row.version,
            "equipment": row.equipment,
            "instance": row.instance,
            "signal": row.signal,
            "class_": row.class_,
            "state": State.UNACK.value,
            "is_active": True,
            "is_latching": row.latching,
            "is_late": transition.is_late,
            "is_simulated": transition.is_simulated,
            "raised_ms": transition.event_ms,
            "arrived_ms": transition.arrived_ms,
            "cleared_ms": None,
            "acked_ms": None,
            "acked_by": None,
            **_measured(transition),
        }

    def _supersede(self, current: dict[str, Any], transition: Transition) -> None:
        # the old occurrence was never seen to its end: it leaves the screens, its journal says why
        current |= {"is_live": False, "state": State.NORM.value}
        self._old[current["id"]] = current
        self._event(current, "SUPERSEDE", at_ms=transition.event_ms, arrived_ms=transition.arrived_ms)

    def _enter(self, current: dict[str, Any], state: State) -> None:
        current["state"] = state.value
        if state is State.NORM:
            current["is_live"] = False
            self._live.pop(current["row"], None)
        self._old[current["id"]] = current

    def _order(self, row: Mapping[str, Any], transition: Transition) -> None:
        policy = transition.row.ticket
        if policy is None:
            return
        spans: dict[ClockKind, float | None] = {
            "accept": policy.sla.accept,
            "arrive": policy.sla.arrive,
            "restore": policy.sla.restore,
        }
        allowed = {kind: round(span * 1000) for kind, span in spans.items() if span is not None}
        for type_ in filter(None, (policy.type, policy.also)):
            self.orders.append(
                TicketOrder(
                    alarm_id=row["id"],
                    type=type_,
                    priority=row["priority"],
                    equipment=row["equipment"],
                    place=self._places.get(row["equipment"]),
                    fault=transition.row.fault,
                    title=row["title"],
                    detail=row["detail"],
                    is_simulated=row["is_simulated"],
                    allowed_ms=allowed,
                )
            )

    def _record(self, row: Mapping[str, Any], transition: Transition, *, refusal: str | None = None) -> None:
        self._event(
            row,
            transition.kind,
            at_ms=transition.event_ms,
            arrived_ms=transition.arrived_ms,
            value=_finite(transition.value),
            quality=transition.quality,
            level=transition.level,
            rule_version=transition.row.version,
            refusal=refusal,
        )

    def _reject(self, row: Mapping[str, Any], transition: Transition, code: str) -> None:
        self.ignored += 1
        self._record(row, transition, refusal=code)

    def _event(
        self,
        row: Mapping[str, Any],
        kind: str,
        *,
        at_ms: int,
        arrived_ms: int | None = None,
        user: str | None = None,
        comment: str | None = None,
        value: float | None = None,
        quality: int | None = None,
        level: str | None = None,
        rule_version: str | None = None,
        reason: str | None = None,
        refusal: str | None = None,
    ) -> None:
        event: dict[str, Any] = {
            "site": self._turn.site,
            "alarm_id": row["id"],
            "row": row["row"],
            "kind": str(kind),
            "is_accepted": refusal is None,
            "reason": refusal or reason,
            "state": row["state"],
            "level": row["level"] if level is None else level,
            "event_ms": at_ms,
            "arrived_ms": at_ms if arrived_ms is None else arrived_ms,
            "user": user,
            "comment": comment,
            "value": value,
            "quality": quality,
            "rule_version": rule_version or row["rule_version"],
        }
        event["hash"] = self._turn.alarm_hash = link(self._turn.alarm_hash, event)
        self._events.append(event)


def write_transitions(
    turn: Turn, transitions: Sequence[Transition], *, places: Mapping[str, str]
) -> tuple[list[str], list[TicketOrder]]:
    """Apply transitions in order; return (changed alarm ids, the tickets they ask for)."""
    ids = [occurrence_id(item.row, item.event_ms) for item in transitions if item.kind is Change.RAISE]
    rows = AlarmRows(turn, {item.row.key for item in transitions}, ids=ids, places=places)
    for transition in transitions:
        rows.apply(transition)
    return rows.write(), rows.orders


def broken_alarm_event(connection: Connection, site: str) -> int | None:
    """Return where the site's alarm journal was changed afterwards: a seq, -1 for a cut tail, None if whole."""
    head = connection.execute(select(position.c.alarm_hash).where(position.c.partition == site)).scalar_one()
    query = select(alarm_event).where(alarm_event.c.site == site).order_by(alarm_event.c.seq)
    # the journal of years does not fit into memory; a break ends the reading early
    with connection.execute(query, execution_options={"yield_per": 1000}) as result:
        rows = result.mappings()
        chain = ((row["seq"], {name: row[name] for name in _EVENT_COLUMNS}, row["hash"]) for row in rows)
        return first_break(chain, head=head)


def _select(turn: Turn, query: Select[Any], values: Iterable[str]) -> list[dict[str, Any]]:
    wanted, found = sorted(set(values)), []
    for start in range(0, len(wanted), CHUNK):
        part = {"site": turn.site, "wanted": wanted[start : start + CHUNK]}
        found += [dict(row) for row in turn.connection.execute(query, part).mappings()]
    return found


def _measured(transition: Transition) -> dict[str, Any]:
    title, detail = transition.row.describe(transition)
    return {
        "priority": transition.row.priority(transition.level),
        "level": transition.level,
        "value": _finite(transition.value),
        "limit": _finite(transition.limit),
        "title": title,
        "detail": detail,
    }


def _finite(value: float) -> float | None:
    # NaN has no place in JSON and becomes NULL in SQLite: say "none" on both servers
    return float(value) if math.isfinite(value) else None

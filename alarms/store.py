"""Alarm rows and their journal in SQL: transitions and operators' actions become rows, all in one writer's turn."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, select, update

from alarms.chain import first_break, link
from alarms.covering import SYSTEM, Covers, quiet_row, said
from alarms.feed import Turn
from alarms.judged import Change, Transition
from alarms.lifecycle import State, Step
from alarms.memory import Memory, Overlay
from alarms.overlays import Cover, Effect, Standing, advance
from alarms.rules import RuleRow
from alarms.ticket_opening import CHUNK, TicketOrder
from alarms.ticket_orders import orders_of
from alarms.timers import timer_ms
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
    "overlay",
    "cause",
    "timer_ms",
    "realarms",
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
        memory: Overlays, parents and first-up groups; kept from turn to turn by the engine.
    """

    def __init__(
        self,
        turn: Turn,
        rows: Iterable[str],
        *,
        ids: Iterable[str] = (),
        places: Mapping[str, str] | None = None,
        memory: Memory | None = None,
    ) -> None:
        self._turn, self._places, self.memory = turn, places or {}, memory or Memory()
        self.covers = Covers(self)
        wanted = set(rows)
        children = self.memory.parents.children
        wanted |= {child for row in wanted & children.keys() for child in children[row]}
        self._live = {row["row"]: row for row in _select(turn, _LIVE_OF_ROWS, wanted)}
        self._known = {row["id"] for row in _select(turn, _OF_IDS, ids)}
        self._new: dict[str, dict[str, Any]] = {}
        self._old: dict[str, dict[str, Any]] = {}
        self._events: list[dict[str, Any]] = []
        self._moved: dict[str, str] = {}
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
            effect = advance(self.standing(current), Step(transition.kind), is_latching=current["is_latching"])
        except StateError as exc:
            self._reject(current, transition, exc.code)
            return
        if transition.kind is Change.CLEAR:
            current |= {"is_active": False, "cleared_ms": transition.event_ms}
        else:
            current |= _measured(transition)
        self.enter(current, effect)
        self._record(current, transition)
        if effect.annunciate:
            current |= {"acked_ms": None, "acked_by": None, "realarms": 0}
            self.order(current, transition.row)
        if transition.kind is Change.CLEAR:
            self.covers.release_children(transition.row.key, at_ms=transition.event_ms)

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
            effect = advance(self.standing(current), kind, is_latching=current["is_latching"])
        except StateError as exc:
            self.event(current, kind, at_ms=at_ms, user=user, comment=comment, refusal=exc.code)
            return exc.code
        if kind is Step.ACK:
            current |= {"acked_ms": at_ms, "acked_by": user}
        elif kind is Step.CLEAR:
            current |= {"is_active": False, "cleared_ms": at_ms}
        elif kind is Step.REALARM:
            current |= {"realarms": current["realarms"] + 1, "acked_ms": None, "acked_by": None}
        self.enter(current, effect)
        self.event(current, kind, at_ms=at_ms, user=user, comment=comment, reason=reason)
        if kind is Step.CLEAR:
            self.covers.release_children(current["row"], at_ms=at_ms)
        return None

    def note(self, current: dict[str, Any], kind: str, *, at_ms: int) -> None:
        """Write into an alarm's journal what the system did because of it; its timer has run out."""
        current["timer_ms"] = None
        self._old[current["id"]] = current
        self.event(current, kind, at_ms=at_ms, user=SYSTEM)

    def refuse(
        self, row: Mapping[str, Any], kind: Step | Cover, *, user: str, comment: str | None, at_ms: int, code: str
    ) -> None:
        """Note in the journal that an action on an occurrence was refused."""
        self.event(row, kind, at_ms=at_ms, user=user, comment=comment, refusal=code)

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
        for moved, cause in self._moved.items():
            connection.execute(update(alarm).where(alarm.c.id == moved).values(cause=cause))
        self.memory.save(connection, self._turn.site)
        ids = list({**self._new, **self._old, **self._moved})
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
        before = self.standing(current) if current is not None else self.standing(quiet_row(row.key))
        parent = None if before.is_hidden or transition.is_late else self.memory.active_parent(row.key)
        try:
            if parent is not None:
                before = advance(before, Cover.SUPPRESS, is_latching=row.latching).standing
            effect = advance(before, Step.RAISE, is_latching=row.latching)
        except StateError as exc:
            self._reject(current or quiet_row(row.key), transition, exc.code)
            return
        if current is not None:
            self._supersede(current, transition)
        new = self._row(alarm_id, transition)
        new["is_chattering"] = self.memory.chatter.note(row.key, transition.event_ms)
        self._known.add(alarm_id)
        self._live[row.key] = self._new[alarm_id] = new
        if parent is not None:
            detail = {"suppressed": said(SYSTEM, at_ms=transition.event_ms, parent=parent)}
            self.memory.put(Overlay(row=row.key, equipment=row.equipment, standing=effect.standing, detail=detail))
        self.enter(new, effect)
        if effect.annunciate:
            self._join(new)
        self._record(new, transition)
        if parent is not None:
            self.event(new, Cover.SUPPRESS, at_ms=transition.event_ms, user=SYSTEM, reason=parent)
        if effect.annunciate:
            self.order(new, transition.row)
        self.covers.suppress_children(row.key, at_ms=transition.event_ms)

    def _join(self, new: dict[str, Any]) -> None:
        """Take an alarm into its first-up group."""
        group = self.memory.groups.get(new["equipment"])
        if group is None or new["class_"] == "communication":
            return
        new["group_"] = group
        new["cause"], moved = self.memory.first_up.join(group, new["id"], event_ms=new["raised_ms"])
        for alarm_id in moved:
            if alarm_id in self._new:
                self._new[alarm_id]["cause"] = new["cause"]
            else:
                self._moved[alarm_id] = new["cause"]

    def standing(self, current: Mapping[str, Any]) -> Standing:
        """Return where a row stands, with what lies over it."""
        overlay = self.memory.overlays.get(current["row"])
        if overlay is not None:
            return overlay.standing
        return Standing(core=State(current["state"]), is_active=current["is_active"])

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
            "overlay": None,
            "group_": None,
            "cause": None,
            "timer_ms": None,
            "realarms": 0,
            "is_chattering": False,
            **_measured(transition),
        }

    def _supersede(self, current: dict[str, Any], transition: Transition) -> None:
        # the old occurrence was never seen to its end: it leaves the screens, its journal says why
        current |= {"is_live": False, "state": State.NORM.value, "overlay": None, "timer_ms": None}
        self._old[current["id"]] = current
        if current["group_"] is not None:
            self.memory.first_up.leave(current["group_"], current["id"])
        self.event(current, "SUPERSEDE", at_ms=transition.event_ms, arrived_ms=transition.arrived_ms)

    def enter(self, current: dict[str, Any], effect: Effect) -> None:
        """Bring an alarm's columns up to an effect."""
        standing, row = effect.standing, current["row"]
        current["state"] = standing.shown.value
        if row in self.memory.overlays and self.memory.overlays[row].standing != standing:
            self.memory.track(row, standing)
        if not current["id"]:
            return
        overlay = self.memory.overlays.get(row)
        current["overlay"] = overlay.told() if overlay is not None else None
        current["timer_ms"] = timer_ms(
            current,
            standing,
            at_ms=self._turn.now_ms,
            annunciated=effect.annunciate,
            until_ms=overlay.until_ms if overlay is not None else None,
        )
        if effect.annunciate:
            self.memory.flood.note(self._turn.now_ms)
        if standing.shown is State.NORM:
            current["is_live"] = False
            self._live.pop(row, None)
            if current["group_"] is not None:
                self.memory.first_up.leave(current["group_"], current["id"])
        self._old[current["id"]] = current

    def order(self, row: Mapping[str, Any], rule: RuleRow) -> None:
        """Ask for the tickets of an alarm that was annunciated."""
        place = self._places.get(row["equipment"])
        self.orders += orders_of(row, rule, place=place, memory=self.memory, now_ms=self._turn.now_ms)

    def _record(self, row: Mapping[str, Any], transition: Transition, *, refusal: str | None = None) -> None:
        self.event(
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

    def event(
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
        """Append to the alarm journal; a refusal makes it a rejected event."""
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
    turn: Turn, transitions: Sequence[Transition], *, places: Mapping[str, str], memory: Memory | None = None
) -> tuple[list[str], list[TicketOrder]]:
    """Apply transitions in order; return (changed alarm ids, the tickets they ask for)."""
    ids = [occurrence_id(item.row, item.event_ms) for item in transitions if item.kind is Change.RAISE]
    rows = AlarmRows(turn, {item.row.key for item in transitions}, ids=ids, places=places, memory=memory)
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

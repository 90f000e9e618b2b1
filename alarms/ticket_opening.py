"""Tickets that alarms open: one for each equipment, fault and type, however often the alarm comes back.

An open ticket gets the alarm attached. A ticket closed less than 24 h ago is opened again; within 30 days a new one
counts as repeat failure. All orders of a turn are decided together, so a storm costs a few statements.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from sqlalchemy import bindparam, case, func, or_, select

from alarms.feed import Turn
from alarms.ticket_clock import ClockKind, started
from alarms.ticket_state import DAY_MS, TicketState
from alarms.tickets import OPEN_STATES, SYSTEM, add_event, make_event, save, take_step
from watchroom.database.tables import message, ticket, ticket_alarm, ticket_clock, ticket_event
from watchroom.site import Channel

REOPEN_MS = DAY_MS
REPEAT_MS = 30 * DAY_MS
CHUNK = 500
# statements of every alarm are made once: making one costs more than running it
_INSERTS = tuple(table.insert() for table in (ticket, ticket_clock, ticket_event, ticket_alarm, message))
# a cancelled ticket (false alarm) must not hide that the fault was repaired some days ago
_RANK = case(
    (ticket.c.state == TicketState.CANCELLED.value, 0), (ticket.c.state == TicketState.CLOSED.value, 1), else_=2
)
_PLACED = (
    select(
        ticket.c.id,
        func.row_number()
        .over(
            partition_by=(ticket.c.equipment, ticket.c.fault, ticket.c.type),
            order_by=(_RANK.desc(), ticket.c.created_ms.desc(), ticket.c.number.desc()),
        )
        .label("place"),
    )
    .where(ticket.c.site == bindparam("site"), ticket.c.equipment.in_(bindparam("wanted", expanding=True)))
    .where(or_(ticket.c.state.in_(OPEN_STATES), ticket.c.closed_ms > bindparam("since_ms")))
    .subquery()
)
# the server picks: equipment may have thousands of tickets, and only one of each fault matters
_OF_EQUIPMENT = select(ticket).join(_PLACED, _PLACED.c.id == ticket.c.id).where(_PLACED.c.place == 1)
_LINKS = select(ticket_alarm.c.alarm_id, ticket_alarm.c.ticket_id).where(
    ticket_alarm.c.alarm_id.in_(bindparam("wanted", expanding=True))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketOrder:
    """What an alarm asks for.

    Attributes:
        fault: Fault family of the rule row.
        allowed_ms: Clock kind -> time allowed.
    """

    alarm_id: str
    type: str
    priority: int
    equipment: str
    place: str | None
    fault: str
    title: Mapping[str, str]
    detail: Mapping[str, str]
    is_simulated: bool
    allowed_ms: Mapping[ClockKind, int] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two orders the same work."""
        return self.equipment, self.fault, self.type


class Caps(Protocol):
    """Holds back messages in a storm."""

    def admits(self, channel: str, key: str, *, priority: int, now_ms: int) -> bool:
        """Return whether a message may be sent."""
        ...


def open_tickets(
    turn: Turn,
    orders: Sequence[TicketOrder],
    *,
    channels: Mapping[str, Channel],
    names: Mapping[str, Mapping[str, str]],
    caps: Caps | None = None,
) -> None:
    """Open, reopen or extend tickets in the alarm's own transaction.

    Args:
        turn: The writer's turn.
        orders: In the order of the alarms.
        channels: Channels that get one message for each new ticket.
        names: Equipment id -> name in both languages, for the messages.
        caps: How many messages a storm lets through; None for all.
    """
    if not orders:
        return
    latest = _latest(turn, orders)
    linked = _links(turn, orders)
    new = _NewRows()
    for order in orders:
        row = latest.get(order.key)
        if row is not None and (order.alarm_id, row["id"]) in linked:
            _raise_priority(turn, row, order, is_new=new.holds(row))
            continue
        if row is None or not _takes(row, turn.now_ms):
            row = latest[order.key] = new.open(turn, order, before=row)
            allowed = _allowed(channels, row, caps, turn.now_ms)
            new.tell(turn, row, channels=allowed, name=names.get(order.equipment, {}))
        elif new.holds(row):
            new.attach(turn, row, order)
        else:
            _extend(turn, row, order)
        linked.add((order.alarm_id, row["id"]))
        new.links.append({"ticket_id": row["id"], "alarm_id": order.alarm_id, "attached_ms": turn.now_ms})
    new.insert(turn)


def _allowed(
    channels: Mapping[str, Channel], row: Mapping[str, Any], caps: Caps | None, now_ms: int
) -> Mapping[str, Channel]:
    if caps is None:
        return channels
    priority, key = row["priority"], row["id"]
    return {name: item for name, item in channels.items() if caps.admits(name, key, priority=priority, now_ms=now_ms)}


def _takes(row: Mapping[str, Any], now_ms: int) -> bool:
    """Whether a new alarm belongs to this ticket."""
    if row["state"] in OPEN_STATES:
        return True
    return bool(row["state"] == TicketState.CLOSED and now_ms - row["closed_ms"] <= REOPEN_MS)


def _extend(turn: Turn, row: dict[str, Any], order: TicketOrder) -> None:
    row["priority"] = min(row["priority"], order.priority)
    if row["state"] in OPEN_STATES:
        add_event(turn, row, "attach", from_state=row["state"], user=SYSTEM, note={"alarm": order.alarm_id})
        save(turn, row)
    else:
        note = {"alarm": order.alarm_id}
        take_step(turn, row, "reopen", target=TicketState.DISPATCHED, user=SYSTEM, note=note)


def _raise_priority(turn: Turn, row: dict[str, Any], order: TicketOrder, *, is_new: bool) -> None:
    """A level up of an alarm that already has its ticket makes the ticket as urgent."""
    if order.priority >= row["priority"] or row["state"] not in OPEN_STATES:
        return
    row["priority"] = order.priority
    if not is_new:
        note = {"priority": order.priority, "alarm": order.alarm_id}
        add_event(turn, row, "priority", from_state=row["state"], user=SYSTEM, note=note)
        save(turn, row)


class _NewRows:
    """Rows collected for one insert of each table."""

    def __init__(self) -> None:
        self.tickets: dict[str, dict[str, Any]] = {}
        self.clocks: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.links: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []

    def holds(self, row: Mapping[str, Any]) -> bool:
        return row["id"] in self.tickets

    def open(self, turn: Turn, order: TicketOrder, *, before: Mapping[str, Any] | None) -> dict[str, Any]:
        is_repeat = before is not None and before["state"] == TicketState.CLOSED
        row: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "number": turn.ticket_number(order.type),
            "site": turn.site,
            "type": order.type,
            "state": TicketState.NEW.value,
            "priority": order.priority,
            "equipment": order.equipment,
            "place": order.place,
            "fault": order.fault,
            "title": dict(order.title),
            "detail": dict(order.detail),
            "created_ms": turn.now_ms,
            "updated_ms": turn.now_ms,
            "closed_ms": None,
            "assignee": None,
            "worker": None,
            "held_from": None,
            "held_until_ms": None,
            "rework": 0,
            "reopened": 0,
            "is_repeat": is_repeat,
            "is_simulated": order.is_simulated,
            "version": 1,
            "hash": "",
        }
        self.tickets[row["id"]] = row
        self.clocks += [{"ticket_id": row["id"], **asdict(clock)} for clock in started(order.allowed_ms, turn.now_ms)]
        self._note(turn, row, "open", {"alarm": order.alarm_id})
        turn.changed("ticket", row["id"])
        return row

    def attach(self, turn: Turn, row: dict[str, Any], order: TicketOrder) -> None:
        row["priority"] = min(row["priority"], order.priority)
        self._note(turn, row, "attach", {"alarm": order.alarm_id})

    def tell(
        self, turn: Turn, row: Mapping[str, Any], *, channels: Mapping[str, Channel], name: Mapping[str, str]
    ) -> None:
        for key, channel in channels.items():
            if row["type"] in channel.ticket_types and row["priority"] <= channel.priority:
                title, body = message_text(row, lang=channel.lang, name=name.get(channel.lang) or row["equipment"])
                self.messages.append(
                    {
                        "id": str(uuid.uuid4()),
                        "site": turn.site,
                        "channel": key,
                        "ticket_id": row["id"],
                        "title": title,
                        "body": body,
                        "created_ms": turn.now_ms,
                        "attempts": 0,
                        "next_ms": turn.now_ms,
                    }
                )

    def insert(self, turn: Turn) -> None:
        collected = (list(self.tickets.values()), self.clocks, self.events, self.links, self.messages)
        for insert, rows in zip(_INSERTS, collected, strict=True):
            if rows:
                turn.connection.execute(insert, rows)

    def _note(self, turn: Turn, row: dict[str, Any], step: str, note: Mapping[str, Any]) -> None:
        before = None if step == "open" else row["state"]
        self.events.append(make_event(row, step, at_ms=turn.now_ms, from_state=before, user=SYSTEM, note=note))


PRIORITY_WORDS = {
    "zh": {1: "紧急", 2: "高", 3: "中", 4: "低"},
    "en": {1: "emergency", 2: "high", 3: "medium", 4: "low"},
}
TYPE_WORDS = {"zh": {"repair": "维修工单", "patrol": "巡查工单"}, "en": {"repair": "repair", "patrol": "patrol"}}


def message_text(row: Mapping[str, Any], *, lang: str, name: str) -> tuple[str, str]:
    """Return title and body of the message about a new ticket; the sender adds the link."""
    priority = PRIORITY_WORDS[lang][row["priority"]]
    type_ = TYPE_WORDS[lang].get(row["type"], row["type"])
    badge = {"zh": "【模拟】", "en": "[simulated] "}[lang] if row["is_simulated"] else ""
    if lang == "zh":
        title = f"{badge}{row['number']} {priority}：{name} {row['title'][lang]}"
        return title, f"{type_}，优先级 {row['priority']}（{priority}）\n{row['detail'][lang]}"
    title = f"{badge}{row['number']} {priority}: {name}, {row['title'][lang]}"
    return title, f"{type_} ticket, priority {row['priority']} ({priority})\n{row['detail'][lang]}"


def _latest(turn: Turn, orders: Sequence[TicketOrder]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the newest ticket for each key that is open or was closed within the time of repeats."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    equipment = sorted({order.equipment for order in orders})
    keys = {order.key for order in orders}
    for start in range(0, len(equipment), CHUNK):
        part = {"site": turn.site, "wanted": equipment[start : start + CHUNK], "since_ms": turn.now_ms - REPEAT_MS}
        for row in map(dict, turn.connection.execute(_OF_EQUIPMENT, part).mappings()):
            key = (row["equipment"], row["fault"], row["type"])
            if key in keys:
                found[key] = row
    return found


def _links(turn: Turn, orders: Sequence[TicketOrder]) -> set[tuple[str, str]]:
    alarms = sorted({order.alarm_id for order in orders})
    found: set[tuple[str, str]] = set()
    for start in range(0, len(alarms), CHUNK):
        part = {"wanted": alarms[start : start + CHUNK]}
        found.update((row.alarm_id, row.ticket_id) for row in turn.connection.execute(_LINKS, part))
    return found

"""Tickets in SQL: people's steps, what time does to them, and the proof that their history is whole.

Any process may change tickets, always through this module: one SQL transaction, a version check, an idempotency
key, and a row in the change feed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, or_, select, update

from alarms.chain import GENESIS, first_break, link
from alarms.feed import Turn
from alarms.ticket_clock import Clock, after_step, checked
from alarms.ticket_state import TicketFacts, TicketState, TicketStep, next_state
from alarms.ticket_state import allowed_steps as _allowed_steps
from watchroom.database.tables import alarm, ticket, ticket_alarm, ticket_clock, ticket_event
from watchroom.errors import StateError

SYSTEM = "system"
OPEN_STATES = tuple(state.value for state in TicketState if state.is_open)
# statements of every transition are made once: making one costs more than running it
_SAVED = tuple(column.key for column in ticket.c if column.key != "id")
_SAVE = (
    update(ticket).where(ticket.c.id == bindparam("old_id")).values({name: bindparam(f"new_{name}") for name in _SAVED})
)
_INSERT_EVENT = ticket_event.insert()
_KEPT_FIELDS = ("assignee", "reason", "until_ms", "result")
_EVENT_COLUMNS = ("step", "from_state", "to_state", "at_ms", "user", "comment", "fields", "idempotency_key")


def allowed_steps(row: Mapping[str, Any], *, role: str, user: str, now_ms: int) -> list[str]:
    """Return the steps a person could take with a ticket now.

    Args:
        row: The ticket's columns, and ``alarms``: its alarms with ``is_active``.
        role: The person's role.
        user: The person's account name.
        now_ms: UTC ms.
    """
    has_active = any(item["is_active"] for item in row.get("alarms", ()))
    return _allowed_steps(facts_of(row, has_active_alarm=has_active), user=user, role=role, now_ms=now_ms)


def facts_of(row: Mapping[str, Any], *, has_active_alarm: bool) -> TicketFacts:
    """Return what decisions about a ticket depend on."""
    held_from = row.get("held_from")
    return TicketFacts(
        type=row["type"],
        state=TicketState(row["state"]),
        priority=row["priority"],
        assignee=row["assignee"],
        worker=row["worker"],
        held_from=TicketState(held_from) if held_from else None,
        closed_ms=row["closed_ms"],
        has_active_alarm=has_active_alarm,
    )


def step_ticket(
    connection: Connection,
    ticket_id: str,
    step: str,
    *,
    user: str,
    role: str,
    now_ms: int,
    version: int | None = None,
    idempotency_key: str | None = None,
    fields: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Take one step of a ticket and return its row afterwards.

    Args:
        connection: In a writing transaction; the caller commits.
        ticket_id: Id or number.
        step: One of `TicketStep`.
        user: Who does it.
        role: That person's role.
        now_ms: UTC ms.
        version: The version the person saw; None to take the step whatever happened meanwhile.
        idempotency_key: The same key again does nothing again.
        fields: ``comment``, ``assignee``, ``reason``, ``until_ms``, ``result`` as far as given.

    Raises:
        RightsError: If the role may not do this.
        StateError: ``ticket.unknown``, ``ticket.version``, ``ticket.key_reused``, ``ticket.step``, or why the
            state does not allow it.
    """
    if step not in set(TicketStep):
        raise StateError("ticket.step", step)
    given = {key: value for key, value in (fields or {}).items() if value is not None}
    where = (ticket.c.id == ticket_id) | (ticket.c.number == ticket_id)
    known = connection.execute(select(ticket.c.id, ticket.c.site).where(where)).first()
    if known is None:
        raise StateError("ticket.unknown", ticket_id)
    turn = Turn(connection, known.site, now_ms=now_ms)
    row = dict(connection.execute(select(ticket).where(ticket.c.id == known.id)).mappings().one())
    if idempotency_key is not None and _was_done(connection, known.id, step, idempotency_key):
        return row
    if version is not None and version != row["version"]:
        raise StateError("ticket.version", f"now {row['version']}, seen {version}")
    facts = facts_of(row, has_active_alarm=_has_active_alarm(connection, known.id))
    target = next_state(facts, TicketStep(step), user=user, role=role, now_ms=now_ms, fields=given)
    note = {key: given[key] for key in _KEPT_FIELDS if key in given}
    if step == TicketStep.DONE and facts.has_active_alarm:
        note["waiver"] = True
    take_step(turn, row, step, target=target, user=user, comment=given.get("comment"), note=note, key=idempotency_key)
    turn.finish()
    return row


def take_step(
    turn: Turn,
    row: dict[str, Any],
    step: str,
    *,
    target: TicketState,
    user: str,
    note: Mapping[str, Any],
    comment: str | None = None,
    key: str | None = None,
) -> None:
    """Write a step that has been decided: ticket, clocks, event, change; brings row up to date."""
    before = row["state"]
    _change_row(row, step, target=target, user=user, note=note, now_ms=turn.now_ms)
    clocks = read_clocks(turn.connection, [row["id"]]).get(row["id"], [])
    breached = write_clocks(turn, row["id"], clocks, after_step(clocks, step, turn.now_ms))
    for kind in breached:
        add_event(turn, row, "breach", from_state=before, user=SYSTEM, note={"clock": kind}, state=before)
    add_event(turn, row, step, from_state=before, user=user, note=note, comment=comment, key=key)
    save(turn, row)


def _change_row(
    row: dict[str, Any], step: str, *, target: TicketState, user: str, note: Mapping[str, Any], now_ms: int
) -> None:
    before = row["state"]
    row["state"] = target.value
    row["version"] += 1
    if step == TicketStep.DISPATCH:
        row["assignee"] = note.get("assignee")
    elif step == TicketStep.ACCEPT:
        row["assignee"] = user
    elif step == TicketStep.DECLINE:
        row["assignee"] = None
    elif step == TicketStep.HOLD:
        row |= {"held_from": before, "held_until_ms": note.get("until_ms")}
    elif step == TicketStep.DONE:
        row["worker"] = user
    elif step == TicketStep.REJECT:
        row |= {"rework": row["rework"] + 1, "worker": None}
    elif step == TicketStep.REOPEN:
        row |= {"reopened": row["reopened"] + 1, "worker": None}
    if before == TicketState.HOLD:
        row |= {"held_from": None, "held_until_ms": None}
    row["closed_ms"] = None if target.is_open else now_ms


def add_event(
    turn: Turn,
    row: dict[str, Any],
    step: str,
    *,
    from_state: str | None,
    user: str,
    note: Mapping[str, Any],
    comment: str | None = None,
    key: str | None = None,
    state: str | None = None,
) -> None:
    """Append an event to a ticket's history; the caller saves row, which holds the head of the chain."""
    event = make_event(
        row, step, at_ms=turn.now_ms, from_state=from_state, user=user, note=note, comment=comment, key=key, state=state
    )
    turn.connection.execute(_INSERT_EVENT, event)


def make_event(
    row: dict[str, Any],
    step: str,
    *,
    at_ms: int,
    from_state: str | None,
    user: str,
    note: Mapping[str, Any],
    comment: str | None = None,
    key: str | None = None,
    state: str | None = None,
) -> dict[str, Any]:
    """Return the next event of a ticket, chained; row's ``hash`` becomes the event's."""
    event: dict[str, Any] = {
        "ticket_id": row["id"],
        "step": step,
        "from_state": from_state,
        "to_state": state or row["state"],
        "at_ms": at_ms,
        "user": user,
        "comment": comment,
        "fields": dict(note),
        "idempotency_key": key,
    }
    event["hash"] = row["hash"] = link(row["hash"], event)
    return event


def save(turn: Turn, row: dict[str, Any]) -> None:
    """Write a ticket's changed row and tell the screens."""
    row["updated_ms"] = turn.now_ms
    values = {f"new_{name}": row[name] for name in _SAVED}
    turn.connection.execute(_SAVE, {"old_id": row["id"], **values})
    turn.changed("ticket", row["id"])


def read_clocks(connection: Connection, tickets: Iterable[str]) -> dict[str, list[Clock]]:
    """Return the clocks of tickets by ticket id."""
    query = select(ticket_clock).where(ticket_clock.c.ticket_id.in_(list(tickets)))
    found: dict[str, list[Clock]] = {}
    for row in connection.execute(query).mappings():
        values = dict(row)
        found.setdefault(values.pop("ticket_id"), []).append(Clock(**values))
    return found


def write_clocks(turn: Turn, ticket_id: str, before: list[Clock], after: list[Clock]) -> list[str]:
    """Write the clocks that changed; return the kinds whose breach was found just now."""
    breached: list[str] = []
    for old, new in zip(before, after, strict=True):
        if old == new:
            continue
        where = and_(ticket_clock.c.ticket_id == ticket_id, ticket_clock.c.kind == new.kind)
        turn.connection.execute(update(ticket_clock).where(where).values(asdict(new)))
        if old.breached_ms is None and new.breached_ms is not None:
            breached.append(new.kind)
    return breached


def is_time_due(connection: Connection, site: str, *, now_ms: int) -> bool:
    """Return whether `pass_time` would find something to do."""
    return connection.execute(select(ticket.c.id).where(_time_due(site, now_ms)).limit(1)).first() is not None


def pass_time(turn: Turn) -> int:
    """Do what is due by now: note breached clocks, end holds whose date has come. Returns how many tickets changed."""
    now_ms, connection = turn.now_ms, turn.connection
    rows = [dict(row) for row in connection.execute(select(ticket).where(_time_due(turn.site, now_ms))).mappings()]
    clocks = read_clocks(connection, [row["id"] for row in rows])
    for row in rows:
        if row["state"] == TicketState.HOLD and row["held_until_ms"] <= now_ms:
            target = TicketState(row["held_from"] or TicketState.ACCEPTED)
            take_step(turn, row, TicketStep.RESUME.value, target=target, user=SYSTEM, note={"reason": "until"})
            continue
        mine = clocks.get(row["id"], [])
        for kind in write_clocks(turn, row["id"], mine, [checked(clock, now_ms) for clock in mine]):
            add_event(turn, row, "breach", from_state=row["state"], user=SYSTEM, note={"clock": kind})
        save(turn, row)
    return len(rows)


def _time_due(site: str, now_ms: int) -> ColumnElement[bool]:
    running = and_(
        ticket_clock.c.stop_ms.is_(None), ticket_clock.c.pause_start_ms.is_(None), ticket_clock.c.breached_ms.is_(None)
    )
    # the first comparison is implied by the second and can use the index
    past = and_(ticket_clock.c.target_ms <= now_ms, ticket_clock.c.target_ms + ticket_clock.c.paused_ms <= now_ms)
    breached = select(ticket_clock.c.ticket_id).where(running, past)
    held = and_(ticket.c.state == TicketState.HOLD.value, ticket.c.held_until_ms <= now_ms)
    return and_(ticket.c.site == site, or_(ticket.c.id.in_(breached), held))


def broken_ticket_event(connection: Connection, ticket_id: str) -> int | None:
    """Return where a ticket's history was changed afterwards: an event's seq, -1 for a cut tail, None if whole."""
    head = connection.execute(select(ticket.c.hash).where(ticket.c.id == ticket_id)).scalar_one()
    query = select(ticket_event).where(ticket_event.c.ticket_id == ticket_id).order_by(ticket_event.c.seq)
    rows = connection.execute(query).mappings()
    chain = (
        (row["seq"], {"ticket_id": ticket_id, **{name: row[name] for name in _EVENT_COLUMNS}}, row["hash"])
        for row in rows
    )
    return first_break(chain, head=head or GENESIS)


def _was_done(connection: Connection, ticket_id: str, step: str, key: str) -> bool:
    query = select(ticket_event.c.step).where(
        ticket_event.c.ticket_id == ticket_id, ticket_event.c.idempotency_key == key
    )
    earlier = connection.execute(query).scalar_one_or_none()
    if earlier is not None and earlier != step:
        raise StateError("ticket.key_reused", f"the key belongs to {earlier}")
    return earlier is not None


def _has_active_alarm(connection: Connection, ticket_id: str) -> bool:
    query = (
        select(alarm.c.id)
        .join(ticket_alarm, ticket_alarm.c.alarm_id == alarm.c.id)
        .where(ticket_alarm.c.ticket_id == ticket_id, alarm.c.is_active)
        .limit(1)
    )
    return connection.execute(query).first() is not None

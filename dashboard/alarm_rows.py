"""Alarms as the API tells them, read from SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, and_, or_, select

from dashboard.catalog import Catalog
from dashboard.paging import decode_cursor, encode_cursor, page
from watchroom.database.tables import alarm, alarm_event, ticket, ticket_alarm

LIVE_LIMIT = 2000
_HIDDEN = frozenset({"site", "rule_version", "is_live", "arrived_ms"})
_COLUMNS = [column for column in alarm.c if column.key not in _HIDDEN]


class AlarmRows:
    """Read alarms; every method takes a connection and may block for a query or two.

    Args:
        site: Id of the site.
        catalog: Names and guidance.
    """

    def __init__(self, site: str, catalog: Catalog) -> None:
        self._site, self._catalog = site, catalog

    def live(self, conn: Connection, *, equipment: str | None = None) -> list[dict[str, Any]]:
        """Return what still needs somebody: all occurrences that are not NORM, newest first."""
        query = self._select(equipment).where(alarm.c.is_live, alarm.c.state != "NORM")
        return self._complete(conn, query.order_by(alarm.c.raised_ms.desc(), alarm.c.id).limit(LIVE_LIMIT))

    def journal(
        self, conn: Connection, *, equipment: str | None, limit: int, cursor: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return (occurrences, newest first, also those that are over; cursor of the next page)."""
        query = self._select(equipment)
        if cursor is not None:
            query = query.where(older_than(alarm, alarm.c.raised_ms, cursor))
        query = query.order_by(alarm.c.raised_ms.desc(), alarm.c.id.desc()).limit(limit + 1)
        return page(self._complete(conn, query), limit, lambda item: encode_cursor(item["raised_ms"], item["id"]))

    def by_id(self, conn: Connection, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return these occurrences as they stand now."""
        if not ids:
            return []
        return self._complete(conn, self._select(None).where(alarm.c.id.in_(ids)))

    def with_events(self, conn: Connection, alarm_id: str) -> dict[str, Any] | None:
        """Return one occurrence with its journal, None if there is none of that id."""
        found = self.by_id(conn, [alarm_id])
        if not found:
            return None
        query = select(
            alarm_event.c.kind,
            alarm_event.c.event_ms,
            alarm_event.c.user,
            alarm_event.c.comment,
            alarm_event.c.value,
            alarm_event.c.is_accepted,
            alarm_event.c.reason,
        )
        query = query.where(alarm_event.c.alarm_id == alarm_id).order_by(alarm_event.c.seq)
        return {**found[0], "events": [dict(row) for row in conn.execute(query).mappings()]}

    def _select(self, equipment: str | None) -> Select[Any]:
        query = select(*_COLUMNS).where(alarm.c.site == self._site)
        return query if equipment is None else query.where(alarm.c.equipment == equipment)

    def _complete(self, conn: Connection, query: Select[Any]) -> list[dict[str, Any]]:
        rows = [dict(row) for row in conn.execute(query).mappings()]
        tickets = _tickets_of(conn, [row["id"] for row in rows])
        return [self._told(row, tickets.get(row["id"], [])) for row in rows]

    def _told(self, row: dict[str, Any], tickets: list[dict[str, Any]]) -> dict[str, Any]:
        place = self._catalog.place_of(row["equipment"])
        row["class"] = row.pop("class_")
        return row | {
            "equipment_name": self._catalog.equipment_name(row["equipment"]),
            "place": place,
            "place_name": self._catalog.place_name(place),
            "unit": self._catalog.unit_of(row["signal"]),
            "guidance": self._catalog.guidance_of(row["row"]),
            "tickets": tickets,
        }


def _tickets_of(conn: Connection, alarms: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    if not alarms:
        return found
    query = select(ticket_alarm.c.alarm_id, ticket.c.id, ticket.c.number, ticket.c.type, ticket.c.state)
    query = query.join(ticket, ticket.c.id == ticket_alarm.c.ticket_id).where(ticket_alarm.c.alarm_id.in_(alarms))
    for alarm_id, *values in conn.execute(query.order_by(ticket.c.created_ms, ticket.c.number)):
        found.setdefault(alarm_id, []).append(dict(zip(("id", "number", "type", "state"), values, strict=True)))
    return found


def alarms_of(conn: Connection, tickets: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return ticket id -> the alarms it belongs to, newest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    query = select(
        ticket_alarm.c.ticket_id, alarm.c.id, alarm.c.title, alarm.c.priority, alarm.c.state, alarm.c.is_active
    )
    query = query.join(alarm, alarm.c.id == ticket_alarm.c.alarm_id)
    query = query.where(ticket_alarm.c.ticket_id.in_(list(tickets))).order_by(alarm.c.raised_ms.desc())
    names = ("id", "title", "priority", "state", "is_active")
    for ticket_id, *values in conn.execute(query):
        found.setdefault(ticket_id, []).append(dict(zip(names, values, strict=True)))
    return found


def older_than(table: Table, time: Any, cursor: str) -> Any:
    """Return the condition for rows after a cursor in the order newest first, then by id."""
    time_ms, row_id = decode_cursor(cursor, (int, str))
    return or_(time < time_ms, and_(time == time_ms, table.c.id < row_id))

"""Tickets as the API tells them, read from SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Select, bindparam, select

from dashboard.alarm_rows import alarms_of, older_than
from dashboard.catalog import Catalog
from dashboard.paging import encode_cursor, page
from watchroom.database.tables import ticket, ticket_clock, ticket_event

View = Literal["open", "closed", "all"]
ENDED = ("CLOSED", "CANCELLED")
_HIDDEN = frozenset({"site", "fault", "reopened", "hash"})
_COLUMNS = [column for column in ticket.c if column.key not in _HIDDEN]
_CLOCKS = ("kind", "start_ms", "target_ms", "paused_ms", "pause_start_ms", "stop_ms", "breached_ms")
# statements behind every change are made once: making one costs more than running it
_BY_ID = select(*_COLUMNS).where(ticket.c.site == bindparam("site"), ticket.c.id.in_(bindparam("ids", expanding=True)))
_CLOCKS_OF = (
    select(ticket_clock.c.ticket_id, *(ticket_clock.c[name] for name in _CLOCKS))
    .where(ticket_clock.c.ticket_id.in_(bindparam("ids", expanding=True)))
    .order_by(ticket_clock.c.target_ms)
)


class TicketRows:
    """Read tickets; every method takes a connection and may block for a few queries.

    Tickets come with key ``held_from`` still in them and without ``steps``: both belong to `dashboard.steps`.

    Args:
        site: Id of the site.
        catalog: Names.
    """

    def __init__(self, site: str, catalog: Catalog) -> None:
        self._site, self._catalog = site, catalog

    def page(
        self, conn: Connection, *, view: View, limit: int, cursor: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return (tickets, newest first; cursor of the next page)."""
        query = self._select()
        if view == "open":
            query = query.where(ticket.c.state.not_in(ENDED))
        elif view == "closed":
            query = query.where(ticket.c.state.in_(ENDED))
        if cursor is not None:
            query = query.where(older_than(ticket, ticket.c.created_ms, cursor))
        query = query.order_by(ticket.c.created_ms.desc(), ticket.c.id.desc()).limit(limit + 1)
        return page(self._complete(conn, query), limit, lambda item: encode_cursor(item["created_ms"], item["id"]))

    def open(self, conn: Connection, *, limit: int = 1000) -> list[dict[str, Any]]:
        """Return every ticket that somebody still has to work on, newest first."""
        return self.page(conn, view="open", limit=limit, cursor=None)[0]

    def by_id(self, conn: Connection, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return these tickets as they stand now."""
        return self._complete(conn, _BY_ID, {"site": self._site, "ids": list(ids)}) if ids else []

    def by_id_or_number(self, conn: Connection, ticket_id: str) -> str | None:
        """Return the id of a ticket of this site, None if there is none: one database may serve several sites."""
        where = (ticket.c.id == ticket_id) | (ticket.c.number == ticket_id)
        found = conn.execute(select(ticket.c.id).where(ticket.c.site == self._site, where)).first()
        return None if found is None else str(found.id)

    def with_events(self, conn: Connection, ticket_id: str) -> dict[str, Any] | None:
        """Return one ticket with its history, by id or number; None if there is none."""
        query = self._select().where((ticket.c.id == ticket_id) | (ticket.c.number == ticket_id))
        found = self._complete(conn, query)
        if not found:
            return None
        events = select(
            ticket_event.c.step,
            ticket_event.c.from_state,
            ticket_event.c.to_state,
            ticket_event.c.at_ms,
            ticket_event.c.user,
            ticket_event.c.comment,
            ticket_event.c.fields,
        )
        events = events.where(ticket_event.c.ticket_id == found[0]["id"]).order_by(ticket_event.c.seq)
        return {**found[0], "events": [dict(row) for row in conn.execute(events).mappings()]}

    def _select(self) -> Select[Any]:
        return select(*_COLUMNS).where(ticket.c.site == self._site)

    def _complete(
        self, conn: Connection, query: Select[Any], given: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        rows = [dict(row) for row in conn.execute(query, given).mappings()]
        if not rows:
            return []
        ids = [row["id"] for row in rows]
        clocks, alarms = _clocks_of(conn, ids), alarms_of(conn, self._site, ids)
        for row in rows:
            count, told = alarms.get(row["id"], (0, []))
            place = row["place"] or self._catalog.place_of(row["equipment"])
            row |= {
                "equipment_name": self._catalog.equipment_name(row["equipment"]),
                "place": place,
                "place_name": self._catalog.place_name(place),
                "clocks": clocks.get(row["id"], []),
                "alarms": told,
                "alarm_count": count,
            }
        return rows


def _clocks_of(conn: Connection, tickets: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for ticket_id, *values in conn.execute(_CLOCKS_OF, {"ids": list(tickets)}):
        found.setdefault(ticket_id, []).append(dict(zip(_CLOCKS, values, strict=True)))
    return found

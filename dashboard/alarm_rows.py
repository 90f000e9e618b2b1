"""Alarms as the API tells them, read from SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Select, String, Table, and_, bindparam, func, or_, select

from dashboard.catalog import Catalog
from dashboard.paging import decode_cursor, encode_cursor, page
from watchroom.database.tables import alarm, alarm_event, alarm_overlay, ticket, ticket_alarm

LIVE_LIMIT = 2000
BRIEF_LIMIT = 50_000
_HIDDEN = frozenset({"site", "rule_version", "is_live", "arrived_ms", "timer_ms"})
_MEASURED = [
    alarm.c[name]
    for name in ("row", "equipment", "title", "priority", "raised_ms", "cleared_ms", "acked_ms", "realarms")
]
_COLUMNS = [column for column in alarm.c if column.key not in _HIDDEN]
_BRIEF = [column for column in alarm.c if column.key not in _HIDDEN | {"detail"}]
TICKET_ALARMS = 20
"""So many of a ticket's newest alarms are told, and all that are live."""
# statements behind every change are made once: making one costs more than running it
_BY_ID = select(*_COLUMNS).where(alarm.c.site == bindparam("site"), alarm.c.id.in_(bindparam("ids", expanding=True)))
_TICKETS = (
    select(ticket_alarm.c.alarm_id, ticket.c.id, ticket.c.number, ticket.c.type, ticket.c.state)
    .join(ticket, ticket.c.id == ticket_alarm.c.ticket_id)
    .where(ticket_alarm.c.alarm_id.in_(bindparam("ids", expanding=True)))
    .order_by(ticket.c.created_ms, ticket.c.number)
)
_TOLD = (alarm.c.id, alarm.c.title, alarm.c.priority, alarm.c.state, alarm.c.is_active)
_LIVE = select(alarm.c.id).where(alarm.c.site == bindparam("site"), alarm.c.is_live)
_RANKED = (
    select(
        ticket_alarm,
        func.count().over(partition_by=ticket_alarm.c.ticket_id).label("total"),
        func.row_number()
        .over(partition_by=ticket_alarm.c.ticket_id, order_by=ticket_alarm.c.attached_ms.desc())
        .label("place"),
    )
    .where(ticket_alarm.c.ticket_id.in_(bindparam("ids", expanding=True)))
    .subquery()
)
_ALARMS_OF_MANY = (
    select(_RANKED.c.ticket_id, _RANKED.c.total, *_TOLD)
    .join(alarm, alarm.c.id == _RANKED.c.alarm_id)
    .where(or_(_RANKED.c.place <= TICKET_ALARMS, _RANKED.c.alarm_id.in_(_LIVE)))
    .order_by(alarm.c.raised_ms.desc())
)
_ONE = bindparam("id", type_=String)
_OF_ONE = ticket_alarm.c.ticket_id == _ONE
_COUNT = select(func.count()).select_from(ticket_alarm).where(_OF_ONE).scalar_subquery()
_NEWEST = (
    select(ticket_alarm.c.alarm_id).where(_OF_ONE).order_by(ticket_alarm.c.attached_ms.desc()).limit(TICKET_ALARMS)
)
_ALARMS_OF_ONE = (
    select(_ONE.label("ticket_id"), _COUNT, *_TOLD)
    .where(
        or_(
            alarm.c.id.in_(_NEWEST),
            alarm.c.id.in_(select(ticket_alarm.c.alarm_id).where(_OF_ONE, ticket_alarm.c.alarm_id.in_(_LIVE))),
        )
    )
    .order_by(alarm.c.raised_ms.desc())
)
FEW = 8
"""Up to so many tickets are asked one by one, which does not read all alarms of a long list."""


class AlarmRows:
    """Read alarms; every method takes a connection and may block for a query or two.

    Args:
        site: Id of the site.
        catalog: Names and guidance.
    """

    def __init__(self, site: str, catalog: Catalog) -> None:
        self._site, self._catalog = site, catalog

    def live(self, conn: Connection, *, equipment: str | None = None) -> list[dict[str, Any]]:
        """Return what still needs somebody, or is hidden: all occurrences that are not NORM, newest first.

        Of more than `LIVE_LIMIT` the most urgent: a flood never hides a priority 1.
        """
        query = self._select(equipment).where(alarm.c.is_live, alarm.c.state != "NORM")
        query = query.order_by(alarm.c.priority, alarm.c.raised_ms.desc(), alarm.c.id).limit(LIVE_LIMIT)
        return sorted(self._complete(conn, query), key=lambda row: (-row["raised_ms"], row["id"]))

    def brief(self, conn: Connection, *, equipment: str | None = None) -> list[dict[str, Any]]:
        """Return the same without guidance, detail and tickets, for lists of tens of thousands."""
        query = self._select(equipment, columns=_BRIEF).where(alarm.c.is_live, alarm.c.state != "NORM")
        query = query.order_by(alarm.c.raised_ms.desc(), alarm.c.id).limit(BRIEF_LIMIT)
        rows = [dict(row) for row in conn.execute(query).mappings()]
        for row in rows:
            row |= {"guidance": None, "tickets": [], "detail": {"zh": "", "en": ""}}
        return [self._named(row) for row in rows]

    def covered(self, conn: Connection) -> list[dict[str, Any]]:
        """Return every row that is shelved, suppressed or out of service, for the list of a shift's handover."""
        query = select(alarm_overlay).where(alarm_overlay.c.site == self._site).order_by(alarm_overlay.c.row)
        found = []
        for row in conn.execute(query).mappings():
            name = self._catalog.equipment_name(row["equipment"])
            told = {key: row[key] for key in ("row", "equipment", "until_ms", "is_suppressed", "is_out", "detail")}
            rule = row["row"].partition("|")[0]
            found.append(told | {"rule": rule, "equipment_name": name, "shelf": row["shelf"] or None})
        return found

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
        return self._complete(conn, _BY_ID, {"site": self._site, "ids": list(ids)})

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

    def activations(self, conn: Connection, *, start_ms: int, end_ms: int) -> list[dict[str, Any]]:
        """Return the alarms that sounded when they were raised within a period, for `alarms.measures`."""
        raised = and_(alarm_event.c.alarm_id == alarm.c.id, alarm_event.c.kind == "RAISE", alarm_event.c.is_accepted)
        query = select(*_MEASURED).join(alarm_event, raised).where(alarm.c.site == self._site)
        query = query.where(alarm.c.raised_ms >= start_ms, alarm.c.raised_ms < end_ms, alarm_event.c.state == "UNACK")
        return [dict(row) for row in conn.execute(query).mappings()]

    def standing(self, conn: Connection, *, before_ms: int) -> list[dict[str, Any]]:
        """Return the live alarms whose condition has been true since before a moment, oldest first."""
        query = select(*_MEASURED).where(alarm.c.site == self._site, alarm.c.is_live, alarm.c.is_active)
        query = query.where(alarm.c.raised_ms < before_ms).order_by(alarm.c.raised_ms)
        return [dict(row) for row in conn.execute(query).mappings()]

    def words_of(self, equipment: str) -> Any:
        """Return the name of a piece of equipment in both languages."""
        return self._catalog.equipment_name(equipment)

    def _select(self, equipment: str | None, *, columns: Sequence[Column[Any]] = _COLUMNS) -> Select[Any]:
        query = select(*columns).where(alarm.c.site == self._site)
        return query if equipment is None else query.where(alarm.c.equipment == equipment)

    def _complete(
        self, conn: Connection, query: Select[Any], given: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        rows = [dict(row) for row in conn.execute(query, given).mappings()]
        tickets = _tickets_of(conn, [row["id"] for row in rows])
        return [self._told(row, tickets.get(row["id"], [])) for row in rows]

    def _told(self, row: dict[str, Any], tickets: list[dict[str, Any]]) -> dict[str, Any]:
        return self._named(row) | {"guidance": self._catalog.guidance_of(row["row"]), "tickets": tickets}

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        place = self._catalog.place_of(row["equipment"])
        row["class"], row["group"] = row.pop("class_"), row.pop("group_")
        return row | {
            "equipment_name": self._catalog.equipment_name(row["equipment"]),
            "place": place,
            "place_name": self._catalog.place_name(place),
            "unit": self._catalog.unit_of(row["signal"]),
        }


def _tickets_of(conn: Connection, alarms: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    if not alarms:
        return found
    for alarm_id, *values in conn.execute(_TICKETS, {"ids": list(alarms)}):
        found.setdefault(alarm_id, []).append(dict(zip(("id", "number", "type", "state"), values, strict=True)))
    return found


def alarms_of(conn: Connection, site: str, tickets: Iterable[str]) -> dict[str, tuple[int, list[dict[str, Any]]]]:
    """Return ticket id -> (how many alarms it belongs to, those that are told, newest first)."""
    found: dict[str, tuple[int, list[dict[str, Any]]]] = {}
    names = ("id", "title", "priority", "state", "is_active")
    ids = list(tickets)
    if len(ids) <= FEW:
        rows = [row for id_ in ids for row in conn.execute(_ALARMS_OF_ONE, {"site": site, "id": id_})]
    else:
        rows = list(conn.execute(_ALARMS_OF_MANY, {"site": site, "ids": ids}))
    for ticket_id, total, *values in rows:
        found.setdefault(ticket_id, (total, []))[1].append(dict(zip(names, values, strict=True)))
    return found


def older_than(table: Table, time: Any, cursor: str) -> Any:
    """Return the condition for rows after a cursor in the order newest first, then by id."""
    time_ms, row_id = decode_cursor(cursor, (int, str))
    return or_(time < time_ms, and_(time == time_ms, table.c.id < row_id))

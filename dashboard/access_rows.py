"""Access events as the API tells them, read from SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select

from dashboard.catalog import Catalog
from dashboard.paging import decode_cursor, encode_cursor, page
from watchroom.database.tables import access_event

NAMES = (
    "seq",
    "equipment",
    "time_ms",
    "method",
    "person",
    "card",
    "result",
    "direction",
    "is_simulated",
    "fields",
)
KIND = "access"


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What events are looked for; None means any.

    Attributes:
        start_ms: From this time on, UTC ms.
        end_ms: Before this time.
        equipment: Door or other equipment.
        person: Keyed hash of a person, as the events tell it.
        card: Keyed hash of a card.
        result: ``granted``, ``denied`` ...
        method: ``card``, ``face`` ...
        kind: Kind of an event that is no access.
    """

    start_ms: int | None = None
    end_ms: int | None = None
    equipment: str | None = None
    person: str | None = None
    card: str | None = None
    result: str | None = None
    method: str | None = None
    kind: str | None = None

    def narrow(self, query: Select[Any]) -> Select[Any]:
        """Return a query that finds only this."""
        for name in ("equipment", "person", "card", "result", "method", "kind"):
            wanted = getattr(self, name)
            if wanted is not None:
                query = query.where(access_event.c[name] == wanted)
        if self.start_ms is not None:
            query = query.where(access_event.c.time_ms >= self.start_ms)
        if self.end_ms is not None:
            query = query.where(access_event.c.time_ms < self.end_ms)
        return query


class AccessRows:
    """Read the access log; every method takes a connection and may block for a query.

    Args:
        site: Id of the site.
        catalog: Names of the doors.
    """

    def __init__(self, site: str, catalog: Catalog) -> None:
        self._site, self._catalog = site, catalog

    def page(
        self, conn: Connection, search: Search, *, limit: int, cursor: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return (passages, last arrived first; cursor of the next page)."""
        return self._page(conn, search.narrow(self._select()), limit=limit, cursor=cursor)

    def other_page(
        self, conn: Connection, search: Search, *, limit: int, cursor: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return (events that are no passages, last arrived first; cursor of the next page)."""
        columns = [access_event.c[name] for name in ("kind", "gateway", "seen_ms", *NAMES)]
        query = select(*columns).where(access_event.c.site == self._site, access_event.c.kind != KIND)
        return self._page(conn, search.narrow(query), limit=limit, cursor=cursor)

    def _page(
        self, conn: Connection, query: Select[Any], *, limit: int, cursor: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        if cursor is not None:
            query = query.where(access_event.c.seq < decode_cursor(cursor, (int,))[0])
        query = query.order_by(access_event.c.seq.desc()).limit(limit + 1)
        return page(self._told(conn, query), limit, lambda item: encode_cursor(item["seq"]))

    def by_ref(self, conn: Connection, refs: Sequence[str]) -> list[dict[str, Any]]:
        """Return events by their number, as the change feed names them."""
        numbers = [int(ref) for ref in refs if ref.isdecimal()]
        if not numbers:
            return []
        return self._told(conn, self._select().where(access_event.c.seq.in_(numbers)).order_by(access_event.c.seq))

    def count_since(self, conn: Connection, since_ms: int) -> tuple[int, int]:
        """Return (passages asked for, of them refused) since a time."""
        granted = access_event.c.result == "granted"
        query = select(func.count(), func.count().filter(~granted)).where(
            access_event.c.site == self._site, access_event.c.kind == KIND, access_event.c.time_ms >= since_ms
        )
        total, refused = conn.execute(query).one()
        return int(total), int(refused)

    def _select(self) -> Select[Any]:
        return select(*(access_event.c[name] for name in NAMES)).where(
            access_event.c.site == self._site, access_event.c.kind == KIND
        )

    def _told(self, conn: Connection, query: Select[Any]) -> list[dict[str, Any]]:
        rows = [dict(row) for row in conn.execute(query).mappings()]
        for row in rows:
            row["equipment_name"] = self._catalog.equipment_name(row["equipment"])
        return rows

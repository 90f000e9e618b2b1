"""The change feed of a site, read from SQL in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine, bindparam, func, select

from dashboard.access_rows import AccessRows, Search
from dashboard.alarm_rows import AlarmRows
from dashboard.ticket_rows import TicketRows
from dashboard.wire import Parcel, parcel
from watchroom.database.connect import reading
from watchroom.database.tables import change

BATCH = 500
ACCESS_SHOWN = 50
T = TypeVar("T")
_SINCE = (
    select(change.c.seq, change.c.kind, change.c.ref)
    .where(change.c.site == bindparam("site"), change.c.seq > bindparam("after"))
    .order_by(change.c.seq)
    .limit(BATCH)
)


class Feed:
    """What changed since a sequence number, as whole objects.

    Reads happen one after the other, so their results come in the order of the feed.

    Args:
        engine: The open database.
        site: Id of the site.
    """

    def __init__(
        self, engine: Engine, site: str, *, alarms: AlarmRows, tickets: TicketRows, access: AccessRows
    ) -> None:
        self._engine, self._site = engine, site
        self._alarms, self._tickets, self._access = alarms, tickets, access
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feed")

    async def newest(self) -> int:
        """Return the sequence of the newest change, 0 before the first.

        Raises:
            StoreError: If the database is away.
        """
        return await self._run(self._newest)

    async def since(self, seq: int) -> Parcel | None:
        """Return what changed after a sequence number, None when nothing did.

        A parcel whose ``prev`` is not that number tells that the changes between are no longer known.

        Raises:
            StoreError: If the database is away.
        """
        return await self._run(lambda conn: self._since(conn, seq))

    async def snapshot(self) -> Parcel:
        """Return everything a screen shows; it may hold changes that `since` its sequence tells once more.

        Raises:
            StoreError: If the database is away.
        """
        return await self._run(self._snapshot)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[[Connection], T]) -> T:
        def run() -> T:
            with reading(self._engine) as conn:
                return work(conn)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    def _newest(self, conn: Connection) -> int:
        query = select(func.max(change.c.seq)).where(change.c.site == self._site)
        return int(conn.execute(query).scalar_one() or 0)

    def _since(self, conn: Connection, seq: int) -> Parcel | None:
        rows = conn.execute(_SINCE, {"site": self._site, "after": seq}).all()
        if not rows:
            return None
        refs: dict[str, dict[str, None]] = {"alarm": {}, "ticket": {}, "access": {}}
        for _, kind, ref in rows:
            refs.setdefault(kind, {})[ref] = None
        return parcel(
            self._alarms.by_id(conn, list(refs["alarm"])),
            self._tickets.by_id(conn, list(refs["ticket"])),
            self._access.by_ref(conn, list(refs["access"])),
            seq=rows[-1].seq,
            prev=rows[0].seq - 1,
        )

    def _snapshot(self, conn: Connection) -> Parcel:
        seq = self._newest(conn)
        return parcel(
            self._alarms.live(conn),
            self._tickets.open(conn),
            self._access.page(conn, Search(), limit=ACCESS_SHOWN, cursor=None)[0],
            seq=seq,
            prev=seq,
        )

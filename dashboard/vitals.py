"""How the site is doing: gateways, freshness of the data, figures of the bar at the foot of the page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from dashboard.access_rows import AccessRows
from dashboard.catalog import Catalog
from dashboard.heartbeats import Heartbeats
from dashboard.projection import Projection
from dashboard.sql import Database
from dashboard.tail import Tail
from watchroom.births import format_epoch
from watchroom.centre import CENTRE_GATEWAY
from watchroom.errors import LinkError, StateError, StoreError
from watchroom.local import LocalClient

SILENT_BEATS = 5
"""A gateway that missed this many heartbeats in a row is not online."""
SILENT_MIN_MS = 5_000
STATUS_S = 2.0
ACCESS_S = 15.0


class Vitals:
    """Figures for ticks and for `GET /gateways`.

    Args:
        catalog: Which gateways the site has.
        tail: Heartbeats and epochs.
        projection: Newest values.
        engine: Asked for the alarm engine's own figures.
        database: Holds the access log.
        access: Counts in it.
        now_ms: The clock.
    """

    def __init__(
        self,
        catalog: Catalog,
        tail: Tail,
        *,
        projection: Projection,
        engine: LocalClient,
        database: Database,
        access: AccessRows,
        now_ms: Callable[[], int],
    ) -> None:
        self._catalog, self._tail, self._projection = catalog, tail, projection
        self._engine, self._database, self._access = engine, database, access
        self._now_ms = now_ms
        self._zone = ZoneInfo(catalog.site.info.zone)
        self._access_counts = (0, 0)
        self._access_changed = asyncio.Event()
        self.engine_status: dict[str, Any] = {}

    def access_changed(self) -> None:
        """Count the access log again soon."""
        self._access_changed.set()

    def online(self, now_ms: int) -> list[str]:
        """Return the gateways that are heard."""
        return [name for name, beats in self._tail.beats.items() if self._is_online(name, beats, now_ms)]

    def gateways(self) -> list[dict[str, Any]]:
        """Return all gateways of the site, and those that report without being in its files."""
        now_ms = self._now_ms()
        names = {*self._catalog.gateways, *self._tail.beats} - {CENTRE_GATEWAY}
        return [self._gateway(name, now_ms) for name in sorted(names)]

    def both(self) -> dict[str, Any]:
        """Return stats and gateways for the tick, after judging what is stale."""
        now_ms = self._now_ms()
        self._projection.judge(now_ms=now_ms, online=self.online(now_ms))
        gateways = self.gateways()
        return {"stats": self._stats(gateways, now_ms), "gateways": gateways}

    async def follow_engine(self) -> None:
        """Ask the engine for its figures until cancelled."""
        while True:
            try:
                self.engine_status = await self._engine.ask("status", timeout_s=STATUS_S)
            except (LinkError, StateError):
                self.engine_status = {}
            await asyncio.sleep(STATUS_S)

    async def follow_access(self) -> None:
        """Count today's passages until cancelled."""
        while True:
            since_ms = midnight_ms(self._now_ms(), self._zone)
            with contextlib.suppress(StoreError):
                self._access_counts = await self._database.read(partial(self._access.count_since, since_ms=since_ms))
            self._access_changed.clear()
            # counted at most once a second, and at midnight without an event
            await asyncio.sleep(1.0)
            try:
                async with asyncio.timeout(ACCESS_S):
                    await self._access_changed.wait()
            except TimeoutError:
                pass

    def _is_online(self, name: str, beats: Heartbeats, now_ms: int) -> bool:
        limit_ms = max(SILENT_MIN_MS, round(SILENT_BEATS * 1000 * self._tail.heartbeat_s.get(name, 1.0)))
        return beats.last_ms is not None and now_ms - beats.last_ms <= limit_ms

    def _gateway(self, name: str, now_ms: int) -> dict[str, Any]:
        equipment, words = self._catalog.gateways.get(name, (None, {"zh": name, "en": name}))
        beats = self._tail.beats.get(name) or Heartbeats()
        is_online = self._is_online(name, beats, now_ms)
        backlog = self._projection.value_of(f"{equipment}/outbox_frames") if equipment else None
        signals, stale = self._projection.counts_of(name)
        epoch = self._tail.epochs.get(name)
        return {
            "id": name,
            "equipment": equipment,
            "name": words,
            "is_online": is_online,
            "last_ms": beats.last_ms,
            "epoch": None if epoch is None else format_epoch(epoch),
            "latency_ms": self._tail.latency_ms.get(name) if is_online else None,
            "backlog": None if backlog is None else int(backlog),
            "beats": beats.strip(now_ms),
            "signals": signals,
            "stale": stale,
            "reason": None if is_online else "never_seen" if beats.last_ms is None else "silent",
        }

    def _stats(self, gateways: list[dict[str, Any]], now_ms: int) -> dict[str, Any]:
        good, stale = self._projection.counts()
        last_ms = self._tail.last_data_ms
        total, refused = self._access_counts
        return {
            "samples_per_s": self._projection.samples_per_s(now_ms),
            "alarm_scan_ms": (self.engine_status.get("alarms") or {}).get("last_scan_ms"),
            "gateways_online": sum(gateway["is_online"] for gateway in gateways),
            "gateways": len(gateways),
            "signals_good": good,
            "signals_stale": stale,
            "data_age_ms": None if last_ms is None else max(0, now_ms - last_ms),
            "access_today": total,
            "access_denied": refused,
            "flood": (self.engine_status.get("alarms") or {}).get("flood"),
        }


def midnight_ms(now_ms: int, zone: ZoneInfo) -> int:
    """Return when the present day of a zone began, UTC ms."""
    now = datetime.fromtimestamp(now_ms / 1000, zone)
    return round(now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)

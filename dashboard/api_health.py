"""Is this process well, and its figures. Open to everybody, so no personal data."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import select
from starlette.responses import Response

from dashboard.parts import Parts, PartsOf, answer
from watchroom import __version__
from watchroom.errors import StoreError

router = APIRouter(include_in_schema=False)


class Figures(Collector):
    """Figures of the dashboard, read when somebody asks."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def collect(self) -> list[Metric]:
        """Return them."""
        hub, projection = self._parts.hub, self._parts.projection
        good, stale = projection.counts()
        signals = GaugeMetricFamily("watchroom_dashboard_signals", "Signals ever seen", labels=["state"])
        signals.add_metric(["good"], good)
        signals.add_metric(["stale"], stale)
        online = len(self._parts.vitals.online(self._parts.now_ms()))
        return [
            GaugeMetricFamily("watchroom_dashboard_screens", "Live connections", hub.screens),
            CounterMetricFamily("watchroom_dashboard_changes", "Change messages sent", hub.sent),
            CounterMetricFamily("watchroom_dashboard_dropped", "Screens that did not read", hub.dropped),
            GaugeMetricFamily("watchroom_dashboard_feed_seq", "Newest change sent to the screens", hub.seq),
            GaugeMetricFamily("watchroom_dashboard_gateways_online", "Gateways that are heard", online),
            GaugeMetricFamily(
                "watchroom_dashboard_engine_connected", "The engine answers", int(self._parts.engine.is_connected)
            ),
            signals,
        ]


@router.api_route("/health", methods=["GET", "HEAD"])
async def health(parts: PartsOf) -> Response:
    """Answer 200 while requests can be served, 503 without the database; the engine is told, not judged."""
    try:
        await parts.database.read(lambda conn: conn.execute(select(1)).scalar_one())
        is_there = True
    except StoreError:
        is_there = False
    facts = {
        "ok": is_there,
        "service": "dashboard",
        "version": __version__,
        "database": is_there,
        "engine": parts.engine.is_connected,
        "pages": bool(parts.pages.build),
        "screens": parts.hub.screens,
    }
    return answer(facts, status=200 if is_there else 503)


@router.get("/metrics")
async def metrics(parts: PartsOf) -> Response:
    """Return figures for Prometheus."""
    registry = CollectorRegistry()
    registry.register(Figures(parts))
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

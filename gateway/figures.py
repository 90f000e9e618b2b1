"""The gateways' figures for /metrics, read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_FIGURES = {
    "outbox_frames": "Frames committed and not acknowledged",
    "outbox_bytes": "Bytes of those frames",
    "outstanding": "Frames sent and not acknowledged",
    "loss_count": "Samples and events given up since the start",
    "links_down": "Links that do not answer",
}


class GatewayFigures(Collector):
    """Turns the gateways' status into gauges.

    Args:
        status: Gateway id -> its status, see ``Gateway.status``.
    """

    def __init__(self, status: Callable[[], Mapping[str, Mapping[str, Any]]]) -> None:
        self._status = status

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield one family a figure."""
        states = self._status()
        for name, text in _FIGURES.items():
            family = GaugeMetricFamily(f"watchroom_gateway_{name}", text, labels=["gateway"])
            for gateway, state in states.items():
                family.add_metric([gateway], float(state[name]))
            yield family
        up = GaugeMetricFamily("watchroom_gateway_uplink_up", "Whether the broker can be reached", labels=["gateway"])
        for gateway, state in states.items():
            up.add_metric([gateway], float(state["uplink"] == "up"))
        yield up

"""The demo's cable: pulls a gateway's uplink when the simulators say that it is cut off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from gateway.uplink import Uplink
from watchroom.local import LocalClient

log = structlog.get_logger(__name__)

SOCKET = "simulate.sock"


class Drill:
    """Pulls uplinks and puts them in again; when the simulators go away, all of them.

    Args:
        uplinks: Gateway id -> its uplink.
    """

    def __init__(self, uplinks: Mapping[str, Uplink]) -> None:
        self._uplinks = uplinks

    async def follow(self, data: Path) -> None:
        """Do what the simulators of this data folder push, until cancelled."""
        await LocalClient(data / SOCKET, on_wake=self._take, on_lost=self._end).run(retry_s=1.0)

    def _take(self, push: dict[str, Any]) -> None:
        uplink = self._uplinks.get(str(push.get("gateway")))
        if uplink is not None:
            log.info("drill", gateway=push["gateway"], is_cut=bool(push.get("cut")))
            uplink.pull(bool(push.get("cut")))

    def _end(self) -> None:
        for uplink in self._uplinks.values():
            uplink.pull(False)

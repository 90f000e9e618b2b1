"""A gateway process under load, for tests that kill it: python -m tests.gateway.loaded FOLDER PORT LEDGER."""

from __future__ import annotations

import asyncio
import os
import sys
import zlib
from pathlib import Path

import numpy as np

from gateway.app import Gateway, run_gateways
from gateway.config import GatewayConfig
from gateway.outbox import Committed
from gateway.window import WindowLimits
from tests.gateway.centre import SITE
from watchroom.frames import Event
from watchroom.settings import MqttSettings, Settings

GATEWAY = "pump-house"


def config(gateway: str = GATEWAY) -> GatewayConfig:
    """A gateway without links; the test itself reports its own signals."""
    return GatewayConfig(
        id=gateway, site=SITE, path=Path("test.yaml"), own_equipment="GW-03", is_simulated=True, heartbeat_s=0.2
    )


async def load(gateway: Gateway, *, start: int) -> None:
    """Report a counter and an event every few milliseconds."""
    collector, i = gateway.collector, start
    while True:
        i += 1
        now_ms = gateway.clock.now_ms()
        collector.report(np.array([2], np.uint32), now_ms, np.array([float(i)]), np.zeros(1, np.uint8))
        if i % 3 == 0:
            await collector.event(
                Event(id=f"card:{i}", kind="access", equipment="DR-S1", time_ms=now_ms, seen_ms=now_ms, fields={"i": i})
            )
        await asyncio.sleep(0.003)


async def main(folder: Path, port: int, ledger: Path) -> None:
    handle = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    tasks: list[asyncio.Task[None]] = []

    def ready(gateways: list[Gateway]) -> None:
        gateway = gateways[0]
        send = gateway.uplink.committed

        def committed(frames: list[Committed]) -> None:
            for frame in frames:
                line = f"{gateway.outbox.epoch:016x} {frame.seq} {zlib.adler32(frame.payload)}\n"
                os.write(handle, line.encode())
            send(frames)

        gateway.collector.on_commit = committed
        tasks.append(asyncio.create_task(load(gateway, start=gateway.outbox.next_seq * 1000)))

    settings = Settings(data=folder, mqtt=MqttSettings(port=port))
    limits = WindowLimits(retry_ms=400, retry_max_ms=1000, stale_ms=60_000)
    await run_gateways([config()], settings, on_ready=ready, limits=limits)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))

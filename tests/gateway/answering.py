"""A gateway process for tests that kill it: python -m tests.gateway.answering FOLDER BROKER_PORT."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.app import run_gateways
from gateway.config import load_gateway
from gateway.model import ModelLibrary
from gateway.window import WindowLimits
from watchroom.settings import MqttSettings, Settings


async def main(folder: Path, port: int) -> None:
    config = load_gateway(folder / "gate.yaml", models=ModelLibrary())
    limits = WindowLimits(retry_ms=400, retry_max_ms=1000, stale_ms=60_000)
    await run_gateways([config], Settings(data=folder, mqtt=MqttSettings(port=port)), limits=limits)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))

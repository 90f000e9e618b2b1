"""The demo's drill: a gateway whose uplink is pulled keeps reading, and everything follows later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gateway.app import Gateway, run_gateways
from tests.gateway.centre import Centre
from tests.gateway.loaded import config
from tests.gateway.mosquitto import Mosquitto
from watchroom.frames import SampleFrame
from watchroom.local import LocalServer
from watchroom.settings import MqttSettings, Settings


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.kill()


def change(gateway: Gateway, value: float) -> None:
    """A new value of the gateway's signal loss_count."""
    gateway.collector.report(np.array([3], np.uint32), gateway.clock.now_ms(), np.array([value]), np.zeros(1, np.uint8))


def values(centre: Centre) -> list[float]:
    """Values of loss_count in the order of arrival."""
    frames = [frame for _, frame in centre.samples() if isinstance(frame, SampleFrame)]
    return [value for frame in frames for value in frame.value[frame.alias == 3].tolist()]


@pytest.mark.parametrize("ends_by", ["word", "simulators gone"])
async def test_pulled_uplink_keeps_what_is_read(tmp_path: Path, broker: Mosquitto, ends_by: str) -> None:
    """While the cable is out nothing arrives and the outbox grows; when it is in again, all of it arrives."""
    control = LocalServer(tmp_path / "simulate.sock", {})
    simulators = asyncio.create_task(control.run())
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    settings = Settings(data=tmp_path, demo=True, mqtt=MqttSettings(port=broker.port))
    task = asyncio.create_task(
        run_gateways([config()], settings, stop=stop, on_ready=lambda found: ready.set_result(found[0]))
    )
    gateway: Gateway = await ready
    with Centre(broker.port) as centre:

        async def until(condition: Callable[[], bool], what: str) -> None:
            await asyncio.to_thread(centre.wait, condition, what=what)

        change(gateway, 1)
        await until(lambda: 1 in values(centre), "a value before the cut")
        async with asyncio.timeout(20):
            while gateway.uplink.is_up:  # the drill may not have found the socket yet
                control.wake({"gateway": gateway.config.id, "cut": True})
                await asyncio.sleep(0.05)
        for value in (2, 3, 4):
            change(gateway, value)
        await until(lambda: gateway.outbox.frames > 0, "the outbox keeps it")
        assert 4 not in values(centre)
        if ends_by == "word":
            control.wake({"gateway": gateway.config.id, "cut": False})
        else:
            simulators.cancel()
        await until(lambda: {2, 3, 4} <= set(values(centre)) and gateway.outbox.frames == 0, "all that was kept")
    stop.set()
    await task
    simulators.cancel()
    await asyncio.gather(simulators, return_exceptions=True)

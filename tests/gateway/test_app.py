"""Several gateways in one process, and the clean end of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.app import Gateway, run_gateways
from gateway.field import FieldSide
from tests.gateway.centre import Centre
from tests.gateway.loaded import config
from tests.gateway.mosquitto import Mosquitto
from watchroom.frames import BirthFrame, Event
from watchroom.settings import MqttSettings, Settings


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.kill()


class Broken(FieldSide):
    """A field side with a bug that nobody foresaw."""

    async def run(self) -> None:
        raise ZeroDivisionError("a bug")


async def test_trouble_of_one_is_not_trouble_of_another(tmp_path: Path, broker: Mosquitto) -> None:
    """A bug in the devices of one gateway ends neither its outbox nor the other eleven gateways."""
    stop, gateways = asyncio.Event(), list[Gateway]()

    def ready(found: list[Gateway]) -> None:
        gateways.extend(found)
        first = found[0]
        first.field = Broken(first.config, first.collector, now_ms=first.clock.now_ms, key=b"0" * 16, folder=tmp_path)

    settings = Settings(data=tmp_path, mqtt=MqttSettings(port=broker.port))
    configs = [config(f"bldg-{i}") for i in range(12)]
    with Centre(broker.port, is_acking=False) as centre:
        task = asyncio.create_task(run_gateways(configs, settings, stop=stop, on_ready=ready))
        await asyncio.to_thread(
            centre.wait, lambda: bool(gateways) and gateways[0].restarts > 0, what="the broken one was begun again"
        )
        for gateway in gateways:
            now_ms = gateway.clock.now_ms()
            await gateway.collector.event(
                Event(id=gateway.config.id, kind="access", equipment=None, time_ms=now_ms, seen_ms=now_ms, fields={})
            )
        await asyncio.to_thread(centre.wait, lambda: len(centre.events("access")) == 12, what="all twelve")
        assert not task.done()
        assert len({gateway.outbox.epoch for gateway in gateways}) == 12
        stop.set()
        await task
        births = {frame.birth["gateway"]["id"] for _, frame in centre.frames if isinstance(frame, BirthFrame)}
        assert births == {f"bldg-{i}" for i in range(12)}
        await asyncio.to_thread(
            centre.wait, lambda: [row["online"] for row in centre.status].count(False) == 12, what="all said goodbye"
        )


async def test_changed_signals_are_a_new_schema(tmp_path: Path) -> None:
    """When the gateway's file names other signals, the next birth has the next schema number of the same epoch."""
    settings = Settings(data=tmp_path, mqtt=MqttSettings(port=1))
    schemas: list[tuple[int, int]] = []

    for own in ("GW-03", "GW-03", "GW-99", "GW-03"):
        stop, found = asyncio.Event(), asyncio.get_running_loop().create_future()
        renamed = replace(config(), own_equipment=own)
        task = asyncio.create_task(run_gateways([renamed], settings, stop=stop, on_ready=found.set_result))
        await asyncio.wait([found, task], return_when=asyncio.FIRST_COMPLETED)
        (gateway,) = found.result()
        await gateway.collector.durable()
        schemas.append((gateway.outbox.epoch, gateway.outbox.notes["schema"]))
        stop.set()
        await task
    assert [schema for _, schema in schemas] == [1, 1, 2, 3]
    assert len({epoch for epoch, _ in schemas}) == 1

"""A changed gateway file takes effect without a restart: whole or not at all, and untouched links stay connected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.app import Gateway, run_gateways
from gateway.config import GatewayConfig, load_gateway
from gateway.model import ModelLibrary
from gateway.reload import Reload, is_same
from tests.gateway.devices import ScriptedDevice, counting
from tests.gateway.recorder import until
from watchroom.settings import MqttSettings, Settings

MODEL = """\
model: m
base: 0
groups: {fast: 50ms}
signals:
  level: {at: "holding:10"}
  double: {expr: "level * 2"}
"""
FILE = """\
gateway: {{id: g{number}, site: here}}
links:
  a: {{tcp: '127.0.0.1:{a}', timeout: {timeout}}}
  b: {{tcp: '127.0.0.1:{b}', timeout: 500ms}}
devices:
  da: {{model: m, link: a, unit: 1, equipment: A-{number}}}
  db: {{model: {model}, link: b, unit: 1, equipment: B-{number}}}
{more}"""


class Plant:
    """Two gateways of one process, with a device on each of four links."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.devices = [ScriptedDevice(counting) for _ in range(4)]
        self.gateways: list[Gateway] = []
        self.reload = Reload(self.load)
        (folder / "m.yaml").write_text(MODEL)

    def write(self, number: int, *, timeout: str = "500ms", model: str = "m", more: str = "") -> None:
        """Write a gateway file anew."""
        a, b = (device.port for device in self.devices[2 * number : 2 * number + 2])
        text = FILE.format(number=number, a=a, b=b, timeout=timeout, model=model, more=more)
        (self.folder / f"g{number}.yaml").write_text(text)

    def load(self) -> list[GatewayConfig]:
        models = ModelLibrary(self.folder)
        return [load_gateway(self.folder / f"g{number}.yaml", models=models) for number in range(2)]

    def asked(self, device: int) -> int:
        return len(self.devices[device].requests)

    @property
    def connections(self) -> list[int]:
        return [device.connections for device in self.devices]

    async def go_on(self) -> None:
        """Return when every device was asked three times more."""
        before = [self.asked(i) for i in range(4)]
        await until(lambda: all(self.asked(i) >= before[i] + 3 for i in range(4)), "all devices are read on")


@asynccontextmanager
async def plant(folder: Path) -> AsyncIterator[Plant]:
    found = Plant(folder)
    for device in found.devices:
        await device.start()
    for number in range(2):
        found.write(number)
    stop = asyncio.Event()
    settings = Settings(data=folder / "data", mqtt=MqttSettings(port=1))
    running = asyncio.create_task(
        run_gateways(found.load(), settings, stop=stop, reload=found.reload, on_ready=found.gateways.extend)
    )
    try:
        await found.go_on()
        yield found
        assert not running.done()
    finally:
        stop.set()
        await running
        for device in found.devices:
            await device.stop()


async def test_untouched_links_keep_their_connections(tmp_path: Path) -> None:
    """A changed timeout of one link: that link connects anew, the three others never notice."""
    async with plant(tmp_path) as here:
        here.write(0, timeout="700ms")
        here.reload.asked.set()
        await until(lambda: here.reload.done == 1, "the reload")
        await here.go_on()
        assert here.connections == [2, 1, 1, 1]


async def test_a_new_device_is_read_without_a_restart(tmp_path: Path) -> None:
    """A device more on a link: it is read over the connection that is there."""
    async with plant(tmp_path) as here:
        here.write(1, more="  dc: {model: m, link: b, unit: 7, equipment: C-1}\n")
        here.reload.asked.set()
        await until(lambda: any(request.unit == 7 for request in here.devices[3].requests), "the new device")
        await here.go_on()
        assert here.connections == [1, 1, 1, 1]


async def test_a_changed_model_is_a_change(tmp_path: Path) -> None:
    """Another register in the model: it is read from now on, over the same connection."""
    async with plant(tmp_path) as here:
        (tmp_path / "m.yaml").write_text(MODEL.replace("holding:10", "holding:77"))
        here.reload.asked.set()
        await until(lambda: all(d.requests[-1].start == 77 for d in here.devices), "the new register")
        assert here.connections == [1, 1, 1, 1]


async def test_whole_or_not_at_all(tmp_path: Path) -> None:
    """One mistake in the second file: neither file takes effect, everything is read on as before."""
    async with plant(tmp_path) as here:
        here.write(0, timeout="700ms")
        here.write(1, model="mm")
        here.reload.asked.set()
        await until(lambda: here.reload.refused == 1, "the refusal")
        await here.go_on()
        assert here.connections == [1, 1, 1, 1]
        assert here.reload.done == 0
        here.write(1)
        here.reload.asked.set()
        await until(lambda: here.reload.done == 1, "the reload after the correction")
        await here.go_on()
        assert here.connections == [2, 1, 1, 1]


async def test_nothing_changed_is_no_change(tmp_path: Path) -> None:
    """Reading the same files again changes nothing; expressions are compared by what was written."""
    async with plant(tmp_path) as here:
        one, other = here.load()[0], here.load()[0]
        assert is_same(one, other)
        here.reload.asked.set()
        await until(lambda: not here.reload.asked.is_set(), "the files are read")
        await here.go_on()
        assert (here.reload.done, here.reload.refused) == (0, 0)
        assert here.connections == [1, 1, 1, 1]

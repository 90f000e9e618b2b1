"""The whole way of a command: from the centre over a real broker to a register, and its outcome back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.app import run_gateways
from gateway.config import load_gateway
from gateway.model import ModelLibrary
from tests.gateway.centre import SITE, Centre
from tests.gateway.devices import Registers, ScriptedDevice
from tests.gateway.mosquitto import Mosquitto
from tests.gateway.recorder import until
from watchroom.errors import LinkError
from watchroom.settings import MqttSettings, Settings

MODEL = """\
model: pump
base: 0
groups: {fast: 100ms}
signals:
  lamp:  {at: "coil:2", type: bit, class: state, write: true, confirm: true, roles: [guard]}
  reset: {at: "coil:5", type: bit, write: pulse 50ms}
"""


@pytest.fixture
def broker(tmp_path: Path) -> Mosquitto:
    return Mosquitto(tmp_path)


def command(id_: str, target: str, **more: object) -> dict[str, object]:
    return {"id": id_, "expires_at": time.time_ns() // 1_000_000 + 20_000, "user": "li", "target": target, **more}


async def test_from_the_broker_to_the_register_and_back(tmp_path: Path, broker: Mosquitto) -> None:
    """Accepted, written once, confirmed by reading; a retained command of yesterday is not carried out."""
    registers = Registers()
    plc = ScriptedDevice(registers.answer, on_write=registers.write)
    await plc.start()
    broker.start()
    (tmp_path / "pump.yaml").write_text(MODEL)
    path = tmp_path / "gateway.yaml"
    path.write_text(
        f"gateway: {{id: plant, site: {SITE}}}\nlinks:\n  plc: {{tcp: '127.0.0.1:{plc.port}'}}\n"
        "devices:\n  pump: {model: pump, link: plc, unit: 1, equipment: WP-01}\n"
    )
    config = load_gateway(path, models=ModelLibrary(tmp_path))
    stop = asyncio.Event()
    with Centre(broker.port) as centre:
        old = command("old", "WP-01/reset")
        await until(lambda: _published(centre, old), "the broker keeps a command")
        settings = Settings(data=tmp_path / "data", mqtt=MqttSettings(port=broker.port))
        running = asyncio.create_task(run_gateways([config], settings, stop=stop))
        try:
            await until(lambda: centre.births, "the birth", within_s=30)
            assert [target["key"] for target in centre.births[-1]["targets"]] == ["WP-01/lamp", "WP-01/reset"]
            await until(lambda: centre.status and centre.status[-1]["online"], "online", within_s=30)
            for _ in range(3):
                centre.publish("plant", "cmd", command("c1", "WP-01/lamp", value=1, confirm=True, role="guard"))
            centre.publish("plant", "cmd", command("c2", "WP-01/lamp", value=1, confirm=True, role="contractor"))
            centre.publish("plant", "cmd", {"id": "c3"})
            centre.publish_bytes("plant", "cmd", b"\xff{")
            centre.publish("plant", "cmd", command("c4", "WP-01/reset"))
            await until(lambda: len(_outcomes(centre)) == 5, "five outcomes", within_s=30)
        finally:
            stop.set()
            await running
            await plc.stop()
            broker.kill()
    assert sorted(_outcomes(centre)) == [
        ("c1", "accepted"),
        ("c1", "done"),
        ("c2", "refused"),
        ("c4", "accepted"),
        ("c4", "done"),
    ]
    assert sorted((written.start, written.words) for written in plc.writes) == [(2, [1]), (5, [0]), (5, [1])]


def _published(centre: Centre, content: dict[str, object]) -> bool:
    try:
        centre.publish("plant", "cmd", content, retain=True)
    except LinkError:  # not connected yet
        return False
    return True


def _outcomes(centre: Centre) -> list[tuple[str, str]]:
    return [(str(event.fields["id"]), str(event.fields["outcome"])) for event in centre.events("command")]

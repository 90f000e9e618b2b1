"""kill -9 of a gateway while readers push: whatever a device was answered is there, and there once."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from zoneinfo import ZoneInfo

import aiomqtt
import pytest

from simulators.push_readers import IsapiReader, ZktecoReader
from simulators.transmitter import FIRE, NORMAL, Transmitter
from tests.gateway.centre import SITE, Centre
from tests.gateway.mosquitto import Mosquitto
from tests.gateway.recorder import until
from watchroom.frames import Event, EventFrame

KILLS = 6
ZONE = ZoneInfo("Asia/Shanghai")
GATEWAY = """\
gateway: {{id: gate, site: {site}, heartbeat: 200ms}}
links:
  push: {{listen: '127.0.0.1:{push}', speaks: http}}
  door: {{listen: '127.0.0.1:{door}', speaks: mqtt}}
  panel: {{listen: '127.0.0.1:{panel}', speaks: gbt26875}}
devices:
  faces: {{link: push, http: {{protocol: isapi, readers: {{"66666": DR-S1}}}}}}
  pins: {{link: push, http: {{protocol: zkteco, readers: {{CQUG01: DR-E1}}, fields: {{number: {{path: $.index}}}}}}}}
  cards:
    link: door
    mqtt: {{topic: "door/{{door}}/card", event: access, id: $.n, fields: {{number: {{path: $.n, type: int}}}}}}
  panel: {{link: panel, equipment: FP-01, transmitter: {{zones: 1}}}}
"""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.kill()


class Site:
    """A gateway process that is killed, and devices in this process that keep records until answered."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        with socket.socket() as a, socket.socket() as b, socket.socket() as c:
            for free in (a, b, c):
                free.bind(("127.0.0.1", 0))
            self.push, self.door, self.panel = (int(free.getsockname()[1]) for free in (a, b, c))
        text = GATEWAY.format(site=SITE, push=self.push, door=self.door, panel=self.panel)
        (folder / "gate.yaml").write_text(text)
        self.process: subprocess.Popen[bytes] | None = None
        self.face = IsapiReader("127.0.0.1", self.push, zone=ZONE, now_ms=now_ms)
        self.pin = ZktecoReader("127.0.0.1", self.push, zone=ZONE, now_ms=now_ms)
        self.transmitter = Transmitter(zone=ZONE, now_ms=now_ms, answer_s=1.0)
        self.cards: list[int] = []

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.gateway.answering", str(self._folder), str(self._port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(20) == -signal.SIGKILL

    @property
    def answered(self) -> list[int]:
        """How many records of each device were answered."""
        return [len(item) for item in (self.face.answered, self.pin.answered, self.cards, self.transmitter.answered)]

    async def happen(self) -> None:
        """Something happens at every door and in every zone, as fast as the devices are answered."""
        number = 0
        while True:
            number += 1
            for reader in (self.face, self.pin):
                if reader.waiting < 3:
                    reader.read(person=str(number))
            if self.transmitter.waiting < 3:
                self.transmitter.part(1, number % 200 + 1, state=FIRE if number % 2 else NORMAL, text=f"no {number}")
            await asyncio.sleep(0.01)

    async def read_cards(self) -> None:
        """A card reader on MQTT that sends each record until its PUBACK has come."""
        number = 0
        while True:
            with suppress(aiomqtt.MqttError):
                async with aiomqtt.Client("127.0.0.1", self.door, identifier="cards") as client:
                    while True:
                        await client.publish("door/DR-W1/card", json.dumps({"n": number}), qos=1, timeout=5)
                        self.cards.append(number)
                        number += 1
            await asyncio.sleep(0.05)


def events_of(centre: Centre) -> list[Event]:
    """Every event of every outbox record the centre has, each record once."""
    return [event for _, frame in list(centre.frames) if isinstance(frame, EventFrame) for event in frame.events]


async def test_answered_means_there_once_through_kills(tmp_path: Path, broker: Mosquitto) -> None:
    """HTTP 200, our own PUBACK and a transmitter's confirmation: after six kills everything is there exactly once."""
    site, rng = Site(tmp_path, broker.port), random.Random(11)
    with Centre(broker.port) as centre:
        tasks = [
            asyncio.create_task(work)
            for work in (
                site.happen(),
                site.read_cards(),
                site.face.run(),
                site.pin.run(),
                site.transmitter.connect("127.0.0.1", site.panel),
            )
        ]
        try:
            for _ in range(KILLS):
                site.start()
                before = site.answered
                more = rng.randint(2, 25)
                await until(
                    lambda before=before, more=more: all(  # type: ignore[misc]
                        now >= old + more for now, old in zip(site.answered, before, strict=True)
                    ),
                    "every device is answered again",
                    within_s=60,
                )
                site.kill()
            site.start()
            before = site.answered
            await until(lambda: all(n > o for n, o in zip(site.answered, before, strict=True)), "again", within_s=60)
            tasks[0].cancel()
            tasks[1].cancel()
            await until(lambda: not (site.face.waiting + site.pin.waiting + site.transmitter.waiting), "all answered")
            wanted = {
                *(f"face {serial}" for serial in site.face.answered),
                *(f"pin {index}" for index in site.pin.answered),
                *(f"card {number}" for number in site.cards),
                *(f"part {_text(data)}" for data in site.transmitter.answered),
            }
            with suppress(AssertionError):
                await until(lambda: wanted <= set(map(_name, events_of(centre))), "all at the centre", within_s=30)
            assert not sorted(wanted - set(map(_name, events_of(centre))))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert site.process is not None
            site.process.kill()
            site.process.wait()
        counts = Counter(_name(event) for event in events_of(centre))
    assert not centre.conflicts
    assert not centre.events("loss")
    assert {name: count for name, count in counts.items() if count > 1 and name} == {}
    assert min(site.answered) > KILLS * 2


def _text(data: bytes) -> str:
    """The text of a part's state, in the data unit as it was sent."""
    return data[11:42].rstrip(b"\0").decode()


def _name(event: Event) -> str:
    """What a device calls the record behind an event; empty for what no device waits for."""
    fields = event.fields
    if event.equipment == "DR-S1":
        return f"face {fields['serial']}"
    if event.equipment == "DR-E1":
        return f"pin {fields['number']}"
    if event.kind == "access":
        return f"card {fields['number']}"
    return f"part {fields['description']}" if fields.get("part") else ""

"""Readers behind a real broker: nothing lost, nothing twice, everything in order."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from gateway.config import GatewayConfig, load_gateway
from gateway.field import FieldSide
from gateway.model import ModelLibrary
from tests.gateway.mosquitto import Mosquitto
from tests.gateway.recorder import Recorder, recorder_for, until
from watchroom.signals import Quality

GATEWAY = """\
gateway: {{id: gate, site: here}}
links: {{readers: {{mqtt: 'mqtt://127.0.0.1:{port}'}}}}
devices:
  door-io:
    link: readers
    mqtt:
      topic: "door/{{door}}/io"
      equipment: "{{door}}"
      only: [DR-S1, DR-S2]
      time: {{path: "$.ts", format: ms}}
      signals: {{contact: {{kind: state}}, exit_button: {{path: $.button, kind: state}}}}
      online: {{topic: "door/{{door}}/alive", timeout: 300ms}}
  cards:
    link: readers
    mqtt:
      topic: "door/{{door}}/card"
      equipment: "{{door}}"
      only: [DR-S1, DR-S2]
      event: access
      id: $.n
      fields: {{card: {{pii: hash}}, result: {{enum: {{ok: granted, no: denied}}}}}}
      drop: [$.photo]
      reply: {{topic: "door/{{door}}/card/ack", body: {{n: "{{id}}"}}}}
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker of readers."""
    mosquitto = Mosquitto(tmp_path)
    mosquitto.start()
    yield mosquitto
    mosquitto.kill()


def configured(folder: Path, broker: Mosquitto) -> GatewayConfig:
    path = folder / "gate.yaml"
    path.write_text(GATEWAY.format(port=broker.port))
    return load_gateway(path, models=ModelLibrary())


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def running(
    config: GatewayConfig, folder: Path, recorder: Recorder | None = None
) -> AsyncIterator[tuple[Recorder, FieldSide]]:
    """The field side of a gateway whose broker is connected."""
    seen = recorder or recorder_for(config)
    side = FieldSide(config, seen, now_ms=now_ms, key=b"0" * 16, folder=folder / "data")
    task = asyncio.create_task(side.run())
    try:
        await until(lambda: side.links_down == 0, "connected to the broker")
        yield seen, side
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@asynccontextmanager
async def reader(broker: Mosquitto) -> AsyncIterator[Callable[..., Any]]:
    """A reader that publishes JSON at QoS 1."""
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:

        async def publish(topic: str, message: Any) -> None:
            payload = message if isinstance(message, bytes) else json.dumps(message).encode()
            await client.publish(topic, payload, qos=1)

        yield publish


async def test_a_pulse_of_50_ms_is_two_samples(tmp_path: Path, broker: Mosquitto) -> None:
    """Every change of a door contact is delivered in order, with the reader's own time."""
    base = now_ms()
    async with running(configured(tmp_path, broker), tmp_path) as (seen, _), reader(broker) as publish:
        for i in range(40):
            await publish("door/DR-S1/io", {"ts": base + 50 * i, "contact": i % 2})
        await until(lambda: len(seen.of("DR-S1/contact")) >= 40, "all changes")
    contact = seen.of("DR-S1/contact")
    assert [(s.time_ms, s.value) for s in contact] == [(base + 50 * i, i % 2) for i in range(40)]
    assert {s.quality for s in contact} == {Quality.GOOD}


async def test_a_card_read_is_an_event_and_the_reader_is_answered(tmp_path: Path, broker: Mosquitto) -> None:
    """The reader gets its answer only after the event is on the disk."""
    config = configured(tmp_path, broker)
    async with aiomqtt.Client("127.0.0.1", broker.port) as ears:
        await ears.subscribe("door/+/card/ack")
        async with running(config, tmp_path) as (seen, _), reader(broker) as publish:
            seen.gate.clear()
            await publish("door/DR-S1/card", {"n": 7, "card": "0A1B2C3D", "result": "ok"})
            await until(lambda: seen.asked == 1, "the event on its way to the disk")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(aiter(ears.messages)), 0.2)
            seen.gate.set()
            answer = await asyncio.wait_for(anext(aiter(ears.messages)), 5)
    (event,) = seen.events
    assert (event.kind, event.equipment, event.id) == ("access", "DR-S1", "cards:7")
    assert event.fields["result"] == "granted"
    assert event.fields["card"].startswith("k:")
    assert json.loads(bytes(answer.payload)) == {"n": "7"}


async def test_what_was_not_committed_comes_again(tmp_path: Path, broker: Mosquitto) -> None:
    """A gateway that dies between reading and writing finds the event at the broker when it is back."""
    config = configured(tmp_path, broker)
    first = recorder_for(config)
    first.gate.clear()
    async with reader(broker) as publish:
        async with running(config, tmp_path, first):
            for n in range(5):
                await publish("door/DR-S2/card", {"n": n, "card": "1", "result": "no"})
            await until(lambda: first.asked == 5, "five events taken and none committed")
        assert first.events == []
        for n in range(5, 8):
            await publish("door/DR-S2/card", {"n": n, "card": "1", "result": "no"})
        async with running(config, tmp_path) as (seen, _):
            await until(lambda: len(seen.events) >= 8, "all events after the restart")
    assert [event.id for event in seen.events] == [f"cards:{n}" for n in range(8)]


async def test_a_full_disk_stops_the_acknowledgement(tmp_path: Path, broker: Mosquitto) -> None:
    """While there is no room the events stay with the broker; afterwards none is missing."""
    config = configured(tmp_path, broker)
    async with running(config, tmp_path) as (seen, side), reader(broker) as publish:
        seen.is_full = True
        await publish("door/DR-S1/card", {"n": 1, "card": "1", "result": "ok"})
        await until(lambda: side.status()["readers"]["messages"] == 1, "the message taken")
        assert (seen.asked, seen.events) == (0, [])
        seen.is_full = False
        await until(lambda: len(seen.events) == 1, "the event when there is room")


async def test_a_contact_is_acknowledged_only_when_it_is_durable(tmp_path: Path, broker: Mosquitto) -> None:
    """A gateway that dies before the commit gets the message again, because it had not acknowledged it."""
    config = configured(tmp_path, broker)
    async with running(config, tmp_path) as (seen, _), reader(broker) as publish:
        seen.gate.clear()
        await publish("door/DR-S1/io", {"contact": 1})
        await until(lambda: seen.value("DR-S1/contact") == 1, "the contact")
    again = recorder_for(config)
    async with running(config, tmp_path, again):
        await until(lambda: again.value("DR-S1/contact") == 1, "the contact once more")


async def test_a_message_that_fits_nothing_is_kept_and_does_not_block(tmp_path: Path, broker: Mosquitto) -> None:
    """Strange messages are counted and written down without the photo; the next good one passes."""
    config = configured(tmp_path, broker)
    async with running(config, tmp_path) as (seen, side), reader(broker) as publish:
        await publish("door/DR-S1/card", {"n": 1, "card": "1", "result": "perhaps", "photo": "JPEG"})
        await publish("door/DR-S1/card", b"\x00\x01")
        await publish("door/DR-S1/card", {"n": 2, "card": "1", "result": "ok"})
        await until(lambda: len(seen.events) == 1, "the good event")
        assert side.status()["readers"]["unmatched"] == {"enum": 1, "json": 1}
    kept = tmp_path / "data" / "unmatched" / "readers" / "unmatched.jsonl"
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [(line["device"], line["reason"], line["topic"]) for line in lines] == [
        ("cards", "enum", "door/DR-S1/card"),
        ("cards", "json", "door/DR-S1/card"),
    ]
    assert "JPEG" not in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600


async def test_a_lost_broker_is_no_communication(tmp_path: Path, broker: Mosquitto) -> None:
    """Without the broker nothing is known about the doors; when it is back the last state counts as uncertain."""
    async with running(configured(tmp_path, broker), tmp_path) as (seen, side):
        async with reader(broker) as publish:
            await publish("door/DR-S1/io", {"contact": 1})
            await until(lambda: seen.value("DR-S1/contact") == 1, "the contact")
        broker.kill()
        await until(lambda: seen.quality("DR-S1/contact") == Quality.NO_COMMUNICATION, "the outage")
        assert math.isnan(seen.value("DR-S1/contact") or 0.0)
        assert side.links_down == 1
        broker.start()
        await until(lambda: seen.quality("DR-S1/contact") == Quality.UNCERTAIN, "the last state")
        assert seen.value("DR-S1/contact") == 1
        async with reader(broker) as publish:
            await publish("door/DR-S1/io", {"contact": 0})
            await until(lambda: seen.quality("DR-S1/contact") == Quality.GOOD, "a new state")
        assert seen.value("DR-S1/contact") == 0


async def test_a_silent_reader_is_offline(tmp_path: Path, broker: Mosquitto) -> None:
    """A reader that stops showing that it is alive is reported, once, and once when it is back."""
    async with running(configured(tmp_path, broker), tmp_path) as (seen, _), reader(broker) as publish:
        await publish("door/DR-S1/alive", {})
        await until(lambda: seen.value("DR-S1/online") == 1, "alive")
        await until(lambda: seen.value("DR-S1/online") == 0, "offline after the timeout")
        await until(lambda: seen.value("DR-S2/online") == 0, "a reader that never spoke")
        await publish("door/DR-S1/io", {"contact": 1})
        await until(lambda: seen.value("DR-S1/online") == 1, "any message shows that it lives")
    assert [sample.value for sample in seen.of("DR-S1/online")][:3] == [1, 0, 1]


async def test_a_door_of_another_gateway_is_left_alone(tmp_path: Path, broker: Mosquitto) -> None:
    """A message for a door that is not ours is neither reported nor complained about."""
    async with running(configured(tmp_path, broker), tmp_path) as (seen, side), reader(broker) as publish:
        await publish("door/DR-E1/io", {"contact": 1})
        await publish("door/DR-S1/io", {"contact": 1})
        await until(lambda: seen.value("DR-S1/contact") == 1, "our own door")
        assert side.status()["readers"]["unmatched"] == {}
        assert side.status()["readers"]["messages"] == 1
    assert {sample.key.partition("/")[0] for sample in seen.samples} <= {"DR-S1", "DR-S2"}

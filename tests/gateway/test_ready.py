"""Ready mappings: a camera or reader of a common make needs a name in the file, not a page of paths."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from gateway.config import load_gateway
from gateway.field import FieldSide
from gateway.mapping import Mapped
from gateway.model import ModelLibrary
from gateway.ready import load_ready, ready_names
from simulators.frigate import Frigate
from tests.gateway.mosquitto import Mosquitto
from tests.gateway.recorder import recorder_for, until
from watchroom.errors import ConfigError
from watchroom.frames import Event

NOW_MS = 1_763_800_000_000
SHARED = Path(__file__).parents[3] / "shared" / "devices" / "access_and_face_payloads.json"
HEAD = "gateway: {id: gate, site: here}\nlinks: {readers: {mqtt: 'mqtt://127.0.0.1'}}\ndevices:\n"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    mosquitto = Mosquitto(tmp_path)
    mosquitto.start()
    yield mosquitto
    mosquitto.kill()


def converted(folder: Path, device: str, payload: Any, *, topic: str) -> Mapped:
    """What one message means under a mapping of one line."""
    path = folder / "gateways" / "gate.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{HEAD}  one: {{link: readers, mqtt: {device}}}\n")
    (reader,) = load_gateway(path, models=ModelLibrary()).readers.values()
    captures = reader.mapping.topic.capture(topic)
    assert captures is not None
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return reader.mapping.convert(captures, raw, arrived_ms=NOW_MS, key=b"key of the test")


def event(mapped: Mapped) -> Event:
    (found,) = mapped.events
    return found


def test_every_ready_mapping_says_where_it_comes_from() -> None:
    """Each has a source, how far to trust it, and a name in both languages."""
    names = ready_names()
    assert len(names) >= 8
    for name in names:
        ready = load_ready(name)
        assert ready.mapping == name
        assert len(ready.source) > 20
        assert len(ready.trust) > 20
        assert ready.name.zh != ready.name.en


UHPPOTE = {
    "access-granted": True,
    "card-number": 8165538,
    "device-id": 405419896,
    "direction": 1,
    "door-id": 4,
    "event-id": 50,
    "event-type": 2,
    "event-type-text": "door",
    "timestamp": "2019-08-09 16:18:55 PDT",
}


def test_an_uhppote_event(tmp_path: Path) -> None:
    """The controller's event with its number as id, its zone's abbreviation cut off, the card hashed."""
    message = {"message": {"reply": {"method": "get-event", "response": {"event": UHPPOTE}}}, "hmac": "00"}
    device = "{like: uhppoted_event, equipment: DR-S1, time: {tz: America/Los_Angeles}, topic: uhppoted/reply/events}"
    found = event(converted(tmp_path, device, message, topic="uhppoted/reply/events"))
    assert found.fields["result"] == "granted"
    assert (found.fields["direction"], found.fields["door"], found.fields["reader"]) == ("in", 4, "405419896")
    assert found.id == "one:405419896:50"
    assert found.time_ms == 1_565_392_735_000
    assert "8165538" not in str(found)


def test_a_double_take_match(tmp_path: Path) -> None:
    """A match of a face has its score and camera, and no name."""
    message = {
        "id": "1623906078.684285-5l9hw6",
        "timestamp": "2021-06-17T05:01:36.030Z",
        "camera": "living-room",
        "match": {"name": "david", "confidence": 66.07, "match": True},
    }
    found = event(converted(tmp_path, "{like: double_take_match}", message, topic="double-take/matches/david"))
    assert (found.fields["result"], found.fields["score"], found.fields["reader"]) == ("seen", 66.07, "living-room")
    assert "david" not in str(found)


def test_the_payloads_of_real_devices(tmp_path: Path) -> None:
    """Recorded payloads of Frigate and uhppoted go through their ready mappings as they are."""
    if not SHARED.exists():
        pytest.skip("the recorded payloads are not beside this checkout")
    payloads = json.loads(SHARED.read_text())
    updates = "frigate/tracked_object_update"
    face = event(converted(tmp_path, "{like: frigate_face}", payloads["frigate_face"]["payload"], topic=updates))
    assert (face.fields["method"], face.fields["reader"], face.time_ms) == ("face", "front_door_cam", 1607123958748)
    plate = event(converted(tmp_path, "{like: frigate_plate}", payloads["frigate_plate"]["payload"], topic=updates))
    assert plate.fields["card"].startswith("k:")
    assert not converted(tmp_path, "{like: frigate_face}", payloads["frigate_plate"]["payload"], topic=updates).events
    raw = payloads["uhppoted_mqtt_event"]["payload"]
    swiped = event(converted(tmp_path, "{like: uhppoted_event}", raw, topic="uhppoted/gateway/events"))
    assert swiped.fields["number"] == 50


def test_own_keys_win_and_fields_are_joined(tmp_path: Path) -> None:
    """A site changes one field of a ready mapping and keeps the rest."""
    message = {"type": "face", "id": "1", "name": None, "score": 0.9, "camera": "gate", "timestamp": NOW_MS / 1000}
    device = "{like: frigate_face, equipment: DR-S1, fields: {result: {const: granted}}}"
    found = event(converted(tmp_path, device, message, topic="frigate/tracked_object_update"))
    assert (found.equipment, found.fields["result"], found.fields["reader"]) == ("DR-S1", "granted", "gate")
    assert "person" not in found.fields


PAIRS = (
    "{topic: 'r/{n}', format: pairs, delimiter: ';', columns: [card, ok], event: access, id: '{card}', "
    "fields: {card: {pii: hash}, result: {path: ok, other: denied, enum: {1: granted}}}}"
)


def test_name_and_value_pairs(tmp_path: Path) -> None:
    """A reader that writes name=value cells; a word that enum does not list has a word of ours."""
    mapped = converted(tmp_path, PAIRS, b"card=0A1B;ok=1;more=x\ncard=0C;ok=7\n", topic="r/1")
    assert [item.fields["result"] for item in mapped.events] == ["granted", "denied"]
    refused = converted(tmp_path, PAIRS, b"card=1;ok=1\nno pair", topic="r/1").refused
    assert [item.reason for item in refused] == ["columns"]


def test_a_plain_word(tmp_path: Path) -> None:
    """A message that is one word is a state."""
    mapped = converted(tmp_path, "{like: frigate_available, equipment: CAM-1}", b"stopped\n", topic="frigate/available")
    assert [(item.key, item.value) for item in mapped.readings] == [("CAM-1/online", 0)]


@pytest.mark.parametrize(
    ("device", "problem"),
    [
        ("{like: frigate_fase}", "did you mean 'frigate_face'"),
        ("{like: ../x}", "no ready mapping"),
        ("{like: frigate_face, evnt: x}", "did you mean 'event'"),
        ("{like: frigate_face, fields: {result: {other: x, const: y}}}", "belongs to enum"),
        ("{like: uhppoted_event, time: {tz: UTC, path: $.t, cut: '('}}", "not a regular expression"),
        ("{topic: a, format: pairs, event: access, fields: {x: x}}", "columns: this key is missing"),
        ("{topic: a, format: plain, each: '$.a', event: access, fields: {text: text}}", "a record already"),
        ("{topic: a, format: plain, event: access, fields: {x: y}}", "no column 'y'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, device: str, problem: str) -> None:
    """A misspelt name, key or format is told with the nearest known one."""
    with pytest.raises(ConfigError, match=problem) as caught:
        converted(tmp_path, device, {}, topic="a")
    assert caught.value.line == 4


CAMERAS = """\
gateway: {{id: cameras, site: here}}
links: {{readers: {{mqtt: 'mqtt://127.0.0.1:{port}'}}}}
devices:
  there: {{link: readers, mqtt: {{like: frigate_available, equipment: CAM-1}}}}
  faces: {{link: readers, mqtt: {{like: frigate_face, equipment: CAM-1}}}}
  plates: {{link: readers, mqtt: {{like: frigate_plate, equipment: CAM-1}}}}
"""


@pytest.mark.parametrize("mode", ["healthy", "failing", "lying"])
async def test_a_video_recorder_on_a_broker(tmp_path: Path, broker: Mosquitto, mode: Any) -> None:
    """Faces and plates arrive once each, whatever the recorder repeats; halves are kept for the integrator."""
    path = tmp_path / "cameras.yaml"
    path.write_text(CAMERAS.format(port=broker.port))
    config = load_gateway(path, models=ModelLibrary())
    seen = recorder_for(config)

    def now_ms() -> int:
        return time.time_ns() // 1_000_000

    side = FieldSide(config, seen, now_ms=now_ms, key=b"0" * 16, folder=tmp_path / "data")
    task = asyncio.create_task(side.run())
    try:
        await until(lambda: side.links_down == 0, "connected")
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            frigate = Frigate(client, now_ms=now_ms, mode=mode)
            await frigate.begin()
            for number in range(5):
                await frigate.face("gate", f"Resident {number}")
                await frigate.plate("garage", f"京A{number}")
            await until(lambda: len({item.id for item in seen.events}) >= (20 if mode == "lying" else 10), "all")
            await frigate.end()
            await until(lambda: seen.value("CAM-1/online") == 0, "stopped")
        status = side.status()["readers"]
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    real = {item.id: item for item in seen.events if "ghost" not in item.id}
    assert sorted(item.fields["method"] for item in real.values()) == ["face"] * 5 + ["plate"] * 5
    assert "Resident" not in str(seen.events)
    assert bool(status["unmatched"]) == (mode == "failing")

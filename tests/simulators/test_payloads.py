"""What readers send, against the gateway files that read it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.config import load_gateway
from gateway.mapping import Mapped
from gateway.model import ModelLibrary
from simulators.door import Access, DoorState, Method, Result
from simulators.payloads import CARD_RESULTS, FACE_RESULTS, message
from tests.simulators.places import spruce_court

ZONE = ZoneInfo("Asia/Shanghai")
TIME_MS = 1_763_800_000_250
MODELS = ModelLibrary()


def access(method: Method, result: Result = "granted") -> Access:
    return Access(door="DR-S1", method=method, token="0A1B2C3D", direction="in", result=result, serial=1041, score=92.5)


def test_card_is_one_csv_line() -> None:
    """A card reader sends time with its zone, card, direction, result and number, separated by commas."""
    topic, payload = message(access("card", "lost"), time_ms=TIME_MS, zone=ZONE)
    when, card, direction, result, serial = payload.decode().split(",")
    assert topic == "door/DR-S1/card"
    assert (card, direction, result, serial) == ("0A1B2C3D", "IN", "LOST", "1041")
    assert round(datetime.fromisoformat(when).timestamp() * 1000) == TIME_MS
    assert when.endswith("+08:00")


@pytest.mark.parametrize(("method", "expected"), [("face", "face"), ("qr", "qr")])
def test_face_is_json_with_records(method: Method, expected: str) -> None:
    """A face terminal sends a list of records with a number that is unique over all its methods."""
    topic, payload = message(access(method), time_ms=TIME_MS, zone=ZONE)
    (record,) = json.loads(payload)["records"]
    assert topic == "door/DR-S1/face"
    assert record["recordId"] == f"DR-S1:{method}:1041"
    assert (record["subEventType"], record["currentVerifyMode"], record["attendanceStatus"]) == (
        75,
        expected,
        "checkIn",
    )
    assert record["similarity"] == 92.5


def test_door_state_is_json() -> None:
    """A door controller sends all four inputs at once, with its clock."""
    state = DoorState(door="DR-S1", contact=1, button=0, lock=1, tamper=0)
    topic, payload = message(state, time_ms=TIME_MS, zone=ZONE)
    assert topic == "door/DR-S1/io"
    assert json.loads(payload) == {"ts": TIME_MS, "contact": 1, "button": 0, "lock": 1, "tamper": 0}


def test_every_result_has_a_word() -> None:
    """No result is without its word on the wire, and different outcomes for cards differ."""
    results: set[Result] = {"granted", "denied", "unknown", "expired", "lost"}
    assert set(CARD_RESULTS) == set(FACE_RESULTS) == results
    assert len(set(CARD_RESULTS.values())) == len(results)


METHODS: list[tuple[str, Method]] = [("DR-S1", "card"), ("DR-S2", "qr"), ("DR-7-1", "face"), ("DR-P1", "card")]


@pytest.mark.parametrize(("door", "method"), METHODS)
@pytest.mark.parametrize("result", ["granted", "unknown"])
def test_gateway_files_understand_it(door: str, method: Method, result: Result) -> None:
    """Each record becomes one access event with a unique id, the reader's time, and hashes in place of numbers."""
    record = replace(access(method, result), door=door)
    topic, payload = message(record, time_ms=TIME_MS, zone=ZONE)
    mapped = mapped_by_site(topic, payload)
    (event,) = mapped.events
    assert (event.kind, event.equipment, event.time_ms) == ("access", door, TIME_MS)
    assert event.fields["method"] == method
    assert event.fields["result"] == result
    assert event.fields["direction"] == "in"
    assert str(event.fields["card" if method == "card" else "person"]).startswith("k:")
    assert "0A1B2C3D" not in str(event)
    again = mapped_by_site(*message(replace(record, serial=1042), time_ms=TIME_MS, zone=ZONE))
    assert again.events[0].id != event.id


def test_gateway_files_understand_door_states() -> None:
    """A state message becomes one sample for each input of that door."""
    state = DoorState(door="DR-7-1", contact=1, button=0, lock=1, tamper=0)
    mapped = mapped_by_site(*message(state, time_ms=TIME_MS, zone=ZONE))
    found = {reading.key: (reading.value, reading.time_ms) for reading in mapped.readings}
    assert found == {
        "DR-7-1/contact": (1.0, TIME_MS),
        "DR-7-1/exit_button": (0.0, TIME_MS),
        "DR-7-1/lock": (1.0, TIME_MS),
        "DR-7-1/tamper": (0.0, TIME_MS),
    }


def mapped_by_site(topic: str, payload: bytes) -> Mapped:
    """Return what the one gateway of the site that takes a topic makes of its message."""
    found = []
    for path in spruce_court().gateway_files:
        for reader in load_gateway(path, models=MODELS).readers.values():
            captures = reader.mapping.topic.capture(topic)
            if captures is not None and captures["door"] in reader.mapping.equipment:
                found.append(reader.mapping.convert(captures, payload, arrived_ms=TIME_MS + 40, key=b"k" * 32))
    (mapped,) = found
    return mapped

"""What readers send, against the gateway files that read it."""

from __future__ import annotations

import json
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from simulators.door import Access, DoorState, Method, Result
from simulators.payloads import CARD_RESULTS, FACE_RESULTS, message

ZONE = ZoneInfo("Asia/Shanghai")
TIME_MS = 1_763_800_000_250


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

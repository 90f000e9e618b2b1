"""What readers and door controllers put on the broker: topics and bytes. Pure.

Cards: one CSV line as small controllers send it. Faces: field names of a common access terminal's event
(``dateTime``, ``currentVerifyMode``, ``subEventType`` 75 pass and 76 fail ...), several records in one message.
"""

from __future__ import annotations

import json
from datetime import datetime
from zoneinfo import ZoneInfo

from simulators.door import Access, DoorState, Result

CARD_RESULTS: dict[Result, str] = {
    "granted": "OK",
    "denied": "NG",
    "unknown": "UNKNOWN",
    "expired": "EXPIRED",
    "lost": "LOST",
}
FACE_RESULTS: dict[Result, int] = {"granted": 75, "denied": 76, "expired": 76, "lost": 76, "unknown": 9}


def message(happening: Access | DoorState, *, time_ms: int, zone: ZoneInfo) -> tuple[str, bytes]:
    """Return topic and payload of one happening.

    Args:
        happening: An access record, or a door's state.
        time_ms: The device's clock, UTC.
        zone: Zone of the device's clock.
    """
    if isinstance(happening, DoorState):
        return _door(happening, time_ms)
    if happening.method == "card":
        return _card(happening, _iso(time_ms, zone))
    return _face(happening, _iso(time_ms, zone))


def _iso(time_ms: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(time_ms / 1000, zone).isoformat(timespec="milliseconds")


def _door(state: DoorState, time_ms: int) -> tuple[str, bytes]:
    body = {
        "ts": time_ms,
        "contact": state.contact,
        "button": state.button,
        "lock": state.lock,
        "tamper": state.tamper,
    }
    return f"door/{state.door}/io", json.dumps(body, separators=(",", ":")).encode()


def _card(access: Access, when: str) -> tuple[str, bytes]:
    cells = (when, access.token, access.direction.upper(), CARD_RESULTS[access.result], str(access.serial))
    return f"door/{access.door}/card", ",".join(cells).encode()


def _face(access: Access, when: str) -> tuple[str, bytes]:
    record = {
        "recordId": f"{access.door}:{access.method}:{access.serial}",
        "dateTime": when,
        "deviceID": f"{access.door}-{access.direction}",
        "serialNo": access.serial,
        "subEventType": FACE_RESULTS[access.result],
        "currentVerifyMode": access.method,
        "employeeNoString": access.token,
        "attendanceStatus": "checkIn" if access.direction == "in" else "checkOut",
        "similarity": access.score,
    }
    return f"door/{access.door}/face", json.dumps({"records": [record]}, separators=(",", ":")).encode()

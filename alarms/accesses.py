"""What readers and panels told, as rows of the access log."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import select

from alarms.doors.registry import CREDENTIAL
from alarms.feed import Turn
from alarms.judged import JudgedEvent
from alarms.ticket_opening import CHUNK
from watchroom.database.tables import access_event

ACCESS: Final = "access"
ID_LENGTH: Final = 160
EQUIPMENT_LENGTH: Final = 64
_COLUMNS: Final = {"method": 16, "person": 64, "card": 64, "result": 24, "direction": 8}


def event_id(text: str) -> str:
    """Return an event's id as the table can hold it; a device chooses its length, PostgreSQL refuses a longer one."""
    if len(text) <= ID_LENGTH:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text[: ID_LENGTH - len(digest) - 1] + "~" + digest


def write_events(turn: Turn, events: Sequence[JudgedEvent]) -> int:
    """Insert the events that are not there yet; return how many were new.

    An event is the same when gateway and id are the same. Only access events appear in the change feed.
    """
    # the registry's own changes are in SQL already, and are nobody's passage
    unique = {(item.gateway, event_id(item.event.id)): item for item in events if item.event.kind != CREDENTIAL}
    if not unique:
        return 0
    known = _known(turn, unique)
    new = [item for key, item in unique.items() if key not in known]
    if not new:
        return 0
    query = access_event.insert().returning(access_event.c.seq, access_event.c.kind, sort_by_parameter_order=True)
    for row in turn.connection.execute(query, [_row(turn.site, item) for item in new]):
        if row.kind == ACCESS:
            turn.changed("access", str(row.seq))
    return len(new)


def _known(turn: Turn, unique: Mapping[tuple[str, str], JudgedEvent]) -> set[tuple[str, str]]:
    ids = sorted({event_id for _, event_id in unique})
    found: set[tuple[str, str]] = set()
    for start in range(0, len(ids), CHUNK):
        query = select(access_event.c.gateway, access_event.c.event_id).where(
            access_event.c.site == turn.site, access_event.c.event_id.in_(ids[start : start + CHUNK])
        )
        found.update((row.gateway, row.event_id) for row in turn.connection.execute(query))
    return found


def _row(site: str, item: JudgedEvent) -> dict[str, Any]:
    event = item.event
    row: dict[str, Any] = {
        "site": site,
        "gateway": item.gateway,
        "event_id": event_id(event.id),
        "kind": event.kind[:16],
        "equipment": None if event.equipment is None else event.equipment[:EQUIPMENT_LENGTH],
        "time_ms": item.judged_ms,
        "seen_ms": event.seen_ms,
        "is_simulated": item.is_simulated,
    }
    for name, size in _COLUMNS.items():
        value = event.fields.get(name)
        row[name] = None if value is None else str(value)[:size]
    row["fields"] = {name: value for name, value in event.fields.items() if name not in _COLUMNS}
    return row

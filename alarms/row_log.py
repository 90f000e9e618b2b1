"""What SQL knows of some alarm rows: their present state, what lies over them, their last events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, select

from watchroom.database.connect import reading
from watchroom.database.tables import alarm, alarm_event, alarm_overlay

EVENTS = 5


def rows_log(database: Engine, site: str, rows: Sequence[str], *, zone: str) -> dict[str, dict[str, Any]]:
    """Return row key -> ``state`` (None without a live alarm), ``overlays`` and its last five ``events``, newest first.

    Raises:
        StoreError: If SQL cannot be read.
    """
    result: dict[str, dict[str, Any]] = {row: {"state": None, "overlays": [], "events": []} for row in rows}
    local = ZoneInfo(zone)
    with reading(database) as connection:
        for row in rows:
            live = select(alarm.c.state).where(alarm.c.site == site, alarm.c.row == row, alarm.c.is_live)
            result[row]["state"] = connection.execute(live).scalar()
            newest = (
                select(alarm_event)
                .join(alarm, alarm.c.id == alarm_event.c.alarm_id)
                .where(alarm.c.site == site, alarm.c.row == row)
                .order_by(alarm_event.c.seq.desc())
                .limit(EVENTS)
            )
            for event in connection.execute(newest).mappings():
                time = datetime.fromtimestamp(event["event_ms"] / 1000, local).isoformat(timespec="milliseconds")
                names = ("kind", "is_accepted", "reason", "state", "level", "event_ms", "user", "value")
                result[row]["events"].append({"time": time, **{name: event[name] for name in names}})
        over = select(alarm_overlay).where(alarm_overlay.c.site == site, alarm_overlay.c.row.in_(rows))
        for item in connection.execute(over).mappings():
            flags = {
                "shelved": bool(item["shelf"]),
                "suppressed": item["is_suppressed"],
                "out of service": item["is_out"],
            }
            result[item["row"]]["overlays"] = [name for name, holds in flags.items() if holds]
    return result

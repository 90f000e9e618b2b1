"""What time alone does to alarms, second by second: shelves end, alarms sound again, nobody has come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, select

from alarms.covering import SYSTEM
from alarms.feed import Turn
from alarms.lifecycle import State, Step
from alarms.memory import Memory
from alarms.messages import Both, standing_text, tell, unattended_text
from alarms.overlays import Cover
from alarms.store import AlarmRows
from alarms.timers import REALARMS, UNATTENDED_MS
from watchroom.database.tables import alarm
from watchroom.site import Channel

BATCH: Final = 200


def is_timer_due(connection: Connection, site: str, *, now_ms: int) -> bool:
    """Return whether `run_timers` would find an alarm."""
    query = select(alarm.c.id).where(alarm.c.site == site, alarm.c.timer_ms <= now_ms).limit(1)
    return connection.execute(query).first() is not None


def expire_shelves(rows: AlarmRows, *, upto_ms: int) -> None:
    """End the shelves whose time has come, each at its own time; the rows must be among those of the turn."""
    overlays = rows.memory.overlays.values()
    due = sorted((item.until_ms, item.row) for item in overlays if item.until_ms is not None)
    for until_ms, row in due:
        if until_ms <= upto_ms:
            rows.covers.cover(row, Cover.SHELF_EXPIRE, user=SYSTEM, at_ms=until_ms)


def expiring(memory: Memory, *, upto_ms: int) -> list[str]:
    """Return the rows whose shelf ends by then."""
    return [item.row for item in memory.overlays.values() if item.until_ms is not None and item.until_ms <= upto_ms]


def run_timers(
    turn: Turn,
    *,
    memory: Memory,
    places: Mapping[str, str],
    channels: Mapping[str, Channel],
    names: Mapping[str, Both],
    upto_ms: int,
) -> AlarmRows:
    """Do everything that is due; the caller writes the rows and opens their tickets.

    Args:
        turn: The writer's turn; its time decides about people, who live by the wall clock.
        memory: Overlays and floods.
        places: Equipment id -> place, for tickets.
        channels: Channels with an address.
        names: Equipment id -> name in both languages.
        upto_ms: Time of the journal that has been judged: shelves end in the order of the data.
    """
    query = select(alarm).where(alarm.c.site == turn.site, alarm.c.timer_ms <= turn.now_ms)
    due = [dict(row) for row in turn.connection.execute(query.order_by(alarm.c.timer_ms).limit(BATCH)).mappings()]
    keys = {row["row"] for row in due} | set(expiring(memory, upto_ms=upto_ms))
    rows = AlarmRows(turn, keys, places=places, memory=memory)
    expire_shelves(rows, upto_ms=upto_ms)
    for item in due:
        current = rows.live(item["row"])
        if current is not None and current["id"] == item["id"]:
            _look(rows, current, turn=turn, channels=channels, name=names.get(current["equipment"], {}))
    return rows


def _look(rows: AlarmRows, current: dict[str, Any], *, turn: Turn, channels: Mapping[str, Channel], name: Both) -> None:
    if current["timer_ms"] is None or current["timer_ms"] > turn.now_ms:
        return
    state = State(current["state"])
    if state is State.ACKED and current["realarms"] < REALARMS:
        rows.act(current, Step.REALARM, user=SYSTEM, comment=None, at_ms=current["timer_ms"])
    elif state is State.ACKED:
        title, body = standing_text(current, name)
        _tell(turn, channels, current, "standing", title, body)
        rows.note(current, "ESCALATED", at_ms=current["timer_ms"])
    elif state in (State.UNACK, State.LUNACK):
        title, body = unattended_text(current, name, seconds=UNATTENDED_MS // 1000)
        _tell(turn, channels, current, "unattended", title, body)
        rows.note(current, "UNATTENDED", at_ms=current["timer_ms"])


def _tell(
    turn: Turn, channels: Mapping[str, Channel], row: Mapping[str, Any], about: str, title: Both, body: Both
) -> None:
    key = f"{about}\n{row['id']}\n{row['realarms']}"
    tell(turn, channels, key=key, title=title, body=body, path="/alarms", priority=row["priority"])

"""How long records of people and doings are kept, and dropping what is older, a little at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Column, ColumnElement, Table, and_, delete, select

from alarms.accesses import ACCESS
from alarms.feed import Turn
from watchroom.database.tables import access_event, audit, command, message

MOST: Final = 2_000
"""Rows of one class dropped at a time: milliseconds of the lock that commits alarms, and 200,000 rows a day."""
DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long each class is kept, in days; 0 keeps it for ever. Alarms and tickets are always kept.

    Attributes:
        access_days: Who went, or wanted to go, through which door.
        event_days: Other events: panel texts, operations.
        command_days: What operators asked, once it was applied.
        message_days: Messages to telephones and chats that were sent or given up.
        audit_days: Sign-ins and changes of accounts.
    """

    access_days: float = 180.0
    event_days: float = 730.0
    command_days: float = 730.0
    message_days: float = 180.0
    audit_days: float = 1095.0


def trim_old(turn: Turn, keep: Keep) -> dict[str, int]:
    """Drop what is older than it is kept, the oldest first, at most MOST of each class.

    Returns:
        Class -> rows dropped, for classes that had any.
    """
    event, asked, sent = access_event.c, command.c, message.c
    is_access = event.kind == ACCESS
    classes: dict[str, tuple[float, Table, Column[int], Column[int], ColumnElement[bool]]] = {
        "access": (keep.access_days, access_event, event.seq, event.time_ms, and_(event.site == turn.site, is_access)),
        "event": (keep.event_days, access_event, event.seq, event.time_ms, and_(event.site == turn.site, ~is_access)),
        # what was not applied or not sent yet is work, however old
        "command": (
            keep.command_days,
            command,
            asked.id,
            asked.created_ms,
            and_(asked.site == turn.site, asked.outcome.is_not(None)),
        ),
        "message": (
            keep.message_days,
            message,
            sent.id,
            sent.created_ms,
            and_(sent.site == turn.site, sent.next_ms.is_(None)),
        ),
        "audit": (keep.audit_days, audit, audit.c.seq, audit.c.at_ms, audit.c.seq.is_not(None)),
    }
    dropped = {}
    for name, (days, table, key, at_ms, which) in classes.items():
        if days > 0:
            before_ms = turn.now_ms - int(days * DAY_MS)
            oldest = select(key).where(which, at_ms < before_ms).order_by(at_ms).limit(MOST)
            ids = list(turn.connection.execute(oldest).scalars())
            if ids:
                for start in range(0, len(ids), 500):
                    turn.connection.execute(delete(table).where(key.in_(ids[start : start + 500])))
                dropped[name] = len(ids)
    return dropped

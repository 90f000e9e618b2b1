"""What operators ask of the alarm engine: written down durably by anybody, applied in order by the engine alone."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Connection, Engine, select, update

from alarms.feed import Turn
from alarms.lifecycle import Step
from alarms.store import AlarmRows
from watchroom.database.connect import reading
from watchroom.database.tables import alarm, command
from watchroom.errors import StateError

CommandKind = Literal["ack", "reset"]
STEPS: Final[Mapping[str, Step]] = {"ack": Step.ACK, "reset": Step.RESET}
DONE: Final = "done"
BATCH: Final = 500
POLL_S: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a command.

    Attributes:
        code: ``done``, or the code of the `StateError` that refused it.
        cursor: Journal offset at which it was applied.
    """

    code: str
    cursor: int
    applied_ms: int

    def check(self) -> None:
        """Raise the refusal, if it was refused.

        Raises:
            StateError: With the code.
        """
        if self.code != DONE:
            raise StateError(self.code)


def submit(
    connection: Connection,
    kind: str,
    target: str,
    *,
    user: str,
    args: Mapping[str, Any],
    idempotency_key: str,
    now_ms: int,
) -> str:
    """Write a command down and return its id; the same key again returns the first one's.

    Args:
        connection: In a writing transaction; the caller commits, then wakes the engine.
        kind: ``ack`` or ``reset``.
        target: Id of the alarm (the occurrence that the operator saw).
        user: Who asks.
        args: ``comment`` as far as given.
        idempotency_key: At most 64 characters, chosen by the client.
        now_ms: UTC ms.

    Raises:
        StateError: ``alarm.unknown``, ``command.kind``, or ``command.key_reused`` for a key of another command.
    """
    if kind not in STEPS:
        raise StateError("command.kind", kind)
    site = connection.execute(select(alarm.c.site).where(alarm.c.id == target)).scalar_one_or_none()
    if site is None:
        raise StateError("alarm.unknown", target)
    turn = Turn(connection, site, now_ms=now_ms)
    query = select(command).where(command.c.site == site, command.c.idempotency_key == idempotency_key)
    earlier = connection.execute(query).mappings().one_or_none()
    if earlier is not None:
        if (earlier["kind"], earlier["target"], earlier["user"]) != (kind, target, user):
            raise StateError("command.key_reused")
        return str(earlier["id"])
    command_id = str(uuid.uuid4())
    values = {
        "id": command_id,
        "seq": turn.command_number(),
        "site": site,
        "kind": kind,
        "target": target,
        "user": user,
        "args": dict(args),
        "idempotency_key": idempotency_key,
        "created_ms": now_ms,
    }
    connection.execute(command.insert().values(values))
    turn.finish()
    return command_id


def outcome_of(connection: Connection, command_id: str) -> Outcome | None:
    """Return what became of a command, None while the engine has not applied it.

    Raises:
        StateError: ``command.unknown``.
    """
    row = connection.execute(select(command).where(command.c.id == command_id)).mappings().one_or_none()
    if row is None:
        raise StateError("command.unknown", command_id)
    if row["outcome"] is None:
        return None
    return Outcome(code=row["outcome"], cursor=row["applied_cursor"], applied_ms=row["applied_ms"])


def await_outcome(database: Engine, command_id: str, *, timeout_s: float = 2.0) -> Outcome | None:
    """Block until the engine has applied a command; None if it has not within the time. Not for an event loop.

    Raises:
        StateError: ``command.unknown``.
        StoreError: If the database is away.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = POLL_S
    while True:
        with reading(database) as connection:
            outcome = outcome_of(connection, command_id)
        if outcome is not None or time.monotonic() >= deadline:
            return outcome
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.05)


def pending(connection: Connection, site: str) -> list[dict[str, Any]]:
    """Return the commands that wait, in order of arrival, at most a batch."""
    query = select(command).where(command.c.site == site, command.c.outcome.is_(None)).order_by(command.c.seq)
    return [dict(row) for row in connection.execute(query.limit(BATCH)).mappings()]


def apply_pending(turn: Turn) -> tuple[list[str], int]:
    """Apply the waiting commands in order; return (changed alarm ids, how many commands).

    For the engine alone: it decides at the journal position that the turn stands at, and stamps it.
    """
    waiting = pending(turn.connection, turn.site)
    if not waiting:
        return [], 0
    targets = sorted({item["target"] for item in waiting})
    query = select(alarm).where(alarm.c.site == turn.site, alarm.c.id.in_(targets))
    seen = {row["id"]: dict(row) for row in turn.connection.execute(query).mappings()}
    rows = AlarmRows(turn, {row["row"] for row in seen.values()})
    for item in waiting:
        outcome = _apply(rows, item, seen.get(item["target"]), at_ms=turn.now_ms)
        values = {"outcome": outcome, "applied_cursor": turn.committed, "applied_ms": turn.now_ms}
        turn.connection.execute(update(command).where(command.c.id == item["id"]).values(values))
    return rows.write(), len(waiting)


def _apply(rows: AlarmRows, item: Mapping[str, Any], target: dict[str, Any] | None, *, at_ms: int) -> str:
    if target is None:
        return "alarm.unknown"
    kind, user, comment = STEPS[item["kind"]], item["user"], item["args"].get("comment")
    current = rows.live(target["row"])
    if current is not None and current["id"] == target["id"]:
        return rows.act(current, kind, user=user, comment=comment, at_ms=at_ms) or DONE
    # the operator looked at an older occurrence: what hides behind it has not been seen by anybody
    refusal = "alarm.closed" if current is None else "alarm.superseded"
    rows.refuse(target, kind, user=user, comment=comment, at_ms=at_ms, code=refusal)
    return refusal

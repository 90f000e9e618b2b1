"""What people ask of the alarm engine: written down, handed on, and the engine's answer waited for."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from sqlalchemy import Connection

from alarms.commands import CommandKind, Outcome, outcome_of, submit
from dashboard import audit
from dashboard.parts import Parts, address_of
from dashboard.problems import Problem
from dashboard.sessions import Session
from watchroom.errors import WatchroomError

OUTCOME_S = 2.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.004, 0.05


async def give(
    parts: Parts,
    session: Session,
    request: Request,
    *,
    kind: CommandKind,
    targets: Sequence[str],
    args: Mapping[str, Any],
    key: str | None,
) -> list[Outcome | None]:
    """Give one command for each target and return what became of them, None where the engine has not said.

    Args:
        parts: The parts of the process.
        session: Who asks.
        request: Where from, for the audit.
        kind: What is asked.
        targets: Alarm ids; ids of equipment for ``out_all`` and ``return_all``.
        args: Comment, reason, permit ... as far as given.
        key: The client's idempotency key; with several targets each gets its own from it.

    Raises:
        Problem: 404 for an unknown target.
        StoreError: If the database is away.
    """
    now_ms, name = parts.now_ms(), session.person.name
    given = {field: value for field, value in args.items() if value is not None}

    def work(conn: Connection) -> list[str]:
        _check_targets(parts, conn, kind, targets)
        ids = []
        for number, target in enumerate(targets):
            mine = f"{key}/{number}"[-64:] if key and len(targets) > 1 else key
            ids.append(
                submit(
                    conn,
                    kind,
                    target,
                    user=name,
                    args=given,
                    idempotency_key=mine or str(uuid.uuid4()),
                    now_ms=now_ms,
                    site=parts.site.id,
                )
            )
            audit.record(conn, kind, now_ms=now_ms, user=name, address=address_of(request), target=target)
        return ids

    ids = await parts.database.write(work)
    # the engine looks for commands by itself too, only later
    with contextlib.suppress(WatchroomError):
        await parts.engine.ask("commands.wake", timeout_s=OUTCOME_S)
    deadline = asyncio.get_running_loop().time() + OUTCOME_S
    return [await _outcome(parts, command_id, deadline) for command_id in ids]


def _check_targets(parts: Parts, conn: Connection, kind: CommandKind, targets: Sequence[str]) -> None:
    if kind in ("out_all", "return_all"):
        for target in targets:
            if target not in parts.site.equipment:
                raise Problem(404, "equipment.unknown", detail=target)
        return
    # one database may serve several sites
    known = {row["id"] for row in parts.alarms.by_id(conn, targets)}
    for target in targets:
        if target not in known:
            raise Problem(404, "alarm.unknown", detail=target)


async def _outcome(parts: Parts, command_id: str, deadline: float) -> Outcome | None:
    loop = asyncio.get_running_loop()
    pause_s = FIRST_PAUSE_S
    while True:
        outcome = await parts.database.read(lambda conn: outcome_of(conn, command_id))
        if outcome is not None or loop.time() >= deadline:
            return outcome
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

"""Alarms: the list, the journal, acknowledging and resetting."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request
from sqlalchemy import Connection
from starlette.responses import Response

from alarms.commands import Outcome, outcome_of, submit
from dashboard import audit
from dashboard.gate import require
from dashboard.models import Alarm, AlarmAction, AlarmWithEvents, Page
from dashboard.parts import Parts, PartsOf, SignedIn, address_of, answer
from dashboard.problems import Problem
from dashboard.sessions import Session
from watchroom.errors import WatchroomError

router = APIRouter(prefix="/api/v1", tags=["alarms"])
OUTCOME_S = 2.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.004, 0.05
IdempotencyKey = Annotated[
    str | None, Header(min_length=1, max_length=64, description="The same key again is the same command")
]


@router.get("/alarms", response_model=Page[Alarm])
async def alarms(
    parts: PartsOf,
    _session: SignedIn,
    view: Annotated[Literal["live", "journal"], Query(description="live: all that are not NORM")] = "live",
    equipment: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: str | None = None,
) -> Response:
    """List alarms, newest first."""
    if view == "live":
        items = await parts.database.read(lambda conn: parts.alarms.live(conn, equipment=equipment))
        return answer({"items": items, "next": None})
    items, following = await parts.database.read(
        lambda conn: parts.alarms.journal(conn, equipment=equipment, limit=limit, cursor=cursor)
    )
    return answer({"items": items, "next": following})


@router.get("/alarms/{alarm_id}", response_model=AlarmWithEvents)
async def one_alarm(alarm_id: str, parts: PartsOf, _session: SignedIn) -> Response:
    """Return one occurrence with its journal."""
    found = await parts.database.read(lambda conn: parts.alarms.with_events(conn, alarm_id))
    if found is None:
        raise Problem(404, "alarm.unknown", detail=alarm_id)
    return answer(found)


@router.post("/alarms/{alarm_id}/ack", response_model=Alarm)
async def acknowledge(
    alarm_id: str,
    request: Request,
    parts: PartsOf,
    session: SignedIn,
    body: AlarmAction | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Acknowledge an occurrence; 409 if it is no longer the present one. 202: the engine has not answered yet."""
    require(session.person, "alarm.ack")
    return await _command("ack", alarm_id, request, parts=parts, session=session, body=body, key=idempotency_key)


@router.post("/alarms/{alarm_id}/reset", response_model=Alarm)
async def reset(
    alarm_id: str,
    request: Request,
    parts: PartsOf,
    session: SignedIn,
    body: AlarmAction | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Reset a latched alarm whose condition is gone; answers as for `ack`."""
    require(session.person, "alarm.reset")
    return await _command("reset", alarm_id, request, parts=parts, session=session, body=body, key=idempotency_key)


async def _command(
    kind: Literal["ack", "reset"],
    alarm_id: str,
    request: Request,
    *,
    parts: Parts,
    session: Session,
    body: AlarmAction | None,
    key: str | None,
) -> Response:
    now_ms, name = parts.now_ms(), session.person.name
    comment = (body.comment if body else None) or None

    def work(conn: Connection) -> str:
        # one database may serve several sites
        if not parts.alarms.by_id(conn, [alarm_id]):
            raise Problem(404, "alarm.unknown", detail=alarm_id)
        command_id = submit(
            conn,
            kind,
            alarm_id,
            user=name,
            args={} if comment is None else {"comment": comment},
            idempotency_key=key or str(uuid.uuid4()),
            now_ms=now_ms,
        )
        audit.record(conn, kind, now_ms=now_ms, user=name, address=address_of(request), target=alarm_id)
        return command_id

    command_id = await parts.database.write(work)
    # the engine looks for commands by itself too, only later
    with contextlib.suppress(WatchroomError):
        await parts.engine.ask("commands.wake", timeout_s=OUTCOME_S)
    outcome = await _outcome(parts, command_id)
    if outcome is not None:
        outcome.check()
    found = await parts.database.read(lambda conn: parts.alarms.by_id(conn, [alarm_id]))
    return answer(found[0], status=200 if outcome is not None else 202)


async def _outcome(parts: Parts, command_id: str) -> Outcome | None:
    """Return what became of a command, None when the engine has not said within two seconds."""
    loop = asyncio.get_running_loop()
    deadline, pause_s = loop.time() + OUTCOME_S, FIRST_PAUSE_S
    while True:
        outcome = await parts.database.read(lambda conn: outcome_of(conn, command_id))
        if outcome is not None or loop.time() >= deadline:
            return outcome
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

"""Alarms: the list, the journal, acknowledging and resetting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from alarms.commands import CommandKind
from dashboard.alarm_commands import give
from dashboard.gate import require
from dashboard.models import Alarm, AlarmAction, AlarmWithEvents, BulkAck, BulkOutcome, Page
from dashboard.parts import Parts, PartsOf, SignedIn, answer
from dashboard.problems import Problem
from dashboard.sessions import Session

router = APIRouter(prefix="/api/v1", tags=["alarms"])
IdempotencyKey = Annotated[
    str | None, Header(min_length=1, max_length=64, description="The same key again is the same command")
]


@router.get("/alarms", response_model=Page[Alarm])
async def alarms(
    parts: PartsOf,
    _session: SignedIn,
    view: Annotated[
        Literal["live", "brief", "journal"],
        Query(description="live: all that are not NORM; brief: the same without guidance, detail and tickets"),
    ] = "live",
    equipment: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: str | None = None,
) -> Response:
    """List alarms, newest first; of more than 2,000 live ones the most urgent, unless brief."""
    if view == "brief":
        items = await parts.database.read(lambda conn: parts.alarms.brief(conn, equipment=equipment))
        return answer({"items": items, "next": None})
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


@router.post("/alarms/ack", response_model=BulkOutcome)
async def acknowledge_several(
    request: Request, parts: PartsOf, session: SignedIn, body: BulkAck, idempotency_key: IdempotencyKey = None
) -> Response:
    """Acknowledge up to 20 alarms that somebody sees; priority 1 is acknowledged one by one only."""
    require(session.person, "alarm.ack")
    ids = list(dict.fromkeys(body.ids))
    seen = {row["id"]: row for row in await parts.database.read(lambda conn: parts.alarms.by_id(conn, ids))}
    if any(row["priority"] == 1 for row in seen.values()):
        raise Problem(409, "alarm.bulk_priority", detail="priority 1 is acknowledged one by one")
    args = {"comment": body.comment}
    outcomes = await give(parts, session, request, kind="ack", targets=ids, args=args, key=idempotency_key)
    codes = [outcome.code if outcome is not None else "pending" for outcome in outcomes]
    items = await parts.database.read(lambda conn: parts.alarms.by_id(conn, ids))
    return answer({"outcomes": dict(zip(ids, codes, strict=True)), "items": items})


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
    args = {"comment": (body.comment if body else None) or None}
    return await one(parts, session, request, kind="ack", alarm_id=alarm_id, args=args, key=idempotency_key)


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
    args = {"comment": (body.comment if body else None) or None}
    return await one(parts, session, request, kind="reset", alarm_id=alarm_id, args=args, key=idempotency_key)


async def one(
    parts: Parts,
    session: Session,
    request: Request,
    *,
    kind: CommandKind,
    alarm_id: str,
    args: Mapping[str, Any],
    key: str | None,
) -> Response:
    """Give a command about one alarm and answer with the alarm as it stands then."""
    (outcome,) = await give(parts, session, request, kind=kind, targets=[alarm_id], args=args, key=key)
    if outcome is not None:
        outcome.check()
    found = await parts.database.read(lambda conn: parts.alarms.by_id(conn, [alarm_id]))
    return answer(found[0], status=200 if outcome is not None else 202)

"""What lies over alarms: the shelf, out of service, and the list of both for the next shift."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from alarms.commands import CommandKind
from dashboard.alarm_commands import give
from dashboard.api_alarms import IdempotencyKey, one
from dashboard.gate import require
from dashboard.models import Alarm, CoveredRow, EquipmentOutcome, OutOfService, Page, Shelve
from dashboard.parts import Parts, PartsOf, SignedIn, answer
from dashboard.sessions import Session

router = APIRouter(prefix="/api/v1", tags=["alarms"])


@router.get("/alarms/covered", response_model=Page[CoveredRow])
async def covered(parts: PartsOf, _session: SignedIn) -> Response:
    """List every rule row that is shelved, suppressed by design or out of service, also those without an alarm."""
    items = await parts.database.read(parts.alarms.covered)
    return answer({"items": items, "next": None})


@router.post("/alarms/{alarm_id}/shelve", response_model=Alarm)
async def shelve(
    alarm_id: str,
    request: Request,
    parts: PartsOf,
    session: SignedIn,
    body: Shelve,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Hide an alarm for a time, or until it clears. Priority 1, fire and life safety have no shelf: 409."""
    require(session.person, "alarm.shelve")
    args = body.model_dump()
    return await one(parts, session, request, kind="shelve", alarm_id=alarm_id, args=args, key=idempotency_key)


@router.post("/alarms/{alarm_id}/unshelve", response_model=Alarm)
async def unshelve(
    alarm_id: str, request: Request, parts: PartsOf, session: SignedIn, idempotency_key: IdempotencyKey = None
) -> Response:
    """Take an alarm off the shelf; if its condition is true it comes back acknowledged."""
    require(session.person, "alarm.shelve")
    return await one(parts, session, request, kind="unshelve", alarm_id=alarm_id, args={}, key=idempotency_key)


@router.post("/alarms/{alarm_id}/out", response_model=Alarm)
async def out(
    alarm_id: str,
    request: Request,
    parts: PartsOf,
    session: SignedIn,
    body: OutOfService,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Take an alarm out of service under a work permit."""
    require(session.person, "alarm.out")
    args = body.model_dump()
    return await one(parts, session, request, kind="out", alarm_id=alarm_id, args=args, key=idempotency_key)


@router.post("/alarms/{alarm_id}/return", response_model=Alarm)
async def back(
    alarm_id: str, request: Request, parts: PartsOf, session: SignedIn, idempotency_key: IdempotencyKey = None
) -> Response:
    """Return an alarm to service; if its condition is true it sounds."""
    require(session.person, "alarm.out")
    return await one(parts, session, request, kind="return", alarm_id=alarm_id, args={}, key=idempotency_key)


@router.post("/equipment/{equipment}/out", response_model=EquipmentOutcome)
async def equipment_out(
    equipment: str,
    request: Request,
    parts: PartsOf,
    session: SignedIn,
    body: OutOfService,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Take all alarms of a piece of equipment out of service, also those that are quiet now."""
    require(session.person, "alarm.out")
    args = body.model_dump()
    return await _whole(parts, session, request, "out_all", equipment=equipment, args=args, key=idempotency_key)


@router.post("/equipment/{equipment}/return", response_model=EquipmentOutcome)
async def equipment_back(
    equipment: str, request: Request, parts: PartsOf, session: SignedIn, idempotency_key: IdempotencyKey = None
) -> Response:
    """Return a piece of equipment to service."""
    require(session.person, "alarm.out")
    return await _whole(parts, session, request, "return_all", equipment=equipment, args={}, key=idempotency_key)


async def _whole(
    parts: Parts,
    session: Session,
    request: Request,
    kind: CommandKind,
    *,
    equipment: str,
    args: dict[str, str],
    key: str | None,
) -> Response:
    (outcome,) = await give(parts, session, request, kind=kind, targets=[equipment], args=args, key=key)
    if outcome is not None:
        outcome.check()
    items = [row for row in await parts.database.read(parts.alarms.covered) if row["equipment"] == equipment]
    told = {"outcome": "pending" if outcome is None else "done", "items": items}
    return answer(told, status=202 if outcome is None else 200)

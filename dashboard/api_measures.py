"""How well the alarm system does: measures of the last day, of a month, or of any period."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query
from sqlalchemy import Connection
from starlette.responses import Response

from alarms.measures import DAY_MS, STANDING_MS, Activation, measure, titled
from dashboard.models import Measures
from dashboard.parts import Parts, PartsOf, SignedIn, answer
from dashboard.problems import Problem

router = APIRouter(prefix="/api/v1", tags=["alarms"])
LONGEST_MS = 400 * DAY_MS
_FACTS = ("row", "priority", "raised_ms", "cleared_ms", "acked_ms", "realarms")


@router.get("/alarms/measures", response_model=Measures)
async def measures(
    parts: PartsOf,
    _session: SignedIn,
    month: Annotated[str | None, Query(pattern=r"^\d{4}-(0[1-9]|1[0-2])$", description="For example 2026-11")] = None,
    start: Annotated[int | None, Query(ge=0, description="UTC ms; with end, instead of month")] = None,
    end: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """Return the measures of a month by the site's clock, of a period, or of the last 24 hours."""
    now_ms = parts.now_ms()
    begin, finish = _period(month, start, end, now_ms=now_ms, zone=ZoneInfo(parts.site.info.zone))
    if not 0 < finish - begin <= LONGEST_MS:
        raise Problem(422, "request.invalid", detail="the period must end after its begin and within 400 days")
    return answer(await parts.database.read(lambda conn: _measured(conn, parts, begin, finish, now_ms)))


def _period(month: str | None, start: int | None, end: int | None, *, now_ms: int, zone: ZoneInfo) -> tuple[int, int]:
    if month is not None:
        year, number = int(month[:4]), int(month[5:])
        first = datetime(max(1970, year), number, 1, tzinfo=zone)
        following = datetime(first.year + number // 12, number % 12 + 1, 1, tzinfo=zone)
        begin = round(first.timestamp() * 1000)
        # a month that is not over is measured up to now
        return begin, min(round(following.timestamp() * 1000), max(now_ms, begin + 1))
    finish = now_ms if end is None else end
    return (finish - DAY_MS if start is None else start), finish


def _measured(conn: Connection, parts: Parts, begin: int, finish: int, now_ms: int) -> dict[str, Any]:
    rows = parts.alarms.activations(conn, start_ms=begin, end_ms=finish)
    old = parts.alarms.standing(conn, before_ms=now_ms - STANDING_MS)
    words = {row["row"]: _words(parts, row) for row in rows}
    found = measure([Activation(**{key: row[key] for key in _FACTS}) for row in rows], start_ms=begin, end_ms=finish)
    standing = [{key: row[key] for key in ("row", "priority", "raised_ms")} | _words(parts, row) for row in old]
    return titled(found, words) | {"standing": standing, "covered": parts.alarms.covered(conn)}


def _words(parts: Parts, row: dict[str, Any]) -> dict[str, Any]:
    equipment = row["equipment"]
    return {"equipment": equipment, "equipment_name": parts.alarms.words_of(equipment), "title": row["title"]}

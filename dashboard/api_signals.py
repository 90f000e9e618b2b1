"""Newest values and history of signals."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from dashboard.models import Explanation, LiveIndex, Page, Sample, Series
from dashboard.paging import decode_cursor, encode_cursor
from dashboard.parts import PartsOf, SignedIn, answer
from dashboard.problems import Problem
from watchroom.errors import StateError

router = APIRouter(prefix="/api/v1", tags=["signals"])
HOUR_MS = 3_600_000
COLUMNS = ("t", "min", "max", "mean", "last", "count")


@router.get("/signals", response_model=Page[Sample])
async def signals(
    parts: PartsOf,
    _session: SignedIn,
    equipment: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    cursor: str | None = None,
) -> Response:
    """List newest values, in the order of their indices."""
    keys = parts.projection.keys
    if equipment is not None:
        keys = [key for key in keys if key.partition("/")[0] == equipment]
    start = decode_cursor(cursor, (int,))[0] if cursor else 0
    following = encode_cursor(start + limit) if start + limit < len(keys) else None
    return answer({"items": parts.projection.samples(keys[start : start + limit]), "next": following})


@router.get("/live/index", response_model=LiveIndex)
async def index(parts: PartsOf, _session: SignedIn) -> Response:
    """Tell which signal each index of the live frames means."""
    return answer({"epoch": parts.projection.epoch, "keys": parts.projection.keys})


@router.get("/signals/{key:path}/explain", response_model=Explanation)
async def explain(key: str, parts: PartsOf, _session: SignedIn) -> Response:
    """Tell why a signal is, or is not, in alarm: value, limits, delays left, guards, overlays, last events."""
    if key not in parts.projection.index:
        raise Problem(404, "signal.unknown", detail=key)
    return answer(await parts.engine.ask("alarms.explain", key=key))


@router.get("/signals/{key:path}/history", response_model=Series)
async def history(
    key: str,
    parts: PartsOf,
    _session: SignedIn,
    start: Annotated[int | None, Query(ge=0, description="UTC ms; an hour before the end if left out")] = None,
    end: Annotated[int | None, Query(ge=0, description="UTC ms; now if left out")] = None,
    buckets: Annotated[int, Query(ge=1, le=5000, description="One a pixel is enough")] = 600,
) -> Response:
    """Return min, max, mean and last of one signal in buckets of equal width."""
    if key not in parts.projection.index:
        raise Problem(404, "signal.unknown", detail=key)
    end_ms = parts.now_ms() if end is None else end
    start_ms = end_ms - HOUR_MS if start is None else start
    try:
        found = await parts.engine.ask("history.range", keys=[key], start_ms=start_ms, end_ms=end_ms, buckets=buckets)
    except StateError as exc:
        if exc.code.startswith("history."):
            raise Problem(422, exc.code, detail=exc.detail) from exc
        raise
    series = found["series"].get(key, {})
    return answer({"key": key, **{name: series.get(name, []) for name in COLUMNS}})

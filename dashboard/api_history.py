"""History as samples, tables, figures and files. Charts ask for buckets: ``/signals/{key}/history``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from dashboard.models import Aligned, CounterIncrease, Neighbours, RawSamples, StateTimes
from dashboard.paging import decode_cursor, encode_cursor
from dashboard.parts import Parts, PartsOf, SignedIn, answer
from dashboard.problems import Problem
from ingest.moments import zone_of
from ingest.packed import unpack
from ingest.transfer import pages_for, stream
from watchroom.errors import StateError

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/api/v1", tags=["history"])
HOUR_MS = 3_600_000
WAIT_S = 30.0
MOST_PAGE = 20_000
MOST_EXPORTED = 20_000_000
"""Samples of one download: about 1 GB of CSV; the command line has no limit."""
FIGURES = ("min", "max", "mean", "last")
TYPES = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}

Start = Annotated[int | None, Query(ge=0, description="UTC ms; an hour before the end if left out")]
End = Annotated[int | None, Query(ge=0, description="UTC ms, not included; now if left out")]
Keys = Annotated[list[str], Query(alias="key", min_length=1, max_length=64, description="Signal; may be repeated")]


@router.get("/signals/{key:path}/samples", response_model=RawSamples)
async def samples(
    key: str,
    parts: PartsOf,
    _session: SignedIn,
    start: Start = None,
    end: End = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PAGE)] = 1000,
    cursor: str | None = None,
) -> Response:
    """Return samples as they were stored, bad ones included, page by page."""
    start_ms, end_ms = _span(parts, start, end)
    if cursor is not None:
        # the end belongs to the cursor: "now" must not move between two pages
        start_ms, end_ms = decode_cursor(cursor, (int, int))
    await _check_known(parts, [key])
    page = unpack(await _ask(parts, "history.samples", key=key, start_ms=start_ms, end_ms=end_ms, limit=limit))
    return answer({
        "key": key,
        "t": page.time_ms.tolist(),
        "value": [None if value != value else value for value in page.value.tolist()],
        "quality": page.quality.tolist(),
        "next": None if page.next_ms is None else encode_cursor(page.next_ms, end_ms),
    })  # fmt: skip


@router.get("/signals/{key:path}/states", response_model=StateTimes)
async def states(
    key: str,
    parts: PartsOf,
    _session: SignedIn,
    start: Start = None,
    end: End = None,
    hold_ms: Annotated[int | None, Query(ge=1, description="Longest silence a sample stands for")] = None,
) -> Response:
    """Tell how long a signal stood at each value: running hours of a pump, hours of a door held open."""
    start_ms, end_ms = _span(parts, start, end)
    await _check_known(parts, [key])
    found = await _ask(parts, "history.states", key=key, start_ms=start_ms, end_ms=end_ms, hold_ms=hold_ms)
    return answer({"key": key, "start": start_ms, "end": end_ms, **found})


@router.get("/signals/{key:path}/increase", response_model=CounterIncrease)
async def increase(
    key: str,
    parts: PartsOf,
    _session: SignedIn,
    start: Start = None,
    end: End = None,
    modulus: Annotated[
        float | None, Query(gt=0, description="Value after the largest, for one that rolls over")
    ] = None,
) -> Response:
    """Tell how much a counter grew, over restarts and roll-overs: energy of a month, starts of a lift."""
    start_ms, end_ms = _span(parts, start, end)
    await _check_known(parts, [key])
    found = await _ask(parts, "history.increase", key=key, start_ms=start_ms, end_ms=end_ms, modulus=modulus)
    return answer({"key": key, "start": start_ms, "end": end_ms, **found})


@router.get("/signals/{key:path}/neighbours", response_model=Neighbours)
async def neighbours(
    key: str, parts: PartsOf, _session: SignedIn, at: Annotated[int, Query(ge=0, description="UTC ms")]
) -> Response:
    """Return the last sample before a time and the first one at or after it."""
    await _check_known(parts, [key])
    found = await _ask(parts, "history.ends", keys=[key], at_ms=at)
    return answer({"key": key, "before": found["before"].get(key), "after": found["from"].get(key)})


@router.get("/history", response_model=Aligned)
async def aligned(
    keys: Keys,
    parts: PartsOf,
    _session: SignedIn,
    start: Start = None,
    end: End = None,
    buckets: Annotated[int, Query(ge=1, le=5000, description="Rows of the table")] = 600,
) -> Response:
    """Return several signals as one table: the same buckets for all, null where a signal has no usable sample."""
    start_ms, end_ms = _span(parts, start, end)
    await _check_known(parts, keys)
    found = await _ask(parts, "history.range", keys=keys, start_ms=start_ms, end_ms=end_ms, buckets=buckets)
    width = end_ms - start_ms
    return answer({
        "start": start_ms,
        "end": end_ms,
        "t": [start_ms + -(-number * width // buckets) for number in range(buckets)],
        "series": {
            key: align(found["series"][key], start_ms=start_ms, end_ms=end_ms, buckets=buckets) for key in keys
        },
    })  # fmt: skip


def align(series: dict[str, list[Any]], *, start_ms: int, end_ms: int, buckets: int) -> dict[str, list[Any]]:
    """Return each figure of a series as one entry a bucket, None (or 0 samples) where it has none."""
    places = [(at - start_ms) * buckets // (end_ms - start_ms) for at in series["t"]]
    table: dict[str, list[Any]] = {name: [None] * buckets for name in FIGURES} | {"count": [0] * buckets}
    for name, column in table.items():
        for place, value in zip(places, series[name], strict=True):
            column[place] = value
    return table


@router.get(
    "/history/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}, "application/vnd.apache.parquet": {}}}},
)
async def export(
    keys: Keys,
    parts: PartsOf,
    _session: SignedIn,
    start: Start = None,
    end: End = None,
    format_: Annotated[Literal["csv", "parquet"], Query(alias="format")] = "csv",
    zone: Annotated[
        str | None, Query(description="Zone of the times in CSV, such as Asia/Shanghai; UTC if left out")
    ] = None,
) -> Response:
    """Download samples as a file that ``watchroom history import`` reads; it is made while it is sent."""
    start_ms, end_ms = _span(parts, start, end)
    try:
        place = zone_of(zone) if zone else None
    except ValueError as exc:
        raise Problem(422, "request.zone", detail=str(exc)) from exc
    await _check_known(parts, keys)
    found = await _ask(parts, "history.count", keys=keys, start_ms=start_ms, end_ms=end_ms)
    total = sum(found["count"].values())
    if total > MOST_EXPORTED:
        hint = "ask for a shorter time, or use 'watchroom history export'"
        raise Problem(422, "history.samples", detail=f"{total} samples; at most {MOST_EXPORTED}: {hint}")
    body = _body(parts, sorted(set(keys)), start_ms=start_ms, end_ms=end_ms, pages=pages_for(format_, place))
    headers = {"Content-Disposition": f'attachment; filename="history-{start_ms}-{end_ms}.{format_}"'}
    return StreamingResponse(body, media_type=TYPES[format_], headers=headers)


async def _body(parts: Parts, keys: Sequence[str], *, start_ms: int, end_ms: int, pages: Any) -> AsyncIterator[bytes]:
    try:
        async for _, data in stream(parts.engine, keys, start_ms=start_ms, end_ms=end_ms, pages=pages):
            yield data
    except Exception as exc:
        # the connection is cut, so that nobody takes half a file for a whole one
        log.warning("download broken off", problem=str(exc))
        raise


def _span(parts: Parts, start: int | None, end: int | None) -> tuple[int, int]:
    end_ms = parts.now_ms() if end is None else end
    return (end_ms - HOUR_MS if start is None else start), end_ms


async def _check_known(parts: Parts, keys: Sequence[str]) -> None:
    """Refuse signals that neither the site has nor the store ever had.

    Raises:
        Problem: 404 ``signal.unknown``.
    """
    unknown = [key for key in keys if key not in parts.projection.index]
    if unknown:
        stored = set((await _ask(parts, "history.keys"))["keys"])
        missing = [key for key in unknown if key not in stored]
        if missing:
            raise Problem(404, "signal.unknown", detail=missing[0])


async def _ask(parts: Parts, operation: str, **args: Any) -> Any:
    """Return the engine's answer; what the history refuses is 422 with its number and hint."""
    try:
        return await parts.engine.ask(operation, WAIT_S, **args)
    except StateError as exc:
        if exc.code.startswith("history."):
            raise Problem(422, exc.code, detail=exc.detail) from exc
        raise

"""The access log, and other events that gateways told."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from dashboard.access_rows import Search
from dashboard.models import AccessEvent, OtherEvent, Page
from dashboard.paging import NUMBER_MAX
from dashboard.parts import PartsOf, SignedIn, answer

router = APIRouter(prefix="/api/v1", tags=["access"])

Text = Annotated[str | None, Query(max_length=64)]
Start = Annotated[int | None, Query(ge=0, le=NUMBER_MAX, description="UTC ms")]
End = Annotated[int | None, Query(ge=0, le=NUMBER_MAX, description="UTC ms, not included")]
Limit = Annotated[int, Query(ge=1, le=500)]


@router.get("/access-events", response_model=Page[AccessEvent])
async def access_events(
    parts: PartsOf,
    _session: SignedIn,
    equipment: Text = None,
    start: Start = None,
    end: End = None,
    person: Annotated[str | None, Query(max_length=64, description="Keyed hash, as the events tell it")] = None,
    card: Annotated[str | None, Query(max_length=64, description="Keyed hash, as the events tell it")] = None,
    result: Text = None,
    method: Text = None,
    limit: Limit = 100,
    cursor: str | None = None,
) -> Response:
    """List cards and faces at doors, last arrived first; persons and cards are keyed hashes or masked."""
    search = Search(
        start_ms=start, end_ms=end, equipment=equipment, person=person, card=card, result=result, method=method
    )
    items, following = await parts.database.read(
        lambda conn: parts.access.page(conn, search, limit=limit, cursor=cursor)
    )
    return answer({"items": items, "next": following})


@router.get("/events", response_model=Page[OtherEvent])
async def events(
    parts: PartsOf,
    _session: SignedIn,
    kind: Annotated[str | None, Query(max_length=16, description="panel_text, operation ...")] = None,
    equipment: Text = None,
    start: Start = None,
    end: End = None,
    limit: Limit = 100,
    cursor: str | None = None,
) -> Response:
    """List events that are no passages: texts of fire panels, operations at equipment, last arrived first."""
    search = Search(start_ms=start, end_ms=end, equipment=equipment, kind=kind)
    items, following = await parts.database.read(
        lambda conn: parts.access.other_page(conn, search, limit=limit, cursor=cursor)
    )
    return answer({"items": items, "next": following})

"""The access log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from dashboard.models import AccessEvent, Page
from dashboard.parts import PartsOf, SignedIn, answer

router = APIRouter(prefix="/api/v1", tags=["access"])


@router.get("/access-events", response_model=Page[AccessEvent])
async def access_events(
    parts: PartsOf,
    _session: SignedIn,
    equipment: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: str | None = None,
) -> Response:
    """List cards and faces at doors, last arrived first; persons and cards are keyed hashes or masked."""
    items, following = await parts.database.read(
        lambda conn: parts.access.page(conn, equipment=equipment, limit=limit, cursor=cursor)
    )
    return answer({"items": items, "next": following})

"""The compound: places, equipment, people, gateways, and what a demo can play."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from dashboard import audit
from dashboard.demo import play, scenarios
from dashboard.gate import require
from dashboard.models import EquipmentInfo, Gateway, Page, Played, SiteInfo, StaffMember
from dashboard.paging import decode_cursor, encode_cursor
from dashboard.parts import PartsOf, SignedIn, address_of, answer
from dashboard.problems import Problem
from watchroom import __version__

router = APIRouter(prefix="/api/v1", tags=["site"])
Limit = Annotated[int, Query(ge=1, le=5000)]


@router.get("/site", response_model=SiteInfo)
async def site(parts: PartsOf, _session: SignedIn) -> Response:
    """Describe the compound, its places and plan."""
    demo = {"scenarios": await scenarios(parts.settings.data)} if parts.settings.demo else None
    return answer(parts.catalog.site_json(demo=demo, version=__version__, build=parts.pages.build))


@router.get("/equipment", response_model=Page[EquipmentInfo])
async def equipment(
    parts: PartsOf,
    _session: SignedIn,
    type_: Annotated[str | None, Query(alias="type")] = None,
    limit: Limit = 1000,
    cursor: str | None = None,
) -> Response:
    """List equipment, in the order of the site files."""
    names = [name for name, item in parts.site.equipment.items() if type_ is None or item.type == type_]
    start = decode_cursor(cursor, (int,))[0] if cursor else 0
    shown = names[start : start + limit]
    items = [parts.catalog.equipment_json(name, parts.projection.index) for name in shown]
    following = encode_cursor(start + limit) if start + limit < len(names) else None
    return answer({"items": items, "next": following})


@router.get("/equipment/{equipment_id}", response_model=EquipmentInfo)
async def one_equipment(equipment_id: str, parts: PartsOf, _session: SignedIn) -> Response:
    """Describe one piece of equipment."""
    if equipment_id not in parts.site.equipment:
        raise Problem(404, "equipment.unknown", detail=equipment_id)
    return answer(parts.catalog.equipment_json(equipment_id, parts.projection.index))


@router.get("/people", response_model=Page[StaffMember])
async def people(parts: PartsOf, _session: SignedIn) -> Response:
    """List the staff by name and role; no telephone numbers."""
    items = [
        {"id": key, "name": {"zh": person.name.zh, "en": person.name.en}, "role": person.role}
        for key, person in parts.site.people.items()
    ]
    return answer({"items": items, "next": None})


@router.get("/gateways", response_model=Page[Gateway])
async def gateways(parts: PartsOf, _session: SignedIn) -> Response:
    """Tell how each gateway is."""
    return answer({"items": parts.vitals.both()["gateways"], "next": None})


@router.post("/demo/{scenario}", response_model=Played)
async def demo(scenario: str, request: Request, parts: PartsOf, session: SignedIn) -> Response:
    """Let the simulators play a scenario; only where `watchroom up` runs."""
    require(session.person, "demo.play")
    if not parts.settings.demo:
        raise Problem(404, "demo.off", detail="this is no demo")
    await play(parts.settings.data, scenario)
    now_ms = parts.now_ms()
    await parts.database.write(
        lambda conn: audit.record(
            conn, "demo", now_ms=now_ms, user=session.person.name, address=address_of(request), target=scenario
        )
    )
    return answer({"name": scenario})

"""Credentials and permits: lists, changes and doors that may stand open. Numbers and names are never told."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from dashboard import audit
from dashboard.gate import require
from dashboard.models import Page, Shape
from dashboard.paging import decode_cursor, encode_cursor, page
from dashboard.parts import Parts, PartsOf, SignedIn, address_of, answer
from dashboard.problems import Problem
from dashboard.sessions import Session
from watchroom.credentials import registry
from watchroom.credentials.listing import read_listing
from watchroom.errors import ConfigError
from watchroom.pii import load_key

router = APIRouter(prefix="/api/v1", tags=["access"])
Standing = Literal["white", "black", "lost", "revoked"]


class CredentialInfo(Shape):
    """One card, face or code, masked."""

    key: str = Field(description="Keyed hash, as in access events")
    kind: str
    hint: str = Field(description="End of the number")
    owner: str = Field(description="First character of the name")
    standing: Standing
    from_ms: int | None
    until_ms: int | None
    updated_ms: int


class Imported(Shape):
    """What an import did."""

    read: int
    changed: int


class StandingChange(Shape):
    """To which list a credential moves."""

    standing: Standing
    reason: str = Field(min_length=1, max_length=500)


class PermitRequest(Shape):
    """A door that may stand open for a while."""

    door: str = Field(max_length=64)
    minutes: int = Field(ge=1, le=1440)
    reason: str = Field(min_length=1, max_length=500)


class PermitInfo(Shape):
    """One permit."""

    id: str
    door: str
    from_ms: int
    until_ms: int
    user: str
    reason: str


@router.get("/credentials", response_model=Page[CredentialInfo])
async def credentials(
    parts: PartsOf,
    session: SignedIn,
    standing: Standing | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: str | None = None,
) -> Response:
    """List the registry, masked."""
    require(session.person, "credential.view")
    after = str(decode_cursor(cursor, (str,))[0]) if cursor else ""
    rows = await parts.database.read(
        lambda conn: registry.listed(conn, parts.site.id, standing=standing, after=after, limit=limit + 1)
    )
    items = [{name: row[name] for name in CredentialInfo.model_fields} for row in rows]
    shown, following = page(items, limit, lambda item: encode_cursor(item["key"]))
    return answer({"items": shown, "next": following})


@router.post("/credentials/import", response_model=Imported)
async def import_credentials(request: Request, parts: PartsOf, session: SignedIn) -> Response:
    """Take over a CSV file (the body), up to 1 MiB; larger ones with ``watchroom credentials import``."""
    require(session.person, "credential.manage")
    try:
        text = (await request.body()).decode()
        found = read_listing(text, key=load_key(parts.settings), zone=parts.site.info.zone)
    except UnicodeDecodeError as exc:
        raise Problem(422, "credential.file", detail="the file is not UTF-8") from exc
    except ConfigError as exc:
        raise Problem(422, "credential.file", detail=str(exc)) from exc
    changed = await _write(
        parts,
        session,
        request,
        action="credential_import",
        target=None,
        detail={"read": len(found)},
        work=lambda conn, now_ms: registry.store(conn, parts.site.id, found, now_ms=now_ms),
    )
    return answer({"read": len(found), "changed": changed})


@router.post("/credentials/{key}/standing", response_model=StandingChange)
async def change_standing(
    key: str, body: StandingChange, request: Request, parts: PartsOf, session: SignedIn
) -> Response:
    """Move a credential to another list: lost, black, revoked, or white again."""
    require(session.person, "credential.manage")
    await _write(
        parts,
        session,
        request,
        action="credential_standing",
        target=key,
        detail=body.model_dump(),
        work=lambda conn, now_ms: registry.set_standing(conn, parts.site.id, key, body.standing, now_ms=now_ms),
    )
    return answer(body.model_dump())


@router.get("/permits", response_model=Page[PermitInfo])
async def permits(parts: PartsOf, _session: SignedIn) -> Response:
    """List the doors that may stand open now or later."""
    now_ms = parts.now_ms()
    rows = await parts.database.read(lambda conn: registry.permits(conn, parts.site.id, now_ms=now_ms))
    items = [{name: row[name] for name in PermitInfo.model_fields} for row in rows]
    return answer({"items": items, "next": None})


@router.post("/permits", response_model=PermitInfo, status_code=201)
async def grant_permit(body: PermitRequest, request: Request, parts: PartsOf, session: SignedIn) -> Response:
    """Let a door stand open from now on: it is not held until the permit ends."""
    require(session.person, "permit.grant")
    item = parts.site.equipment.get(body.door)
    if item is None or item.type != "door":
        raise Problem(404, "equipment.unknown", detail=body.door)
    user, start_ms = session.person.name, parts.now_ms()
    until_ms = start_ms + body.minutes * 60_000
    number = await _write(
        parts,
        session,
        request,
        action="permit",
        target=body.door,
        detail=body.model_dump(),
        work=lambda conn, now_ms: registry.grant_permit(
            conn,
            parts.site.id,
            body.door,
            from_ms=start_ms,
            until_ms=until_ms,
            user=user,
            reason=body.reason,
            now_ms=now_ms,
        ),
    )
    told = {"id": number, "door": body.door, "from_ms": start_ms, "until_ms": until_ms}
    return answer({**told, "user": user, "reason": body.reason}, 201)


@router.post("/permits/{permit_id}/end", status_code=204)
async def end_permit(permit_id: str, request: Request, parts: PartsOf, session: SignedIn) -> Response:
    """End a permit now."""
    require(session.person, "permit.grant")
    await _write(
        parts,
        session,
        request,
        action="permit_end",
        target=permit_id,
        detail={},
        work=lambda conn, now_ms: registry.end_permit(conn, parts.site.id, permit_id, now_ms=now_ms),
    )
    return Response(status_code=204)


async def _write(
    parts: Parts, session: Session, request: Request, *, action: str, target: str | None, detail: Any, work: Any
) -> Any:
    """Do something and write it into the audit log, both or neither."""
    now_ms = parts.now_ms()

    def both(conn: Any) -> Any:
        result = work(conn, now_ms)
        audit.record(
            conn,
            action,
            now_ms=now_ms,
            user=session.person.name,
            address=address_of(request),
            target=target,
            detail=detail,
        )
        return result

    return await parts.database.write(both)

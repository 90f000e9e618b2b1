"""Accounts, for admins."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Connection, select
from starlette.responses import Response

from dashboard import audit
from dashboard.accounts import Person, change_account, check_new, check_password, create_account
from dashboard.gate import require
from dashboard.models import Account, AccountChange, NewAccount, Page
from dashboard.parts import PartsOf, SignedIn, address_of, answer
from dashboard.sessions import close_sessions_of
from watchroom.database.tables import account

router = APIRouter(prefix="/api/v1", tags=["accounts"])
_TOLD = ("name", "display", "role", "lang", "is_enabled", "created_ms", "locked_until_ms")


@router.get("/accounts", response_model=Page[Account])
async def accounts(parts: PartsOf, session: SignedIn) -> Response:
    """List the accounts; for admins."""
    require(session.person, "account.manage")
    query = select(*(account.c[name] for name in _TOLD)).order_by(account.c.name)
    rows = await parts.database.read(lambda conn: [dict(row) for row in conn.execute(query).mappings()])
    return answer({"items": rows, "next": None})


@router.post("/accounts", response_model=Account, status_code=201)
async def new_account(request: Request, body: NewAccount, parts: PartsOf, session: SignedIn) -> Response:
    """Make an account; for admins."""
    require(session.person, "account.manage")
    check_new(body.name, body.password)
    password_hash = await parts.gate.hash_password(body.password)
    now_ms = parts.now_ms()

    def work(conn: Connection) -> Person:
        made = create_account(
            conn,
            body.name,
            display=body.display,
            role=body.role,
            password_hash=password_hash,
            now_ms=now_ms,
            lang=body.lang,
        )
        audit.record(
            conn,
            "account_made",
            now_ms=now_ms,
            user=session.person.name,
            address=address_of(request),
            target=made.name,
            detail={"role": made.role},
        )
        return made

    made = await parts.database.write(work)
    rest = {"is_enabled": True, "created_ms": now_ms, "locked_until_ms": None}
    person = {"name": made.name, "display": made.display, "role": made.role, "lang": made.lang}
    return answer(person | rest, status=201)


@router.patch("/accounts/{name}", response_model=Account)
async def changed_account(
    name: str, request: Request, body: AccountChange, parts: PartsOf, session: SignedIn
) -> Response:
    """Change an account, switch it off or on, or give it a new password; for admins."""
    require(session.person, "account.manage")
    given = body.model_dump(exclude_none=True, exclude={"password"})
    password_hash = None
    if body.password is not None:
        check_password(body.password)
        password_hash = await parts.gate.hash_password(body.password)

    def work(conn: Connection) -> dict[str, Any]:
        row = change_account(conn, name, password_hash=password_hash, **given)
        if password_hash is not None or "role" in given or given.get("is_enabled") is False:
            close_sessions_of(conn, row["name"], but=session.token_hash)
        audit.record(
            conn,
            "account_changed",
            now_ms=parts.now_ms(),
            user=session.person.name,
            address=address_of(request),
            target=row["name"],
            detail=given | {"password": password_hash is not None},
        )
        return row

    row = await parts.database.write(work)
    parts.gate.forget(row["name"])
    return answer({key: row[key] for key in _TOLD})

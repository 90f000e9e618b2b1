"""Signing in and out, one's own password, and the first account."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.responses import Response

from dashboard import audit
from dashboard.accounts import Person, check_new
from dashboard.models import PasswordChange, SessionInfo, SessionOpened, Setup, SignIn
from dashboard.parts import Parts, PartsOf, SignedIn, address_of, answer
from dashboard.sessions import Session, open_session
from dashboard.setup import redeem_link

router = APIRouter(prefix="/api/v1", tags=["session"])


@router.post("/session", response_model=SessionOpened)
async def sign_in(request: Request, body: SignIn, parts: PartsOf) -> Response:
    """Sign in with name and password."""
    _refuse_foreign_page(request, parts)
    token, session = await parts.gate.sign_in(body.username, body.password, address=address_of(request))
    return _opened(parts, token, session)


@router.get("/session", response_model=SessionInfo)
async def whoami(session: SignedIn) -> Response:
    """Tell who is signed in; 401 if nobody is."""
    return answer(_told(session))


@router.delete("/session", status_code=204)
async def sign_out(request: Request, parts: PartsOf, session: SignedIn) -> Response:
    """Sign out."""
    await parts.gate.sign_out(session, address=address_of(request))
    response = Response(status_code=204)
    response.delete_cookie(parts.gate.cookie, secure=parts.gate.is_secure, httponly=True, samesite="lax")
    return response


@router.post("/session/password", status_code=204)
async def change_password(request: Request, body: PasswordChange, parts: PartsOf, session: SignedIn) -> Response:
    """Change one's own password; the person's other sessions end."""
    await parts.gate.change_password(session, body.old, body.new, address=address_of(request))
    return Response(status_code=204)


@router.post("/setup", response_model=SessionOpened)
async def setup(request: Request, body: Setup, parts: PartsOf) -> Response:
    """Make the first account with the one-time link, and sign in."""
    _refuse_foreign_page(request, parts)
    # everybody may ask this, and hashing takes the one thread that sign-ins need
    parts.gate.count_try(address_of(request))
    check_new(body.username, body.password)
    password_hash = await parts.gate.hash_password(body.password)

    def work(conn: Connection) -> tuple[str, Session]:
        now_ms = parts.now_ms()
        person = redeem_link(
            conn,
            body.token,
            username=body.username,
            display=body.display,
            password_hash=password_hash,
            now_ms=now_ms,
        )
        audit.record(conn, "setup", now_ms=now_ms, user=person.name, address=address_of(request), detail={"by": "link"})
        return open_session(conn, person, now_ms=now_ms)

    token, session = await parts.database.write(work)
    return _opened(parts, token, session)


def _refuse_foreign_page(request: Request, parts: Parts) -> None:
    """Stop other sites' pages from signing a browser in; programs send neither header."""
    if "origin" in request.headers or "sec-fetch-site" in request.headers:
        parts.gate.refuse_foreign(request.headers)


def _opened(parts: Parts, token: str, session: Session) -> Response:
    response = answer({**_told(session), "token": token})
    # a session cookie would end with the browser of a wall display
    max_age_s = max(0, (session.expires_ms - parts.now_ms()) // 1000)
    response.set_cookie(
        parts.gate.cookie, token, max_age=max_age_s, secure=parts.gate.is_secure, httponly=True, samesite="lax"
    )
    return response


def _told(session: Session) -> dict[str, Any]:
    return {"user": _person(session.person), "expires_ms": session.expires_ms}


def _person(person: Person) -> dict[str, Any]:
    return {"name": person.name, "display": person.display, "role": person.role, "lang": person.lang}

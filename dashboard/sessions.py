"""Sessions: a random token for the person, only its hash in the database."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from dashboard.accounts import Person
from watchroom.database.tables import account, session

HOUR_MS = 3_600_000
IDLE_MS = 12 * HOUR_MS
LONGEST_MS = 7 * 24 * HOUR_MS
KIOSK_IDLE_MS = 90 * 24 * HOUR_MS
KIOSK_LONGEST_MS = 365 * 24 * HOUR_MS
TOUCH_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One sign-in.

    Attributes:
        token_hash: sha256 of the token, hex; the token itself is known to the browser alone.
        expires_ms: When it ends unless it is used before.
    """

    token_hash: str
    person: Person
    expires_ms: int


def hash_token(token: str) -> str:
    """Return what the database knows of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def open_session(conn: Connection, person: Person, *, now_ms: int) -> tuple[str, Session]:
    """Return (token, session) of a new sign-in, and forget those that ended."""
    conn.execute(delete(session).where(session.c.expires_ms <= now_ms))
    token = secrets.token_urlsafe(32)
    opened = Session(token_hash=hash_token(token), person=person, expires_ms=now_ms + _idle(person.role))
    conn.execute(
        insert(session).values(
            token_hash=opened.token_hash,
            account=person.name,
            created_ms=now_ms,
            expires_ms=opened.expires_ms,
            last_ms=now_ms,
        )
    )
    return token, opened


def find_session(conn: Connection, token_hash: str, *, now_ms: int) -> tuple[Session, bool] | None:
    """Return (session, whether its end should be moved), or None if it ended or the account is off."""
    query = (
        select(session, account.c.display, account.c.role, account.c.lang)
        .join(account, account.c.name == session.c.account)
        .where(session.c.token_hash == token_hash, session.c.expires_ms > now_ms, account.c.is_enabled)
    )
    row: Any = conn.execute(query).first()
    if row is None:
        return None
    person = Person(name=row.account, display=row.display, role=row.role, lang=row.lang)
    found = Session(token_hash=token_hash, person=person, expires_ms=row.expires_ms)
    return found, now_ms - row.last_ms >= TOUCH_MS


def touch_session(conn: Connection, token_hash: str, *, now_ms: int) -> None:
    """Move the end of a session that is in use; a week after sign-in it ends whatever happens."""
    query = select(session.c.created_ms, account.c.role).join(account, account.c.name == session.c.account)
    row: Any = conn.execute(query.where(session.c.token_hash == token_hash)).first()
    if row is None:
        return
    longest = KIOSK_LONGEST_MS if row.role == "kiosk" else LONGEST_MS
    expires_ms = min(now_ms + _idle(row.role), row.created_ms + longest)
    conn.execute(
        update(session).where(session.c.token_hash == token_hash).values(last_ms=now_ms, expires_ms=expires_ms)
    )


def close_session(conn: Connection, token_hash: str) -> None:
    """End a session."""
    conn.execute(delete(session).where(session.c.token_hash == token_hash))


def close_sessions_of(conn: Connection, name: str, *, but: str = "") -> None:
    """End all sessions of an account, except the one whose token has this hash."""
    conn.execute(delete(session).where(session.c.account == name, session.c.token_hash != but))


def _idle(role: str) -> int:
    return KIOSK_IDLE_MS if role == "kiosk" else IDLE_MS

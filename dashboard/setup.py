"""The first account: a one-time link, or a password from the environment."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, Engine, insert, update

from dashboard import audit
from dashboard.accounts import Person, check_new, count_accounts, create_account, hash_password
from dashboard.sessions import hash_token
from watchroom.database.connect import reading, writing
from watchroom.database.tables import one_time_link
from watchroom.errors import ConfigError, StateError
from watchroom.settings import Settings

LINK_MS = 24 * 3_600_000


def first_account(database: Engine, settings: Settings, *, now_ms: int) -> str | None:
    """Return the line that tells how to make the first account, None when there is nothing to do.

    Raises:
        ConfigError: If ``WATCHROOM_ADMIN_PASSWORD`` is too short.
    """
    with reading(database) as conn:
        if count_accounts(conn):
            return None
    if settings.admin_password is not None:
        _make_admin(database, settings.admin_password.get_secret_value(), now_ms=now_ms)
        return None
    with writing(database) as conn:
        token = _new_link(conn, now_ms=now_ms)
    return f"Open {settings.public_url}/setup#{token} to create the first account (valid 24 h)"


def redeem_link(
    conn: Connection, token: str, *, username: str, display: str, password_hash: str, now_ms: int
) -> Person:
    """Make the first account, of role admin; the link is used up with it.

    Raises:
        StateError: ``setup.link`` if the link is wrong, used or too old; or what `create_account` finds wrong,
            and then the link stays good.
    """
    used = conn.execute(
        update(one_time_link)
        .where(
            one_time_link.c.token_hash == hash_token(token),
            one_time_link.c.purpose == "setup",
            one_time_link.c.used_ms.is_(None),
            one_time_link.c.expires_ms > now_ms,
        )
        .values(used_ms=now_ms)
    )
    if used.rowcount != 1 or count_accounts(conn):
        raise StateError("setup.link", "used, expired or never made")
    return create_account(conn, username, display=display, role="admin", password_hash=password_hash, now_ms=now_ms)


def _make_admin(database: Engine, password: str, *, now_ms: int) -> None:
    try:
        check_new("admin", password)
    except StateError as exc:
        raise ConfigError("this password is too short", key="WATCHROOM_ADMIN_PASSWORD", hint=exc.detail) from exc
    password_hash = hash_password(password)
    with writing(database) as conn:
        create_account(conn, "admin", display="admin", role="admin", password_hash=password_hash, now_ms=now_ms)
        audit.record(conn, "setup", now_ms=now_ms, user="admin", detail={"by": "environment"})


def _new_link(conn: Connection, *, now_ms: int) -> str:
    """Make a link and end those of earlier starts: only the one printed last is good."""
    conn.execute(update(one_time_link).where(one_time_link.c.used_ms.is_(None)).values(used_ms=now_ms))
    token = secrets.token_urlsafe(24)
    conn.execute(
        insert(one_time_link).values(token_hash=hash_token(token), purpose="setup", expires_ms=now_ms + LINK_MS)
    )
    return token

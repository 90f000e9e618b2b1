"""The registry in SQL. Each change gets the site's next version: whoever follows asks for what is newer.

Rows are never deleted: a credential that is taken out is ``revoked``, so that a follower sees that too.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select, text, update

from watchroom.credentials.listing import STANDINGS, Credential
from watchroom.database.tables import credential, permit
from watchroom.errors import StateError

CHUNK: Final = 500
LONGEST_PERMIT_MS: Final = 24 * 3_600_000


def store(conn: Connection, site: str, rows: Sequence[Credential], *, now_ms: int) -> int:
    """Put credentials into the registry, new or changed; return how many differ from what was there."""
    version = _next_version(conn, site)
    changed = 0
    for start in range(0, len(rows), CHUNK):
        part = {row.key: row for row in rows[start : start + CHUNK]}
        query = select(credential).where(credential.c.site == site, credential.c.key.in_(list(part)))
        known = {row["key"]: row for row in conn.execute(query).mappings()}
        new = []
        for key, row in part.items():
            values = _values(row)
            if key not in known:
                new.append({"site": site, "key": key, **values, "version": version, "updated_ms": now_ms})
            elif any(known[key][name] != value for name, value in values.items()):
                where = (credential.c.site == site) & (credential.c.key == key)
                conn.execute(update(credential).where(where).values(**values, version=version, updated_ms=now_ms))
                changed += 1
        if new:
            conn.execute(credential.insert(), new)
            changed += len(new)
    return changed


def set_standing(conn: Connection, site: str, key: str, standing: str, *, now_ms: int) -> None:
    """Move one credential to another list.

    Raises:
        StateError: ``credential.unknown`` or ``credential.list``.
    """
    if standing not in STANDINGS:
        raise StateError("credential.list", ", ".join(STANDINGS))
    values = {"standing": standing, "version": _next_version(conn, site), "updated_ms": now_ms}
    where = (credential.c.site == site) & (credential.c.key == key)
    if conn.execute(update(credential).where(where).values(values)).rowcount != 1:
        raise StateError("credential.unknown", key)


def listed(
    conn: Connection, site: str, *, standing: str | None = None, after: str = "", limit: int = 100
) -> list[dict[str, Any]]:
    """Return credentials in the order of their keys, masked: nothing here tells a number or a name."""
    query: Select[Any] = select(credential).where(credential.c.site == site, credential.c.key > after)
    if standing is not None:
        query = query.where(credential.c.standing == standing)
    return [dict(row) for row in conn.execute(query.order_by(credential.c.key).limit(limit)).mappings()]


def grant_permit(
    conn: Connection, site: str, door: str, *, from_ms: int, until_ms: int, user: str, reason: str, now_ms: int
) -> str:
    """Let a door stand open for a while; return the permit's id.

    Raises:
        StateError: ``permit.time`` if it does not end after now and within a day.
    """
    if not now_ms < until_ms <= from_ms + LONGEST_PERMIT_MS or from_ms >= until_ms:
        raise StateError("permit.time", "a permit ends after now and within 24 hours")
    number = secrets.token_hex(8)
    row = {
        "site": site,
        "id": number,
        "door": door,
        "from_ms": from_ms,
        "until_ms": until_ms,
        "user": user,
        "reason": reason,
        "version": _next_version(conn, site),
    }
    conn.execute(permit.insert().values(row))
    return number


def end_permit(conn: Connection, site: str, number: str, *, now_ms: int) -> None:
    """End a permit now.

    Raises:
        StateError: ``permit.unknown`` if there is none that still runs.
    """
    where = (permit.c.site == site) & (permit.c.id == number) & (permit.c.until_ms > now_ms)
    values = {"until_ms": now_ms, "version": _next_version(conn, site)}
    if conn.execute(update(permit).where(where).values(values)).rowcount != 1:
        raise StateError("permit.unknown", number)


def permits(conn: Connection, site: str, *, now_ms: int) -> list[dict[str, Any]]:
    """Return the permits that have not ended, the next to end first."""
    query = select(permit).where(permit.c.site == site, permit.c.until_ms > now_ms).order_by(permit.c.until_ms)
    return [dict(row) for row in conn.execute(query).mappings()]


def newer(conn: Connection, table: Any, site: str, *, version: int, after: str, limit: int) -> list[dict[str, Any]]:
    """Return rows after (version, key), oldest first: for whoever follows the registry."""
    name = table.c.key if "key" in table.c else table.c.id
    later = (table.c.version > version) | ((table.c.version == version) & (name > after))
    query = select(table).where(table.c.site == site, later).order_by(table.c.version, name).limit(limit)
    return [dict(row) for row in conn.execute(query).mappings()]


def _values(row: Credential) -> dict[str, Any]:
    names: Iterable[str] = ("kind", "hint", "owner", "standing", "from_ms", "until_ms")
    return {name: getattr(row, name) for name in names}


def _next_version(conn: Connection, site: str) -> int:
    if conn.dialect.name == "postgresql":
        # a follower must never see version 8 before 7: writers go one after the other (SQLite's always do)
        conn.execute(text("LOCK TABLE credential, permit IN SHARE ROW EXCLUSIVE MODE"))
    newest = [
        conn.execute(select(func.max(table.c.version)).where(table.c.site == site)).scalar() or 0
        for table in (credential, permit)
    ]
    return max(newest) + 1

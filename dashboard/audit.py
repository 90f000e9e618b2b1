"""The audit log: who did what, from where."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, insert

from watchroom.database.tables import audit


def record(
    conn: Connection,
    action: str,
    *,
    now_ms: int,
    user: str | None = None,
    address: str | None = None,
    target: str | None = None,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Write one row in the caller's transaction, so the deed and its record stand or fall together."""
    conn.execute(
        insert(audit).values(
            at_ms=now_ms, user=user, address=address, action=action, target=target, detail=dict(detail or {})
        )
    )

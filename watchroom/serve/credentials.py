"""``watchroom credentials``: the registry from the command line, for whoever has the data folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from dashboard import audit
from watchroom.clock import utc_ms
from watchroom.credentials.listing import read_listing
from watchroom.credentials.registry import listed, set_standing, store
from watchroom.database.connect import migrate, open_database, reading, writing
from watchroom.errors import ConfigError, StateError
from watchroom.pii import keyed_hash, load_key
from watchroom.settings import Settings
from watchroom.site import load_site

T = TypeVar("T")
PAGE = 1000


def import_file(settings: Settings, folder: Path, file: Path) -> tuple[int, int]:
    """Take over a CSV file; return (credentials read, changed). All of the file or nothing.

    Raises:
        ConfigError: With file, line and column of the first thing that is wrong.
    """
    site = load_site(folder)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot be read: {exc}", path=file, hint="expected a CSV file in UTF-8") from exc
    found = read_listing(text, path=file, key=load_key(settings), zone=site.info.zone)

    def work(conn: Connection) -> int:
        changed = store(conn, site.id, found, now_ms=utc_ms())
        _note(conn, "credential_import", file.name, {"read": len(found), "changed": changed})
        return changed

    return len(found), _write(settings, work)


def print_list(settings: Settings, folder: Path, *, standing: str | None) -> int:
    """Print the registry, masked, one line each; return how many."""
    site, after, count = load_site(folder), "", 0
    database = open_database(settings.database_url)
    migrate(database)
    while True:
        with reading(database) as conn:
            rows = listed(conn, site.id, standing=standing, after=after, limit=PAGE)
        for row in rows:
            print(f"{row['key']}  {row['kind']:4}  {row['hint']:4}  {row['standing']:7}  {row['owner']}")
        count += len(rows)
        if len(rows) < PAGE:
            database.dispose()
            return count
        after = rows[-1]["key"]


def revoke(settings: Settings, folder: Path, number: str, *, standing: str) -> str:
    """Move a credential, given by its number or keyed hash, to another list; return its keyed hash.

    Raises:
        ConfigError: If the registry does not have it.
    """
    site = load_site(folder)
    key = number if number.startswith("k:") else keyed_hash(load_key(settings), number)

    def work(conn: Connection) -> None:
        set_standing(conn, site.id, key, standing, now_ms=utc_ms())
        _note(conn, "credential_standing", key, {"standing": standing})

    try:
        _write(settings, work)
    except StateError as exc:
        raise ConfigError("the registry has no such credential", hint="see watchroom credentials list") from exc
    return key


def _note(conn: Connection, action: str, target: str, detail: dict[str, Any]) -> None:
    audit.record(conn, action, now_ms=utc_ms(), target=target, detail={**detail, "by": "command line"})


def _write(settings: Settings, work: Callable[[Connection], T]) -> T:
    database = open_database(settings.database_url)
    migrate(database)
    try:
        with writing(database) as conn:
            return work(conn)
    finally:
        database.dispose()

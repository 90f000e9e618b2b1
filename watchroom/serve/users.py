"""``watchroom user``: accounts made and changed on the machine itself, by whoever has its data folder."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from dashboard import audit
from dashboard.accounts import (
    Person,
    change_account,
    check_new,
    check_password,
    create_account,
    hash_password,
    tidy_name,
)
from dashboard.rights import ALL
from dashboard.sessions import close_sessions_of
from watchroom.clock import utc_ms
from watchroom.database.connect import migrate, open_database, reading, writing
from watchroom.database.tables import account
from watchroom.errors import ConfigError, StateError
from watchroom.settings import Settings

PASSWORD_VARIABLE = "WATCHROOM_USER_PASSWORD"
T = TypeVar("T")
ROLES = tuple(sorted(ALL))


def add_user(settings: Settings, name: str, *, role: str, display: str = "", lang: str = "zh") -> Person:
    """Make an account; the password comes from the environment, or is asked for twice.

    A running dashboard knows the account at once.

    Raises:
        ConfigError: If the name is taken or not allowed, the password too short, or nobody is there to type it.
    """
    password = os.environ.get(PASSWORD_VARIABLE) or _asked()

    def work(conn: Connection) -> Person:
        person = create_account(
            conn, name, display=display, role=role, password_hash=password_hash, now_ms=utc_ms(), lang=lang
        )
        _record(conn, "account_made", person.name, role=role)
        return person

    with _told(name):
        check_new(name, password)
        password_hash = hash_password(password)
        return _written(settings, work)


def set_password(settings: Settings, name: str) -> None:
    """Give an account a new password and sign it out everywhere; the password comes as for `add_user`.

    Raises:
        ConfigError: If there is no such account, the password is too short, or nobody is there to type it.
    """
    password = os.environ.get(PASSWORD_VARIABLE) or _asked()

    def work(conn: Connection) -> None:
        row = change_account(conn, name, password_hash=password_hash)
        close_sessions_of(conn, row["name"])
        _record(conn, "password_changed", row["name"])

    with _told(name):
        check_password(password)
        password_hash = hash_password(password)
        _written(settings, work)


def set_enabled(settings: Settings, name: str, *, is_enabled: bool) -> None:
    """Switch an account on, or off and sign it out everywhere.

    Raises:
        ConfigError: If there is no such account, or it is the last admin.
    """

    def work(conn: Connection) -> None:
        row = change_account(conn, name, is_enabled=is_enabled)
        if not is_enabled:
            close_sessions_of(conn, row["name"])
        _record(conn, "account_changed", row["name"], is_enabled=is_enabled)

    with _told(name):
        _written(settings, work)


def list_users(settings: Settings) -> list[Mapping[str, Any]]:
    """Return name, display, role and is_enabled of every account, by name."""
    query = select(account.c.name, account.c.display, account.c.role, account.c.is_enabled).order_by(account.c.name)
    database = open_database(settings.database_url)
    migrate(database)
    with reading(database) as conn:
        rows: list[Mapping[str, Any]] = [dict(row) for row in conn.execute(query).mappings()]
    database.dispose()
    return rows


def _written(settings: Settings, work: Callable[[Connection], T]) -> T:
    database = open_database(settings.database_url)
    migrate(database)
    try:
        with writing(database) as conn:
            return work(conn)
    finally:
        database.dispose()


def _record(conn: Connection, action: str, target: str, **detail: object) -> None:
    audit.record(conn, action, now_ms=utc_ms(), target=target, detail={**detail, "by": "command line"})


@contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except StateError as exc:
        raise ConfigError(_reason(exc, name), hint=exc.detail) from exc


def _reason(exc: StateError, name: str) -> str:
    return {
        "account.exists": f"there is already an account {tidy_name(name)!r}",
        "account.name": f"{name!r} cannot be the name of an account",
        "account.password": "this password is too short",
        "account.unknown": f"there is no account {tidy_name(name)!r}",
        "account.last_admin": "somebody must be able to manage accounts: this is the last admin",
    }[exc.code]


def _asked() -> str:
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask for the password", key=PASSWORD_VARIABLE, hint="set it")
    password = getpass.getpass("Password: ")
    if getpass.getpass("The same once more: ") != password:
        raise ConfigError("the two passwords differ")
    return password

"""``watchroom user add``: an account made on the machine itself, for whoever has its data folder."""

from __future__ import annotations

import getpass
import os
import sys

from dashboard import audit
from dashboard.accounts import Person, check_new, create_account, hash_password, tidy_name
from dashboard.rights import ALL
from watchroom.clock import utc_ms
from watchroom.database.connect import migrate, open_database, writing
from watchroom.errors import ConfigError, StateError
from watchroom.settings import Settings

PASSWORD_VARIABLE = "WATCHROOM_USER_PASSWORD"
ROLES = tuple(sorted(ALL))


def add_user(settings: Settings, name: str, *, role: str, display: str = "", lang: str = "zh") -> Person:
    """Make an account; the password comes from the environment, or is asked for twice.

    A running dashboard knows the account at once.

    Raises:
        ConfigError: If the name is taken or not allowed, the password too short, or nobody is there to type it.
    """
    password = os.environ.get(PASSWORD_VARIABLE) or _asked()
    try:
        check_new(name, password)
        database = open_database(settings.database_url)
        migrate(database)
        password_hash, now_ms = hash_password(password), utc_ms()
        with writing(database) as conn:
            person = create_account(
                conn, name, display=display, role=role, password_hash=password_hash, now_ms=now_ms, lang=lang
            )
            detail = {"role": role, "by": "command line"}
            audit.record(conn, "account_made", now_ms=now_ms, target=person.name, detail=detail)
    except StateError as exc:
        raise ConfigError(_reason(exc, name), hint=exc.detail) from exc
    database.dispose()
    return person


def _reason(exc: StateError, name: str) -> str:
    return {
        "account.exists": f"there is already an account {tidy_name(name)!r}",
        "account.name": f"{name!r} cannot be the name of an account",
        "account.password": "this password is too short",
    }[exc.code]


def _asked() -> str:
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask for the password", key=PASSWORD_VARIABLE, hint="set it")
    password = getpass.getpass("Password: ")
    if getpass.getpass("The same once more: ") != password:
        raise ConfigError("the two passwords differ")
    return password

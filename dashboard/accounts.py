"""Accounts: who may sign in, with which password, and the lock after wrong ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import unicodedata
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from watchroom.database.tables import account
from watchroom.errors import StateError

NAME = re.compile(r"\w[\w.-]{0,31}")
PASSWORD_MIN = 8
FREE_FAILURES = 5
LOCK_MS = 60_000
LOCK_MAX_MS = 15 * 60_000
_N, _R, _P = 2**14, 8, 1
"""scrypt cost: 16 MiB and some 50 ms a try (OWASP Password Storage Cheat Sheet names N=2^14, r=8 with p=5 as
equal to N=2^17, p=1; the lock after failures lets us stay with p=1 on a small box)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who signed in."""

    name: str
    display: str
    role: str
    lang: str


class LockedError(StateError):
    """Too many wrong passwords; try again later.

    Args:
        wait_ms: How long.
    """

    def __init__(self, wait_ms: int) -> None:
        self.wait_ms = wait_ms
        super().__init__("session.locked", f"locked for {wait_ms // 1000} s")


def hash_password(password: str) -> str:
    """Return ``scrypt$N$r$p$salt$key``; takes some 50 ms."""
    salt = secrets.token_bytes(16)
    return f"scrypt${_N}${_R}${_P}${_text(salt)}${_text(_derive(password, salt, _N, _R, _P))}"


def is_password(password: str, stored: str) -> bool:
    """Return whether a password is the stored one; takes some 50 ms."""
    _, n, r, p, salt, key = stored.split("$")
    derived = _derive(password, base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(derived, base64.b64decode(key))


# an unknown name must take as long as a wrong password
_NOBODY = f"scrypt${_N}${_R}${_P}${base64.b64encode(bytes(16)).decode()}${base64.b64encode(bytes(32)).decode()}"


def create_account(
    conn: Connection, name: str, *, display: str, role: str, password_hash: str, now_ms: int, lang: str = "zh"
) -> Person:
    """Make an account; the name and password have been checked by `check_new`.

    Raises:
        StateError: ``account.exists``.
    """
    name = tidy_name(name)
    if conn.execute(select(account.c.name).where(account.c.name == name)).first():
        raise StateError("account.exists", name)
    row = {"name": name, "display": display.strip() or name, "role": role, "lang": lang}
    conn.execute(
        insert(account).values(**row, password_hash=password_hash, is_enabled=True, created_ms=now_ms, failed=0)
    )
    return Person(**row)


def change_account(
    conn: Connection,
    name: str,
    *,
    role: str | None = None,
    display: str | None = None,
    lang: str | None = None,
    is_enabled: bool | None = None,
    password_hash: str | None = None,
) -> dict[str, Any]:
    """Change what is given and return the account's row; a new password also ends the lock.

    Raises:
        StateError: ``account.unknown``, or ``account.last_admin`` if nobody could manage accounts any more.
    """
    row = conn.execute(select(account).where(account.c.name == tidy_name(name))).mappings().first()
    if row is None:
        raise StateError("account.unknown", name)
    given = {"role": role, "display": display, "lang": lang, "is_enabled": is_enabled, "password_hash": password_hash}
    changed: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if password_hash is not None or is_enabled:
        changed |= {"failed": 0, "locked_until_ms": None}
    after = {**row, **changed}
    if row["role"] == "admin" and row["is_enabled"] and not (after["role"] == "admin" and after["is_enabled"]):
        _refuse_last_admin(conn, row["name"])
    if changed:
        conn.execute(update(account).where(account.c.name == row["name"]).values(**changed))
    return after


def check_new(name: str, password: str) -> None:
    """Refuse a name or password that no account should have.

    Raises:
        StateError: ``account.name`` or ``account.password``.
    """
    if not NAME.fullmatch(tidy_name(name)):
        raise StateError("account.name", "1 to 32 letters, digits, dots and dashes")
    check_password(password)


def check_password(password: str) -> None:
    """Refuse a password that no account should have.

    Raises:
        StateError: ``account.password``.
    """
    if len(password) < PASSWORD_MIN:
        raise StateError("account.password", f"at least {PASSWORD_MIN} characters")


def tidy_name(name: str) -> str:
    """Return a name as accounts know it: without spaces around it, in lower case, full-width letters made plain.

    A Chinese keyboard gives ``ａｄｍｉｎ`` as easily as ``admin``; the two must not be two accounts.
    """
    return unicodedata.normalize("NFKC", name).strip().lower()


def count_accounts(conn: Connection) -> int:
    """Return how many accounts there are."""
    return int(conn.execute(select(func.count()).select_from(account)).scalar_one())


def stored_password(conn: Connection, name: str, *, now_ms: int) -> str:
    """Return what to compare a password with; for an unknown name one that nothing fits.

    The comparison is slow on purpose and must happen outside any transaction, then `settle` it.

    Raises:
        LockedError: While the account is locked; a right password does not help then.
    """
    query = select(account.c.password_hash, account.c.locked_until_ms).where(account.c.name == tidy_name(name))
    row = conn.execute(query).first()
    if row is None:
        return _NOBODY
    _refuse_locked(row.locked_until_ms, now_ms)
    return str(row.password_hash)


def settle(conn: Connection, name: str, *, is_right: bool, now_ms: int) -> Person | None:
    """Return the person whose password was right; count a failure and return None otherwise.

    Raises:
        LockedError: If other tries have locked the account meanwhile.
    """
    row: Any = conn.execute(select(account).where(account.c.name == tidy_name(name))).first()
    if row is None:
        return None
    _refuse_locked(row.locked_until_ms, now_ms)
    if not is_right or not row.is_enabled:
        failed = row.failed + 1
        values = {"failed": failed, "locked_until_ms": _locked_until(failed, now_ms)}
        conn.execute(update(account).where(account.c.name == row.name).values(**values))
        return None
    if row.failed:
        conn.execute(update(account).where(account.c.name == row.name).values(failed=0, locked_until_ms=None))
    return Person(name=row.name, display=row.display, role=row.role, lang=row.lang)


def _refuse_last_admin(conn: Connection, name: str) -> None:
    others = select(account.c.name).where(account.c.role == "admin", account.c.is_enabled, account.c.name != name)
    if conn.execute(others.limit(1)).first() is None:
        raise StateError("account.last_admin", name)


def _refuse_locked(until_ms: int | None, now_ms: int) -> None:
    if until_ms is not None and until_ms > now_ms:
        raise LockedError(until_ms - now_ms)


def _locked_until(failed: int, now_ms: int) -> int | None:
    """From the fifth failure in a row: a minute, doubling to a quarter of an hour."""
    if failed < FREE_FAILURES:
        return None
    return now_ms + min(LOCK_MAX_MS, LOCK_MS << min(failed - FREE_FAILURES, 10))


def _derive(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, dklen=32, maxmem=64 * 1024 * 1024)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()

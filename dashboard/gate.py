"""The gate: who asks, may that person do this, and did our own page send it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Connection

from dashboard import audit
from dashboard.accounts import (
    LockedError,
    Person,
    change_account,
    check_password,
    hash_password,
    is_password,
    settle,
    stored_password,
    tidy_name,
)
from dashboard.problems import Problem
from dashboard.rights import SAFE_METHODS, is_same_origin, may
from dashboard.sessions import (
    Session,
    close_session,
    close_sessions_of,
    find_session,
    hash_token,
    open_session,
    touch_session,
)
from dashboard.sql import Database

KNOWN_MS = 3_000
"""A session found in the database is believed for this long: other processes may end it."""
KNOWN_MAX = 1_000
TRIES = 20
TRIES_MS = 60_000


class Gate:
    """Signs people in and recognises them.

    Args:
        database: Accounts and sessions.
        site: Id of the site: two sites served by one host must not share a cookie.
        public_url: Where people reach the pages.
        now_ms: The clock.
    """

    def __init__(self, database: Database, site: str, *, public_url: str, now_ms: Callable[[], int]) -> None:
        self._database, self._public_url, self._now_ms = database, public_url, now_ms
        self.is_secure = public_url.startswith("https:")
        self.cookie = f"__Host-watchroom-{site}" if self.is_secure else f"watchroom-{site}"
        self._known: dict[str, tuple[int, Session]] = {}
        self._tries: dict[str, deque[int]] = {}
        # one at a time: a flood of sign-ins must not take all processors and memory
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="password")

    async def sign_in(self, name: str, password: str, *, address: str) -> tuple[str, Session]:
        """Return (token, session) for a right password.

        Raises:
            Problem: 401 for a wrong name or password, 429 when locked or asked too often.
            StoreError: If the database is away.
        """
        is_right = await self._is_right(name, password, address=address)
        try:
            opened = await self._database.write(lambda conn: self._admit(conn, name, is_right, address))
        except LockedError as exc:
            raise _locked(exc) from exc
        if opened is None:
            raise Problem(401, "session.wrong", detail="wrong name or password")
        return opened

    async def change_password(self, session: Session, old: str, new: str, *, address: str) -> None:
        """Give the person of a session a new password and end that person's other sessions.

        Raises:
            Problem: 403 for a wrong old password, 429 when locked or asked too often.
            StateError: ``account.password``.
            StoreError: If the database is away.
        """
        name = session.person.name
        check_password(new)
        is_right = await self._is_right(name, old, address=address)
        password_hash = await self.hash_password(new)

        def work(conn: Connection) -> bool:
            now_ms = self._now_ms()
            # counts a wrong one as a failed sign-in: a stolen session must not guess the password
            if settle(conn, name, is_right=is_right, now_ms=now_ms) is None:
                audit.record(conn, "password_refused", now_ms=now_ms, user=name, address=address)
                return False
            change_account(conn, name, password_hash=password_hash)
            close_sessions_of(conn, name, but=session.token_hash)
            audit.record(conn, "password_changed", now_ms=now_ms, user=name, address=address, target=name)
            return True

        try:
            is_changed = await self._database.write(work)
        except LockedError as exc:
            raise _locked(exc) from exc
        if not is_changed:
            raise Problem(403, "password.wrong", detail="the present password is another one")
        self.forget(name, but=session.token_hash)

    def forget(self, name: str, *, but: str = "") -> None:
        """Look an account's sessions up anew, except one."""
        self._known = {
            token: known for token, known in self._known.items() if token == but or known[1].person.name != name
        }

    async def hash_password(self, password: str) -> str:
        """Return what the database keeps of a password."""
        return await asyncio.get_running_loop().run_in_executor(self._hashing, hash_password, password)

    async def sign_out(self, session: Session, *, address: str) -> None:
        """End a session."""

        def work(conn: Connection) -> None:
            close_session(conn, session.token_hash)
            audit.record(
                conn,
                "sign_out",
                now_ms=self._now_ms(),
                user=session.person.name,
                address=address,
            )

        await self._database.write(work)
        self._known.pop(session.token_hash, None)

    async def find(self, token: str) -> Session | None:
        """Return the session of a token, None if it ended or never was.

        Raises:
            StoreError: If the database is away.
        """
        return await self.find_hash(hash_token(token))

    async def find_hash(self, token_hash: str) -> Session | None:
        """Return the session whose token has this hash, see `find`."""
        now_ms = self._now_ms()
        known = self._known.get(token_hash)
        if known is not None and known[0] > now_ms - KNOWN_MS and known[1].expires_ms > now_ms:
            return known[1]
        found = await self._database.read(lambda conn: find_session(conn, token_hash, now_ms=now_ms))
        if found is None:
            self._known.pop(token_hash, None)
            return None
        session, is_due = found
        if is_due:
            await self._database.write(lambda conn: touch_session(conn, token_hash, now_ms=now_ms))
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[token_hash] = (now_ms, session)
        return session

    async def recognise(self, headers: Mapping[str, str], cookies: Mapping[str, str], *, method: str) -> Session:
        """Return the session of a request.

        Raises:
            Problem: 401 without a session; 403 if a browser did not get this from our own page.
            StoreError: If the database is away.
        """
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            session = await self.find(bearer.strip())
        else:
            token = cookies.get(self.cookie)
            session = await self.find(token) if token else None
            if session is not None and method not in SAFE_METHODS:
                self.refuse_foreign(headers)
        if session is None:
            raise Problem(401, "session.none", headers={"WWW-Authenticate": "Bearer"})
        return session

    def refuse_foreign(self, headers: Mapping[str, str]) -> None:
        """Refuse what another site's page sent with our cookie.

        Raises:
            Problem: 403 ``session.origin``.
        """
        if not is_same_origin(headers, public_url=self._public_url):
            raise Problem(403, "session.origin", detail="sent by a page of another origin")

    def count_try(self, address: str) -> None:
        """Count a try to sign in or to use a link.

        Raises:
            Problem: 429 ``session.too_many``.
        """
        now_ms = self._now_ms()
        if len(self._tries) > KNOWN_MAX:
            self._tries = {key: tries for key, tries in self._tries.items() if tries[-1] > now_ms - TRIES_MS}
        tries = self._tries.setdefault(address, deque(maxlen=TRIES))
        if len(tries) == TRIES and tries[0] > now_ms - TRIES_MS:
            raise Problem(429, "session.too_many", headers={"Retry-After": "60"})
        tries.append(now_ms)

    async def _is_right(self, name: str, password: str, *, address: str) -> bool:
        self.count_try(address)
        try:
            stored = await self._database.read(lambda conn: stored_password(conn, name, now_ms=self._now_ms()))
        except LockedError as exc:
            raise _locked(exc) from exc
        return await asyncio.get_running_loop().run_in_executor(self._hashing, is_password, password, stored)

    def close(self) -> None:
        """End the hashing thread."""
        self._hashing.shutdown(wait=True, cancel_futures=True)

    def _admit(self, conn: Connection, name: str, is_right: bool, address: str) -> tuple[str, Session] | None:
        now_ms = self._now_ms()
        person = settle(conn, name, is_right=is_right, now_ms=now_ms)
        opened = None if person is None else open_session(conn, person, now_ms=now_ms)
        action = "sign_in" if opened else "sign_in_refused"
        audit.record(conn, action, now_ms=now_ms, user=tidy_name(name)[:64], address=address)
        return opened


def _locked(exc: LockedError) -> Problem:
    wait = {"Retry-After": str(-(-exc.wait_ms // 1000))}
    return Problem(429, exc.code, detail=exc.detail, headers=wait)


def require(person: Person, right: str) -> None:
    """Refuse what a role may not do.

    Raises:
        Problem: 403 ``rights.role``.
    """
    if not may(person.role, right):
        raise Problem(403, "rights.role", detail=f"role {person.role} lacks {right}")

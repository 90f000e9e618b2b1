"""The first start: a link that works once, or a password from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, select

from dashboard.setup import LINK_MS, first_account
from tests.dashboard.center import Center
from tests.dashboard.desk import Desk, settings_for
from watchroom.clock import utc_ms
from watchroom.database.connect import reading
from watchroom.database.tables import account, audit, one_time_link
from watchroom.errors import ConfigError
from watchroom.site import Site

FIRST = {"username": "Boss", "display": "老板", "password": "long enough"}


def token_of(line: str | None) -> str:
    """Return the token in the printed line."""
    assert line is not None
    return line.partition("/setup#")[2].partition(" ")[0]


async def fresh(site: Site, database: Engine, data: Path) -> Center:
    """A centre without accounts."""
    return Center(site, database, data)


async def test_link_makes_the_first_account_once(site: Site, database: Engine, data: Path) -> None:
    """The printed link makes an admin who is signed in at once; a second use is refused."""
    center, settings = await fresh(site, database, data), settings_for(data)
    line = first_account(database, settings, now_ms=utc_ms())
    assert line is not None
    assert line.startswith("Open http://127.0.0.1:8080/setup#")
    assert line.endswith(" to create the first account (valid 24 h)")
    async with Desk(center, settings) as desk, desk.visitor() as browser:
        made = await browser.post("/api/v1/setup", json={"token": token_of(line), **FIRST})
        assert made.json()["user"] == {"name": "boss", "display": "老板", "role": "admin", "lang": "zh"}
        assert (await browser.get("/api/v1/session")).status_code == 200
        again = await browser.post("/api/v1/setup", json={"token": token_of(line), **FIRST, "username": "two"})
    assert (again.status_code, again.json()["code"]) == (409, "setup.link")
    assert first_account(database, settings, now_ms=utc_ms()) is None
    with reading(database) as conn:
        assert [tuple(row) for row in conn.execute(select(audit.c.action, audit.c.user))] == [("setup", "boss")]
        assert token_of(line) not in str(conn.execute(select(one_time_link)).all())


async def test_a_mistake_does_not_use_up_the_link(site: Site, database: Engine, data: Path) -> None:
    """Whoever types too short a password tries again with the same link."""
    center, settings = await fresh(site, database, data), settings_for(data)
    token = token_of(first_account(database, settings, now_ms=utc_ms()))
    async with Desk(center, settings) as desk, desk.visitor() as browser:
        short = await browser.post("/api/v1/setup", json={"token": token, **FIRST, "password": "short"})
        name = await browser.post("/api/v1/setup", json={"token": token, **FIRST, "username": "a b"})
        good = await browser.post("/api/v1/setup", json={"token": token, **FIRST})
    assert (short.status_code, short.json()["code"]) == (409, "account.password")
    assert (name.status_code, name.json()["code"]) == (409, "account.name")
    assert good.status_code == 200


async def test_link_ends_after_a_day_and_with_the_next_start(site: Site, database: Engine, data: Path) -> None:
    """Only the link printed last is good, for 24 hours."""
    center, settings, now_ms = await fresh(site, database, data), settings_for(data), utc_ms()
    old = token_of(first_account(database, settings, now_ms=now_ms))
    new = token_of(first_account(database, settings, now_ms=now_ms))
    async with Desk(center, settings, now_ms=lambda: now_ms + LINK_MS) as late, late.visitor() as browser:
        assert (await browser.post("/api/v1/setup", json={"token": new, **FIRST})).json()["code"] == "setup.link"
    async with Desk(center, settings) as desk, desk.visitor() as browser:
        assert (await browser.post("/api/v1/setup", json={"token": old, **FIRST})).json()["code"] == "setup.link"
        assert (await browser.post("/api/v1/setup", json={"token": new, **FIRST})).status_code == 200


async def test_password_from_the_environment(site: Site, database: Engine, data: Path) -> None:
    """With WATCHROOM_ADMIN_PASSWORD nothing is printed and admin can sign in."""
    center = await fresh(site, database, data)
    settings = settings_for(data, admin_password=SecretStr("from the environment"))
    assert first_account(database, settings, now_ms=utc_ms()) is None
    async with Desk(center, settings) as desk, desk.visitor() as browser:
        body = {"username": "admin", "password": "from the environment"}
        reply = await browser.post("/api/v1/session", json=body)
    assert reply.json()["user"]["role"] == "admin"


def test_short_password_from_the_environment_is_refused(database: Engine, data: Path) -> None:
    """A password that could be guessed stops the start, and its value is not told."""
    settings = settings_for(data, admin_password=SecretStr("abc123"))
    with pytest.raises(ConfigError, match="WATCHROOM_ADMIN_PASSWORD") as caught:
        first_account(database, settings, now_ms=utc_ms())
    assert "abc123" not in str(caught.value)
    with reading(database) as conn:
        assert conn.execute(select(account)).all() == []

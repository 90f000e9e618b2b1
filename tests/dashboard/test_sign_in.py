"""Who may sign in, what a session allows, and what other sites' pages cannot do with our cookie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update

from dashboard.accounts import FREE_FAILURES, LOCK_MS
from dashboard.gate import KNOWN_MS, TRIES
from dashboard.sessions import HOUR_MS, IDLE_MS, LONGEST_MS, hash_token
from tests.dashboard.center import PASSWORD, Center
from tests.dashboard.desk import Desk, settings_for
from watchroom.clock import utc_ms
from watchroom.database.connect import reading, writing
from watchroom.database.tables import account, audit, session


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.ms = utc_ms()

    def __call__(self) -> int:
        """Return UTC ms."""
        return self.ms


def rows(center: Center, query: Any) -> list[Any]:
    """Return rows of the database."""
    with reading(center.database) as conn:
        return [tuple(row) for row in conn.execute(query)]


async def sign_in(desk: Desk, name: str, password: str = PASSWORD) -> Any:
    """Try to sign in."""
    async with desk.visitor() as anybody:
        return await anybody.post("/api/v1/session", json={"username": name, "password": password})


async def test_sign_in_sets_a_cookie_that_scripts_cannot_read(desk: Desk, center: Center) -> None:
    """The cookie is HttpOnly and SameSite=Lax, named after the site; the database holds only the token's hash."""
    reply = await sign_in(desk, "guard")
    told = reply.json()
    assert reply.status_code == 200
    assert told["user"] == {"name": "guard", "display": "Guard", "role": "guard", "lang": "zh"}
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith(f"watchroom-small-court={told['token']};")
    assert "httponly" in cookie.lower()
    assert "samesite=lax" in cookie.lower()
    assert "secure" not in cookie.lower()
    assert rows(center, select(session.c.token_hash)) == [(hash_token(told["token"]),)]
    assert told["token"] not in str(rows(center, select(session)))


async def test_cookie_is_secure_under_tls(center: Center) -> None:
    """Where people reach the page over https the cookie never travels in the clear."""
    settings = settings_for(center.data)
    settings.http.public_url = "https://watch.example"
    async with Desk(center, settings) as desk:
        reply = await sign_in(desk, "guard")
        page = await sign_in(desk, "guard", "wrong password")
    assert reply.headers["set-cookie"].startswith("__Host-watchroom-small-court=")
    assert "secure" in reply.headers["set-cookie"].lower()
    assert page.headers["strict-transport-security"]


async def test_wrong_name_and_wrong_password_look_alike(desk: Desk) -> None:
    """Nobody learns from the answer which accounts exist."""
    wrong, unknown = await sign_in(desk, "guard", "wrong password"), await sign_in(desk, "nobody")
    assert (wrong.status_code, unknown.status_code) == (401, 401)
    assert wrong.json() == unknown.json()
    assert wrong.json()["code"] == "session.wrong"


async def test_five_wrong_passwords_lock_the_account(center: Center) -> None:
    """Guessing stops after five tries; the right password works again when the lock has ended."""
    clock = Clock()
    async with Desk(center, settings_for(center.data), now_ms=clock) as desk:
        for _ in range(FREE_FAILURES):
            assert (await sign_in(desk, "guard", "wrong password")).status_code == 401
        locked = await sign_in(desk, "guard")
        assert (locked.status_code, locked.json()["code"]) == (429, "session.locked")
        assert locked.headers["retry-after"] == "60"
        clock.ms += LOCK_MS - 1
        assert (await sign_in(desk, "guard")).status_code == 429
        clock.ms += 2
        assert (await sign_in(desk, "guard")).status_code == 200
    assert rows(center, select(account.c.failed).where(account.c.name == "guard")) == [(0,)]


async def test_one_address_cannot_try_for_ever(center: Center) -> None:
    """Trying many names from one place is stopped too."""
    clock = Clock()
    async with Desk(center, settings_for(center.data), now_ms=clock) as desk:
        for i in range(TRIES):
            # names that no account can have cost no hashing time worth waiting for
            assert (await sign_in(desk, f"nobody-{i}")).status_code == 401
        assert (await sign_in(desk, "guard")).json()["code"] == "session.too_many"
        clock.ms += 60_001
        assert (await sign_in(desk, "guard")).status_code == 200


async def test_session_ends_when_unused_and_after_a_week(center: Center) -> None:
    """A session lives twelve hours after its last use, and a week at most."""
    clock = Clock()
    async with Desk(center, settings_for(center.data), now_ms=clock) as desk:
        token = (await sign_in(desk, "guard")).json()["token"]
        begin = clock.ms
        async with desk.visitor(token) as guard:
            while clock.ms < begin + LONGEST_MS - 11 * HOUR_MS:
                clock.ms += 11 * HOUR_MS
                assert (await guard.get("/api/v1/session")).status_code == 200
            clock.ms = begin + LONGEST_MS + 1
            assert (await guard.get("/api/v1/session")).status_code == 401
        other = (await sign_in(desk, "leader")).json()["token"]
        clock.ms += IDLE_MS + 1
        async with desk.visitor(other) as leader:
            assert (await leader.get("/api/v1/session")).status_code == 401


async def test_signing_out_ends_the_session_at_once(desk: Desk) -> None:
    """After signing out the token is worth nothing."""
    async with desk.person("guard") as guard:
        assert (await guard.delete("/api/v1/session")).status_code == 204
        assert (await guard.get("/api/v1/session")).status_code == 401


async def test_switched_off_account_is_out_within_seconds(center: Center) -> None:
    """Whoever is dismissed cannot go on with an open page."""
    clock = Clock()
    async with Desk(center, settings_for(center.data), now_ms=clock) as desk, desk.person("guard") as guard:
        assert (await guard.get("/api/v1/session")).status_code == 200
        with writing(center.database) as conn:
            conn.execute(update(account).where(account.c.name == "guard").values(is_enabled=False))
        clock.ms += KNOWN_MS + 1
        assert (await guard.get("/api/v1/session")).status_code == 401
        assert (await sign_in(desk, "guard")).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (lambda desk: {"Origin": desk.url}, 204),
        (lambda desk: {"Sec-Fetch-Site": "same-origin"}, 204),
        (lambda desk: {"Sec-Fetch-Site": "same-site", "Origin": desk.url}, 403),
        (lambda desk: {"Sec-Fetch-Site": "cross-site"}, 403),
        (lambda desk: {"Origin": "http://evil.example"}, 403),
        (lambda desk: {"Origin": "null"}, 403),
        (lambda desk: {}, 403),
    ],
)
async def test_cookie_alone_changes_nothing(desk: Desk, headers: Callable[[Desk], dict[str, str]], status: int) -> None:
    """Another site's page makes the browser send our cookie, but not our origin: it is refused."""
    async with desk.visitor() as browser:
        await browser.post("/api/v1/session", json={"username": "guard", "password": PASSWORD})
        assert (await browser.get("/api/v1/session")).status_code == 200
        assert (await browser.delete("/api/v1/session", headers=headers(desk))).status_code == status


async def test_another_page_cannot_sign_a_browser_in(desk: Desk) -> None:
    """Nobody is made to work under a foreign account."""
    async with desk.visitor() as browser:
        body = {"username": "guard", "password": PASSWORD}
        reply = await browser.post("/api/v1/session", json=body, headers={"Origin": "http://evil.example"})
    assert (reply.status_code, reply.json()["code"]) == (403, "session.origin")


async def test_public_url_counts_as_our_origin(center: Center) -> None:
    """Behind a proxy the browser names the public host."""
    settings = settings_for(center.data)
    settings.http.public_url = "http://watch.example/"
    async with Desk(center, settings) as desk, desk.visitor() as browser:
        await browser.post("/api/v1/session", json={"username": "guard", "password": PASSWORD})
        reply = await browser.delete("/api/v1/session", headers={"Origin": "http://watch.example"})
    assert reply.status_code == 204


async def test_garbage_token_is_no_session(desk: Desk) -> None:
    """A made-up token is refused like none."""
    async with desk.visitor("made-up") as anybody:
        reply = await anybody.get("/api/v1/session")
    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")


async def test_signing_in_is_in_the_audit_log(desk: Desk, center: Center) -> None:
    """Who came in, who failed, who left, from where."""
    await sign_in(desk, "guard", "wrong password")
    async with desk.person("guard") as guard:
        await guard.delete("/api/v1/session")
    query = select(audit.c.action, audit.c.user, audit.c.address).order_by(audit.c.seq)
    assert rows(center, query) == [
        ("sign_in_refused", "guard", "127.0.0.1"),
        ("sign_in", "guard", "127.0.0.1"),
        ("sign_out", "guard", "127.0.0.1"),
    ]


async def test_a_wrong_request_never_repeats_the_password(desk: Desk) -> None:
    """What is told about a wrong request holds no value of it."""
    async with desk.visitor() as anybody:
        reply = await anybody.post("/api/v1/session", json={"username": "guard", "pasword": "secret words"})
    assert (reply.status_code, reply.json()["code"]) == (422, "request.invalid")
    assert "secret words" not in reply.text
    assert {item["at"] for item in reply.json()["errors"]} == {"body.password", "body.pasword"}


async def test_admin_makes_accounts_and_nobody_else(desk: Desk) -> None:
    """A new colleague gets an account from the admin, with a role that exists and a password worth the name."""
    new = {"name": "Li.WG", "display": "李卫国", "role": "guard", "password": "long enough"}
    async with desk.person("leader") as leader:
        assert (await leader.post("/api/v1/accounts", json=new)).json()["code"] == "rights.role"
        assert (await leader.get("/api/v1/accounts")).status_code == 403
    async with desk.person("admin") as admin:
        made = await admin.post("/api/v1/accounts", json=new)
        again = await admin.post("/api/v1/accounts", json=new)
        short = await admin.post("/api/v1/accounts", json={**new, "name": "x", "password": "short"})
        wrong = await admin.post("/api/v1/accounts", json={**new, "role": "king"})
        listed = (await admin.get("/api/v1/accounts")).json()["items"]
    assert (made.status_code, made.json()["name"]) == (201, "li.wg")
    assert (again.status_code, again.json()["code"]) == (409, "account.exists")
    assert (short.status_code, short.json()["code"]) == (409, "account.password")
    assert wrong.status_code == 422
    assert "password_hash" not in str(listed)
    assert (await sign_in(desk, "li.wg", "long enough")).status_code == 200


NEW = "another long password"


async def test_a_person_changes_the_own_password(desk: Desk, center: Center) -> None:
    """The old one stops working, the seat stays signed in, the person's other seats are signed out, and audit tells."""
    here, there = (await sign_in(desk, "guard")).json()["token"], (await sign_in(desk, "guard")).json()["token"]
    async with desk.visitor(here) as guard:
        change = {"old": PASSWORD, "new": NEW}
        assert (await guard.post("/api/v1/session/password", json=change)).status_code == 204
        assert (await guard.get("/api/v1/session")).status_code == 200
    async with desk.visitor(there) as other:
        assert (await other.get("/api/v1/session")).status_code == 401
    assert (await sign_in(desk, "guard")).status_code == 401
    assert (await sign_in(desk, "guard", NEW)).status_code == 200
    told = rows(center, select(audit.c.user, audit.c.target).where(audit.c.action == "password_changed"))
    assert told == [("guard", "guard")]
    assert NEW not in str(rows(center, select(audit)))


async def test_a_stolen_session_cannot_guess_the_password(desk: Desk, center: Center) -> None:
    """A wrong old password changes nothing and counts like a failed sign-in: after some the account is locked."""
    async with desk.person("guard") as guard:
        codes = [
            (await guard.post("/api/v1/session/password", json={"old": f"guess {n}", "new": NEW})).status_code
            for n in range(FREE_FAILURES + 1)
        ]
        short = await guard.post("/api/v1/session/password", json={"old": PASSWORD, "new": "short"})
    assert codes == [403] * FREE_FAILURES + [429]
    assert (short.status_code, short.json()["code"]) == (409, "account.password")
    assert rows(center, select(audit.c.action).where(audit.c.action == "password_changed")) == []


async def test_an_admin_switches_an_account_off_and_on(desk: Desk) -> None:
    """Somebody who left is signed out at once and stays out; switched on again the old password works."""
    token = (await sign_in(desk, "guard")).json()["token"]
    async with desk.person("admin") as admin, desk.visitor(token) as guard:
        off = await admin.patch("/api/v1/accounts/guard", json={"is_enabled": False})
        assert (off.status_code, off.json()["is_enabled"]) == (200, False)
        assert (await guard.get("/api/v1/session")).status_code == 401
        assert (await sign_in(desk, "guard")).status_code == 401
        assert (await admin.patch("/api/v1/accounts/guard", json={"is_enabled": True})).status_code == 200
    assert (await sign_in(desk, "guard")).status_code == 200


async def test_an_admin_gives_a_new_password_and_role(desk: Desk) -> None:
    """A forgotten password is replaced; a new role begins with a new sign-in."""
    token = (await sign_in(desk, "guard")).json()["token"]
    async with desk.person("admin") as admin, desk.visitor(token) as guard:
        changed = await admin.patch("/api/v1/accounts/guard", json={"password": NEW, "role": "leader", "lang": "en"})
        assert (changed.json()["role"], changed.json()["lang"]) == ("leader", "en")
        assert (await guard.get("/api/v1/session")).status_code == 401
        unknown = await admin.patch("/api/v1/accounts/nobody", json={"lang": "en"})
        assert (unknown.status_code, unknown.json()["code"]) == (404, "account.unknown")
    assert (await sign_in(desk, "guard", NEW)).json()["user"]["role"] == "leader"


@pytest.mark.parametrize("change", [{"is_enabled": False}, {"role": "guard"}])
async def test_the_last_admin_stays(desk: Desk, change: dict[str, Any]) -> None:
    """Nobody can lock the whole site out of its accounts."""
    async with desk.person("admin") as admin:
        reply = await admin.patch("/api/v1/accounts/admin", json=change)
        assert (reply.status_code, reply.json()["code"]) == (409, "account.last_admin")
        assert (await admin.get("/api/v1/session")).status_code == 200


async def test_only_admins_change_accounts(desk: Desk) -> None:
    """A guard cannot become an admin."""
    async with desk.person("guard") as guard:
        reply = await guard.patch("/api/v1/accounts/guard", json={"role": "admin"})
    assert (reply.status_code, reply.json()["code"]) == (403, "rights.role")

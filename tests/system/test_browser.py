"""The security room's page in a real Chromium: from the banner to the closed ticket."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.system.browser import PHONE, Seat, chromium
from tests.system.room import PASSWORD, Process, Room, children_of, running_up, until

pytestmark = [pytest.mark.slow, pytest.mark.web]
SECOND = "sun.dh"
TARGET_PX = 44
"""Smallest side of what a thumb must hit."""
TOO_SMALL = """limit => [...document.querySelectorAll('main button, main a[href], main select, main input, nav a')]
  .filter(e => e.offsetParent !== null)
  .map(e => [e, (e.closest('label') ?? e).getBoundingClientRect()])
  .filter(([e, r]) => r.height < limit || r.width < limit)
  .map(([e, r]) => `${e.tagName}.${e.className} "${e.textContent.trim().slice(0, 20)}" ${r.width} x ${r.height}`)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def up(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Room, Process]]:
    """A simulated compound with a second account; asks for the browser first, so that no Watchroom runs in vain."""
    with running_up(tmp_path_factory.mktemp("browser") / "data") as (room, process):
        leader = {"name": SECOND, "display": "孙德海", "role": "leader", "password": PASSWORD}
        assert room.post("/accounts", leader).status_code == 201
        until("the compound is whole", room.is_whole)
        yield room, process


@pytest.fixture(scope="module")
def seat(browser: Browser, up: tuple[Room, Process]) -> Iterator[Seat]:
    """Admin at a desk, signed in, with the console watched to the end."""
    seat = Seat(browser, up[0])
    seat.sign_in()
    yield seat
    seat.close()


def play(page: Page, name: str) -> None:
    """Play a scenario from the demo menu."""
    page.click("button.simulated")
    page.get_by_role("menuitem", name=re.compile(rf"^播放：{name}$")).click()


def live(room: Room, rule: str) -> dict[str, Any] | None:
    """Return the live alarm of a rule."""
    return next((alarm for alarm in room.items("/alarms") if alarm["rule"] == rule), None)


def _acknowledged(room: Room, rule: str) -> dict[str, Any] | None:
    alarm = live(room, rule)
    return alarm if alarm is not None and alarm["acked_by"] else None


def test_a_wrong_password_is_told(browser: Browser, up: tuple[Room, Process]) -> None:
    """Wrong credentials lead nowhere and say so; the right ones lead to the overview of the compound."""
    seat = Seat(browser, up[0])
    page = seat.page
    page.goto("/tickets")
    expect(page).to_have_url(re.compile("/sign-in"))
    page.fill("input[autocomplete=username]", "admin")
    page.fill("input[type=password]", "wrong wrong")
    page.click("form button.pri")
    expect(page.locator("form .wrong")).to_be_visible()
    page.fill("input[type=password]", PASSWORD)
    page.click("form button.pri")
    expect(page.locator("main.tickets")).to_be_visible()
    expect(page.locator("header h1")).to_contain_text("云杉苑")
    expect(page.locator("button.simulated")).to_contain_text("模拟数据")
    assert [error for error in seat.console.errors if "401" not in error] == []
    seat.close()


def test_forced_door(seat: Seat, up: tuple[Room, Process]) -> None:
    """The forced door stands in the banner, F2 acknowledges it, and the access page shows which door it is."""
    page, (room, _) = seat.page, up
    page.goto("/")
    play(page, "强行开门")
    expect(page.locator(".ban h2")).to_contain_text("强行开门", timeout=20_000)
    expect(page.locator(".ban .el")).to_contain_text("未确认")
    page.keyboard.press("F2")
    expect(page.locator(".ban .el")).to_contain_text("已确认")
    alarm = until("the acknowledgement is stored", lambda: _acknowledged(room, "door.forced"))
    assert alarm is not None
    assert alarm["acked_by"] == "admin"
    page.click("nav.rail a[href='/access']")
    tile = page.locator("main.access button.dt", has=page.locator("svg.fl1"))
    expect(tile).to_have_attribute("aria-label", re.compile(r"7号楼1单元|7-1"))
    tile.click()
    expect(page.locator("main.access")).to_contain_text("强行开门")
    expect(page.locator("main.access .fr").first).to_be_visible()


def test_burst_pipe_from_banner_to_trend(seat: Seat, up: tuple[Room, Process]) -> None:
    """The burst takes the banner, F2 acknowledges it under the person's name, the trend shows the pressure fall."""
    page, (room, _) = seat.page, up
    page.goto("/")
    play(page, "爆管")
    expect(page.locator(".ban .hot.p1 h2")).to_contain_text("疑似爆管", timeout=30_000)
    expect(page.locator(".ban .hot")).to_have_attribute("role", "alert")
    page.keyboard.press("F2")
    expect(page.locator(".ban .el")).to_contain_text("已确认")
    page.goto("/alarms")
    row = page.locator("main.alarms .row", has_text="疑似爆管").first
    row.click()
    expect(row.locator(".st")).to_have_text("已确认")
    expect(row.locator(".vl")).to_contain_text("< 0.45 MPa")
    door = page.locator("main.alarms .row", has_text="强行开门").first
    expect(door.locator(".vl")).to_have_text("开")  # a state is told in words
    expect(page.locator("section.det")).to_contain_text("admin")
    page.goto("/equipment/WP-01")
    expect(page.locator(".lane .u-over").first).to_be_visible()
    drop = until("history holds the fall", lambda: _pressure(room), within_s=30)
    assert drop is not None
    assert min(drop["min"]) < 0.3 < 0.55 < max(drop["max"])
    shown = until("the curve shows the fall", lambda: _shown(page) if min(_shown(page), default=1) < 0.3 else None)
    assert shown is not None
    assert max(shown) > 0.55


def _pressure(room: Room) -> dict[str, list[float]] | None:
    alarm = live(room, "pipe.burst")
    assert alarm is not None
    begun, path = int(alarm["raised_ms"]), "/signals/WP-01/outlet_pressure/history"
    found: dict[str, list[float]] = room.get(path, start=begun - 60_000, end=begun + 60_000, buckets=120)
    return found if found["t"] and min(found["min"]) < 0.3 else None


def _shown(page: Page) -> list[float]:
    """Move the pointer over the last minutes of the pressure's lane and read what stands above it."""
    box = page.locator(".lane .u-over").first.bounding_box()
    found: list[float] = []
    if box is None:  # the lane is just being drawn anew
        return found
    for step in range(60):
        page.mouse.move(box["x"] + box["width"] * (1 - step / 480), box["y"] + box["height"] / 2)
        number = re.search(r"(\d\.\d+)\s*MPa", page.locator(".lane .readout").first.inner_text())
        if number:
            found.append(float(number[1]))
    return found


def test_an_alarm_is_acknowledged_with_the_mouse(seat: Seat, up: tuple[Room, Process]) -> None:
    """A click selects the row, the button acknowledges, and the row says so."""
    page, (room, _) = seat.page, up
    until("the pressure is low", lambda: live(room, "outlet_pressure.low"))
    page.goto("/alarms")
    row = page.locator("main.alarms .row", has_text="出口压力").first
    expect(row.locator(".st")).to_have_text("未确认")
    row.click()
    page.locator("section.det").get_by_role("button", name=re.compile("^确认")).first.click()
    expect(row.locator(".st")).to_have_text("已确认")
    assert (live(room, "outlet_pressure.low") or {})["acked_by"] == "admin"


def test_a_ticket_goes_through_its_steps(seat: Seat, browser: Browser, up: tuple[Room, Process]) -> None:
    """Dispatch, accept, arrive, done by one person; the same person cannot accept the work, another one closes."""
    page, (room, _) = seat.page, up
    alarm = until("the burst has its ticket", lambda: live(room, "pipe.burst"))
    assert alarm is not None
    ticket = next(ticket for ticket in alarm["tickets"] if ticket["type"] == "repair")
    page.goto(f"/tickets/{ticket['id']}")
    state, big = page.locator("ol.road li[aria-current=step]"), page.locator("footer.foot .big")
    expect(state).to_contain_text("新建")
    page.locator("footer.foot").get_by_role("button", name="派单").click()
    page.select_option("dialog[open] select", index=1)
    page.locator("dialog[open] button.pri").click()
    expect(state).to_contain_text("已派单")
    expect(big).to_contain_text("接单")
    page.keyboard.press("F2")
    expect(state).to_contain_text("已接单")
    big.click()
    expect(state).to_contain_text("已到场")
    expect(big).to_contain_text("完工")
    big.click()
    page.fill("dialog[open] textarea", "阀门已关，主管已抢修")
    page.locator("dialog[open] button.pri").click()
    expect(state).to_contain_text("待验收")
    expect(page.locator("footer.foot")).to_contain_text("不能")
    expect(page.locator("footer.foot").get_by_role("button", name="验收通过")).to_have_count(0)
    other = Seat(browser, room)
    second = other.sign_in(SECOND)
    second.goto(f"/tickets/{ticket['id']}")
    second.locator("footer.foot").get_by_role("button", name="验收通过").click()
    expect(second.locator("ol.road li[aria-current=step]")).to_contain_text("已关闭")
    assert other.console.errors == []
    other.close()
    expect(state).to_contain_text("已关闭")  # the first screen learnt it by itself
    expect(page.locator(".hist")).to_contain_text("阀门已关，主管已抢修")
    history = [event["step"] for event in room.get(f"/tickets/{ticket['id']}")["events"]]
    assert [step for step in history if step in {"dispatch", "accept", "arrive", "done", "close"}] == [
        "dispatch",
        "accept",
        "arrive",
        "done",
        "close",
    ]


def test_tickets_on_a_phone(browser: Browser, up: tuple[Room, Process]) -> None:
    """At 390 px nothing scrolls sideways and everything can be hit with a thumb, in the list and on the ticket."""
    seat = Seat(browser, up[0], size=PHONE)
    page = seat.sign_in(SECOND)
    page.goto("/tickets")
    expect(page.locator("main.tickets .cardt").first).to_be_visible()
    assert _width(page) <= PHONE["width"]
    assert _small(page) == []
    page.locator("main.tickets .cardt a").first.click()
    expect(page.locator("footer.foot .big")).to_be_visible()
    assert _width(page) <= PHONE["width"]
    assert _small(page) == []
    assert seat.console.errors == []
    seat.close()


def _width(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth"))


def _small(page: Page) -> list[str]:
    """Return what can be pressed but is too small for a thumb."""
    found: list[str] = page.evaluate(TOO_SMALL, TARGET_PX)
    return found


def test_language_and_theme(seat: Seat) -> None:
    """Both are one click away, take effect at once and are kept over a reload."""
    page = seat.page
    page.goto("/")
    page.locator("header").get_by_role("button", name="EN").click()
    expect(page.locator("html")).to_have_attribute("lang", re.compile("^en"))
    expect(page.locator("nav.rail")).to_contain_text("Overview")
    expect(page.locator("nav.rail")).not_to_contain_text("总览")
    day = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("header").get_by_role("button", name="Night").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "night")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != day
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "night")
    expect(page.locator("nav.rail")).to_contain_text("Overview")
    page.locator("header").get_by_role("button", name="中文").click()
    page.locator("header").get_by_role("button", name="日间").click()
    expect(page.locator("nav.rail")).to_contain_text("总览")


def test_the_console_stayed_clean(seat: Seat) -> None:
    """Through all of the above no error and no warning; the connection is only cut in what follows."""
    assert seat.console.errors == []
    seat.page.goto("about:blank")


def test_a_silent_server_is_told(browser: Browser, up: tuple[Room, Process]) -> None:
    """A server that hangs without closing anything: data late after 3 s, lost after 6 s, and well again by itself."""
    room, process = up
    seat = Seat(browser, room)
    page = seat.sign_in()
    expect(page.locator(".veil")).to_have_count(0)
    pid = children_of(process.pid)["dashboard"]
    os.kill(pid, signal.SIGSTOP)
    try:
        expect(page.locator(".veil")).to_contain_text("数据延迟", timeout=5_000)
        expect(page.locator(".veil.lost")).to_contain_text("连接已断开", timeout=6_000)
    finally:
        os.kill(pid, signal.SIGCONT)
    expect(page.locator(".veil")).to_have_count(0, timeout=15_000)
    seat.close()


def test_a_lost_connection_is_the_loudest_thing(browser: Browser, up: tuple[Room, Process]) -> None:
    """The dashboard dies: across the page stands that the picture is not to be trusted; it comes back by itself."""
    room, process = up
    seat = Seat(browser, room)
    page = seat.sign_in()
    old = children_of(process.pid)["dashboard"]
    os.kill(old, signal.SIGKILL)
    veil = page.locator(".veil.lost")
    expect(veil).to_be_visible(timeout=6_000)
    expect(veil).to_contain_text("不可信")
    box = veil.bounding_box()
    assert box is not None
    assert box["width"] > 1600
    on_top = page.evaluate(
        "([x, y]) => document.elementFromPoint(x, y).closest('.veil') !== null",
        [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2],
    )
    assert on_top, "nothing may cover it"
    expect(page.locator("header .clock.frozen")).to_be_visible()
    expect(page.locator(".veil")).to_have_count(0, timeout=25_000)
    assert children_of(process.pid)["dashboard"] != old
    before = page.locator("header .clock time").inner_text()
    expect(page.locator("header .clock time")).not_to_have_text(before)
    seat.close()

"""The alarm console under a person's hands: shelf, out of service, groups, several at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.node import node_or_skip
from tests.system.browser import DESK, PHONE, SCREENSHOTS, Seat, chromium
from tests.system.room import Room, running_up, until
from tests.system.test_screens import AXE, RULES, WEB

pytestmark = [pytest.mark.slow, pytest.mark.web]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def room(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A compound with alarms of several priorities standing."""
    with running_up(tmp_path_factory.mktemp("console") / "data") as (room, _):
        until("the compound is whole", room.is_whole)
        for name in ("burst_pipe", "door_forced"):
            assert room.post(f"/demo/{name}").status_code == 200
        for rule in ("pipe.burst", "door.forced"):
            until(rule, lambda rule=rule: [a for a in room.items("/alarms") if a["rule"] == rule], within_s=60)  # type: ignore[misc]
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        yield room


def console(seat: Seat) -> Page:
    """Sign in and open the alarm console."""
    page = seat.sign_in()
    page.goto("/alarms")
    expect(page.locator(".lst .ln").first).to_be_visible()
    return page


def violations(page: Page) -> list[str]:
    """Return what axe-core finds on the page as it is."""
    if not AXE.exists():
        node_or_skip().install(WEB)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)
    return [
        f"{one['id']} {node['target']} {node['failureSummary']}" for one in found["violations"] for node in one["nodes"]
    ]


@pytest.mark.parametrize("theme", ["night", "day"])
def test_shelving_by_keyboard(browser: Browser, room: Room, theme: str) -> None:
    """F6 asks for reason and time; the alarm leaves the list for the shelf with its countdown, and comes back."""
    seat = Seat(browser, room, theme=theme)
    page = console(seat)
    row = page.locator(".lst .ln", has=page.locator("input[type=checkbox]:enabled")).first
    row.locator("button.row").click()
    title = page.locator(".det h2").first.inner_text()
    page.keyboard.press("F6")
    dialog = page.locator("dialog[open]")
    expect(dialog.locator("textarea")).to_be_visible()
    assert violations(page) == []
    page.screenshot(path=SCREENSHOTS / f"alarms-shelve-{theme}.png", animations="disabled")
    dialog.locator("textarea").fill("等备件")
    dialog.locator("button.pri").click()
    shelf = page.locator(".shelf .card").first
    expect(shelf).to_contain_text(title)
    expect(shelf).to_contain_text("等备件")
    page.locator(".seg button").nth(2).click()
    assert violations(page) == []
    page.screenshot(path=SCREENSHOTS / f"alarms-shelf-{theme}.png", animations="disabled")
    shelf.click()
    page.keyboard.press("F6")
    expect(page.locator(".shelf")).to_have_count(0)
    assert seat.console.errors == []
    seat.close()


def test_several_are_acknowledged_together(browser: Browser, room: Room) -> None:
    """Ticked rows are acknowledged with one F2; priority 1 cannot be ticked."""
    seat = Seat(browser, room, lang="en")
    page = console(seat)
    expect(page.locator(".tick.never input:enabled")).to_have_count(0)
    page.locator(".lst .ln .tick input:enabled").first.check()
    bulk = page.locator("button.bulk")
    expect(bulk).to_be_visible()
    before = len([a for a in room.items("/alarms") if a["state"] == "UNACK" and a["priority"] > 1])
    page.keyboard.press("F2")
    expect(bulk).to_have_count(0)
    until(
        "one less waits",
        lambda: len([a for a in room.items("/alarms") if a["state"] == "UNACK" and a["priority"] > 1]) < before,
    )
    page.screenshot(path=SCREENSHOTS / "alarms-bulk-en.png", animations="disabled")
    seat.close()


def test_the_console_fits_a_phone(browser: Browser, room: Room) -> None:
    """Nothing overflows sideways, with a shelf and with groups."""
    seat = Seat(browser, room, size=PHONE, lang="en")
    page = console(seat)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.screenshot(path=SCREENSHOTS / "alarms-phone-en.png", animations="disabled")
    seat.close()


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("theme", ["night", "day"])
def test_the_measures_are_a_page(browser: Browser, room: Room, theme: str, size: ViewportSize) -> None:
    """Rates, floods and bad actors with their targets; clean for axe-core, and no wider than the screen."""
    seat = Seat(browser, room, size=size, theme=theme, lang="zh" if theme == "night" else "en")
    page = console(seat)
    page.locator(".mlink").click()
    expect(page.locator(".tiles dd").first).to_be_visible()
    expect(page.locator(".bars li").first).to_be_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    page.screenshot(path=SCREENSHOTS / f"measures-{theme}-{size['width']}.png", animations="disabled")
    assert seat.console.errors == []
    seat.close()

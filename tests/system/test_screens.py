"""Every page in both themes, both languages, on a desk and on a phone: nothing overflows; pictures for the eye.

The pictures are build artefacts in ``build/screenshots/``, to be compared with the design by a person.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.node import node_or_skip
from tests.system.browser import DESK, PHONE, SCREENSHOTS, Seat, chromium
from tests.system.room import Room, running_up, until

pytestmark = [pytest.mark.slow, pytest.mark.web]
PAGES = {
    "overview": "/",
    "alarms": "/alarms",
    "tickets": "/tickets",
    "pumps": "/equipment/WP-01",
    "elevator": "/equipment/EL-3-1",
    "access": "/access",
}
WEB = Path(__file__).parents[2] / "dashboard" / "web"
AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def room(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A compound in which a pipe has burst and a door was forced."""
    with running_up(tmp_path_factory.mktemp("screens") / "data") as (room, _):
        until("the compound is whole", room.is_whole)
        for name in ("burst_pipe", "door_forced", "entrapment"):
            assert room.post(f"/demo/{name}").status_code == 200
        for rule in ("pipe.burst", "door.forced", "alarm_button"):
            until(rule, lambda rule=rule: [a for a in room.items("/alarms") if a["rule"] == rule], within_s=60)  # type: ignore[misc]
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        yield room


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("theme", ["day", "night"])
def test_pages_fit_and_are_complete(browser: Browser, room: Room, theme: str, lang: str, size: ViewportSize) -> None:
    """No page scrolls sideways, none speaks the other language's keys, none logs an error."""
    name = f"{theme}-{lang}-{size['width']}"
    seat = Seat(browser, room, size=size, lang=lang, theme=theme)
    page = seat.page
    page.goto("/sign-in")
    expect(page.locator("form button.pri")).to_be_visible()
    page.screenshot(path=SCREENSHOTS / f"sign-in-{name}.png", animations="disabled")
    seat.sign_in()
    for which, path in PAGES.items():
        page.goto(path)
        expect(page.locator("main#main")).to_be_visible()
        expect(page.locator("text=/Loading…|正在载入…/")).to_have_count(0)
        if which in {"pumps", "elevator"}:
            expect(page.locator(".lane canvas").first).to_be_visible()
        page.screenshot(path=SCREENSHOTS / f"{which}-{name}.png", animations="disabled")
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], which
        if size is PHONE:
            assert _narrow(page) == [], which
        assert _untranslated(page) == [], which
    assert seat.console.errors == []
    seat.close()


def _narrow(page: Page) -> list[str]:
    """Return panels that leave a phone's width unused."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll('main .panel')].filter(e => e.offsetParent !== null)
          .filter(e => e.getBoundingClientRect().width < 0.85 * innerWidth).map(e => e.className)"""
    )
    return found


def _untranslated(page: Page) -> list[str]:
    """Return words that look like a key of the language files."""
    found: list[str] = page.evaluate(
        r"""() => document.body.innerText.split(/\s+/).filter(w => /^[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)+$/.test(w))"""
    )
    return found


@pytest.mark.parametrize("theme", ["day", "night"])
def test_nothing_that_axe_finds(browser: Browser, room: Room, theme: str) -> None:
    """WCAG 2.2 AA as far as axe-core can judge it, on every page with alarms on it."""
    if not AXE.exists():
        node_or_skip().install(WEB)
    seat = Seat(browser, room, theme=theme)
    page = seat.sign_in()
    problems = []
    for which, path in PAGES.items():
        page.goto(path)
        expect(page.locator("main#main")).to_be_visible()
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)
        problems += [
            f"{which}: {violation['id']} {node['target']} {node['failureSummary']}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]
    seat.close()
    assert not problems, "\n".join(problems)

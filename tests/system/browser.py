"""A real Chromium for tests: found or skipped with a reason, and its console watched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, expect, sync_playwright

from tests.system.room import PASSWORD, ROOT, Room

INDEX = ROOT / "dashboard" / "static" / "index.html"
SCREENSHOTS = ROOT / "build" / "screenshots"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
DESK = ViewportSize(width=1920, height=1080)
WAIT_MS = 30_000
PHONE = ViewportSize(width=390, height=844)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium, or skip the test and say what is missing."""
    if not INDEX.exists():
        pytest.skip("the pages are not built: pip install -e '.[server]' builds them")
    wanted = os.environ.get("WATCHROOM_CHROMIUM", "/usr/bin/chromium")
    expect.set_options(timeout=WAIT_MS / 2)
    with sync_playwright() as playwright:
        path = wanted if Path(wanted).exists() else playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("needs Chromium: install one and set WATCHROOM_CHROMIUM=/path/to/chromium")
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Console:
    """What went wrong inside the pages of one context."""

    def __init__(self, context: BrowserContext) -> None:
        self.errors: list[str] = []
        context.on("console", self._said)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))

    def _said(self, message: ConsoleMessage) -> None:
        # the page asks whether somebody is signed in; browsers print the answer "nobody" as an error
        is_question = "401" in message.text and message.location.get("url", "").endswith("/api/v1/session")
        if message.type in {"error", "warning"} and not is_question:
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")


class Seat:
    """One person in front of one screen.

    Args:
        browser: Chromium.
        room: The running Watchroom.
        size: Of the screen in pixels.
        lang: Language of the browser.
        theme: ``day`` or ``night``.
    """

    def __init__(
        self, browser: Browser, room: Room, *, size: ViewportSize = DESK, lang: str = "zh", theme: str = "day"
    ) -> None:
        is_phone = size["width"] < 900
        self.context = browser.new_context(
            base_url=room.url,
            viewport=size,
            locale="zh-CN" if lang == "zh" else "en-GB",
            color_scheme="dark" if theme == "night" else "light",
            has_touch=is_phone,
            is_mobile=is_phone,
            timezone_id="Asia/Shanghai",
        )
        self.context.add_init_script(_choice("lang", lang) + _choice("lang.chosen", "1") + _choice("theme", theme))
        self.context.set_default_timeout(WAIT_MS)
        self.console = Console(self.context)
        self.page: Page = self.context.new_page()

    def sign_in(self, username: str = "admin", password: str = PASSWORD) -> Page:
        """Sign in through the page and wait for the overview."""
        page = self.page
        page.goto("/")
        page.fill("input[autocomplete=username]", username)
        page.fill("input[type=password]", password)
        page.click("form button.pri")
        page.wait_for_selector("main.overview")
        return page

    def close(self) -> None:
        """Leave."""
        self.context.close()


def _choice(name: str, value: str) -> str:
    """Return a script that chooses before the page starts, unless the person has chosen since."""
    key = f"watchroom.{name}"
    return f"if (location.port && !localStorage.getItem({key!r})) localStorage.setItem({key!r}, {value!r});\n"

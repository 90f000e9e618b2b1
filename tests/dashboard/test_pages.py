"""What a browser gets besides the API: the pages, their caching, the headers that protect them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from dashboard.app import check_tls, run_dashboard
from dashboard.bodies import LARGEST
from tests.dashboard.center import Center, until, write_site
from tests.dashboard.desk import Desk, settings_for
from watchroom.database.connect import migrate, open_database
from watchroom.errors import ConfigError
from watchroom.settings import HttpSettings, Settings


@pytest_asyncio.fixture
async def built(center: Center, tmp_path: Path) -> AsyncIterator[Desk]:
    """A dashboard with built pages."""
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>the page</title>", encoding="utf-8")
    (folder / "favicon.svg").write_text("<svg/>", encoding="utf-8")
    (folder / "assets" / "main-1a2b.js").write_text("export {}", encoding="utf-8")
    (folder / ".stamp").write_text("secret", encoding="utf-8")
    (tmp_path / "outside.txt").write_text("secret", encoding="utf-8")
    async with Desk(center, settings_for(center.data), pages=folder) as desk:
        yield desk


@pytest.mark.parametrize("path", ["/", "/alarms", "/equipment/WP-01", "/setup", "/m/job"])
async def test_paths_of_the_page_open_the_page(built: Desk, path: str) -> None:
    """A link in a message opens the page it means, without being signed in yet."""
    async with built.visitor() as browser:
        reply = await browser.get(path)
    assert (reply.status_code, "the page" in reply.text) == (200, True)
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["content-type"].startswith("text/html")


async def test_hashed_files_are_kept_for_ever(built: Desk) -> None:
    """A file with its hash in the name never changes; all others are asked for again."""
    async with built.visitor() as browser:
        script, icon = await browser.get("/assets/main-1a2b.js"), await browser.get("/favicon.svg")
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert script.headers["content-type"].startswith("text/javascript")
    assert icon.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path", ["/assets/old-9z.js", "/missing.png", "/.stamp", "/%2e%2e/outside.txt", "/assets/..%2f..%2foutside.txt"]
)
async def test_missing_and_foreign_files_are_not_found(built: Desk, path: str) -> None:
    """A missing script is not answered with the page, and nothing outside the folder is served."""
    async with built.visitor() as browser:
        reply = await browser.get(path)
    assert reply.status_code == 404
    assert "secret" not in reply.text


async def test_unknown_api_path_is_a_problem(built: Desk) -> None:
    """A program with a wrong address is told so, not shown a page."""
    async with built.visitor() as program:
        reply = await program.get("/api/v1/nothing")
    assert (reply.status_code, reply.headers["content-type"]) == (404, "application/problem+json")


async def test_note_while_nothing_is_built(desk: Desk) -> None:
    """Without built pages a plain note says what to do; the API works."""
    async with desk.visitor() as browser:
        reply = await browser.get("/")
    assert reply.status_code == 200
    assert "pip install" in reply.text
    assert "页面尚未编译" in reply.text


async def test_build_id_changes_with_the_pages(built: Desk, tmp_path: Path) -> None:
    """A wall display learns from the tick that there is a new page."""
    first = built.parts.pages.build
    (tmp_path / "static" / "index.html").write_text("<!doctype html><title>newer</title>", encoding="utf-8")
    assert first
    assert built.parts.pages.build not in ("", first)


@pytest.mark.parametrize("path", ["/", "/assets/main-1a2b.js", "/api/v1/site", "/health", "/api/docs/script.js"])
async def test_security_headers_everywhere(built: Desk, path: str) -> None:
    """No foreign script runs in our page, nobody frames it, and the API's answers are not cached."""
    async with built.visitor() as browser:
        headers = (await browser.get(path)).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    # with no-referrer browsers send "Origin: null" and every action of the page would be refused
    assert headers["referrer-policy"] == "same-origin"
    if path.startswith("/api/v1"):
        assert headers["cache-control"] == "no-store"


async def test_docs_send_a_browser_to_sign_in(built: Desk) -> None:
    """Whoever is not signed in is led to the page that lets him."""
    async with built.visitor() as browser:
        reply = await browser.get("/api/docs", headers={"Accept": "text/html"})
    assert (reply.status_code, reply.headers["location"]) == (303, "/")


async def test_a_bug_in_a_task_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unused_tcp_port: int
) -> None:
    """A dashboard whose changes no longer flow does not go on showing an old picture: it ends and is restarted."""
    folder = write_site(tmp_path / "site")
    settings = Settings(data=tmp_path / "data", http=HttpSettings(port=unused_tcp_port))
    settings.data.mkdir()
    database = open_database(settings.database_url)
    migrate(database)
    database.dispose()

    async def broken(_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("dashboard.live.Hub._pump", broken)
    with pytest.raises(BaseExceptionGroup) as caught:
        await asyncio.wait_for(run_dashboard(folder, settings), 20)
    assert caught.group_contains(ValueError, match="a bug")
    assert "/setup#" in capsys.readouterr().out


async def test_sigterm_ends_within_seconds_with_open_pages(built: Desk) -> None:
    """Stopping does not wait for browsers that keep their connection."""
    async with contextlib.AsyncExitStack() as stack:
        live = await stack.enter_async_context(built.live(await built.token("guard")))
        await live.next("snapshot")
        built._server.should_exit = True
        await until("the end", lambda: built._task is not None and built._task.done(), within_s=6)


async def test_stopping_while_the_engine_does_not_answer(center: Center) -> None:
    """Ctrl-C ends the pages also when the engine has just gone: a question under way holds nothing up."""
    center.is_hanging = True
    async with Desk(center, settings_for(center.data)) as desk:
        await until("the question", lambda: center.hung)
        desk._server.should_exit = True
        await until("the end", lambda: desk._task is not None and desk._task.done(), within_s=6)


@pytest.mark.parametrize("path", ["/%00", "/" + "a" * 5000])
async def test_impossible_file_names_are_a_path_of_the_page(built: Desk, path: str) -> None:
    """What no file can be called is answered like any other unknown path, without an error in the log."""
    async with built.visitor() as browser:
        assert (await browser.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/", "/favicon.svg", "/health"])
async def test_watchers_may_ask_for_the_head_alone(built: Desk, path: str) -> None:
    """Uptime monitors and load balancers send HEAD."""
    async with built.visitor() as browser:
        reply = await browser.head(path)
    assert (reply.status_code, reply.content) == (200, b"")


async def test_a_huge_request_is_refused_before_it_is_read(built: Desk) -> None:
    """Nobody fills the memory of the box without a password, whether the length is told or not."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65536

    async with built.visitor() as browser:
        told = await browser.post("/api/v1/session", content=b" " * (LARGEST + 1))
        untold = await browser.post("/api/v1/session", content=chunks(), headers={"content-type": "application/json"})
    assert (told.status_code, told.json()["code"]) == (413, "request.too_large")
    assert untold.status_code == 413


def test_certificate_that_cannot_be_served_is_told_in_words(tmp_path: Path) -> None:
    """A missing file, something else than a certificate, or a key alone: a sentence, not a traceback."""
    (tmp_path / "no.pem").write_text("nothing", encoding="utf-8")
    for name in ("gone.pem", "no.pem"):
        with pytest.raises(ConfigError, match="cannot serve this certificate"):
            check_tls(HttpSettings(tls_cert=tmp_path / name))
    with pytest.raises(ConfigError, match="needs its certificate"):
        check_tls(HttpSettings(tls_key=tmp_path / "no.pem"))
    check_tls(HttpSettings())

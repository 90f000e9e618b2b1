"""The engine's local API: answers, refusals, wakes, and a lost engine."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from watchroom.errors import LinkError, StateError, StoreError
from watchroom.local import LocalClient, LocalServer


async def echo(args: dict[str, Any]) -> Any:
    """Return the arguments."""
    return args


async def refuse(_: dict[str, Any]) -> Any:
    """Refuse as the engine does."""
    raise StateError("history.range", "start after end")


async def fail(_: dict[str, Any]) -> Any:
    """Fail as a store does."""
    raise StoreError("disk full")


async def hang(_: dict[str, Any]) -> Any:
    """Never answer."""
    await asyncio.Event().wait()


async def until_connected(client: LocalClient) -> None:
    """Wait for a client's connection."""
    while not client.is_connected:  # noqa: ASYNC110
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[LocalServer]:
    """Run a server."""
    server = LocalServer(path, {"echo": echo, "refuse": refuse, "fail": fail, "hang": hang})
    started = asyncio.Event()
    task = asyncio.create_task(server.run(started))
    await started.wait()
    try:
        yield server
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def connected(client: LocalClient) -> AsyncIterator[LocalClient]:
    """Keep a client's connection alive."""
    task = asyncio.create_task(client.run(retry_s=0.01))
    async with asyncio.timeout(5):
        await until_connected(client)
    try:
        yield client
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_answers_come_to_their_questions(tmp_path: Path) -> None:
    """Many questions at once on one connection get their own answers; only the owner may open the socket."""
    path = tmp_path / "s"
    async with serving(path), connected(LocalClient(path)) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        answers = await asyncio.gather(*(client.ask("echo", n=n) for n in range(50)))
        assert answers == [{"n": n} for n in range(50)]


async def test_refusals_keep_their_code(tmp_path: Path) -> None:
    """A refusal keeps the code that both languages translate; an unknown operation is one."""
    path = tmp_path / "s"
    async with serving(path), connected(LocalClient(path)) as client:
        with pytest.raises(StateError) as caught:
            await client.ask("refuse")
        assert (caught.value.code, caught.value.detail) == ("history.range", "start after end")
        with pytest.raises(StateError, match="disk full"):
            await client.ask("fail")
        with pytest.raises(StateError, match=r"local\.unknown"):
            await client.ask("nonsense")
        with pytest.raises(LinkError, match="did not answer"):
            await client.ask("hang", timeout_s=0.05)


async def test_followers_are_woken_from_any_thread(tmp_path: Path) -> None:
    """A commit in the alarm thread reaches every follower."""
    path, wakes = tmp_path / "s", asyncio.Queue[dict[str, Any]]()
    async with serving(path) as server, connected(LocalClient(path, on_wake=wakes.put_nowait)) as client:
        assert await wakes.get() == {"connected": True}
        await client.ask("echo")
        await asyncio.to_thread(server.wake, {"feed_seq": 7})
        assert await asyncio.wait_for(wakes.get(), 5) == {"feed_seq": 7}


async def test_a_lost_engine_fails_questions_and_comes_back(tmp_path: Path) -> None:
    """Open questions fail at once when the engine goes; the client finds the next one by itself."""
    path, lost = tmp_path / "s", asyncio.Event()
    client = LocalClient(path, on_lost=lost.set)
    with pytest.raises(LinkError, match="not running"):
        await client.ask("echo")
    task = asyncio.create_task(client.run(retry_s=0.01))
    async with serving(path):
        async with asyncio.timeout(5):
            await until_connected(client)
        question = asyncio.create_task(client.ask("hang"))
        await asyncio.sleep(0)
    with pytest.raises(LinkError, match="went away"):
        await question
    await asyncio.wait_for(lost.wait(), 5)
    async with serving(path), asyncio.timeout(5):
        await until_connected(client)
        assert await client.ask("echo", a=1) == {"a": 1}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

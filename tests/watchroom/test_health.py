"""`/health` and `/metrics` of a process without a web server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from watchroom.health import HealthServer


@asynccontextmanager
async def serving(facts: dict[str, object]) -> AsyncIterator[tuple[str, int]]:
    registry = CollectorRegistry()
    Counter("watchroom_frames", "Frames", registry=registry).inc(3)
    server = HealthServer("127.0.0.1", 0, registry, lambda: facts)
    started = asyncio.Event()
    task = asyncio.create_task(server.run(started), name="health")
    await asyncio.wait_for(started.wait(), 5)
    try:
        yield f"http://127.0.0.1:{server.port}", server.port
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(("facts", "status"), [({"ok": True}, 200), ({"ok": False}, 503), ({"queue": 4}, 200)])
async def test_health_says_how_it_is(facts: dict[str, object], status: int) -> None:
    """A supervisor needs only the status; a person sees the facts."""
    async with serving(facts) as (url, _), httpx.AsyncClient() as client:
        answer = await client.get(f"{url}/health")
    assert (answer.status_code, answer.json()) == (status, facts)


async def test_metrics_are_prometheus_text() -> None:
    """A scraper finds the figures of the registry."""
    async with serving({}) as (url, _), httpx.AsyncClient() as client:
        answer = await client.get(f"{url}/metrics?x=1")
    assert answer.status_code == 200
    assert "watchroom_frames_total 3.0" in answer.text
    assert answer.headers["content-type"].startswith("text/plain")


async def test_other_questions_are_answered_shortly() -> None:
    """Wrong paths and methods get the right refusal; HEAD gets no body."""
    async with serving({"ok": True}) as (url, _), httpx.AsyncClient() as client:
        assert (await client.get(f"{url}/")).status_code == 404
        assert (await client.post(f"{url}/health")).status_code == 405
        head = await client.head(f"{url}/health")
    assert head.status_code == 200
    assert head.content == b""
    assert int(head.headers["content-length"]) == len(json.dumps({"ok": True}))


async def test_rubbish_does_not_stop_it() -> None:
    """A port scanner is no reason to stop answering."""
    async with serving({"ok": True}) as (url, port):
        for rubbish in (b"\xff\xfe\r\n\r\n", b"", b"A" * 20_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(rubbish)
            writer.write_eof()
            with suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 5)
            writer.close()
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{url}/health")).status_code == 200

"""The simulators' control socket: which scenarios there are, and playing one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from watchroom.errors import LinkError, WatchroomError
from watchroom.local import LocalClient

SOCKET = "simulate.sock"
CONNECT_S = 1.0
ANSWER_S = 5.0


async def scenarios(data: Path) -> list[dict[str, Any]]:
    """Return what the simulators can play, an empty list while they are not there."""
    try:
        async with _simulators(data) as client:
            found = await client.ask("scenario.list", timeout_s=ANSWER_S)
    except WatchroomError:
        return []
    rows = found.get("items", []) if isinstance(found, dict) else found
    return [_scenario(row) for row in rows]


async def play(data: Path, name: str) -> None:
    """Start a scenario.

    Raises:
        LinkError: If the simulators are not there.
        StateError: If they have no scenario of that name.
    """
    async with _simulators(data) as client:
        await client.ask("scenario.play", timeout_s=ANSWER_S, name=name)


@asynccontextmanager
async def _simulators(data: Path) -> AsyncIterator[LocalClient]:
    there = asyncio.Event()
    client = LocalClient(data / SOCKET, on_wake=lambda _: there.set())
    task = asyncio.create_task(client.run(retry_s=0.05), name="simulators")
    try:
        try:
            async with asyncio.timeout(CONNECT_S):
                await there.wait()
        except TimeoutError as exc:
            raise LinkError("the simulators are not running") from exc
        yield client
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _scenario(row: Any) -> dict[str, Any]:
    if isinstance(row, str):
        row = {"name": row}
    title = row.get("title") or {"zh": row["name"], "en": row["name"]}
    return {"name": row["name"], "title": {"zh": title["zh"], "en": title["en"]}}

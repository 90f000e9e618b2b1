"""A dashboard that really listens, and people who really sign in to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import uvicorn
from websockets.asyncio.client import ClientConnection, connect

from dashboard.app import build_app, server_config
from dashboard.parts import Parts
from tests.dashboard.center import PASSWORD, Center, until
from watchroom.clock import utc_ms
from watchroom.settings import HttpSettings, Settings

DEADLINE_S = 10.0


class Desk:
    """One running dashboard.

    Args:
        center: What feeds it.
        settings: Its settings; port 0 takes a free one.
        now_ms: Its clock.
        pages: Folder of built pages.
    """

    def __init__(
        self, center: Center, settings: Settings, *, now_ms: Callable[[], int] = utc_ms, pages: Path | None = None
    ) -> None:
        self.center, self.settings = center, settings
        self.app = build_app(
            center.site, settings, center.database, now_ms=now_ms, pages=pages or center.data / "no-pages"
        )
        self._server = uvicorn.Server(server_config(self.app, settings))
        self._task: asyncio.Task[None] | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server.config.port = 0
        # without the handlers of uvicorn: they are for the main program
        self._task = asyncio.create_task(self._server._serve())
        await until("the server", lambda: self._server.started or (self._task and self._task.done()))
        if self._task.done():
            self._task.result()
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._server.should_exit = True
        assert self._task is not None
        await asyncio.wait_for(self._task, DEADLINE_S)

    @property
    def parts(self) -> Parts:
        """What it is made of."""
        parts: Parts = self.app.state.parts
        return parts

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def visitor(self, token: str = "") -> AsyncIterator[httpx.AsyncClient]:
        """A program, with a token or without."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=DEADLINE_S) as client:
            yield client

    async def token(self, role: str) -> str:
        """Sign a role in and return its token."""
        async with self.visitor() as client:
            reply = await client.post("/api/v1/session", json={"username": role, "password": PASSWORD})
        assert reply.status_code == 200, reply.text
        return str(reply.json()["token"])

    @asynccontextmanager
    async def person(self, role: str) -> AsyncIterator[httpx.AsyncClient]:
        """Somebody of a role, signed in with a token."""
        async with self.visitor(await self.token(role)) as client:
            yield client

    @asynccontextmanager
    async def live(self, token: str, *, first: object | None = None) -> AsyncIterator[Live]:
        """A live connection with a token; ``first`` is said at once."""
        headers = {"Authorization": f"Bearer {token}"}
        url = f"ws://127.0.0.1:{self.port}/api/v1/live"
        async with connect(url, additional_headers=headers, compression=None, max_size=None) as socket:
            live = Live(socket)
            if first is not None:
                await live.say(first)
            yield live


class Live:
    """The page's end of a live connection."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.ticks = 0

    async def say(self, message: object) -> None:
        """Send a message."""
        await self.socket.send(json.dumps(message))

    async def next(self, *types: str) -> dict[str, Any]:
        """Return the next message of one of these types; leaves out others."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                data = await self.socket.recv()
                if isinstance(data, bytes):
                    continue
                message: dict[str, Any] = json.loads(data)
                self.ticks += message["type"] == "tick"
                if message["type"] in types:
                    return message

    async def frame(self) -> bytes:
        """Return the next binary frame."""
        async with asyncio.timeout(DEADLINE_S):
            while not isinstance(data := await self.socket.recv(), bytes):
                pass
            return data


def settings_for(data: Path, **more: Any) -> Settings:
    """Return settings of a test."""
    return Settings(data=data, http=HttpSettings(), **more)

"""The live connection of a page."""

from __future__ import annotations

import asyncio
import contextlib
import json

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from dashboard.parts import Parts, parts_of
from dashboard.problems import Problem
from dashboard.screen import RESTART, SIGNED_OUT, TOO_SLOW, Screen
from dashboard.sessions import Session
from watchroom.errors import StoreError

router = APIRouter()
AUTH_S = 5.0
FOREIGN = 4403


class BrowserSocket:
    """A `Socket` over Starlette's WebSocket."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive_text(self) -> str | None:
        """Return the next message, None for a binary one."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise EOFError
        text: str | None = message.get("text")
        return text

    async def send(self, data: str | bytes) -> None:
        """Send a message; waits while the other side does not read."""
        try:
            if isinstance(data, str):
                await self._websocket.send_text(data)
            else:
                await self._websocket.send_bytes(data)
        except (WebSocketDisconnect, RuntimeError) as exc:
            # RuntimeError: the other side closed between two of our sends
            raise EOFError from exc


@router.websocket("/api/v1/live")
async def live(websocket: WebSocket) -> None:
    """Serve one page: snapshot, changes, ticks, signal frames."""
    parts = parts_of(websocket)
    await websocket.accept()
    socket = BrowserSocket(websocket)
    code = await _serve(websocket, socket, parts)
    if code == TOO_SLOW and (abort := websocket.scope["state"].get("abort")):
        # a close frame would wait behind everything that is not read
        abort()
    elif code and websocket.client_state is WebSocketState.CONNECTED:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await websocket.close(code)


async def _serve(websocket: WebSocket, socket: BrowserSocket, parts: Parts) -> int:
    """Return the close code to tell, 0 if nobody is there."""
    try:
        session = await _recognise(websocket, socket, parts)
    except Problem:
        return FOREIGN
    except StoreError:
        return RESTART
    except EOFError:
        return 0
    if session is None:
        return SIGNED_OUT

    async def is_signed_in() -> bool:
        return await parts.gate.find_hash(session.token_hash) is not None

    screen = Screen(
        socket,
        session.person,
        hub=parts.hub,
        projection=parts.projection,
        is_signed_in=is_signed_in,
        now_ms=parts.now_ms,
    )
    return await screen.run()


async def _recognise(websocket: WebSocket, socket: BrowserSocket, parts: Parts) -> Session | None:
    """Return the session: from a browser's cookie or header, or from the first message of a program."""
    headers = websocket.headers
    if parts.gate.cookie in websocket.cookies:
        # any page may open a WebSocket to us, and the browser sends the cookie along
        parts.gate.refuse_foreign(headers)
        return await parts.gate.find(websocket.cookies[parts.gate.cookie])
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return await parts.gate.find(bearer.strip())
    try:
        async with asyncio.timeout(AUTH_S):
            first = json.loads(await socket.receive_text() or "null")
    except (TimeoutError, ValueError, RecursionError):
        return None
    token = first.get("token") if isinstance(first, dict) and first.get("op") == "auth" else None
    return await parts.gate.find(token) if isinstance(token, str) else None

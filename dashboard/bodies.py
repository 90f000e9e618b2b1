"""How large a request may be: everybody may send one before we know who asks."""

from __future__ import annotations

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.problems import Problem

LARGEST = 1 << 20


class BodyLimit:
    """ASGI layer that refuses a body over a mebibyte before it fills the memory.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = Headers(scope=scope).get("content-length", "0")
        if not told.isdecimal() or int(told) > LARGEST:
            await Problem(413, "request.too_large").response()(scope, receive, send)
            return
        seen = 0

        async def receive_some() -> Message:
            # a chunked body does not tell its length
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > LARGEST:
                raise HTTPException(413)
            return message

        await self._app(scope, receive_some, send)

"""`GET /health` and `GET /metrics` of a long-running process that has no web server of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

REQUEST_LIMIT = 8192
REQUEST_TIMEOUT_S = 5.0
_PHRASES = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class HealthServer:
    """Answer two questions over HTTP: is it well, and its figures.

    Args:
        host: Address to listen on.
        port: 0 takes a free one; `port` tells which.
        registry: Figures for ``/metrics``.
        checks: Facts for ``/health``; the answer is 503 if ``ok`` among them is false. Called in the event
            loop, so it must not block.
    """

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, checks: Callable[[], dict[str, object]]
    ) -> None:
        self._host, self.port, self._registry, self._checks = host, port, registry, checks

    async def run(self, started: asyncio.Event | None = None) -> None:
        """Serve until cancelled."""
        server = await asyncio.start_server(self._serve, self._host, self.port, limit=REQUEST_LIMIT)
        self.port = server.sockets[0].getsockname()[1]
        if started is not None:
            started.set()
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        method, path = (words[0], words[1].split(b"?", 1)[0]) if len(words) == 3 else (b"", b"")
        if method not in {b"GET", b"HEAD"}:
            return _response(405, b"", "text/plain", is_head=False)
        if path == b"/metrics":
            return _response(200, generate_latest(self._registry), CONTENT_TYPE_LATEST, is_head=method == b"HEAD")
        if path == b"/health":
            facts = self._checks()
            body = json.dumps(facts, ensure_ascii=False, default=str).encode()
            status = 200 if facts.get("ok", True) else 503
            return _response(status, body, "application/json", is_head=method == b"HEAD")
        return _response(404, b"", "text/plain", is_head=False)


def _response(status: int, body: bytes, kind: str, *, is_head: bool) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if is_head else body)

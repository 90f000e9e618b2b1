"""A small HTTP/1.1 server for devices that push: bounded in every direction, protocol by h11."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import h11
import structlog

from gateway.listening import listening

if TYPE_CHECKING:
    from gateway.config import LinkConfig

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 256
MAX_BODY = 8 * 1024 * 1024
MAX_BODIES = 64 * 1024 * 1024
"""Bytes of all requests being received together; beyond it a device is asked to come again."""
IDLE_S = 120.0
REQUEST_S = 30.0
_HEAD_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, complete."""

    method: str
    path: str
    query: Mapping[str, str]
    content_type: str
    body: bytes
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What the device is answered."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"
    headers: tuple[tuple[str, str], ...] = field(default=())


BUSY = Response(status=503, body=b"busy\n", headers=(("Retry-After", "5"),))


class _RefusedError(Exception):
    """The request is answered before it is complete, and its connection closed."""

    def __init__(self, response: Response, reason: str) -> None:
        self.response, self.reason = response, reason
        super().__init__(reason)


class HttpServer:
    """Receives requests on a port and hands them on.

    Args:
        link: Where to listen, and who may come in.
        handle: Answers a request; what it raises is answered with 500 and logged.
    """

    def __init__(self, link: LinkConfig, handle: Callable[[Request], Awaitable[Response]]) -> None:
        self._link, self._handle = link, handle
        self._open = self._held = 0
        self._counts: Counter[str] = Counter()

    def status(self) -> dict[str, Any]:
        """Return what the health page shows."""
        return {"connections": self._open, "turned_away": dict(self._counts)}

    async def run(self, on_open: Callable[[], None]) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:

            def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                group.create_task(self._serve(reader, writer), name=f"push on {self._link.name}")

            server = await listening(connected, self._link.host, self._link.port)
            on_open()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        host = str(peer[0]) if peer else ""
        self._open += 1
        try:
            if self._open > MAX_CONNECTIONS or not self._link.admission.admits_host(host):
                self._counts["host"] += 1
                return
            await self._talk(reader, writer, host)
        except (OSError, TimeoutError, h11.RemoteProtocolError) as exc:
            if isinstance(exc, h11.RemoteProtocolError):
                self._counts["malformed"] += 1
                log.warning("push is no HTTP", host=host, reason=str(exc))
        except Exception:  # the boundary of one device: it must not stop the others
            log.exception("push failed", host=host)
        finally:
            self._open -= 1
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        while True:
            try:
                request = await self._receive(connection, reader, writer, host)
            except _RefusedError as exc:
                self._counts[exc.reason] += 1
                await _send(connection, writer, exc.response, is_last=True)
                return
            if request is None:
                return
            try:
                response = await self._handle(request)
            except Exception:  # the boundary of one request
                log.exception("push not understood", host=host, path=request.path)
                response = Response(status=500)
            await _send(connection, writer, response)
            if connection.our_state is h11.MUST_CLOSE:
                return
            connection.start_next_cycle()

    async def _receive(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str
    ) -> Request | None:
        head: h11.Request | None = None
        body = bytearray()
        limit_s = IDLE_S
        try:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    if connection.they_are_waiting_for_100_continue:
                        go_on = h11.InformationalResponse(status_code=100, headers=[])
                        writer.write(connection.send(go_on) or b"")
                    async with asyncio.timeout(limit_s):
                        connection.receive_data(await reader.read(65_536))
                elif isinstance(event, h11.Request):
                    head, limit_s = event, REQUEST_S
                    self._admit(head)
                elif isinstance(event, h11.Data):
                    body += event.data
                    self._held += len(event.data)
                    if len(body) > MAX_BODY:
                        raise _RefusedError(Response(status=413), "length")
                    if self._held > MAX_BODIES:
                        raise _RefusedError(BUSY, "busy")
                elif isinstance(event, h11.EndOfMessage) and head is not None:
                    return _request(head, bytes(body), host)
                else:
                    return None
        finally:
            self._held -= len(body)

    def _admit(self, head: h11.Request) -> None:
        if not self._link.admission.accounts:
            return
        user, password = _account(dict(head.headers).get(b"authorization", b""))
        if not self._link.admission.admits_user(user, password):
            realm = (("WWW-Authenticate", 'Basic realm="watchroom"'),)
            raise _RefusedError(Response(status=401, headers=realm), "account")


def _request(head: h11.Request, body: bytes, host: str) -> Request:
    parts = urlsplit(head.target.decode("latin-1"))
    headers = dict(head.headers)
    return Request(
        method=head.method.decode("ascii"),
        path=parts.path,
        query=dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=100)),
        content_type=headers.get(b"content-type", b"").decode("latin-1"),
        body=body,
        host=host,
    )


def _account(header: bytes) -> tuple[str, str]:
    scheme, _, rest = header.partition(b" ")
    if scheme.lower() != b"basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, password


async def _send(
    connection: h11.Connection, writer: asyncio.StreamWriter, response: Response, *, is_last: bool = False
) -> None:
    headers = [
        ("Content-Length", str(len(response.body))),
        ("Content-Type", response.content_type),
        *response.headers,
        *([("Connection", "close")] if is_last else []),
    ]
    answer = h11.Response(status_code=response.status, headers=headers)
    writer.write((connection.send(answer) or b"") + (connection.send(h11.Data(data=response.body)) or b""))
    writer.write(connection.send(h11.EndOfMessage()) or b"")
    await writer.drain()

"""Devices that connect to us: 4G data units (DTU) register with some bytes and send heartbeats between telegrams."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from gateway.config import LinkConfig
from gateway.wire import Wire
from watchroom.errors import LinkError

HELLO_S = 20.0
MAX_WAITING = 32
"""Connections that have not registered yet; more are turned away, so that a port scan costs nothing."""

log = structlog.get_logger()


class DialInWire(Wire):
    """The connection that a device made; the newest one counts, because the old one may be half open."""

    def __init__(self, link: LinkConfig) -> None:
        super().__init__()
        self._link = link
        self._transport: asyncio.Transport | None = None
        self._arrived = asyncio.Event()
        self.rejected = 0

    def accept(self, transport: asyncio.Transport) -> None:
        """Take a connection that has registered."""
        old, self._transport = self._transport, transport
        if old is not None:
            old.abort()
        self.buffer.clear()
        self.is_open = True
        self._arrived.set()
        log.info("device dialled in", link=self._link.name, peer=str(transport.get_extra_info("peername")))

    def gone(self, transport: asyncio.Transport) -> None:
        """A connection has ended."""
        if transport is self._transport:
            self._transport = None
            self.lost()

    def fed(self, data: bytes) -> None:
        """Take bytes; heartbeats are no telegrams."""
        if self._link.heartbeat and data.replace(self._link.heartbeat, b"") == b"":
            return
        self.received(data)

    def is_mine(self, transport: asyncio.Transport) -> bool:
        """Whether a connection is the one in use."""
        return transport is self._transport

    async def open(self) -> None:
        """Wait for a device to register."""
        if self.is_open:
            return
        self._arrived.clear()
        try:
            async with asyncio.timeout(max(self._link.timeout_s, 1.0)):
                await self._arrived.wait()
        except TimeoutError as exc:
            raise LinkError(f"{self._link}: no device has dialled in") from exc

    def send(self, data: bytes) -> None:
        """Send bytes."""
        if self._transport is None or not self.is_open:
            raise LinkError(f"{self._link}: not connected")
        self._transport.write(data)

    def close(self) -> None:
        """Hang up; a data unit dials again."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


class _Caller(asyncio.Protocol):
    """One incoming connection: first its registration, then telegrams."""

    def __init__(self, port: DialInPort) -> None:
        self._port = port
        self._head = bytearray()
        self._wire: DialInWire | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._port.admit(transport):
            transport.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(HELLO_S, transport.abort)
        self._register()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._wire is not None:
            if self._wire.is_mine(self._transport):
                self._wire.fed(data)
            return
        self._head += data
        self._register()

    def connection_lost(self, exc: Exception | None) -> None:
        assert self._transport is not None
        self._settle()
        if self._wire is not None:
            self._wire.gone(self._transport)

    def _register(self) -> None:
        assert self._transport is not None
        found = self._port.wire_for(bytes(self._head))
        if found is not None:
            self._settle()
            self._wire, rest = found
            self._wire.accept(self._transport)
            if rest:
                self._wire.fed(rest)
        elif len(self._head) > self._port.longest_hello:
            log.warning("unknown device dialled in", port=self._port.number, hello=self._head[:32].hex())
            self._port.strangers += 1
            self._transport.abort()

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        assert self._transport is not None
        self._port.waiting.discard(self._transport)


class DialInPort:
    """One listening port with the links behind it, told apart by their registration.

    Args:
        wires: Registration -> wire; a wire with an empty registration takes every connection.
        host: Address to listen on.
        number: Port to listen on.
    """

    def __init__(self, wires: Iterable[tuple[bytes, DialInWire]], *, host: str, number: int) -> None:
        self._wires = tuple(wires)
        self._host, self.number = host, number
        self._server: asyncio.Server | None = None
        self.longest_hello = max(len(hello) for hello, _ in self._wires)
        self.waiting: set[asyncio.Transport] = set()
        self.strangers = 0

    async def start(self) -> None:
        """Listen.

        Raises:
            LinkError: If the port is taken.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Caller(self), self._host, self.number)
        except OSError as exc:
            raise LinkError(f"cannot listen on {self._host}:{self.number}: {exc.strerror}") from exc
        self.number = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for transport in list(self.waiting):
            transport.abort()
        for _, wire in self._wires:
            wire.close()
        await asyncio.sleep(0)

    def admit(self, transport: asyncio.Transport) -> bool:
        """Whether one more unregistered connection may wait."""
        if len(self.waiting) >= MAX_WAITING:
            return False
        self.waiting.add(transport)
        return True

    def wire_for(self, head: bytes) -> tuple[DialInWire, bytes] | None:
        """Return the wire a registration belongs to and the bytes after it; None while it is not known."""
        for hello, wire in self._wires:
            if head.startswith(hello):
                return wire, head[len(hello) :]
        return None


def dial_in(links: Iterable[LinkConfig]) -> tuple[dict[str, DialInWire], list[DialInPort]]:
    """Return the wires of all links that devices dial in to, by link name, and the ports to listen on."""
    wires: dict[str, DialInWire] = {}
    ports: dict[tuple[str, int], list[tuple[bytes, DialInWire]]] = {}
    for link in links:
        if link.kind == "listen":
            wire = wires[link.name] = DialInWire(link)
            ports.setdefault((link.host, link.port), []).append((link.hello, wire))
    return wires, [DialInPort(found, host=host, number=number) for (host, number), found in ports.items()]

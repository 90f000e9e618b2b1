"""The bytes of a link: a TCP connection or a serial line, with everything received waiting in one buffer."""

from __future__ import annotations

import asyncio
import os
import termios
from contextlib import suppress

from gateway.config import LinkConfig
from watchroom.errors import LinkError

MAX_BUFFER = 4096
"""Bytes kept of what nobody asked for; a line that sends more loses the oldest."""
_PARITY = {"N": 0, "E": termios.PARENB, "O": termios.PARENB | termios.PARODD}


class Wire:
    """One direction in, one out; whoever makes it feeds ``received`` and ``lost``.

    Attributes:
        buffer: Received and not taken; the reader deletes what it has used.
        is_open: Whether bytes can be sent.
        dropped: Bytes that did not fit the buffer.
    """

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.is_open = False
        self.dropped = 0
        self._waiter: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            LinkError: If there is nothing to connect to within the timeout.
        """
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Send bytes; never blocks.

        Raises:
            LinkError: If the line takes none.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Disconnect; does nothing if there is no connection."""
        raise NotImplementedError

    def received(self, data: bytes) -> None:
        """Keep bytes and wake the reader."""
        self.buffer += data
        if len(self.buffer) > MAX_BUFFER:
            self.dropped += len(self.buffer) - MAX_BUFFER
            del self.buffer[: len(self.buffer) - MAX_BUFFER]
        self._wake()

    def lost(self) -> None:
        """The other side has gone."""
        self.is_open = False
        self._wake()

    async def wait(self, until_s: float) -> bool:
        """Return True when more bytes have come or the line was lost, False when the time is over."""
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = loop.call_at(until_s, _expire, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None
        return loop.time() < until_s

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Pipe(asyncio.Protocol):
    """Hands what asyncio gives to a wire, until the wire has another connection."""

    def __init__(self, wire: TcpWire) -> None:
        self._wire = wire
        self.gone = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if self._wire.pipe is self:
            self._wire.received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
        if self._wire.pipe is self:
            self._wire.lost()


class TcpWire(Wire):
    """A connection that we make."""

    def __init__(self, link: LinkConfig) -> None:
        super().__init__()
        self._link = link
        self._transport: asyncio.Transport | None = None
        self._leaving: asyncio.Future[None] | None = None
        self.pipe: _Pipe | None = None

    async def open(self) -> None:
        """Connect; the old connection is really gone before, because some devices have room for one only."""
        self.close()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._link.timeout_s):
                if self._leaving is not None:
                    await self._leaving
                # asyncio's transports switch Nagle off
                transport, pipe = await loop.create_connection(lambda: _Pipe(self), self._link.host, self._link.port)
        except TimeoutError as exc:
            raise LinkError(f"{self._link}: no connection") from exc
        except OSError as exc:
            raise LinkError(f"{self._link}: {exc.strerror or exc}") from exc
        self.buffer.clear()
        self._transport, self.pipe, self.is_open = transport, pipe, True

    def send(self, data: bytes) -> None:
        """Send bytes."""
        if self._transport is None or not self.is_open:
            raise LinkError(f"{self._link}: not connected")
        self._transport.write(data)

    def close(self) -> None:
        """Disconnect."""
        if self._transport is not None and self.pipe is not None:
            self._leaving, self.pipe = self.pipe.gone, None
            self._transport.abort()
            self._transport = None
        self.is_open = False


class SerialWire(Wire):
    """A serial line of this machine, 8 data bits."""

    def __init__(self, link: LinkConfig) -> None:
        super().__init__()
        self._link = link
        self._fd = -1

    async def open(self) -> None:
        """Open the device file and set the line."""
        self.close()
        try:
            self._fd = os.open(self._link.host, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._set_line()
            asyncio.get_running_loop().add_reader(self._fd, self._readable)
        except (OSError, termios.error) as exc:
            self.close()
            raise LinkError(f"{self._link}: {exc.args[-1] if exc.args else exc}") from exc
        self.buffer.clear()
        self.is_open = True

    def send(self, data: bytes) -> None:
        """Send bytes."""
        if not self.is_open:
            raise LinkError(f"{self._link}: not open")
        try:
            sent = os.write(self._fd, data)
        except OSError as exc:
            self.close()
            raise LinkError(f"{self._link}: {exc.strerror}") from exc
        if sent < len(data):
            raise LinkError(f"{self._link}: the line takes no more bytes")

    def close(self) -> None:
        """Close the device file."""
        self.is_open = False
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, MAX_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.received(data)
        else:
            # an adapter that was pulled out
            self.close()
            self.lost()

    def _set_line(self) -> None:
        speed = getattr(termios, f"B{self._link.baud}", None)
        if speed is None:
            raise LinkError(f"{self._link}: this machine has no {self._link.baud} baud")
        control = termios.CS8 | termios.CREAD | termios.CLOCAL | _PARITY[self._link.parity]
        if self._link.stop_bits == 2:
            control |= termios.CSTOPB
        characters = termios.tcgetattr(self._fd)[6]
        characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        checks = termios.INPCK if self._link.parity != "N" else 0
        termios.tcsetattr(self._fd, termios.TCSANOW, [checks, 0, control, 0, speed, speed, characters])
        with suppress(termios.error):
            termios.tcflush(self._fd, termios.TCIOFLUSH)

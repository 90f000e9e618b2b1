"""Modbus devices for tests: one that follows a script (silent, refusing, lying), and pymodbus' own server."""

from __future__ import annotations

import asyncio
import os
import struct
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from gateway.addresses import Table

SILENT = None
TABLES = {1: Table.COIL, 2: Table.DISCRETE, 3: Table.HOLDING, 4: Table.INPUT}


@dataclass(frozen=True)
class Request:
    """One read request as the device sees it."""

    unit: int
    table: Table
    start: int
    count: int


@dataclass(frozen=True)
class Written:
    """One write request as the device sees it; count is the value for the functions 5 and 6."""

    unit: int
    function: int
    start: int
    count: int
    data: bytes

    @property
    def words(self) -> list[int]:
        """What is written, coils as 0 and 1."""
        if self.function == 5:
            return [int(self.count == 0xFF00)]
        if self.function == 6:
            return [self.count]
        if self.function == 15:
            octets = int.from_bytes(self.data[1:], "little")
            return [octets >> i & 1 for i in range(self.count)]
        return list(struct.unpack(f">{self.count}H", self.data[1:]))


Answer = list[int] | int | bytes | None
"""Registers, an exception code, the bytes after the function code, or no answer."""


@dataclass
class ScriptedDevice:
    """Answers Modbus TCP or RTU-over-TCP requests by a function; written without our own code or pymodbus.

    Attributes:
        on_write: Takes a write; an exception code refuses it, None is no answer.
        requests: Everything that was asked.
        writes: Everything that was written.
        connections: How often somebody connected.
    """

    answer: Callable[[Request], Answer]
    is_rtu: bool = False
    delay_s: Callable[[Request], float] = lambda _: 0.0
    on_write: Callable[[Written], list[int] | int | None] = lambda written: written.words
    requests: list[Request] = field(default_factory=list)
    writes: list[Written] = field(default_factory=list)
    connections: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    port: int = 0

    async def start(self) -> None:
        """Listen; on the same port as before after a stop."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                await (self._rtu(reader, writer) if self.is_rtu else self._tcp(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(12)
        tid, _, length, unit, function, start, count = struct.unpack(">HHHBBHH", head)
        data = await reader.readexactly(length - 6)
        if function in {5, 6, 15, 16}:
            body = await self._written(Written(unit, function, start, count, data))
        else:
            body = await self._body(unit, function, start, count)
        if body is not None:
            writer.write(struct.pack(">HHHB", tid, 0, len(body) + 1, unit) + body)

    async def _rtu(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(8)
        unit, function, start, count = struct.unpack(">BBHH", head[:6])
        assert crc16(head[:6]) == head[6:]
        body = await self._body(unit, function, start, count)
        if body is not None:
            writer.write(bytes([unit]) + body + crc16(bytes([unit]) + body))

    async def serve_line(self, fd: int, *, is_ascii: bool = False) -> None:
        """Answer on the far end of a pty until cancelled; one request at a time, as a device on a bus does."""
        loop = asyncio.get_running_loop()
        stream = asyncio.StreamReader()
        loop.add_reader(fd, lambda: stream.feed_data(os.read(fd, 4096)))
        try:
            while True:
                if is_ascii:
                    line = await stream.readuntil(b"\r\n")
                    octets = bytes.fromhex(line[1:-2].decode())
                    assert sum(octets) & 0xFF == 0
                    unit, function, start, count = struct.unpack(">BBHH", octets[:6])
                else:
                    head = await stream.readexactly(8)
                    assert crc16(head[:6]) == head[6:]
                    unit, function, start, count = struct.unpack(">BBHH", head[:6])
                body = await self._body(unit, function, start, count)
                if body is not None:
                    answer = bytes([unit]) + body
                    if is_ascii:
                        octets = answer + bytes([-sum(answer) & 0xFF])
                        os.write(fd, b":" + octets.hex().upper().encode() + b"\r\n")
                    else:
                        os.write(fd, answer + crc16(answer))
        finally:
            loop.remove_reader(fd)

    async def dial(self, port: int, hello: bytes, *, heartbeat: bytes = b"") -> None:
        """Connect to a gateway as a data unit does, say who it is, and answer until cancelled."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self._writers.add(writer)
        try:
            writer.write(hello)
            while True:
                writer.write(heartbeat)
                await self._rtu(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def hang_up(self) -> None:
        """Drop every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _written(self, written: Written) -> bytes | None:
        self.writes.append(written)
        answer = self.on_write(written)
        if answer is None:
            return None
        if isinstance(answer, int):
            return bytes([written.function | 0x80, answer])
        return struct.pack(">BHH", written.function, written.start, written.count)

    async def _body(self, unit: int, function: int, start: int, count: int) -> bytes | None:
        request = Request(unit, TABLES[function], start, count)
        self.requests.append(request)
        answer = self.answer(request)
        if delay_s := self.delay_s(request):
            await asyncio.sleep(delay_s)
        if answer is None:
            return None
        if isinstance(answer, bytes):
            return bytes([function]) + answer
        if isinstance(answer, int):
            return bytes([function | 0x80, answer])
        if request.table.is_bits:
            octets = sum(bit << i for i, bit in enumerate(answer)).to_bytes(-(-len(answer) // 8), "little")
        else:
            octets = struct.pack(f">{len(answer)}H", *answer)
        return bytes([function, len(octets)]) + octets


def crc16(data: bytes) -> bytes:
    """Return the Modbus checksum, bit by bit as the standard draws it."""
    crc = 0xFFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc.to_bytes(2, "little")


@contextmanager
def pty_pair() -> Iterator[tuple[int, str]]:
    """A serial line without hardware: the far end as a file descriptor, and the name of the near end."""
    far, near = os.openpty()
    tty.setraw(far)
    tty.setraw(near)
    try:
        yield far, os.ttyname(near)
    finally:
        os.close(far)
        os.close(near)


@asynccontextmanager
async def null_modem() -> AsyncIterator[tuple[str, str]]:
    """Two serial devices that are wired to each other, by name."""
    loop = asyncio.get_running_loop()
    with pty_pair() as (left, left_name), pty_pair() as (right, right_name):
        loop.add_reader(left, lambda: os.write(right, os.read(left, 4096)))
        loop.add_reader(right, lambda: os.write(left, os.read(right, 4096)))
        try:
            yield left_name, right_name
        finally:
            loop.remove_reader(left)
            loop.remove_reader(right)


@asynccontextmanager
async def device(answer: Callable[[Request], Answer], *, is_rtu: bool = False) -> AsyncIterator[ScriptedDevice]:
    """Run a scripted device."""
    scripted = ScriptedDevice(answer, is_rtu=is_rtu)
    await scripted.start()
    try:
        yield scripted
    finally:
        await scripted.stop()


def counting(request: Request) -> list[int]:
    """Every register holds its own offset."""
    return [(request.start + i) & (1 if request.table.is_bits else 0xFFFF) for i in range(request.count)]


@dataclass
class Registers:
    """A device that keeps what is written: tables of numbers by offset."""

    holding: dict[int, int] = field(default_factory=dict)
    coils: dict[int, int] = field(default_factory=dict)
    inputs: dict[int, int] = field(default_factory=dict)

    def answer(self, request: Request) -> Answer:
        """Return what stands there, 0 where nothing does."""
        tables = {Table.HOLDING: self.holding, Table.COIL: self.coils, Table.INPUT: self.inputs}
        table = tables.get(request.table, {})
        return [table.get(request.start + i, 0) for i in range(request.count)]

    def write(self, written: Written) -> list[int]:
        """Keep what is written."""
        table = self.coils if written.function in {5, 15} else self.holding
        table.update(enumerate(written.words, written.start))
        return written.words

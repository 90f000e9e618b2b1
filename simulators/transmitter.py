"""A fire transmitter after GB/T 26875.3-2011: keeps its records until the centre has answered, as real ones do.

Written from the field table of the standard, without the gateway's code, so that the two prove each other.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

import structlog

Mode = Literal["healthy", "failing", "lying"]
KEEP_RECORDS = 10_000
"""GB 25506 wants room for 10,000 records."""
CONTROL, SEND, CONFIRM, REQUEST, ANSWER, DENY = 1, 2, 3, 4, 5, 6
NORMAL, FIRE, FAULT, SHIELDED = 1, 1 << 1, 1 << 2, 1 << 3
_HEAD = struct.Struct("<HBB6s6s6sHB")
log = structlog.get_logger("simulators")


class Transmitter:
    """One transmitter with a panel behind it.

    Args:
        address: Its own address, six bytes.
        zone: Zone of its clock.
        now_ms: Wall clock, UTC.
        mode: ``failing`` cuts, glues and spoils frames, hangs up and answers late; ``lying`` has a clock that is
            hours off, tells rubbish between frames and gives its parts normal states now and then.
        seed: Of everything left to chance.
        answer_s: How long it waits for the centre before it sends again.

    Attributes:
        answered: Data units the centre has confirmed, in order.
        sent: How many frames it has sent, repetitions included.
        clock_set_ms: Time of the centre's last clock order, by this transmitter's zone.
        duty_limits: Minutes of the duty checks that came.
        is_guarded: Somebody sits there and presses the button at a duty check.
    """

    def __init__(
        self,
        *,
        address: bytes = bytes.fromhex("060504030201"),
        zone: ZoneInfo,
        now_ms: Callable[[], int],
        mode: Mode = "healthy",
        seed: int = 1,
        answer_s: float = 5.0,
    ) -> None:
        self._address, self._zone, self._now_ms, self.mode = address, zone, now_ms, mode
        self._random = random.Random(seed)
        self._answer_s = answer_s
        self._records: deque[tuple[int, bytes]] = deque(maxlen=KEEP_RECORDS)
        self._serial = 0
        self._news = asyncio.Event()
        self._confirmed: dict[int, asyncio.Event] = {}
        self._denied: set[int] = set()
        self.system_state = NORMAL
        self.transmitter_state = NORMAL
        self.answered: list[bytes] = []
        self.sent = 0
        self.clock_set_ms: int | None = None
        self.duty_limits: list[int] = []
        self.is_guarded = True
        self.is_connected = False

    # what happens at the panel

    def part(self, loop: int, number: int, *, state: int, text: str = "", kind: int = 42) -> None:
        """A part of the fire alarm system (type 1) changes its state."""
        encoded = text.encode("gb18030")[:31].ljust(31, b"\0")
        body = struct.pack("<BBBHHH31s", 1, 0, kind, number, loop, state, encoded) + self._time()
        self._keep(2, body)

    def system(self, state: int) -> None:
        """The fire alarm system (type 1) as a whole changes its state."""
        self.system_state = state
        self._keep(1, struct.pack("<BBH", 1, 0, state) + self._time())

    def analog(self, loop: int, number: int, *, kind: int, raw: int, system: int = 12, part: int = 99) -> None:
        """A measured value, in the unit of the last digit."""
        self._keep(3, struct.pack("<BBBHHBh", system, 0, part, number, loop, kind, raw) + self._time())

    def operate(self, flags: int, operator: int = 1) -> None:
        """Somebody presses something at the panel: bit 0 reset, 1 silence ..."""
        self._keep(4, bytes((1, 0, flags, operator)) + self._time())

    def raw(self, data: bytes) -> None:
        """Send a data unit of any content."""
        self._put(data)

    @property
    def waiting(self) -> int:
        """Records the centre has not confirmed."""
        return len(self._records)

    # the line

    async def connect(self, host: str, port: int) -> None:
        """Dial the centre and stay connected until cancelled."""
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(host, port)
                await self.talk(reader, writer)
            await asyncio.sleep(0.1)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak on one connection until it ends."""
        self.is_connected = True
        sender = asyncio.create_task(self._send_records(writer), name="transmitter records")
        try:
            await self._listen(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.is_connected = False
            sender.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await sender
            writer.transport.abort()

    async def _send_records(self, writer: asyncio.StreamWriter) -> None:
        while True:
            if not self._records:
                self._news.clear()
                await self._news.wait()
                continue
            serial, data = self._records[0]
            confirmed = self._confirmed[serial] = asyncio.Event()
            await self._put_on_line(writer, self._frame(serial, SEND, data))
            try:
                async with asyncio.timeout(self._answer_s):
                    await confirmed.wait()
            except TimeoutError:
                continue
            finally:
                del self._confirmed[serial]
            if serial in self._denied:
                self._denied.discard(serial)
                continue
            self._records.popleft()
            self.answered.append(data)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readexactly(2 + _HEAD.size)
            serial, _, _, _, _, _, length, command = _HEAD.unpack(head[2:])
            rest = await reader.readexactly(length + 3)
            assert head[:2] == b"@@", "the centre's frame begins elsewhere"
            assert rest[-2:] == b"##", "the centre's frame has no end"
            assert rest[-3] == (sum(head[2:]) + sum(rest[:-3])) & 0xFF, "the centre's checksum is wrong"
            data = rest[:-3]
            if command in (CONFIRM, DENY):
                if command == DENY:
                    self._denied.add(serial)
                if serial in self._confirmed:
                    self._confirmed[serial].set()
                continue
            for answer in self._obey(serial, command, data):
                await self._put_on_line(writer, answer)

    def _obey(self, serial: int, command: int, data: bytes) -> Iterator[bytes]:
        """Answer one question or order of the centre."""
        match (command, data[0] if data else 0):
            case (4, 81):
                yield self._frame(serial, ANSWER, bytes((21, 1, self.transmitter_state)) + self._time())
            case (4, 61):
                body = struct.pack("<BBH", data[2], data[3], self.system_state) + self._time()
                yield self._frame(serial, ANSWER, bytes((1, 1)) + body)
            case (1, 90):
                second, minute, hour, day, month, year = data[2:8]
                moment = datetime(2000 + year, month, day, hour, minute, second, tzinfo=self._zone)
                self.clock_set_ms = round(moment.timestamp() * 1000)
                yield self._frame(serial, CONFIRM, b"")
            case (1, 91):
                self.duty_limits.append(data[2])
                yield self._frame(serial, CONFIRM, b"")
                if self.is_guarded:
                    self._put(bytes((24, 1, 1 << 5, 1)) + self._time())
            case (2, _):
                yield self._frame(serial, CONFIRM, b"")
            case _:
                yield self._frame(serial, DENY, b"")

    # frames

    def duty_from_above(self, limit_min: int) -> None:
        """A higher centre asks whether somebody is on duty; the transmitter hands the question on."""
        self._put(bytes((91, 1, limit_min)))

    def _keep(self, kind: int, body: bytes) -> None:
        self._put(bytes((kind, 1)) + body)

    def _put(self, data: bytes) -> None:
        self._serial = self._serial % 0xFFFF + 1
        self._records.append((self._serial, data))
        self._news.set()

    def _time(self) -> bytes:
        off_s = 5 * 3600 if self.mode == "lying" else 0
        now = datetime.fromtimestamp(self._now_ms() / 1000 + off_s, self._zone)
        return bytes((now.second, now.minute, now.hour, now.day, now.month, now.year % 100))

    def _frame(self, serial: int, command: int, data: bytes) -> bytes:
        head = _HEAD.pack(serial, 1, 1, self._time(), self._address, bytes(6), len(data), command)
        return b"@@" + head + data + bytes(((sum(head) + sum(data)) & 0xFF,)) + b"##"

    async def _put_on_line(self, writer: asyncio.StreamWriter, frame: bytes) -> None:
        self.sent += 1
        chance = self._random.random()
        if self.mode == "lying" and chance < 0.5:
            # what a loose earth makes of a quiet line, with a start in it
            writer.write(self._random.randbytes(self._random.randrange(12)) + b"@@\xff")
        if self.mode == "failing" and chance < 0.2:
            spoiled = bytearray(frame)
            spoiled[self._random.randrange(2, len(frame) - 3)] ^= 0x10
            writer.write(bytes(spoiled))
        elif self.mode == "failing" and chance < 0.3:
            writer.write(frame[: len(frame) // 2])
            writer.transport.abort()
        elif self.mode == "failing" and chance < 0.7:
            cut = self._random.randrange(1, len(frame))
            writer.write(frame[:cut])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(frame[cut:] + frame)
        else:
            writer.write(frame)
        await writer.drain()

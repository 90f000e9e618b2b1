"""One connection of a fire transmitter: its frames answered after they are on the disk, our orders to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from gateway.fireframe import NO_ADDRESS, BadFrame, Command, FireFrame, Splitter, encode_time
from gateway.firemap import FireDevice
from watchroom.errors import LinkError

log = structlog.get_logger(__name__)

READ_BYTES = 4096
STUCK_S = 2.0
"""An incomplete frame is given up after the line was silent for so long."""
TRIES = 3

Answer = Callable[["FireSession", FireFrame], Any]


class FireSession:
    """Speaks with one transmitter over one connection.

    Args:
        reader: The connection.
        writer: The connection.
        identify: Gives the device of a frame, None for a stranger; called until a device is known.
        take: Takes a frame with content; the answer is sent when it returns. ContractError: the frame is refused.
        now_ms: The gateway's clock, UTC ms.

    Attributes:
        device: Whose connection it is, once a frame has told.
        splitter: Counts what was thrown away.
        strangers: Frames of nobody we know.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        identify: Callable[[bytes, str], FireDevice | None],
        take: Answer,
        now_ms: Callable[[], int],
    ) -> None:
        self._reader, self._writer = reader, writer
        self._identify, self._take, self._now_ms = identify, take, now_ms
        peer = writer.get_extra_info("peername")
        self.host = str(peer[0]) if peer else ""
        self.device: FireDevice | None = None
        self.splitter = Splitter()
        self.strangers = 0
        self.has_device = asyncio.Event()
        self._address = NO_ADDRESS
        self._own_address = NO_ADDRESS
        self._version = (1, 1)
        self._serial = 0
        self._ordering = asyncio.Lock()
        self._waiting: dict[int, asyncio.Future[bool | None]] = {}
        self._is_over = False

    async def run(self, silence_s: float) -> None:
        """Read until the connection ends.

        Raises:
            LinkError: When it is lost, or silent for longer than ``silence_s``.
        """
        try:
            quiet_s = 0.0
            while True:
                wait_s = min(silence_s, STUCK_S) if self.splitter.held else silence_s
                try:
                    async with asyncio.timeout(wait_s):
                        data = await self._reader.read(READ_BYTES)
                except TimeoutError:
                    quiet_s += wait_s
                    if quiet_s >= silence_s:
                        raise LinkError(f"nothing heard for {silence_s:g} s") from None
                    await self._frames(self.splitter.expire())
                    continue
                if not data:
                    raise LinkError("the transmitter has closed the connection")
                quiet_s = 0.0
                await self._frames(self.splitter.feed(data))
        except OSError as exc:
            raise LinkError(f"connection lost: {exc}") from exc
        finally:
            self._is_over = True
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_result(None)
            self._writer.close()

    async def order(self, data: bytes, *, command: Command, answer_s: float) -> bool:
        """Send an order or question and return whether the transmitter has confirmed or answered it.

        Asked up to three times, one order at a time.

        Raises:
            LinkError: If no answer came.
        """
        async with self._ordering:
            self._serial = self._serial % 0xFFFF + 1
            serial = self._serial
            waiting: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
            self._waiting[serial] = waiting
            frame = FireFrame(
                serial=serial,
                command=command,
                data=data,
                stamp=self.stamp(),
                source=self._own_address,
                target=self._address,
                version=self._version,
            )
            try:
                for _ in range(TRIES):
                    if self._is_over:
                        break
                    self._send(frame)
                    await asyncio.wait([waiting], timeout=answer_s)
                    if waiting.done():
                        break
            finally:
                del self._waiting[serial]
        if not waiting.done():
            raise LinkError("the connection was lost" if self._is_over else f"no answer in {TRIES} tries")
        answer = waiting.result()
        if answer is None:
            raise LinkError("the connection was lost before the answer")
        return answer

    async def _frames(self, frames: list[FireFrame | BadFrame]) -> None:
        for frame in frames:
            if isinstance(frame, BadFrame):
                # the sender repeats at once what is denied; the number may be wrong too, then it repeats later
                self._send(frame.frame.reply(Command.DENY, self.stamp()))
            else:
                await self._frame(frame)

    async def _frame(self, frame: FireFrame) -> None:
        if self.device is None or not self.device.comes_from(frame.source, self.host):
            device = self._identify(frame.source, self.host)
            if device is None or self.device is not None:
                if not self.strangers:
                    log.warning("transmitter is not in the file", host=self.host, address=frame.source.hex())
                self.strangers += 1
                return
            self.device = device
        if not self.has_device.is_set():
            self._address, self._own_address, self._version = frame.source, frame.target, frame.version
            self.has_device.set()
        if frame.command in {Command.CONFIRM, Command.DENY, Command.ANSWER}:
            waiting = self._waiting.get(frame.serial)
            if waiting is not None and not waiting.done():
                waiting.set_result(frame.command != Command.DENY)
        if frame.command in {Command.CONFIRM, Command.DENY}:
            return
        is_taken = await self._take(self, frame)
        if frame.command != Command.ANSWER:
            self._send(frame.reply(Command.CONFIRM if is_taken else Command.DENY, self.stamp()))

    def close(self) -> None:
        """End the connection."""
        self._writer.close()

    def stamp(self) -> bytes:
        """Return our clock as the transmitter's would show it."""
        zone = self.device.zone if self.device else None
        return bytes(6) if zone is None else encode_time(self._now_ms(), zone)

    def _send(self, frame: FireFrame) -> None:
        if not self._writer.is_closing():
            self._writer.write(frame.encode())

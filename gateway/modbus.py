"""One Modbus link: asks a question, believes an answer only if it cannot belong to any other question.

Numbered telegrams (Modbus TCP) are told apart by their number. RTU and ASCII are not: ``gateway.ghosts`` says which
questions may be asked after an answer was late, and a control question clears the unit before its values are
believed again (pymodbus' own RTU framer returns other registers' values from then on, see docs/adr).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np

from gateway.addresses import Table
from gateway.config import LinkConfig
from gateway.ghosts import Ghosts
from gateway.registers import Words
from gateway.telegram import MisfitError, Question, find, read_question, strip, wrap, write_question
from gateway.wire import SerialWire, TcpWire, Wire
from watchroom.errors import LinkError, WatchroomError

EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target does not answer",
}
NO_TARGET = frozenset({10, 11})
"""Exception codes by which a converter says that the device behind it is silent."""
BAD_ADDRESS = frozenset({2, 3})
"""Exception codes of a request that this device will never answer: an address or a length it does not have."""
_CHARACTER_BITS = 11


class RefusedError(WatchroomError):
    """The device answers with a Modbus exception: it is alive, and this request is wrong or comes too early.

    Args:
        code: Exception code of the answer.
    """

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"exception {code}: {EXCEPTIONS.get(code, 'unknown')}")


@dataclass(slots=True)
class LinkCounts:
    """What has happened on a link since the start.

    Attributes:
        late: Answers that came after their time and were thrown away.
        noise: Bytes that were no telegram.
        controls: Control questions asked after late or lost answers.
    """

    late: int = 0
    noise: int = 0
    controls: int = 0


class ModbusLink:
    """A connection to one TCP endpoint, serial line or dialled-in device; one request at a time.

    Args:
        link: Where and how.
        wire: The bytes; made from the link if None.
    """

    def __init__(self, link: LinkConfig, wire: Wire | None = None) -> None:
        self._link = link
        self._wire = wire or (SerialWire(link) if link.kind == "serial" else TcpWire(link))
        self._ghosts = Ghosts(link.settle_s)
        self._number = 0
        self._last_done_s = 0.0
        # 3.5 characters of silence end an RTU telegram; from 19,200 baud on it is 1.75 ms
        characters_s = max(3.5 * _CHARACTER_BITS / link.baud, 0.00175)
        self._gap_s = max(link.gap_s, characters_s if link.kind == "serial" else 0.0)
        self.counts = LinkCounts()

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self._wire.is_open

    @property
    def is_numbered(self) -> bool:
        """Whether telegrams carry a number, so that a late answer is known as such."""
        return self._link.framing == "tcp"

    async def open(self) -> None:
        """Connect.

        Raises:
            LinkError: If nobody answers there within the timeout.
        """
        await self._wire.open()

    def close(self) -> None:
        """Disconnect; does nothing if there is no connection."""
        self._wire.close()

    async def read(self, table: Table, *, unit: int, start: int, count: int) -> Words:
        """Return registers, or 0 and 1 for coils and discrete inputs, shape (count,).

        Raises:
            LinkError: If no usable answer comes within the timeout.
            RefusedError: If the device answers with an exception.
        """
        question = read_question(table, unit=unit, start=start, count=count)
        if not self.is_numbered:
            await self._clear(question, table, start=start, count=count)
        pdu = await self._ask(question)
        data = np.frombuffer(pdu, dtype=np.uint8, offset=2)
        if table.is_bits:
            return np.unpackbits(data, bitorder="little")[:count].astype(np.uint16)
        return data.view(">u2").astype(np.uint16)

    async def write(self, table: Table, words: list[int], *, unit: int, start: int, is_multiple: bool = False) -> None:
        """Write coils (0 or 1 each) or holding registers.

        Raises:
            LinkError: If no answer comes: nobody knows whether it was written.
            RefusedError: If the device answers with an exception.
        """
        await self._ask(write_question(table, unit=unit, start=start, words=words, is_multiple=is_multiple))

    async def _clear(self, question: Question, table: Table, *, start: int, count: int) -> None:
        """Make sure that an answer to a question cannot be an old one.

        Raises:
            LinkError: If the unit still owes an answer of that shape.
        """
        loop = asyncio.get_running_loop()
        wait_s = self._ghosts.quiet_until_s(question.unit) - loop.time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        self._flush()
        if self._ghosts.is_clear(question, loop.time()):
            return
        for control in self._ghosts.controls(table, unit=question.unit, start=start, count=count):
            self.counts.controls += 1
            try:
                await self._ask(control)
            except RefusedError as exc:
                if exc.code in NO_TARGET:
                    raise
            if self._ghosts.is_clear(question, loop.time()):
                return
        raise LinkError(f"{self._link}: unit {question.unit} may still send an old answer")

    async def _ask(self, question: Question) -> bytes:
        """Return the PDU of a good answer."""
        loop = asyncio.get_running_loop()
        await self._keep_gap()
        if not self._wire.is_open:
            raise LinkError(f"{self._link}: not connected")
        self._flush()
        self._number = self._number % 0xFFFF + 1
        self._wire.send(wrap(self._link.framing, question, number=self._number))
        is_answered = False
        try:
            pdu = await self._answer(question, loop.time() + self._timeout_s(question))
            is_answered = True
        finally:
            # also when we are cancelled: the answer is then still on its way
            self._last_done_s = loop.time()
            if not is_answered and not self.is_numbered:
                self._ghosts.lost(question, self._last_done_s)
        is_refusal = question.refuses(pdu)
        if not self.is_numbered:
            self._ghosts.answered(question, self._last_done_s, is_refusal=is_refusal)
        if is_refusal:
            raise RefusedError(pdu[1])
        return pdu

    async def _answer(self, question: Question, until_s: float) -> bytes:
        wire = self._wire
        while True:
            try:
                pdu = find(self._link.framing, wire.buffer, question, number=self._number)
            except MisfitError as exc:
                raise LinkError(f"{self._link}: unit {question.unit}: {exc}") from exc
            except ValueError as exc:
                self.counts.noise += len(wire.buffer)
                wire.close()
                raise LinkError(f"{self._link}: {exc}") from exc
            if pdu is not None:
                return pdu
            if self._drop_strays(besides=question):
                continue
            if not wire.is_open:
                raise LinkError(f"{self._link}: connection lost")
            if not await wire.wait(until_s):
                raise LinkError(f"{self._link}: unit {question.unit} does not answer")

    def _timeout_s(self, question: Question) -> float:
        """The wait for an answer; on a slow line its own length counts on top."""
        if self._link.kind != "serial":
            return self._link.timeout_s
        characters = (len(question.pdu) + question.size + 6) * (2 if self._link.framing == "ascii" else 1)
        return self._link.timeout_s + characters * _CHARACTER_BITS / self._link.baud

    def _flush(self) -> None:
        """Throw away what came without being asked for; a late answer among it is noted as arrived."""
        buffer = self._wire.buffer
        if buffer:
            if not self.is_numbered:
                self._drop_strays(besides=None)
            self.counts.noise += len(buffer)
            buffer.clear()

    def _drop_strays(self, *, besides: Question | None) -> bool:
        """Take late answers to old questions off the front of the buffer; returns whether there were any."""
        if self.is_numbered:
            return False
        before = self.counts.late
        while self._wire.buffer:
            strays = [old for old in self._ghosts.owed() if besides is None or not _are_alike(old, besides)]
            old = strip(self._link.framing, self._wire.buffer, strays) if strays else None
            if old is None:
                break
            self.counts.late += 1
            self._ghosts.arrived(old)
        return self.counts.late > before

    async def _keep_gap(self) -> None:
        if self._gap_s:
            passed_s = asyncio.get_running_loop().time() - self._last_done_s
            if passed_s < self._gap_s:
                await asyncio.sleep(self._gap_s - passed_s)


def _are_alike(old: Question, new: Question) -> bool:
    return old.unit == new.unit and old.shape == new.shape

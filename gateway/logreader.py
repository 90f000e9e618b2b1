"""Reads the event logs and texts of one link's devices: every record once, removed only when it is on our disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import structlog

from gateway.addresses import Table
from gateway.config import ModbusDevice
from gateway.eventlog import LogSource, TextSource, decode_record, new_records, reads, record_id
from gateway.modbus import ModbusLink
from gateway.registers import Words
from gateway.sink import Sink
from watchroom.errors import StoreError
from watchroom.frames import Event
from watchroom.pii import keyed_hash

MAX_REGS = 120

log = structlog.get_logger()


class Memory(Protocol):
    """Keeps small numbers over a restart: the outbox's notes."""

    def recall(self, name: str) -> int | None:
        """Return what was remembered, None if nothing was."""
        ...

    def remember(self, name: str, number: int) -> None:
        """Keep a number; durable with the next urgent frame."""
        ...


class ShortMemory:
    """Forgets at the end of the process; for tools and tests."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def recall(self, name: str) -> int | None:
        """Return what was remembered."""
        return self.numbers.get(name)

    def remember(self, name: str, number: int) -> None:
        """Keep a number."""
        self.numbers[name] = number


class LogReader:
    """Turns records and texts into events.

    A record read twice (after a crash between the commit and the position) has the same id both times, and the
    centre keeps one: together that is exactly once.

    Args:
        line: The link.
        sink: Takes the events.
        now_ms: The gateway's clock, UTC ms.
        key: For hashing personal fields.
        memory: Where positions are kept.
    """

    def __init__(self, line: ModbusLink, sink: Sink, *, now_ms: Callable[[], int], key: bytes, memory: Memory) -> None:
        self._line, self._sink, self._now_ms, self._key, self._memory = line, sink, now_ms, key, memory
        self._texts: dict[str, str] = {}

    async def take(self, device: ModbusDevice, source: LogSource | TextSource, words: Words) -> None:
        """Handle what was read at the log's counter, or the text's registers.

        Raises:
            LinkError, RefusedError: If a record cannot be read now; it is tried again at the next turn.
        """
        try:
            if isinstance(source, TextSource):
                await self._text(device, source, words)
            else:
                await self._log(device, source, int(words[0]))
        except StoreError as exc:
            # the device keeps its records until there is room
            log.debug("device log waits", device=device.name, log=source.name, reason=str(exc))

    async def _text(self, device: ModbusDevice, source: TextSource, words: Words) -> None:
        text, name = source.decode(words), f"{device.name}.{source.name}"
        if self._texts.get(name) != text:
            now_ms = self._now_ms()
            fields: dict[str, int | float | str] = {"signal": device.prefix + source.name, "text": text}
            await self._event(device, "device_text", f"{name}:{now_ms}", now_ms, fields)
            self._texts[name] = text

    async def _log(self, device: ModbusDevice, source: LogSource, count: int) -> None:
        name = f"{device.name}.{source.name}"
        position = self._memory.recall(name)
        new = new_records(source, count, position)
        for start, numbers in reads(source, new.numbers, MAX_REGS):
            words = await self._line.read(
                source.table, unit=device.unit, start=start, count=len(numbers) * source.registers
            )
            for i, number in enumerate(numbers):
                record = np.ascontiguousarray(words[i * source.registers : (i + 1) * source.registers])
                await self._record(device, source, record, number)
        if new.lost:
            now_ms = self._now_ms()
            loss: dict[str, int | float | str] = {"count": new.lost, "reason": f"{name} overwritten"}
            await self._event(device, "loss", f"{name}:lost:{new.position}:{now_ms}", now_ms, loss)
        if source.ack is None and new.position != position:
            self._memory.remember(name, new.position)
        elif new.numbers and source.ack is not None:
            await self._line.write(Table.HOLDING, [len(new.numbers)], unit=device.unit, start=source.ack[1])

    async def _record(self, device: ModbusDevice, source: LogSource, record: Words, number: int) -> None:
        fields, time_ms = decode_record(source, record)
        for item in source.fields:
            if item.is_personal:
                fields[item.name] = keyed_hash(self._key, str(fields[item.name]))
        fields = {"log": device.prefix + source.name, **fields}
        at_ms = self._now_ms() if time_ms is None else time_ms
        await self._event(device, "device_log", f"{device.name}.{record_id(source, record, number)}", at_ms, fields)

    async def _event(
        self, device: ModbusDevice, kind: str, id_: str, time_ms: int, fields: dict[str, int | float | str]
    ) -> None:
        content: dict[str, object] = dict(fields)
        if kind == "loss":
            content["ranges"] = []
        await self._sink.event(
            Event(
                id=id_,
                kind=kind,
                equipment=device.equipment,
                time_ms=time_ms,
                seen_ms=self._now_ms(),
                fields=content,
            )
        )

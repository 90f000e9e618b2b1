"""Polls the devices of one Modbus link: one worker, one request at a time, one report per block."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog

from gateway.commands import NotSentError
from gateway.config import LinkConfig, ModbusDevice
from gateway.decoder import BlockDecoder
from gateway.devicemodel import ModelSignal
from gateway.expression import Expression
from gateway.logreader import LogReader, Memory, ShortMemory
from gateway.modbus import BAD_ADDRESS, NO_TARGET, ModbusLink, RefusedError
from gateway.planner import Block, halves, plan_reads
from gateway.registers import Words
from gateway.schedule import Schedule, Turn
from gateway.sink import Aliases, Qualities, Sink, Values
from gateway.wire import Wire
from gateway.writing import put_value
from watchroom.errors import LinkError
from watchroom.signals import Quality

CONNECT_BACK_OFF_S = (0.5, 1.0, 2.0, 5.0)
MAX_ORDERS = 32
"""Commands waiting on one link; more are not taken."""
_SUSPECT_MISSES = 3
"""So many requests without any answer on a link, and the connection itself is suspected and made anew."""

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Order:
    """A command that waits for its turn."""

    device: ModbusDevice
    signal: ModelSignal
    value: float
    until_s: float
    result: asyncio.Future[float]
    is_begun: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class DeviceCounts:
    """What has happened with one device since the start.

    Attributes:
        last_ms: When it last answered, UTC ms; None if never.
    """

    requests: int = 0
    timeouts: int = 0
    refused: int = 0
    last_ms: int | None = None


@dataclass(slots=True)
class _Device:
    """A device with what reporting needs worked out."""

    config: ModbusDevice
    aliases: Mapping[str, int]
    everything: Aliases
    calculated: tuple[tuple[int, Expression], ...]
    latest: dict[str, float] = field(default_factory=dict)
    quality: dict[str, int] = field(default_factory=dict)
    decoders: dict[int, tuple[Block, BlockDecoder, Aliases]] = field(default_factory=dict)
    counts: DeviceCounts = field(default_factory=DeviceCounts)


class LinkPoller:
    """Keeps one link open and reads its devices for ever.

    Args:
        link: The link.
        devices: The devices on it.
        aliases: Signal key -> alias of the birth.
        sink: Where blocks go.
        now_ms: The gateway's clock, UTC ms.
        wire: The bytes of a link that devices dial in to.
        key: For hashing personal fields of device logs.
        memory: Keeps positions in device logs.
        line: Taken over from a poller before a reload, with its connection and what its units still owe.
    """

    def __init__(
        self,
        link: LinkConfig,
        devices: Sequence[ModbusDevice],
        *,
        aliases: Mapping[str, int],
        sink: Sink,
        now_ms: Callable[[], int],
        wire: Wire | None = None,
        key: bytes = b"",
        memory: Memory | None = None,
        line: ModbusLink | None = None,
    ) -> None:
        self._link, self._sink, self._now_ms = link, sink, now_ms
        self._line = line or ModbusLink(link, wire)
        self._is_handed_over = False
        self._logs = LogReader(self._line, sink, now_ms=now_ms, key=key, memory=memory or ShortMemory())
        self._orders: deque[_Order] = deque()
        self._pause: asyncio.Future[None] | None = None
        self._devices = {device.name: _device(device, aliases) for device in devices}
        plans = {device.name: plan_reads(device.model, link_kind=link.kind) for device in devices}
        self._plans = plans
        self._schedule = Schedule(plans, 0.0)
        self._misses = 0
        self._is_down: bool | None = None

    @property
    def kind(self) -> str:
        """Kind of its link."""
        return self._link.kind

    @property
    def is_down(self) -> bool:
        """Whether the link has no connection, or no device on it answers."""
        states = self._schedule.devices.values()
        return bool(self._is_down) or (bool(states) and all(state.is_silent for state in states))

    def status(self) -> dict[str, Any]:
        """Return what the health page shows: the link and each device."""
        devices = {}
        for name, device in self._devices.items():
            state = self._schedule.devices[name]
            counts = device.counts
            devices[name] = {
                "is_silent": state.is_silent or bool(self._is_down),
                "last_ms": counts.last_ms,
                "requests": counts.requests,
                "timeouts": counts.timeouts,
                "refused": counts.refused,
                "missing_registers": sorted(state.refused),
            }
        on_line = self._line.counts
        return {
            "is_down": self.is_down,
            "overruns": self._schedule.overruns,
            "late_answers": on_line.late,
            "noise_bytes": on_line.noise,
            "devices": devices,
        }

    async def run(self) -> None:
        """Poll until cancelled."""
        loop = asyncio.get_running_loop()
        self._schedule = Schedule(
            self._plans,
            loop.time(),
            back_off_s=self._link.back_off_s,
            settle_s=0.0 if self._line.is_numbered else self._link.settle_s,
        )
        has_asked = False
        try:
            while True:
                if not self._line.is_open:
                    await self._connect()
                if self._orders:
                    await self._obey(self._orders.popleft())
                    continue
                turn = self._schedule.pick(loop.time())
                if turn is None:
                    await self._rest(self._schedule.wait_s(loop.time()))
                    has_asked = False
                    continue
                if has_asked:
                    # a link that answers at once must not keep the other tasks of the process waiting
                    await asyncio.sleep(0)
                has_asked = True
                await self._take(turn)
        finally:
            if not self._is_handed_over:
                self._line.close()

    def hand_over(self) -> ModbusLink:
        """Give the line away with its open connection."""
        self._is_handed_over = True
        return self._line

    async def write(self, device: ModbusDevice, signal: ModelSignal, value: float, until_s: float) -> float:
        """Write a value before anything else is read, and return what the device then holds.

        Args:
            device: One of this link.
            signal: What is written.
            value: In the signal's unit.
            until_s: Not after this time of the loop's clock.

        Raises:
            NotSentError: If its time was over before its turn came.
            LinkError: If no answer came, and it does not read back either.
            RefusedError: If the device refuses it.
        """
        if len(self._orders) >= MAX_ORDERS:
            raise NotSentError(f"{self._link}: too many commands at once")
        order = _Order(device, signal, value, until_s, asyncio.get_running_loop().create_future())
        self._orders.append(order)
        if self._pause is not None and not self._pause.done():
            self._pause.set_result(None)
        try:
            async with asyncio.timeout_at(until_s):
                await order.is_begun.wait()
        except TimeoutError:
            if not order.is_begun.is_set():
                order.result.cancel()
                raise NotSentError(f"{self._link}: no turn in time") from None
        return await order.result

    async def _rest(self, wait_s: float) -> None:
        """Sleep until something is due, or a command comes."""
        loop = asyncio.get_running_loop()
        self._pause = pause = loop.create_future()
        timer = loop.call_later(wait_s, _end, pause)
        try:
            await pause
        finally:
            timer.cancel()
            self._pause = None

    async def _obey(self, order: _Order) -> None:
        if order.result.done():
            return
        if asyncio.get_running_loop().time() >= order.until_s:
            order.result.set_exception(NotSentError(f"{self._link}: its time is over"))
            order.is_begun.set()
            return
        order.is_begun.set()
        try:
            got = await put_value(self._line, order.device, order.signal, order.value)
        except (LinkError, RefusedError) as exc:
            if not order.result.done():
                order.result.set_exception(exc)
        except asyncio.CancelledError:
            order.result.cancel()
            raise
        else:
            if not order.result.done():
                order.result.set_result(got)

    async def _connect(self) -> None:
        """Return with an open connection; tell once that it is down, and once that it is back."""
        attempt = 0
        while True:
            try:
                await self._line.open()
            except LinkError as exc:
                if not self._is_down and attempt:
                    self._is_down = True
                    log.warning("link is down", link=self._link.name, reason=str(exc))
                    for device in self._devices.values():
                        self._report_silence(device)
                await asyncio.sleep(CONNECT_BACK_OFF_S[min(attempt, len(CONNECT_BACK_OFF_S) - 1)])
                attempt += 1
                continue
            if self._is_down:
                log.info("link restored", link=self._link.name)
            self._is_down = False
            self._misses = 0
            return

    async def _take(self, turn: Turn) -> None:
        device = self._devices[turn.device]
        block = turn.block
        device.counts.requests += 1
        before_ms = self._now_ms()
        try:
            words = await self._line.read(block.table, unit=device.config.unit, start=block.start, count=block.count)
        except RefusedError as exc:
            if exc.code in NO_TARGET:
                self._missed(turn, device)
            else:
                self._refused(turn, device, exc)
            return
        except LinkError:
            self._missed(turn, device)
            return
        middle_ms = (before_ms + self._now_ms()) // 2
        self._answered(turn, device)
        if turn.job.block.log is not None:
            if not turn.is_probe:
                await self._read_log(turn, device, words)
        elif not turn.is_probe:
            self._schedule.accept(turn, asyncio.get_running_loop().time())
            self._report(device, block, words, middle_ms)

    async def _read_log(self, turn: Turn, device: _Device, words: Words) -> None:
        source = turn.job.block.log
        assert source is not None
        try:
            await self._logs.take(device.config, source, words)
        except LinkError:
            self._missed(turn, device)
        except RefusedError as exc:
            device.counts.refused += 1
            log.warning("device refuses its log", device=turn.device, log=source.name, reason=str(exc))
            self._schedule.refuse(turn, asyncio.get_running_loop().time())

    def _answered(self, turn: Turn, device: _Device) -> None:
        self._misses = 0
        device.counts.last_ms = self._now_ms()
        if self._schedule.answered(turn, asyncio.get_running_loop().time()):
            log.info("device restored", link=self._link.name, device=turn.device)

    def _missed(self, turn: Turn, device: _Device) -> None:
        device.counts.timeouts += 1
        self._misses += 1
        if self._schedule.missed(turn, asyncio.get_running_loop().time()):
            log.warning("device does not answer", link=self._link.name, device=turn.device, unit=device.config.unit)
            self._report_silence(device)
        if self._misses >= _SUSPECT_MISSES:
            # a half-open connection looks the same as silent devices: a new one tells them apart
            self._misses = 0
            self._line.close()

    def _refused(self, turn: Turn, device: _Device, exc: RefusedError) -> None:
        """The device answers, but not this: find out which register it is, and read the rest."""
        now_s = asyncio.get_running_loop().time()
        device.counts.refused += 1
        self._answered(turn, device)
        if turn.is_probe:
            return
        block = turn.job.block
        parts = halves(block) if exc.code in BAD_ADDRESS else None
        if parts is not None:
            self._schedule.split(turn, parts, now_s)
            return
        is_known = {signal.name for signal in block.signals} <= self._schedule.devices[turn.device].refused
        if exc.code in BAD_ADDRESS or exc.code == 1:
            self._schedule.refuse(turn, now_s)
        if not is_known:
            log.warning(
                "device refuses a register",
                link=self._link.name,
                device=turn.device,
                request=str(block),
                reason=str(exc),
            )
            names = [signal.name for signal in block.signals]
            aliases = np.array([device.aliases[name] for name in names], dtype=np.uint32)
            self._report_bad(device, aliases, Quality.INVALID)

    def _report(self, device: _Device, block: Block, words: Words, time_ms: int) -> None:
        # by identity: hashing a block hashes all its signals, which costs more than decoding them
        known = device.decoders.get(id(block))
        if known is None:
            names = [signal.name for signal in block.signals]
            numbers = np.array([device.aliases[name] for name in names], dtype=np.uint32)
            known = device.decoders[id(block)] = block, BlockDecoder(block.signals, block.start), numbers
        _, decoder, aliases = known
        values, quality = decoder.decode(words)
        if device.calculated:
            aliases, values, quality = _with_calculated(device, block, aliases, values, quality)
        self._sink.report(aliases, time_ms, values, quality)

    def _report_silence(self, device: _Device) -> None:
        self._report_bad(device, device.everything, Quality.NO_COMMUNICATION)

    def _report_bad(self, device: _Device, aliases: Aliases, quality: Quality) -> None:
        """Report that there is no value: NaN, never a zero."""
        device.latest.clear()
        n = len(aliases)
        self._sink.report(aliases, self._now_ms(), np.full(n, np.nan), np.full(n, quality, dtype=np.uint8))


def _end(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)


def _device(config: ModbusDevice, aliases: Mapping[str, int]) -> _Device:
    mine = {signal.name: aliases[config.key(signal.name)] for signal in config.model.polled}
    return _Device(
        config=config,
        aliases=mine,
        everything=np.array(sorted(mine.values()), dtype=np.uint32),
        calculated=tuple(
            (mine[signal.name], signal.expression) for signal in config.model.polled if signal.expression is not None
        ),
    )


def _with_calculated(
    device: _Device, block: Block, aliases: Aliases, values: Values, quality: Qualities
) -> tuple[Aliases, Values, Qualities]:
    """The block with the calculated signals it changes; a calculated signal is as bad as its worst input."""
    names = {signal.name for signal in block.signals}
    device.latest.update(zip((signal.name for signal in block.signals), values.tolist(), strict=True))
    device.quality.update(zip((signal.name for signal in block.signals), quality.tolist(), strict=True))
    inputs = {**device.config.model.params, **device.latest}
    extra: list[tuple[int, float, int]] = []
    for alias, expression in device.calculated:
        needed = expression.names - device.config.model.params.keys()
        if needed & names and needed <= device.latest.keys():
            value = expression(inputs)
            worst = max((device.quality[name] for name in needed), default=0)
            extra.append((alias, value, worst if worst or value == value else int(Quality.INVALID)))
    if not extra:
        return aliases, values, quality
    more, numbers, qualities = zip(*extra, strict=True)
    return (
        np.concatenate((aliases, np.array(more, dtype=np.uint32))),
        np.concatenate((values, np.array(numbers))),
        np.concatenate((quality, np.array(qualities, dtype=np.uint8))),
    )

"""Commands from the centre: each is written at most once, in time or not at all, and says what came of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import structlog

from gateway.config import GatewayConfig, ModbusDevice
from gateway.devicemodel import ModelSignal
from gateway.modbus import RefusedError
from gateway.sink import Sink
from watchroom.errors import LinkError, StateError, StoreError
from watchroom.frames import Event

MAX_WAITING = 16
"""Commands under way; more are refused at once, so that nothing is written long after it was meant."""
MAX_AHEAD_MS = 600_000
RELEASE_TRIES = 20
_ID = re.compile(r"[A-Za-z0-9_:.-]{1,64}")
Outcome = Literal["done", "refused", "expired", "failed", "unknown"]
Write = Callable[[ModbusDevice, ModelSignal, float, float], Awaitable[float]]
Order = Callable[[str, float | str | None], Awaitable[str]]

log = structlog.get_logger()


class NotSentError(LinkError):
    """The command's time was over before its turn came: nothing was sent."""


class Journal(Protocol):
    """Remembers over a crash which commands were begun: id -> [expires_ms, target]."""

    def begun(self) -> dict[str, list[Any]]:
        """Return the commands that were begun and whose time is not long over."""
        ...

    def begin(self, id_: str, expires_ms: int, target: str) -> None:
        """Note a command; durable with the next urgent frame."""
        ...

    def end(self, id_: str) -> None:
        """Note that its outcome is known; the id is still refused until its time is over."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command as it travels (contract: ``cmd``), and the role of its user."""

    id: str
    expires_ms: int
    user: str
    target: str
    value: float | str | None
    is_confirmed: bool
    role: str


def parse_command(content: Mapping[str, Any]) -> Command:
    """Return a command.

    Raises:
        ValueError: If it is none; an id that is not even an id gives no outcome.
    """
    id_, expires_ms, target = content.get("id"), content.get("expires_at"), content.get("target")
    value = content.get("value")
    if not isinstance(id_, str) or not _ID.fullmatch(id_):
        raise ValueError("a command needs an id")
    if isinstance(expires_ms, bool) or not isinstance(expires_ms, int) or not isinstance(target, str):
        raise ValueError(f"command {id_} needs expires_at and target")
    if value is not None and not isinstance(value, int | float | str):
        raise ValueError(f"command {id_} has a value that is neither number nor text")
    return Command(
        id=id_,
        expires_ms=expires_ms,
        user=str(content.get("user", ""))[:64],
        target=target[:160],
        value=value,
        is_confirmed=content.get("confirm") is True,
        role=str(content.get("role", ""))[:32],
    )


class Commander:
    """Runs the commands of one gateway.

    Args:
        config: What can be written.
        sink: Takes the outcomes; "begun" is durable before anything is sent.
        write: Writes a value to a signal before a time of the loop's clock and returns what reads back.
        now_ms: The gateway's clock, UTC ms.
        journal: Remembers ids.
        order: Carries out what is no register: signal, value -> what happened.
    """

    def __init__(
        self,
        config: GatewayConfig,
        sink: Sink,
        *,
        write: Write,
        now_ms: Callable[[], int],
        journal: Journal,
        order: Order | None = None,
    ) -> None:
        self._sink, self._write, self._now_ms, self._journal = sink, write, now_ms, journal
        self._protected = _protected(config)
        self._targets = _targets(config)
        self._orders = _orders(config) if order is not None else frozenset()
        self._order = order
        self._queue: asyncio.Queue[Command] = asyncio.Queue(MAX_WAITING)
        self._running = 0
        self._seen: dict[str, int] = {id_: int(entry[0]) for id_, entry in journal.begun().items()}

    def receive(self, content: Mapping[str, Any]) -> None:
        """Take a message from the centre; never blocks. Repeated ids are passed over in silence: QoS 1 repeats."""
        try:
            command = parse_command(content)
        except ValueError as exc:
            log.warning("command not understood", reason=str(exc))
            return
        now_ms = self._now_ms()
        self._seen = {id_: at for id_, at in self._seen.items() if at > now_ms - MAX_AHEAD_MS}
        if command.id in self._seen:
            log.info("command repeated, not written again", id=command.id)
            return
        if self._queue.full() or self._running >= MAX_WAITING or len(self._seen) >= 64 * MAX_WAITING:
            log.warning("command refused: too many at once", id=command.id)
            return
        self._seen[command.id] = command.expires_ms
        self._queue.put_nowait(command)

    async def run(self) -> None:
        """Run commands until cancelled; first tell what a crash has left open."""
        await self._resume()
        async with asyncio.TaskGroup() as group:
            while True:
                command = await self._queue.get()
                self._running += 1
                group.create_task(self._guarded(command), name=f"command {command.id}")

    async def _guarded(self, command: Command) -> None:
        try:
            outcome, detail = await self._execute(command)
            log.info("command", id=command.id, target=command.target, outcome=outcome, detail=detail)
            await self._tell(command.id, command.target, command.user, outcome, detail)
        except StoreError as exc:
            log.warning("outcome of a command not kept", id=command.id, error=str(exc))
        finally:
            self._running -= 1

    async def _execute(self, command: Command) -> tuple[Outcome, str]:
        now_ms = self._now_ms()
        if command.expires_ms <= now_ms:
            return "expired", f"by {now_ms - command.expires_ms} ms"
        if command.expires_ms > now_ms + MAX_AHEAD_MS:
            return "refused", "expires too far ahead"
        if command.target in self._orders:
            return await self._begin(command, self._give(command))
        if command.target.partition("/")[0] in self._protected:
            return "refused", "equipment of fire protection is never written"
        if command.target not in self._targets:
            return "refused", "no such target"
        device, signal = self._targets[command.target]
        if signal.roles and command.role not in signal.roles:
            return "refused", f"for {', '.join(signal.roles)} only"
        if signal.confirm and not command.is_confirmed:
            return "refused", "needs a confirmation"
        try:
            value = _value_of(signal, command.value)
        except ValueError as exc:
            return "refused", str(exc)
        return await self._begin(command, self._carry_out(device, signal, value, command.expires_ms))

    async def _begin(self, command: Command, work: Coroutine[Any, Any, tuple[Outcome, str]]) -> tuple[Outcome, str]:
        """Do the work of a command once it is noted on the disk that it was begun."""
        self._journal.begin(command.id, command.expires_ms, command.target)
        try:
            # durable before anything is sent: after a crash the id is known and never fires again
            await self._tell(command.id, command.target, command.user, "accepted", "")
        except StoreError:
            work.close()
            self._journal.end(command.id)
            return "refused", "the outbox is full"
        try:
            return await work
        finally:
            self._journal.end(command.id)

    async def _give(self, command: Command) -> tuple[Outcome, str]:
        """Give an order that writes no register, such as a duty check."""
        assert self._order is not None
        try:
            async with asyncio.timeout((command.expires_ms - self._now_ms()) / 1000):
                return "done", await self._order(command.target, command.value)
        except StateError as exc:
            return "refused", exc.detail
        except (LinkError, TimeoutError) as exc:
            return "unknown", str(exc) or "no answer in time"

    async def _carry_out(
        self, device: ModbusDevice, signal: ModelSignal, value: float, expires_ms: int
    ) -> tuple[Outcome, str]:
        loop = asyncio.get_running_loop()
        left_s = (expires_ms - self._now_ms()) / 1000
        try:
            got = await self._write(device, signal, value, loop.time() + left_s)
        except NotSentError:
            return "expired", "the link was busy or down"
        except RefusedError as exc:
            return "failed", str(exc)
        except LinkError as exc:
            if signal.write == "pulse":
                await self._release(device, signal)
            return "unknown", str(exc)
        if signal.write == "pulse":
            await asyncio.sleep(signal.pulse_s)
            return ("done", "") if await self._release(device, signal) else ("unknown", "the pulse was not ended")
        return ("done", "") if _is_same(got, value, signal) else ("failed", f"reads back {got:g}")

    async def _release(self, device: ModbusDevice, signal: ModelSignal) -> bool:
        """End a pulse; unlike its beginning this may be tried again, it can only make things rest."""
        for attempt in range(RELEASE_TRIES):
            try:
                await self._write(device, signal, 0.0, asyncio.get_running_loop().time() + 10.0)
            except LinkError:
                await asyncio.sleep(min(0.1 * 2**attempt, 2.0))
            except RefusedError:
                return False
            else:
                return True
        return False

    async def _resume(self) -> None:
        for id_, entry in self._journal.begun().items():
            target = str(entry[1]) if len(entry) > 1 else ""
            if not target:
                continue
            self._journal.end(id_)
            log.warning("command cut off by a restart", id=id_, target=target)
            try:
                await self._tell(id_, target, "", "unknown", "the gateway was restarted meanwhile")
            except StoreError as exc:
                log.warning("outcome of a command not kept", id=id_, error=str(exc))
            if target in self._targets and self._targets[target][1].write == "pulse":
                await self._release(*self._targets[target])

    async def _tell(self, id_: str, target: str, user: str, outcome: str, detail: str) -> None:
        now_ms = self._now_ms()
        await self._sink.event(
            Event(
                id=f"command:{id_}:{outcome}",
                kind="command",
                equipment=target.partition("/")[0] or None,
                time_ms=now_ms,
                seen_ms=now_ms,
                fields={"id": id_, "target": target, "user": user, "outcome": outcome, "detail": detail},
            )
        )


def targets_of(config: GatewayConfig) -> list[dict[str, Any]]:
    """Return what can be written, for the birth."""
    return [
        {"key": key, "write": signal.write, "confirm": signal.confirm, "roles": list(signal.roles)}
        for key, (_, signal) in sorted(_targets(config).items())
    ] + [{"key": key, "write": "order", "confirm": False, "roles": []} for key in sorted(_orders(config))]


def _orders(config: GatewayConfig) -> frozenset[str]:
    """Signals that take an order although nothing of them is written."""
    return frozenset(key for source in config.sources.values() for key in source.commands)


def _protected(config: GatewayConfig) -> set[str]:
    """Equipment of fire protection."""
    return {device.equipment for device in config.devices.values() if device.model.is_fire}


def _targets(config: GatewayConfig) -> dict[str, tuple[ModbusDevice, ModelSignal]]:
    protected = _protected(config)
    return {
        device.key(signal.name): (device, signal)
        for device in config.devices.values()
        for signal in device.model.signals.values()
        if signal.write and device.equipment not in protected
    }


def _value_of(signal: ModelSignal, value: float | str | None) -> float:
    """The number to write.

    Raises:
        ValueError: If the value means nothing for this signal, or lies outside its range.
    """
    if signal.write == "pulse":
        return 1.0
    if value is None:
        raise ValueError("a value is needed")
    if isinstance(value, str):
        for written, texts in signal.texts.items():
            if value in texts.values():
                return float(written)
        raise ValueError(f"{value[:40]!r} is not a text of this signal")
    number = float(value)
    if not signal.low <= number <= signal.high or number != number:
        raise ValueError(f"{number:g} is outside {signal.low:g} to {signal.high:g}")
    low, high = (limit * signal.encoding.scale + signal.encoding.offset for limit in signal.encoding.raw_limits)
    if not min(low, high) <= number <= max(low, high):
        raise ValueError(f"{number:g} does not fit the register")
    return number


def _is_same(got: float, wanted: float, signal: ModelSignal) -> bool:
    return abs(got - wanted) <= max(abs(signal.encoding.scale) * 0.51, 1e-6 * abs(wanted))

"""Fire transmitters on one link, GB/T 26875.3 over TCP: they connect to us, or we connect to them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from gateway.fireframe import NO_ADDRESS, Command, FireFrame
from gateway.firemap import DUTY, FireDevice, Told, take
from gateway.fireobjects import (
    decode_objects,
    encode_clock,
    encode_duty_answer,
    encode_duty_check,
    encode_read,
)
from gateway.firesession import FireSession
from gateway.listening import listening
from gateway.panel import Panel
from gateway.panelreport import PanelReport
from gateway.sink import Sink, keep
from gateway.unmatched import Unmatched
from watchroom.errors import ContractError, LinkError, StateError

if TYPE_CHECKING:
    from gateway.config import LinkConfig

log = structlog.get_logger(__name__)

BACK_OFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)
MAX_CONNECTIONS = 32
IDENTIFY_S = 60.0
"""A connection that does not say in time whose it is gets closed."""
DUTY_LIMIT_MIN = 10
NONE, ASKED, ANSWERED, MISSED = 0.0, 1.0, 2.0, 3.0


class FirePanel:
    """One transmitter's side of the gateway: memory, report, duty check.

    Attributes:
        session: The connection it is heard on, None while there is none.
    """

    def __init__(
        self,
        device: FireDevice,
        *,
        aliases: Mapping[str, int],
        sink: Sink,
        now_ms: Callable[[], int],
        folder: Path,
    ) -> None:
        self.device = device
        self.memory = Panel(device.zones)
        self.report = PanelReport(
            self.memory,
            device.key,
            aliases=aliases,
            sink=sink,
            now_ms=now_ms,
            path=folder / "panels" / f"{device.name}.json",
        )
        self.report.set(duty_check=NONE)
        self.session: FireSession | None = None
        self.frames = 0
        self._duty_timer: asyncio.TimerHandle | None = None

    @property
    def has_question(self) -> bool:
        """Whether a duty check waits for its answer."""
        return self._duty_timer is not None

    def ask_duty(self, limit_min: int) -> None:
        """A duty check is under way."""
        self._set_duty(ASKED)
        limit_s = 60.0 * (limit_min or DUTY_LIMIT_MIN)
        self._duty_timer = asyncio.get_running_loop().call_later(limit_s, self._set_duty, MISSED)

    def end_duty(self) -> None:
        """The duty check could not be put."""
        self._set_duty(NONE)

    def answer_duty(self) -> None:
        """Somebody has answered."""
        self._set_duty(ANSWERED)

    def close(self) -> None:
        """Nothing is heard any more."""
        if self._duty_timer is not None:
            self._duty_timer.cancel()
            self._duty_timer = None
        self.session = None
        self.report.end()

    def _set_duty(self, state: float) -> None:
        if self._duty_timer is not None:
            self._duty_timer.cancel()
            self._duty_timer = None
        self.report.set(duty_check=state)
        self.report.tell()


class FireLink:
    """Keeps one TCP link of fire transmitters.

    Args:
        link: ``listen`` or ``tcp``.
        devices: The transmitters on it.
        aliases: Signal key -> alias of the birth.
        sink: Where samples and events go.
        now_ms: The gateway's clock, UTC ms.
        folder: For the panels' memory and for frames nobody understands.
    """

    def __init__(
        self,
        link: LinkConfig,
        devices: Sequence[FireDevice],
        *,
        aliases: Mapping[str, int],
        sink: Sink,
        now_ms: Callable[[], int],
        folder: Path,
    ) -> None:
        self._link, self._sink, self._now_ms = link, sink, now_ms
        self._aliases = aliases
        self._panels = {
            device.name: FirePanel(device, aliases=aliases, sink=sink, now_ms=now_ms, folder=folder)
            for device in devices
        }
        self._unmatched = Unmatched(folder / "unmatched" / link.name)
        self._counts: Counter[str] = Counter()
        self._sessions: set[FireSession] = set()

    @property
    def is_down(self) -> bool:
        """Whether a transmitter of this link is not heard."""
        return any(panel.session is None for panel in self._panels.values())

    @property
    def commands(self) -> frozenset[str]:
        """Keys of the signals that take a command."""
        return frozenset(key for panel in self._panels.values() for key in panel.device.commands)

    def status(self) -> dict[str, Any]:
        """Return what the health page shows."""
        thrown = sum((session.splitter.counts for session in self._sessions), self._counts.copy())
        return {
            "is_down": self.is_down,
            "frames": sum(panel.frames for panel in self._panels.values()),
            "thrown_away": dict(thrown),
            "unmatched": dict(self._unmatched.counts),
            "heard": sorted(name for name, panel in self._panels.items() if panel.session is not None),
        }

    async def run(self) -> None:
        """Keep listening, or connected, until cancelled."""
        for panel in self._panels.values():
            panel.report.end()
        if self._link.kind == "listen":
            await self._listen()
        else:
            await self._keep_connected()

    async def command(self, key: str, value: Any) -> str:
        """Carry out a command on one of the panels; return what happened.

        A panel takes a duty check only: minutes asks the transmitter, ``answer`` answers what came from above.

        Raises:
            StateError: If this signal takes no such command, or nothing waits for an answer.
            LinkError: If the transmitter is not there or does not answer.
        """
        panel = next((panel for panel in self._panels.values() if panel.device.key(DUTY) == key), None)
        if panel is None:
            raise StateError("command.target", f"{key} is never written")
        session, entry = panel.session, panel.device.entry
        if session is None:
            raise LinkError("the transmitter is not connected")
        if value == "answer":
            if not panel.has_question:
                raise StateError("command.nothing_asked", "no duty check waits for an answer")
            stamp = session.stamp()
            if not await session.order(encode_duty_answer(stamp), command=Command.SEND, answer_s=entry.answer):
                raise StateError("command.refused", "the transmitter has refused the answer")
            panel.answer_duty()
            return "answered"
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 255:
            raise StateError("command.value", "minutes, 1 to 255, or answer")
        limit = int(value)
        # before the order goes out: the button may be pressed sooner than the order is confirmed
        panel.ask_duty(limit)
        try:
            if not await session.order(encode_duty_check(limit), command=Command.CONTROL, answer_s=entry.answer):
                raise StateError("command.refused", "the transmitter has refused the duty check")
        except (LinkError, StateError):
            panel.end_duty()
            raise
        return "asked"

    # connections

    async def _listen(self) -> None:
        async with asyncio.TaskGroup() as group:

            def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                if len(self._sessions) >= MAX_CONNECTIONS:
                    self._counts["refused"] += 1
                    writer.close()
                    return
                group.create_task(self._serve(reader, writer), name=f"transmitter on {self._link.name}")

            server = await listening(connected, self._link.host, self._link.port)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                server.close()

    async def _keep_connected(self) -> None:
        attempt, is_told = 0, False
        while True:
            try:
                async with asyncio.timeout(max(self._link.timeout_s, 1.0)):
                    reader, writer = await asyncio.open_connection(self._link.host, self._link.port)
            except (OSError, TimeoutError) as exc:
                if not is_told:
                    log.warning("transmitter does not answer", link=str(self._link), reason=str(exc) or "timeout")
                is_told = True
            else:
                before = sum(panel.frames for panel in self._panels.values())
                await self._serve(reader, writer)
                if sum(panel.frames for panel in self._panels.values()) > before:
                    attempt, is_told = 0, False
            await asyncio.sleep(BACK_OFF_S[min(attempt, len(BACK_OFF_S) - 1)])
            attempt += 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = FireSession(reader, writer, identify=self._identify, take=self._take, now_ms=self._now_ms)
        self._sessions.add(session)
        try:
            async with asyncio.TaskGroup() as group:
                session.device = self._known(session.host)
                if session.device is not None:
                    session.has_device.set()
                care = group.create_task(self._care(session), name="transmitter care")
                silence_s = max(panel.device.entry.silence for panel in self._panels.values())
                try:
                    await session.run(silence_s)
                except LinkError as exc:
                    log.warning("transmitter lost", link=str(self._link), host=session.host, reason=str(exc))
                care.cancel()
        except* Exception as errors:  # the boundary of one transmitter: its bug must not stop the others
            log.exception("transmitter session failed", link=str(self._link), errors=repr(errors.exceptions))
        finally:
            writer.close()
            self._sessions.discard(session)
            self._counts += session.splitter.counts
            self._counts["strangers"] += session.strangers
            for panel in self._panels.values():
                if panel.session is session:
                    panel.close()

    async def _care(self, session: FireSession) -> None:
        """Set the transmitter's clock, ask what stands, and see that it is still there."""
        try:
            async with asyncio.timeout(IDENTIFY_S):
                await session.has_device.wait()
        except TimeoutError:
            session.close()
            return
        assert session.device is not None
        panel, entry = self._panels[session.device.name], session.device.entry
        self._heard(panel, session)
        for system, address in panel.device.systems:
            await self._ask(session, bytes((61, 1, system, address)))
        loop = asyncio.get_running_loop()
        clock_due = loop.time()
        while True:
            if entry.sync_clock and loop.time() >= clock_due:
                await self._ask(session, encode_clock(self._now_ms(), panel.device.zone), command=Command.CONTROL)
                clock_due = loop.time() + entry.sync_clock
            await self._ask(session, encode_read(21))
            await asyncio.sleep(entry.poll)

    async def _ask(self, session: FireSession, data: bytes, *, command: Command = Command.REQUEST) -> None:
        assert session.device is not None
        try:
            if not await session.order(data, command=command, answer_s=session.device.entry.answer):
                self._counts["denied"] += 1
        except LinkError:
            # many transmitters answer only some questions; whether it is there shows the silence limit
            self._counts["unanswered"] += 1

    def _heard(self, panel: FirePanel, session: FireSession) -> None:
        if panel.session is not None and panel.session is not session:
            # it has dialled again: the old connection is dead although nobody said so
            panel.session.close()
        panel.session = session
        panel.report.begin()

    # frames

    def _known(self, host: str) -> FireDevice | None:
        """Whose connection it is before it says anything: the only one's, or nobody's."""
        devices = [panel.device for panel in self._panels.values()]
        if len(devices) != 1 or (self._link.kind == "listen" and devices[0].address is not None):
            return None
        return devices[0] if devices[0].comes_from(devices[0].address or NO_ADDRESS, host) else None

    def _identify(self, address: bytes, host: str) -> FireDevice | None:
        fitting = [panel.device for panel in self._panels.values() if panel.device.comes_from(address, host)]
        return fitting[0] if fitting else None

    async def _take(self, session: FireSession, frame: FireFrame) -> bool:
        """Take a frame; True when it is durable, or set aside for good."""
        assert session.device is not None
        panel = self._panels[session.device.name]
        if panel.session is not session:
            self._heard(panel, session)
        panel.frames += 1
        try:
            objects = decode_objects(frame.data)
        except ContractError as exc:
            self._set_aside(panel, frame, exc)
            return True
        told = take(panel.device, panel.memory, frame=frame, objects=objects, seen_ms=self._now_ms())
        self._tell(panel, told)
        await keep(self._sink, told.events)
        await panel.report.save()
        return True

    def _tell(self, panel: FirePanel, told: Told) -> None:
        panel.report.tell()
        for reading in told.readings:
            self._sink.report(
                np.array([self._aliases[reading.key]], dtype=np.uint32),
                reading.time_ms,
                np.array([reading.value]),
                np.array([reading.quality], dtype=np.uint8),
            )
        if told.duty_limit_min is not None:
            panel.ask_duty(told.duty_limit_min)
        if told.is_duty_answered:
            panel.answer_duty()

    def _set_aside(self, panel: FirePanel, frame: FireFrame, exc: ContractError) -> None:
        if not self._unmatched.counts[exc.reason]:
            log.warning("frame not understood", device=panel.device.name, reason=exc.reason, detail=exc.detail)
        try:
            self._unmatched.keep(
                f"command {frame.command}",
                frame.encode(),
                device=panel.device.name,
                reason=exc.reason,
                detail=exc.detail,
                time_ms=self._now_ms(),
            )
        except OSError as error:
            log.error("cannot keep a strange frame", reason=error.strerror)

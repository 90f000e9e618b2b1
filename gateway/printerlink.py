"""A fire panel's printer or CRT line, over a serial line or TCP: text in, states and events out. Nothing is written."""

from __future__ import annotations

import asyncio
import os
import termios
import tty
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from gateway.fireobjects import part_text
from gateway.panel import Panel, Zones, panel_specs
from gateway.panelfile import PrinterEntry
from gateway.panelreport import PanelReport
from gateway.printer import LineSplitter, Printed, PrinterRules, read_line
from gateway.sink import Sink, keep
from gateway.unmatched import Unmatched
from watchroom.errors import LinkError
from watchroom.frames import Event
from watchroom.signals import SignalSpec

if TYPE_CHECKING:
    from gateway.config import LinkConfig

log = structlog.get_logger(__name__)

SYSTEM = "printer"
BACK_OFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)
_PARITY = {"N": 0, "E": termios.PARENB, "O": termios.PARENB | termios.PARODD}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrinterDevice:
    """One panel that prints, compiled."""

    name: str
    link: str
    equipment: str
    prefix: str
    entry: PrinterEntry
    zones: Zones
    rules: PrinterRules

    @property
    def commands(self) -> tuple[str, ...]:
        """Keys of the signals that take an order: none."""
        return ()

    def key(self, signal: str) -> str:
        """Return the key of one of its signals."""
        return f"{self.equipment}/{self.prefix}{signal}"

    def specs(self) -> Iterator[SignalSpec]:
        """Yield its signals; their aliases are not final."""
        yield from panel_specs(self.equipment, prefix=self.prefix, zones=self.zones.count)


class PrinterLink:
    """Listens to one printing panel.

    The line is heard only: what was printed while nobody listened is not known, so states are uncertain after a
    connection until the panel is reset.

    Args:
        link: Serial line or TCP.
        device: The panel.
        aliases: Signal key -> alias of the birth.
        sink: Where samples and events go.
        now_ms: The gateway's clock, UTC ms.
        folder: For the panel's memory, and for lines no rule is for.
    """

    def __init__(
        self,
        link: LinkConfig,
        device: PrinterDevice,
        *,
        aliases: Mapping[str, int],
        sink: Sink,
        now_ms: Callable[[], int],
        folder: Path,
    ) -> None:
        self._link, self._device, self._sink, self._now_ms = link, device, sink, now_ms
        self._panel = Panel(device.zones)
        path = folder / "panels" / f"{device.name}.json"
        self._report = PanelReport(self._panel, device.key, aliases=aliases, sink=sink, now_ms=now_ms, path=path)
        self._unmatched = Unmatched(folder / "unmatched" / link.name)
        self._counts: Counter[str] = Counter()
        self._is_open = False

    @property
    def is_down(self) -> bool:
        """Whether the line is not open."""
        return not self._is_open

    @property
    def commands(self) -> frozenset[str]:
        """Keys of the signals that take a command: none."""
        return frozenset()

    async def command(self, key: str, value: Any) -> str:
        """A printer takes no commands.

        Raises:
            KeyError: Always.
        """
        raise KeyError(key)

    def status(self) -> dict[str, Any]:
        """Return what the health page shows."""
        return {"is_down": self.is_down, "unmatched": dict(self._unmatched.counts)} | dict(self._counts)

    async def run(self) -> None:
        """Listen until cancelled; opens the line again when it is lost."""
        self._report.end()
        attempt = 0
        while True:
            heard = self._counts["lines"]
            try:
                await self._listen()
            except LinkError as exc:
                if attempt == 0:
                    log.warning("printer line is not open", link=str(self._link), reason=str(exc))
            finally:
                if self._is_open:
                    self._is_open = False
                    self._report.end()
            attempt = 0 if self._counts["lines"] > heard else attempt + 1
            await asyncio.sleep(BACK_OFF_S[min(attempt, len(BACK_OFF_S) - 1)])

    async def _listen(self) -> None:
        reader, close = await (self._serial() if self._link.kind == "serial" else self._tcp())
        splitter = LineSplitter()
        self._is_open = True
        self._panel.is_known = False
        self._report.begin()
        try:
            while True:
                try:
                    async with asyncio.timeout(self._device.entry.silence):
                        data = await reader.read(4096)
                except TimeoutError:
                    if self._report.is_online:
                        self._report.end()
                    continue
                if not data:
                    raise LinkError("the line was closed")
                if not self._report.is_online:
                    self._report.begin()
                for line in splitter.feed(data):
                    await self._line(line)
                self._counts["cut"] = splitter.counts["length"]
        except OSError as exc:
            raise LinkError(str(exc)) from exc
        finally:
            close()

    async def _tcp(self) -> tuple[asyncio.StreamReader, Callable[[], None]]:
        try:
            async with asyncio.timeout(max(self._link.timeout_s, 1.0)):
                reader, writer = await asyncio.open_connection(self._link.host, self._link.port)
        except (OSError, TimeoutError) as exc:
            raise LinkError(str(exc) or "timeout") from exc
        return reader, writer.close

    async def _serial(self) -> tuple[asyncio.StreamReader, Callable[[], None]]:
        try:
            handle = os.open(self._link.host, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as exc:
            raise LinkError(f"{self._link.host}: {exc.strerror}") from exc
        file = os.fdopen(handle, "rb", buffering=0)
        try:
            _set_line(handle, self._link)
        except (termios.error, OSError) as exc:
            file.close()
            raise LinkError(f"{self._link.host} is no serial line: {exc}") from exc
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), file
        )
        return reader, transport.close

    async def _line(self, line: bytes) -> None:
        self._counts["lines"] += 1
        printed, now_ms = read_line(self._device.rules, line), self._now_ms()
        if printed.rule is None:
            self._set_aside(line, now_ms)
        else:
            self._enter(printed)
            self._report.tell()
        await keep(self._sink, [self._event(printed, now_ms)])
        await self._report.save()

    def _enter(self, printed: Printed) -> None:
        rule, known = printed.rule, self._panel.is_known
        assert rule is not None
        if rule.what == "reset":
            self._panel.reset()
            return
        if rule.of == "panel" or printed.part is None:
            # a fire whose place cannot be read is a fire all the same
            self._panel.change_system(SYSTEM, begins=rule.begins, ends=rule.ends)
        else:
            self._panel.change(SYSTEM, printed.part, begins=rule.begins, ends=rule.ends)
        self._panel.is_known = known

    def _event(self, printed: Printed, now_ms: int) -> Event:
        fields: dict[str, Any] = {"text": printed.text}
        if printed.part is not None:
            fields["part"] = part_text(printed.part)
        if printed.rule is not None:
            fields |= {"state": printed.rule.begins, "ended": printed.rule.ends}
        is_reset = printed.rule is not None and printed.rule.what == "reset"
        return Event(
            id=f"{self._device.name}:{now_ms}:{self._counts['lines']}",
            kind="operation" if is_reset else "panel_text",
            equipment=self._device.equipment,
            time_ms=now_ms,
            seen_ms=now_ms,
            fields=fields | ({"operation": "reset"} if is_reset else {}),
        )

    def _set_aside(self, line: bytes, now_ms: int) -> None:
        try:
            self._unmatched.keep(
                "line", line, device=self._device.name, reason="line", detail="no rule is for it", time_ms=now_ms
            )
        except OSError as exc:
            log.error("cannot keep a strange line", reason=exc.strerror)


def _set_line(handle: int, link: LinkConfig) -> None:
    tty.setraw(handle)
    settings = termios.tcgetattr(handle)
    speed = getattr(termios, f"B{link.baud}", None)
    if speed is None:
        raise OSError(f"{link.baud} baud is no speed of this line")
    settings[2] &= ~(termios.PARENB | termios.PARODD | termios.CSTOPB)
    settings[2] |= (
        _PARITY[link.parity] | (termios.CSTOPB if link.stop_bits == 2 else 0) | termios.CLOCAL | termios.CREAD
    )
    settings[4] = settings[5] = speed
    termios.tcsetattr(handle, termios.TCSANOW, settings)

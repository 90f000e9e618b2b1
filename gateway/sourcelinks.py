"""Who runs a link that carries neither Modbus nor MQTT."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gateway.firelink import FireLink
from gateway.firemap import FireDevice
from gateway.printerlink import PrinterDevice, PrinterLink
from gateway.pushfile import PushDevice
from gateway.pushlink import PushLink
from gateway.sink import Sink
from gateway.sources import SourceDevice

if TYPE_CHECKING:
    from gateway.config import LinkConfig


class SourceLink(Protocol):
    """Keeps one link."""

    @property
    def is_down(self) -> bool:
        """Whether something on it is not heard."""
        ...

    @property
    def commands(self) -> frozenset[str]:
        """Keys of the signals that take a command."""
        ...

    def status(self) -> dict[str, Any]:
        """Return what the health page shows."""
        ...

    async def command(self, key: str, value: Any) -> str:
        """Carry out a command; return what happened."""
        ...

    async def run(self) -> None:
        """Work until cancelled."""
        ...


def source_link(
    link: LinkConfig,
    devices: Sequence[SourceDevice],
    *,
    aliases: Mapping[str, int],
    sink: Sink,
    now_ms: Callable[[], int],
    key: bytes,
    folder: Path,
) -> SourceLink:
    """Return what keeps a link, by what it speaks."""
    if link.speaks == "http":
        readers = [device for device in devices if isinstance(device, PushDevice)]
        return PushLink(link, readers, aliases=aliases, sink=sink, now_ms=now_ms, key=key, folder=folder)
    if link.speaks == "text" and devices:
        printer = next(device for device in devices if isinstance(device, PrinterDevice))
        return PrinterLink(link, printer, aliases=aliases, sink=sink, now_ms=now_ms, folder=folder)
    panels = [device for device in devices if isinstance(device, FireDevice)]
    return FireLink(link, panels, aliases=aliases, sink=sink, now_ms=now_ms, folder=folder)

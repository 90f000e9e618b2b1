"""The field side of one gateway: a worker per link, all into one sink."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from gateway.config import GatewayConfig, ModbusDevice, signals_of
from gateway.devicemodel import ModelSignal
from gateway.dialin import DialInPort, dial_in
from gateway.logreader import Memory
from gateway.modbus import ModbusLink
from gateway.poller import LinkPoller
from gateway.readers import ReaderLink
from gateway.sink import Sink
from gateway.sourcelinks import SourceLink, source_link
from watchroom.errors import LinkError, StateError

LISTEN_S = 5.0

log = structlog.get_logger()


class FieldSide:
    """Reads everything a gateway file names.

    Args:
        config: The gateway.
        sink: Where samples and events go.
        now_ms: The gateway's clock, UTC ms.
        key: Key for hashing cards and persons, ``watchroom.pii.load_key``.
        folder: Messages that fit no mapping are kept here.
        memory: Keeps positions in device logs over a restart.
        lines: Open Modbus lines of before a reload, by link.
    """

    def __init__(
        self,
        config: GatewayConfig,
        sink: Sink,
        *,
        now_ms: Callable[[], int],
        key: bytes,
        folder: Path,
        memory: Memory | None = None,
        lines: Mapping[str, ModbusLink] | None = None,
    ) -> None:
        aliases = {spec.key: spec.alias for spec in signals_of(config)}
        self._pollers: dict[str, LinkPoller] = {}
        wires, self._ports = dial_in(link for link in config.links.values() if link.speaks == "modbus")
        self._readers: dict[str, ReaderLink] = {}
        self._sources: dict[str, SourceLink] = {}
        for name, link in config.links.items():
            if link.kind == "mqtt" or link.speaks == "mqtt":
                mappings = [reader.mapping for reader in config.readers_on(name)]
                self._readers[name] = ReaderLink(
                    link,
                    mappings,
                    client_id=f"{config.site}-{config.id}-{name}",
                    aliases=aliases,
                    sink=sink,
                    now_ms=now_ms,
                    key=key,
                    folder=folder / "unmatched" / name,
                )
            elif link.speaks != "modbus":
                self._sources[name] = source_link(
                    link, config.sources_on(name), aliases=aliases, sink=sink, now_ms=now_ms, key=key, folder=folder
                )
            else:
                devices = config.devices_on(name)
                self._pollers[name] = LinkPoller(
                    link,
                    devices,
                    aliases=aliases,
                    sink=sink,
                    now_ms=now_ms,
                    wire=wires.get(name),
                    key=key,
                    memory=memory,
                    line=(lines or {}).get(name),
                )

    def hand_over(self) -> dict[str, ModbusLink]:
        """Give the Modbus lines that we connect ourselves away, with their open connections."""
        return {name: poller.hand_over() for name, poller in self._pollers.items() if poller.kind in {"tcp", "serial"}}

    @property
    def links_down(self) -> int:
        """How many links are down: no connection, or no device answers."""
        pollers, readers, sources = self._pollers.values(), self._readers.values(), self._sources.values()
        return sum(item.is_down for item in pollers) + sum(r.is_down for r in readers) + sum(s.is_down for s in sources)

    async def write(self, device: ModbusDevice, signal: ModelSignal, value: float, until_s: float) -> float:
        """Write a value to a Modbus device before anything else is read; as ``LinkPoller.write``."""
        return await self._pollers[device.link].write(device, signal, value, until_s)

    def status(self) -> dict[str, Any]:
        """Return link name -> what the health page shows."""
        pollers = {name: poller.status() for name, poller in self._pollers.items()}
        readers = {name: reader.status() for name, reader in self._readers.items()}
        return pollers | readers | {name: source.status() for name, source in self._sources.items()}

    async def command(self, key: str, value: Any) -> str:
        """Carry out a command on the device that reports a signal; return what happened.

        Raises:
            StateError: If no device takes commands for this signal, or not this value.
            LinkError: If the device does not answer.
        """
        for source in self._sources.values():
            if key in source.commands:
                return await source.command(key, value)
        raise StateError("command.target", f"{key} is never written")

    async def run(self) -> None:
        """Read until cancelled; a bug in one worker ends all."""
        async with asyncio.TaskGroup() as group:
            for port in self._ports:
                group.create_task(_listen(port), name=f"port {port.number}")
            for name, poller in self._pollers.items():
                group.create_task(poller.run(), name=f"link {name}")
            for name, reader in self._readers.items():
                group.create_task(reader.run(), name=f"link {name}")
            for name, source in self._sources.items():
                group.create_task(source.run(), name=f"link {name}")


async def _listen(port: DialInPort) -> None:
    """Keep a port open for devices that dial in; a port that is taken is tried again."""
    try:
        while True:
            try:
                await port.start()
            except LinkError as exc:
                log.warning("cannot listen for devices", reason=str(exc))
                await asyncio.sleep(LISTEN_S)
            else:
                await asyncio.get_running_loop().create_future()
    finally:
        await port.stop()

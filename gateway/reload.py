"""A changed configuration takes effect without a restart of the process: whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import structlog

from gateway.config import GatewayConfig
from gateway.modbus import ModbusLink
from watchroom.errors import ConfigError, StoreError

log = structlog.get_logger()

Lines = dict[str, ModbusLink]
G = TypeVar("G", bound="Running")


class Running(Protocol):
    """A gateway that runs."""

    config: GatewayConfig

    def hand_over(self) -> Lines:
        """Give the open Modbus lines away: its end does not close them any more."""
        ...

    def close(self) -> None:
        """Give the outbox back."""
        ...


class Reload:
    """Asked for by SIGHUP, or by a test.

    Args:
        load: Reads and checks all files.

    Attributes:
        asked: Set to reload.
        done: How often a new configuration has taken effect.
        refused: How often it was not right, and the old one stayed.
    """

    def __init__(self, load: Callable[[], Sequence[GatewayConfig]]) -> None:
        self._load = load
        self.asked = asyncio.Event()
        self.done = self.refused = 0

    async def changed(self, running: Sequence[GatewayConfig]) -> dict[str, GatewayConfig]:
        """Wait until somebody asks; return what has changed, by id; empty if nothing has or the files are wrong."""
        await self.asked.wait()
        self.asked.clear()
        try:
            configs = {config.id: config for config in await asyncio.to_thread(self._load)}
            if configs.keys() != {config.id for config in running}:
                raise ConfigError("gateways can be changed, but neither added nor removed", hint="restart for that")
        except ConfigError as exc:
            self.refused += 1
            log.error("new configuration refused, the old one stays", reason=str(exc))
            return {}
        return {old.id: configs[old.id] for old in running if not is_same(old, configs[old.id])}


def is_same(old: GatewayConfig, new: GatewayConfig) -> bool:
    """Whether two configurations mean the same; compiled mappings are compared by what was written."""
    plain = replace(old, readers={}) == replace(new, readers={})
    written = [
        {name: (reader.link, reader.mapping.entry) for name, reader in config.readers.items()} for config in (old, new)
    ]
    return plain and written[0] == written[1]


def kept_lines(lines: Lines, old: GatewayConfig, new: GatewayConfig) -> Lines:
    """Return the lines whose link has not changed; the others are closed."""
    kept: Lines = {}
    for name, line in lines.items():
        if new.links.get(name) == old.links[name]:
            kept[name] = line
        else:
            line.close()
    return kept


async def exchange(
    gateway: G, config: GatewayConfig, task: asyncio.Task[None], *, make: Callable[[GatewayConfig, Lines], G]
) -> G:
    """Stop a gateway and return the one that takes its place; the old one again if the new one cannot be built."""
    lines = gateway.hand_over()
    task.cancel()
    await asyncio.wait([task])
    gateway.close()
    old = gateway.config
    try:
        return make(config, kept_lines(lines, old, config))
    except (ConfigError, StoreError) as exc:
        log.error("new configuration refused, the old one stays", gateway=config.id, reason=str(exc))
        return make(old, {})

"""Devices out of any gateway file: every Modbus unit it names answers, with values that move within their ranges."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

import structlog

from gateway.config import GatewayConfig, LinkConfig
from gateway.devicemodel import ModelSignal
from simulators.devices import Endpoint, RegisterImage
from simulators.modbus_server import FieldServer
from watchroom.errors import ConfigError
from watchroom.signals import Kind

STEP_S = 1.0

log = structlog.get_logger()


class Wander:
    """Values of a gateway's signals: numbers walk within their range, counters grow, states change now and then.

    Args:
        config: The gateway file.
        seed: Same seed, same walk.
    """

    def __init__(self, config: GatewayConfig, *, seed: int) -> None:
        self._random = random.Random(seed)
        self.values: dict[str, float] = {}
        self._signals: list[tuple[str, ModelSignal]] = [
            (device.key(signal.name), signal)
            for device in config.devices.values()
            for signal in device.model.polled
            if signal.table is not None
        ]
        for key, signal in self._signals:
            low, high = limits(signal)
            self.values[key] = _states(signal)[0] if signal.kind is Kind.STATE else self._random.uniform(low, high)

    def step(self) -> None:
        """Let a second pass."""
        for key, signal in self._signals:
            low, high = limits(signal)
            if signal.kind is Kind.STATE:
                if self._random.random() < 0.02:
                    self.values[key] = self._random.choice(_states(signal))
            elif signal.kind is Kind.COUNTER:
                grown = self.values[key] + abs(signal.encoding.scale)
                self.values[key] = grown if grown < (signal.modulus or math.inf) else 0.0
            else:
                value = self.values[key] + self._random.uniform(-0.01, 0.01) * (high - low)
                self.values[key] = min(max(value, low), high)


def limits(signal: ModelSignal) -> tuple[float, float]:
    """Return between which values a signal moves: its range, or what its register holds, at most 0 to 100."""
    scale, offset = signal.encoding.scale, signal.encoding.offset
    ends = sorted(limit * scale + offset for limit in signal.encoding.raw_limits)
    low = signal.low if math.isfinite(signal.low) else max(ends[0], 0.0)
    high = signal.high if math.isfinite(signal.high) else min(ends[1], low + 100.0)
    return (low, high) if low < high else (ends[0], ends[1])


def _states(signal: ModelSignal) -> list[float]:
    if signal.mapping:
        return [value for _, value in signal.mapping]
    if signal.texts:
        return [float(value) for value in signal.texts]
    return [0.0, 1.0] if signal.encoding.type == "bit" else [float(n) for n in range(4)]


def endpoints(config: GatewayConfig, values: dict[str, float]) -> list[Endpoint]:
    """Return the ports to serve.

    Raises:
        ConfigError: If the file has no Modbus device on a TCP link.
    """
    found = []
    for link in config.links.values():
        devices = config.devices_on(link.name)
        if not devices or not _is_served(link):
            continue
        units = {device.unit: RegisterImage(device, values) for device in devices}
        framing = "rtu" if link.framing == "rtu" else "tcp"
        found.append(Endpoint(gateway=config.id, host="127.0.0.1", port=link.port, units=units, framing=framing))
    if not found:
        raise ConfigError("no Modbus device on a tcp: link", path=config.path, hint="serial lines are not simulated")
    return found


def _is_served(link: LinkConfig) -> bool:
    if link.kind == "tcp" and link.framing != "ascii":
        return True
    log.warning("link is not simulated", link=link.name, kind=link.kind, framing=link.framing)
    return False


async def run_from_config(
    config: GatewayConfig, *, seed: int = 1, on_ready: Callable[[dict[str, int]], None] | None = None
) -> None:
    """Serve every Modbus TCP link of a gateway file on this machine until cancelled.

    Args:
        config: The gateway file; its links say on which ports.
        seed: Same seed, same values.
        on_ready: Called with "host:port as written" -> the port that is served.
    """
    wander = Wander(config, seed=seed)
    servers = [FieldServer(endpoint) for endpoint in endpoints(config, wander.values)]
    try:
        for server in servers:
            await server.start()
        ports = {f"{server.endpoint.host}:{server.endpoint.port}": server.port for server in servers}
        log.info("devices are simulated", ports=sorted(ports.values()), signals=len(wander.values))
        if on_ready is not None:
            on_ready(ports)
        while True:
            await asyncio.sleep(STEP_S)
            wander.step()
    finally:
        for server in servers:
            await server.stop()

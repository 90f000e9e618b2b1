"""Which simulated devices a site's gateway files describe, and their registers. No sockets here.

The registers are encoded by the same model files that the gateways decode with, and only when somebody reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from gateway.addresses import Table
from gateway.config import GatewayConfig, ModbusDevice, load_gateway
from gateway.model import ModelLibrary, ModelSignal
from watchroom.errors import ConfigError
from watchroom.site import Site

Words = np.ndarray[tuple[int], np.dtype[np.uint16]]


HOLE = 16
"""Holes between signals up to this many registers can be read; a device answers larger ones with an error."""


class RegisterImage:
    """The registers of one device, filled from engineering values on demand.

    Args:
        device: The device as the gateway's file describes it.
        values: Signal key -> engineering value; read at each ``refresh``.
    """

    def __init__(self, device: ModbusDevice, values: Mapping[str, float]) -> None:
        self.device = device
        self._values = values
        self._last: dict[str, float] = {}
        self._signals: dict[Table, list[tuple[str, ModelSignal]]] = {}
        for signal in device.model.signals.values():
            if signal.table is not None and signal.is_polled:
                self._signals.setdefault(signal.table, []).append((device.key(signal.name), signal))
        self.spans = {table: _span(signal for _, signal in found) for table, found in self._signals.items()}
        self._words = {
            table: np.zeros(last - first + 1, dtype=np.uint16) for table, (first, last) in self.spans.items()
        }

    @property
    def missing(self) -> list[str]:
        """Keys that nothing simulates."""
        return [key for found in self._signals.values() for key, _ in found if key not in self._values]

    def runs(self, table: Table) -> list[tuple[int, int]]:
        """Return (first, last) of the registers that exist; small holes between signals exist and hold 0."""
        runs: list[tuple[int, int]] = []
        for _, signal in sorted(self._signals[table], key=lambda item: item[1].offset):
            if runs and signal.offset - runs[-1][1] - 1 <= HOLE:
                runs[-1] = (runs[-1][0], max(runs[-1][1], signal.last))
            else:
                runs.append((signal.offset, signal.last))
        return runs

    def read(self, table: Table, first: int, count: int) -> list[int]:
        """Return words (or single bits) of a table as they are now.

        Args:
            table: One that ``spans`` has.
            first: Offset on the wire; the range must lie inside ``spans[table]``.
            count: Number of registers, or of bits.
        """
        origin, _ = self.spans[table]
        words = self._words[table]
        for key, signal in self._signals[table]:
            if signal.offset < first + count and signal.last >= first:
                value = self._values[key]
                if self._last.get(key) != value:
                    signal.put(words, value, origin=origin)
                    self._last[key] = value
        found: list[int] = words[first - origin : first - origin + count].tolist()
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One listening port with the devices behind it.

    Attributes:
        gateway: Id of the gateway whose link it is.
        units: Unit id -> registers.
        framing: ``tcp``, or ``rtu`` for RTU telegrams over TCP.
    """

    gateway: str
    host: str
    port: int
    units: dict[int, RegisterImage] = field(default_factory=dict)
    framing: str = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Everything of a site that is to be simulated.

    Attributes:
        door_gateways: Door -> id of the gateway that listens to its readers.
    """

    endpoints: tuple[Endpoint, ...]
    door_gateways: Mapping[str, str]
    gateways: tuple[str, ...]


def load_fleet(site: Site, values: Mapping[str, float], addresses: Mapping[str, str]) -> Fleet:
    """Return the simulated devices of a site's gateway files.

    Args:
        site: The site files.
        values: Signal key -> engineering value, kept up to date by the physics.
        addresses: ``host:port`` as written in the files -> the one to use instead.

    Raises:
        ConfigError: If a file is wrong or asks for a signal that nothing simulates.
    """
    models = ModelLibrary()
    endpoints: list[Endpoint] = []
    doors: dict[str, str] = {}
    gateways: list[str] = []
    for path in site.gateway_files:
        config = load_gateway(path, models=models, addresses=addresses)
        if not config.is_simulated:
            continue
        gateways.append(config.id)
        endpoints += _endpoints(config, values)
        for reader in config.readers.values():
            doors.update(dict.fromkeys(reader.mapping.equipment, config.id))
    return Fleet(endpoints=tuple(endpoints), door_gateways=doors, gateways=tuple(gateways))


def _endpoints(config: GatewayConfig, values: Mapping[str, float]) -> Iterable[Endpoint]:
    for link in config.links.values():
        if link.kind != "tcp":
            continue
        endpoint = Endpoint(gateway=config.id, host=link.host, port=link.port)
        for device in config.devices_on(link.name):
            image = RegisterImage(device, values)
            if image.missing:
                raise ConfigError(
                    f"nothing simulates {', '.join(image.missing[:3])}",
                    path=config.path,
                    key=f"devices.{device.name}",
                    hint="simulated: true is for equipment of site files whose type has a simulator",
                )
            endpoint.units[device.unit] = image
        yield endpoint


def _span(signals: Iterable[ModelSignal]) -> tuple[int, int]:
    found = list(signals)
    return min(signal.offset for signal in found), max(signal.last for signal in found)

"""Compiles what a gateway file says about fire panels without Modbus, and says where it is wrong. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_network
from zoneinfo import ZoneInfo

from gateway.admission import Network
from gateway.fireframe import parse_address
from gateway.firemap import DUTY, AnalogRule, FireDevice
from gateway.fireobjects import parse_part
from gateway.panel import SUMMARY, Zones
from gateway.panelfile import TransmitterEntry
from watchroom.signals import SIGNAL_NAME
from watchroom.yamlfile import Path_, YamlFile

MAX_ZONES = 1000


def compile_transmitter(
    file: YamlFile, where: Path_, entry: TransmitterEntry, *, name: str, link: str, equipment: str, prefix: str
) -> FireDevice:
    """Return one transmitter of a gateway file.

    Args:
        file: The gateway file, for messages.
        where: Path of the entry in it.
        entry: The parsed entry.
        name: The device's name.
        link: The link's name.
        equipment: The panel.
        prefix: Goes before each signal's name.

    Raises:
        ConfigError: With file, line, key and what was expected.
    """
    address = None
    if entry.address is not None:
        try:
            address = parse_address(entry.address)
        except ValueError as exc:
            raise file.error((*where, "address"), str(exc)) from exc
    if entry.silence < 2 * entry.poll:
        raise file.error((*where, "silence"), "shorter than two polls", hint=f"at least {2 * entry.poll:g}s")
    return FireDevice(
        name=name,
        link=link,
        equipment=equipment,
        prefix=prefix,
        entry=entry,
        zone=time_zone(file, (*where, "tz"), entry.tz),
        zones=compile_zones(file, (*where, "zones"), entry.zones),
        address=address,
        networks=compile_networks(file, (*where, "from"), entry.senders),
        systems=tuple(_system(file, (*where, "systems", i), text) for i, text in enumerate(entry.systems)),
        analogs=tuple(_analog(file, where, entry, key) for key in entry.analogs),
    )


def time_zone(file: YamlFile, where: Path_, text: str) -> ZoneInfo:
    """Return an IANA zone.

    Raises:
        ConfigError: If there is none of that name.
    """
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError) as exc:
        raise file.error(where, f"{text!r} is not an IANA time zone such as Asia/Shanghai") from exc


def compile_networks(file: YamlFile, where: Path_, texts: Sequence[str]) -> tuple[Network, ...]:
    """Return IP addresses and networks.

    Raises:
        ConfigError: For the first text that is none.
    """
    networks: list[Network] = []
    for i, text in enumerate(texts):
        try:
            networks.append(ip_network(text))
        except ValueError as exc:
            raise file.error((*where, i), f"{text!r} is not an address or network such as 10.0.3.0/24") from exc
    return tuple(networks)


def compile_zones(file: YamlFile, where: Path_, zones: int | dict[int, list[str]]) -> Zones:
    """Return which zone a part belongs to.

    Raises:
        ConfigError: If a zone or a range is none, or two ranges overlap.
    """
    if isinstance(zones, int):
        if not 0 <= zones <= MAX_ZONES:
            raise file.error(where, f"{zones} zones; 0 to {MAX_ZONES}")
        return Zones(zones)
    ranges: list[tuple[int, int, int]] = []
    for zone, texts in zones.items():
        if not 1 <= zone <= MAX_ZONES:
            raise file.error((*where, zone), f"zones are numbered from 1 to {MAX_ZONES}")
        for i, text in enumerate(texts):
            first, last = _range(file, (*where, zone, i), text)
            for other, low, high in ranges:
                if first <= high and last >= low:
                    raise file.error((*where, zone, i), f"{text!r} overlaps with zone {other}")
            ranges.append((zone, first, last))
    return Zones(max(zones, default=0), tuple(ranges))


def _range(file: YamlFile, where: Path_, text: str) -> tuple[int, int]:
    low, _, high = text.partition("..")
    try:
        first = parse_part(low)
        last = parse_part(high) if high else first
    except ValueError as exc:
        raise file.error(where, str(exc)) from exc
    if first > last:
        raise file.error(where, f"{text!r}: the lower part comes first")
    return first, last


def _system(file: YamlFile, where: Path_, text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", str(text))
    if match is None or int(match[1]) > 255 or int(match[2]) > 255:
        raise file.error(where, f"{text!r} is not type.address of a system", hint='in quotes, for example "1.0"')
    return int(match[1]), int(match[2])


def _analog(file: YamlFile, where: Path_, entry: TransmitterEntry, name: str) -> AnalogRule:
    analog, place = entry.analogs[name], (*where, "analogs", name)
    if not SIGNAL_NAME.fullmatch(name):
        raise file.error(place, f"{name!r} is not a signal name", hint="lower case letters, digits and _")
    if name in {*SUMMARY, DUTY, "online"}:
        raise file.error(place, f"{name!r} is already a signal of the panel")
    if analog.range and analog.range[0] >= analog.range[1]:
        raise file.error((*place, "range"), "the lower end of a range comes first")
    try:
        part = parse_part(analog.part)
    except ValueError as exc:
        raise file.error((*place, "part"), str(exc)) from exc
    return AnalogRule(name, part, analog)


def check_alone(file: YamlFile, devices: Sequence[FireDevice]) -> None:
    """Check that the transmitters of one link can be told apart.

    Raises:
        ConfigError: For the second of two that cannot.
    """
    for i, device in enumerate(devices):
        for other in devices[:i]:
            is_same_address = None in (device.address, other.address) or device.address == other.address
            is_same_place = not device.networks or not other.networks or _overlap(device.networks, other.networks)
            if is_same_address and is_same_place:
                raise file.error(
                    ("devices", device.name, "transmitter", "address"),
                    f"it cannot be told from {other.name!r} on the link {device.link!r}",
                    hint="give both an address: or a from:",
                )


def _overlap(left: Sequence[Network], right: Sequence[Network]) -> bool:
    return any(a.version == b.version and a.overlaps(b) for a in left for b in right)

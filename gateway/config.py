"""The configuration of one gateway: its file, checked, with models compiled and names resolved."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from gateway.admission import ANYBODY, Admission
from gateway.configfile import DeviceEntry, GatewayFile, LinkEntry
from gateway.mapping import Mapping as ReaderMapping
from gateway.mappingcheck import compile_mapping
from gateway.model import Model, ModelLibrary
from gateway.modelfile import named_booleans
from gateway.ready import with_ready
from gateway.sources import (
    CARRIERS,
    SOURCE_KEYS,
    SourceDevice,
    Speaks,
    check_sources,
    compile_admission,
    compile_source,
)
from watchroom.errors import ConfigError
from watchroom.signals import EQUIPMENT_ID, SIGNAL_NAME, Kind, SignalSpec
from watchroom.yamlfile import Path_, YamlFile, load_yaml

OWN_SIGNALS = {"outbox_frames": "", "outbox_bytes": "B", "links_down": "", "loss_count": ""}
"""What a gateway says about itself, when ``self:`` names its equipment; name -> unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """One physical link.

    Attributes:
        kind: ``tcp``, ``serial`` and ``listen`` (the device connects to us) carry Modbus, ``mqtt`` messages of readers.
        host: Host of tcp, listen and mqtt; the device file of serial.
        port: Port of tcp, listen and mqtt; 0 for serial.
        framing: ``tcp`` (MBAP), ``rtu`` or ``ascii``.
        timeout_s: Longest wait for an answer.
        gap_s: Silence before each request.
        settle_s: How long a unit is left alone after an answer did not come, on rtu and ascii.
        back_off_s: Longest wait between probes of a silent device.
        hello: What a device that dials in sends first; empty takes any device.
        heartbeat: What it sends between telegrams; empty for nothing.
        is_tls: Whether an MQTT link speaks TLS.
        keep_session: The broker keeps messages while the gateway is away.
        protocol: MQTT version to speak.
        speaks: What goes over tcp, serial and listen.
        admission: Who may connect to listen.
    """

    name: str
    kind: Literal["tcp", "serial", "listen", "mqtt"]
    host: str
    port: int = 0
    framing: Literal["tcp", "rtu", "ascii"] = "tcp"
    timeout_s: float = 1.0
    gap_s: float = 0.0
    settle_s: float = 2.0
    back_off_s: float = 10.0
    hello: bytes = b""
    heartbeat: bytes = b""
    baud: int = 9600
    parity: str = "N"
    stop_bits: int = 1
    username: str | None = None
    password_env: str | None = None
    is_tls: bool = False
    qos: int = 1
    keep_session: bool = True
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    speaks: Speaks = "modbus"
    admission: Admission = ANYBODY

    def __str__(self) -> str:
        return f"{self.name} ({self.host}:{self.port})" if self.port else f"{self.name} ({self.host})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusDevice:
    """One unit on a Modbus link; its signals are ``equipment/prefix + name``."""

    name: str
    link: str
    unit: int
    model: Model
    equipment: str
    prefix: str = ""

    def key(self, signal: str) -> str:
        """Return the key of one of the model's signals."""
        return f"{self.equipment}/{self.prefix}{signal}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderDevice:
    """One kind of reader on an MQTT link."""

    name: str
    link: str
    mapping: ReaderMapping


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """One gateway, ready to run.

    Attributes:
        own_equipment: Equipment id of the gateway's own signals, None if it has none.
        devices: Modbus devices by name, in the order of the file.
        readers: MQTT readers by name, in the order of the file.
        sources: Devices that speak neither Modbus nor MQTT by name, in the order of the file.
    """

    id: str
    site: str
    path: Path
    own_equipment: str | None = None
    is_simulated: bool = False
    heartbeat_s: float = 1.0
    links: Mapping[str, LinkConfig] = field(default_factory=dict)
    devices: Mapping[str, ModbusDevice] = field(default_factory=dict)
    readers: Mapping[str, ReaderDevice] = field(default_factory=dict)
    sources: Mapping[str, SourceDevice] = field(default_factory=dict)

    def devices_on(self, link: str) -> tuple[ModbusDevice, ...]:
        """Return the Modbus devices of one link."""
        return tuple(device for device in self.devices.values() if device.link == link)

    def readers_on(self, link: str) -> tuple[ReaderDevice, ...]:
        """Return the readers of one link."""
        return tuple(reader for reader in self.readers.values() if reader.link == link)

    def sources_on(self, link: str) -> tuple[SourceDevice, ...]:
        """Return the devices of one link that speak neither Modbus nor MQTT."""
        return tuple(source for source in self.sources.values() if source.link == link)


def load_gateway(path: Path, *, models: ModelLibrary, addresses: Mapping[str, str] | None = None) -> GatewayConfig:
    """Read and check one gateway file.

    Args:
        path: The YAML file.
        models: Where device models are found.
        addresses: ``host:port`` as written in the file -> the one to use instead (demo ports, tests).

    Raises:
        ConfigError: With file, line, key and what was expected, for the first thing that is wrong.
    """
    file = with_ready(named_booleans(load_yaml(path)))
    entry: GatewayFile = file.parse(GatewayFile)
    links = {name: _spoken(file, _link(file, name, link, addresses or {}), link) for name, link in entry.links.items()}
    _check_links(file, links)
    devices: dict[str, ModbusDevice] = {}
    readers: dict[str, ReaderDevice] = {}
    sources: dict[str, SourceDevice] = {}
    for name, device in entry.devices.items():
        link = _link_of(file, name, device, links)
        if link.kind == "mqtt" or link.speaks == "mqtt":
            readers[name] = _reader(file, name, device)
        elif link.speaks != "modbus":
            sources[name] = compile_source(file, name, device, speaks=link.speaks)
        else:
            devices[name] = _modbus(file, name, device, models)
    config = GatewayConfig(
        id=entry.gateway.id,
        site=entry.gateway.site,
        path=path,
        own_equipment=entry.gateway.own_equipment,
        is_simulated=entry.gateway.simulated,
        heartbeat_s=entry.gateway.heartbeat,
        links=links,
        devices=devices,
        readers=readers,
        sources=sources,
    )
    check_sources(file, tuple(sources.values()))
    _check_equipment(file, ("gateway", "self"), config.own_equipment)
    _check_units(file, config)
    _check_keys(file, config)
    return config


def signals_of(config: GatewayConfig) -> tuple[SignalSpec, ...]:
    """Return every signal of a gateway for its birth, aliases dense from 0 in the order of the file."""
    return tuple(replace(spec, alias=alias) for alias, (_, spec) in enumerate(_specs(config)))


def _specs(config: GatewayConfig) -> Iterator[tuple[str, SignalSpec]]:
    """Every signal with the name of its device; aliases are not final."""
    for device in config.devices.values():
        for signal in device.model.polled:
            yield (
                device.name,
                SignalSpec(
                    alias=0,
                    key=device.key(signal.name),
                    kind=signal.kind,
                    unit=signal.unit,
                    lane=signal.lane,
                    max_silence_s=signal.max_silence_s,
                    texts={value: dict(text) for value, text in signal.texts.items()},
                    modulus=signal.modulus,
                    deadband=signal.deadband,
                ),
            )
    for reader in config.readers.values():
        for spec in reader.mapping.specs():
            yield reader.name, spec
    for source in config.sources.values():
        for spec in source.specs():
            yield source.name, spec
    if config.own_equipment:
        for name, unit in OWN_SIGNALS.items():
            yield "", SignalSpec(alias=0, key=f"{config.own_equipment}/{name}", kind=Kind.MEASURE, unit=unit)


def _link(file: YamlFile, name: str, entry: LinkEntry, addresses: Mapping[str, str]) -> LinkConfig:
    where = ("links", name)
    given = [key for key in ("tcp", "serial", "listen", "mqtt") if getattr(entry, key) is not None]
    if len(given) != 1:
        raise file.error(
            where, "a link is one of tcp:, serial:, listen: or mqtt:", hint=f"found {' and '.join(given) or 'none'}"
        )
    for key in ("hello", "heartbeat"):
        if getattr(entry, key) and entry.listen is None:
            raise file.error((*where, key), "only a device that dials in sends this", hint="listen: 0.0.0.0:5020")
    if entry.mqtt is not None:
        return _broker(file, name, entry, addresses)
    settle_s = min(3.0, 2 * entry.timeout) if entry.settle is None else entry.settle
    plain = LinkConfig(
        name=name,
        kind="serial",
        host=entry.serial or "",
        framing=entry.framing or "rtu",
        timeout_s=entry.timeout,
        gap_s=entry.gap,
        settle_s=settle_s,
        back_off_s=entry.back_off,
        baud=entry.baud,
        parity=entry.parity,
        stop_bits=entry.stop_bits,
    )
    if entry.serial is not None:
        if entry.framing == "tcp":
            raise file.error((*where, "framing"), "a serial line carries rtu or ascii telegrams")
        return plain
    if entry.tcp is not None:
        host, port = _endpoint(file, (*where, "tcp"), addresses.get(entry.tcp, entry.tcp), 502)
        return replace(plain, kind="tcp", host=host, port=port, framing=entry.framing or "tcp")
    host, port = _endpoint(file, (*where, "listen"), addresses.get(str(entry.listen), str(entry.listen)), 502)
    hello, heartbeat = (_octets(file, (*where, key), getattr(entry, key)) for key in ("hello", "heartbeat"))
    return replace(plain, kind="listen", host=host, port=port, hello=hello, heartbeat=heartbeat)


def _octets(file: YamlFile, where: Path_, text: str) -> bytes:
    """Bytes as people write them: text, or hex:0102FF."""
    if not text.startswith("hex:"):
        return text.encode()
    try:
        return bytes.fromhex(text[4:])
    except ValueError as exc:
        raise file.error(where, f"{text!r} is not hex:0102FF") from exc


def _spoken(file: YamlFile, link: LinkConfig, entry: LinkEntry) -> LinkConfig:
    """Return a link with what it speaks."""
    where = ("links", link.name, "speaks")
    if link.kind == "mqtt" and where in file.lines:
        raise file.error(where, "a broker speaks MQTT", hint="leave speaks: out")
    allowed = CARRIERS[entry.speaks]
    if link.kind != "mqtt" and link.kind not in allowed:
        raise file.error(where, f"{entry.speaks} does not go over {link.kind}:", hint=f"one of {', '.join(allowed)}")
    return replace(link, speaks=entry.speaks, admission=compile_admission(file, link, entry))


def _broker(file: YamlFile, name: str, entry: LinkEntry, addresses: Mapping[str, str]) -> LinkConfig:
    where = ("links", name, "mqtt")
    parts = urlsplit(str(entry.mqtt))
    if parts.scheme not in {"mqtt", "mqtts"} or not parts.netloc or parts.path.strip("/"):
        raise file.error(where, f"{entry.mqtt!r} is not mqtt://host:port")
    if parts.password is not None:
        raise file.error(where, "no passwords in this file", hint="password_env: NAME_OF_AN_ENVIRONMENT_VARIABLE")
    written = parts.netloc.rpartition("@")[2]
    default = 8883 if parts.scheme == "mqtts" else 1883
    host, port = _endpoint(file, where, addresses.get(written, written), default)
    return LinkConfig(
        name=name,
        kind="mqtt",
        host=host,
        port=port,
        username=parts.username,
        password_env=entry.password_env,
        is_tls=parts.scheme == "mqtts",
        qos=entry.qos,
        keep_session=entry.session == "keep",
        protocol=entry.protocol,
    )


def _endpoint(file: YamlFile, where: Path_, text: str, default_port: int) -> tuple[str, int]:
    match = re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\])(?::(\d{1,5}))?", text.strip())
    port = int(match[2] or default_port) if match else 0
    if match is None or not 0 < port < 65536:
        raise file.error(where, f"{text!r} is not host:port", hint=f"for example 10.0.3.30:{default_port}")
    return match[1].strip("[]"), port


def _check_links(file: YamlFile, links: Mapping[str, LinkConfig]) -> None:
    seen: dict[tuple[str, int, bytes], str] = {}
    for name, link in links.items():
        other = seen.setdefault((link.host, link.port, link.hello), name)
        if other != name:
            raise file.error(
                ("links", name),
                f"{link.host}:{link.port} is already the link {other!r}" if link.port else f"{link.host} is {other!r}",
                hint="give each device that dials in a hello: of its own"
                if link.kind == "listen"
                else "one link for one wire: put all its devices on it",
            )
        for old in links.values():
            same_port = link.kind == old.kind == "listen" and (link.host, link.port) == (old.host, old.port)
            if same_port and link.hello != old.hello and link.hello.startswith(old.hello):
                raise file.error(("links", name, "hello"), f"begins with the hello of link {old.name!r}")


def _link_of(file: YamlFile, name: str, entry: DeviceEntry, links: Mapping[str, LinkConfig]) -> LinkConfig:
    if entry.link in links:
        return links[entry.link]
    near = difflib.get_close_matches(entry.link, links, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"links: {', '.join(links)}"
    raise file.error(("devices", name, "link"), f"there is no link {entry.link!r}", hint=hint)


def _modbus(file: YamlFile, name: str, entry: DeviceEntry, models: ModelLibrary) -> ModbusDevice:
    where = ("devices", name)
    for key in ("mqtt", *SOURCE_KEYS):
        if getattr(entry, key) is not None:
            raise file.error((*where, key), f"link {entry.link!r} carries Modbus, not messages")
    if entry.model is None or entry.unit is None or entry.equipment is None:
        missing = next(key for key in ("model", "unit", "equipment") if getattr(entry, key) is None)
        raise file.error((*where, missing), "this key is missing", hint="a Modbus device has model, unit and equipment")
    _check_equipment(file, (*where, "equipment"), entry.equipment)
    try:
        model = models.model(entry.model, overrides=entry.overrides, params=entry.params)
    except ConfigError as exc:
        if exc.path is not None:
            raise
        raise file.error((*where, "model"), exc.problem, hint=exc.hint) from exc
    except ValueError as exc:
        key = "params" if "parameter" in str(exc) else "set"
        raise file.error((*where, key), str(exc)) from exc
    return ModbusDevice(
        name=name, link=entry.link, unit=entry.unit, model=model, equipment=entry.equipment, prefix=entry.prefix
    )


def _reader(file: YamlFile, name: str, entry: DeviceEntry) -> ReaderDevice:
    where = ("devices", name)
    if entry.mqtt is None:
        raise file.error((*where, "mqtt"), "this key is missing", hint=f"link {entry.link!r} is a broker")
    for key in ("model", "unit", "prefix", "set", "params", *SOURCE_KEYS):
        if (*where, key) in file.lines:
            raise file.error((*where, key), "this key is for other devices", hint=f"link {entry.link!r} is a broker")
    if entry.equipment is not None:
        raise file.error((*where, "equipment"), "a reader's equipment stands inside mqtt:")
    mapping = compile_mapping(file, (*where, "mqtt"), entry.mqtt, name=name)
    return ReaderDevice(name=name, link=entry.link, mapping=mapping)


def _check_equipment(file: YamlFile, where: Path_, equipment: str | None) -> None:
    if equipment is not None and not EQUIPMENT_ID.fullmatch(equipment):
        raise file.error(where, f"{equipment!r} is not an equipment id", hint="for example WP-01")


def _check_units(file: YamlFile, config: GatewayConfig) -> None:
    seen: dict[tuple[str, int], str] = {}
    for device in config.devices.values():
        other = seen.setdefault((device.link, device.unit), device.name)
        if other != device.name:
            raise file.error(
                ("devices", device.name, "unit"),
                f"unit {device.unit} on link {device.link!r} is already {other!r}",
                hint="one unit id answers once: give one of them another id, or join their models",
            )


def _check_keys(file: YamlFile, config: GatewayConfig) -> None:
    seen: dict[str, str] = {}
    for device, spec in _specs(config):
        name = spec.key.partition("/")[2]
        if not SIGNAL_NAME.fullmatch(name):
            raise file.error(
                ("devices", device), f"{name!r} is not a signal name", hint="lower case letters, digits, _"
            )
        if spec.key in seen:
            other = repr(seen[spec.key]) if seen[spec.key] else "the gateway itself"
            same = "twice in it" if other == repr(device) else f"already in {other}"
            raise file.error(
                ("devices", device) if device else ("gateway", "self"),
                f"signal {spec.key} is {same}",
                hint="give the device a prefix: or another equipment:",
            )
        seen[spec.key] = device

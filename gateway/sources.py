"""Devices that speak neither Modbus nor MQTT: which key of a gateway file describes them, compiled and run by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from gateway.admission import Admission
from gateway.firemap import FireDevice
from gateway.panelcheck import check_alone, compile_networks, compile_transmitter, compile_zones
from gateway.printer import load_rules
from gateway.printerlink import PrinterDevice
from gateway.pushfile import PushDevice, compile_push
from watchroom.errors import ConfigError
from watchroom.signals import EQUIPMENT_ID
from watchroom.yamlfile import Path_, YamlFile

if TYPE_CHECKING:
    from gateway.config import LinkConfig
    from gateway.configfile import DeviceEntry, LinkEntry

Speaks = Literal["modbus", "gbt26875", "mqtt", "http", "text"]
SourceDevice = FireDevice | PushDevice | PrinterDevice
CARRIERS: Mapping[Speaks, tuple[str, ...]] = {
    "modbus": ("tcp", "serial", "listen"),
    "gbt26875": ("tcp", "listen"),
    "mqtt": ("listen",),
    "http": ("listen",),
    "text": ("serial", "tcp"),
}
"""What may carry it: kinds of links."""
DOORS = frozenset({"mqtt", "http"})
"""What readers speak that connect to us, and therefore must show who they are."""
SOURCE_KEYS = ("transmitter", "http", "printer")
"""Keys of a device that is neither Modbus nor MQTT; it has exactly the one its link speaks."""
_KEY: Mapping[Speaks, str] = {"gbt26875": "transmitter", "http": "http", "text": "printer"}


def compile_source(file: YamlFile, name: str, entry: DeviceEntry, *, speaks: Speaks) -> SourceDevice:
    """Return one device of a link that speaks something else than Modbus.

    Raises:
        ConfigError: With file, line, key and what was expected.
    """
    where = ("devices", name)
    wanted = _KEY[speaks]
    for key in ("model", "unit", "set", "params", "mqtt", *SOURCE_KEYS):
        if key != wanted and (*where, key) in file.lines:
            raise file.error(
                (*where, key), "this key is for other devices", hint=f"link {entry.link!r} speaks {speaks}"
            )
    if getattr(entry, wanted) is None:
        raise file.error((*where, wanted), "this key is missing", hint=f"link {entry.link!r} speaks {speaks}")
    if entry.http is not None:
        for key in ("equipment", "prefix"):
            if (*where, key) in file.lines:
                raise file.error((*where, key), "a reader's equipment stands inside http: readers:")
        return compile_push(file, (*where, wanted), entry.http, name=name, link=entry.link)
    if entry.equipment is None:
        raise file.error((*where, "equipment"), "this key is missing", hint="for example FP-01")
    if not EQUIPMENT_ID.fullmatch(entry.equipment):
        raise file.error((*where, "equipment"), f"{entry.equipment!r} is not an equipment id", hint="for example FP-01")
    if entry.printer is not None:
        return _printer(file, (*where, wanted), name, entry)
    assert entry.transmitter is not None
    return compile_transmitter(
        file,
        (*where, wanted),
        entry.transmitter,
        name=name,
        link=entry.link,
        equipment=entry.equipment,
        prefix=entry.prefix,
    )


def _printer(file: YamlFile, where: Path_, name: str, entry: DeviceEntry) -> PrinterDevice:
    assert entry.printer is not None
    assert entry.equipment is not None
    try:
        own = file.path.parent.parent / "printers"
        rules = load_rules(entry.printer.rules, own=own, encoding=entry.printer.encoding)
    except ConfigError as exc:
        if exc.path is not None:
            raise
        raise file.error((*where, "rules"), exc.problem, hint=exc.hint) from exc
    return PrinterDevice(
        name=name,
        link=entry.link,
        equipment=entry.equipment,
        prefix=entry.prefix,
        entry=entry.printer,
        zones=compile_zones(file, (*where, "zones"), entry.printer.zones),
        rules=rules,
    )


def compile_admission(file: YamlFile, link: LinkConfig, entry: LinkEntry) -> Admission:
    """Return who may connect to a link.

    Raises:
        ConfigError: If an account or network is wrong, or a port for readers is open to everybody.
    """
    where = ("links", link.name)
    is_door = entry.speaks in DOORS
    for key in ("accounts", "from"):
        if (*where, key) in file.lines and not is_door:
            raise file.error((*where, key), "this is for ports that readers connect to", hint="speaks: mqtt or http")
    for name, account in entry.accounts.items():
        if (account.password_env is None) == (account.password_file is None):
            raise file.error((*where, "accounts", name), "an account has password_env: or password_file:")
    networks = compile_networks(file, (*where, "from"), entry.senders)
    is_local = link.host in {"127.0.0.1", "::1", "localhost"}
    if is_door and not (entry.accounts or networks or is_local):
        raise file.error(where, "this port is open to everybody", hint="add accounts: or from: [10.0.3.0/24]")
    return Admission(networks, tuple(entry.accounts.items()))


def check_sources(file: YamlFile, sources: Sequence[SourceDevice]) -> None:
    """Check what only shows between devices.

    Raises:
        ConfigError: With file, line, key and what was expected.
    """
    for link in dict.fromkeys(source.link for source in sources):
        here = [source for source in sources if source.link == link]
        printers = [source for source in here if isinstance(source, PrinterDevice)]
        if len(printers) > 1:
            raise file.error(("devices", printers[1].name, "link"), f"{printers[0].name!r} prints on it already")
        check_alone(file, [source for source in here if isinstance(source, FireDevice)])

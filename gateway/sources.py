"""Devices that speak neither Modbus nor MQTT: which key of a gateway file describes them, compiled and run by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from gateway.firemap import FireDevice
from gateway.panelcheck import check_alone, compile_transmitter
from watchroom.signals import EQUIPMENT_ID
from watchroom.yamlfile import YamlFile

if TYPE_CHECKING:
    from gateway.configfile import DeviceEntry

Speaks = Literal["modbus", "gbt26875"]
SourceDevice = FireDevice
CARRIERS: Mapping[Speaks, tuple[str, ...]] = {"modbus": ("tcp", "serial", "listen"), "gbt26875": ("tcp", "listen")}
"""What may carry it: kinds of links."""
SOURCE_KEYS = ("transmitter",)
"""Keys of a device that is neither Modbus nor MQTT; it has exactly the one its link speaks."""
_KEY: Mapping[Speaks, str] = {"gbt26875": "transmitter"}


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
    if entry.equipment is None:
        raise file.error((*where, "equipment"), "this key is missing", hint="for example FP-01")
    if not EQUIPMENT_ID.fullmatch(entry.equipment):
        raise file.error((*where, "equipment"), f"{entry.equipment!r} is not an equipment id", hint="for example FP-01")
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


def check_sources(file: YamlFile, sources: Sequence[SourceDevice]) -> None:
    """Check what only shows between devices.

    Raises:
        ConfigError: With file, line, key and what was expected.
    """
    for link in dict.fromkeys(source.link for source in sources):
        check_alone(file, [source for source in sources if source.link == link])

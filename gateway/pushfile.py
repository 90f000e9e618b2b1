"""What a gateway file may say about readers that push over HTTP, and what it means: compiled, with ready mappings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from gateway.admission import Network, admits
from gateway.mapping import Mapping as ReaderMapping
from gateway.mappingcheck import compile_mapping
from gateway.mappingfile import FieldEntry, MqttEntry
from gateway.panelcheck import compile_networks, time_zone
from gateway.ready import joined, load_ready
from watchroom.durations import Seconds
from watchroom.signals import EQUIPMENT_ID, SignalSpec
from watchroom.yamlfile import Path_, Strict, YamlFile

Protocol = Literal["isapi", "zkteco"]
TOPIC = "push/{door}/{reader}"


class PlaceEntry(Strict):
    """Where one reader hangs."""

    equipment: str = Field(description="The door it belongs to")
    direction: Literal["in", "out"] | None = Field(default=None, description="If the reader itself does not say")
    senders: list[str] = Field(default=[], alias="from", description="IP addresses or networks it may push from")


class HttpEntry(Strict):
    """Readers of one kind that push their events over HTTP."""

    protocol: Protocol = Field(description="isapi: Hikvision event notifications; zkteco: push protocol, /iclock")
    path: str = Field(default="/isapi", pattern=r"^/[A-Za-z0-9/_.-]*$", description="For isapi: URL they post to")
    readers: dict[str, str | PlaceEntry] = Field(
        min_length=1, description="Serial number, device id, MAC or IP address as the reader says it -> its door"
    )
    tz: str = Field(default="Asia/Shanghai", description="IANA zone of times that carry none")
    timeout: Seconds = Field(default=600.0, gt=0, description="Offline after so long without a request")
    signals: bool = Field(default=False, description="Also report door contact, lock and button from its events")
    fields: dict[str, str | FieldEntry] = Field(default={}, description="In place of the ready fields of the event")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one reader hangs."""

    reader: str
    equipment: str
    direction: str | None
    networks: tuple[Network, ...]

    def admits(self, host: str) -> bool:
        """Whether it may push from an address."""
        return admits(self.networks, host)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushDevice:
    """Readers of one kind, compiled.

    Attributes:
        places: Identity as the reader says it, lower case -> where it hangs.
        access: Mapping of its access events.
        door: Mapping of its door signals, None if the file does not want them.
    """

    name: str
    link: str
    entry: HttpEntry
    zone: ZoneInfo
    places: Mapping[str, Place]
    access: ReaderMapping
    door: ReaderMapping | None

    @property
    def equipment(self) -> str:
        """Its doors, for people."""
        return ", ".join(dict.fromkeys(place.equipment for place in self.places.values()))

    @property
    def commands(self) -> tuple[str, ...]:
        """Keys of the signals that take an order: none."""
        return ()

    @property
    def mappings(self) -> tuple[ReaderMapping, ...]:
        """Every mapping, in the order it is tried."""
        return (self.access,) if self.door is None else (self.access, self.door)

    def specs(self) -> Iterator[SignalSpec]:
        """Yield its signals; their aliases are not final."""
        for mapping in self.mappings:
            yield from mapping.specs()


def compile_push(file: YamlFile, where: Path_, entry: HttpEntry, *, name: str, link: str) -> PushDevice:
    """Return the readers of one device entry.

    Raises:
        ConfigError: With file, line, key and what was expected.
    """
    zone = time_zone(file, (*where, "tz"), entry.tz)
    places: dict[str, Place] = {}
    for reader, given in entry.readers.items():
        place = PlaceEntry(equipment=given) if isinstance(given, str) else given
        at = (*where, "readers", reader)
        if not EQUIPMENT_ID.fullmatch(place.equipment):
            raise file.error(at, f"{place.equipment!r} is not an equipment id", hint="for example DR-S1")
        if reader.lower() in places:
            raise file.error(at, "this reader stands here twice")
        networks = compile_networks(file, (*at, "from"), place.senders)
        places[reader.lower()] = Place(reader, place.equipment, place.direction, networks)
    doors = list(dict.fromkeys(place.equipment for place in places.values()))
    kept = {key: item if isinstance(item, str) else item.model_dump() for key, item in entry.fields.items()}
    common: dict[str, Any] = {"topic": TOPIC, "equipment": "{door}", "only": doors}
    online = {"online": {"topic": "push/{door}/alive", "timeout": entry.timeout}}
    access = _mapping(file, where, f"{entry.protocol}_access", common | online | {"fields": kept}, entry.tz, name)
    door = _mapping(file, where, f"{entry.protocol}_door", common, entry.tz, name) if entry.signals else None
    return PushDevice(name=name, link=link, entry=entry, zone=zone, places=places, access=access, door=door)


def _mapping(file: YamlFile, where: Path_, ready: str, own: dict[str, Any], tz: str, name: str) -> ReaderMapping:
    message = joined(load_ready(ready).message, own | {"time": {"tz": tz}})
    entry = MqttEntry.model_validate(message)
    return compile_mapping(file, where, entry, name=name)

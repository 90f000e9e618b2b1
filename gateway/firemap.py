"""A fire transmitter's objects to signals and events of a fire panel. Pure, but for the memory of the panel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from gateway.admission import Network, admits
from gateway.fireframe import FireFrame, local_ms
from gateway.fireobjects import (
    ANALOGS,
    Clock,
    Configuration,
    FireObject,
    Operation,
    Order,
    PartAnalog,
    PartState,
    SystemState,
    TransmitterState,
    Version,
    part_text,
)
from gateway.firewords import (
    OPERATIONS_ZH,
    PANEL_OPERATIONS,
    PART_BITS,
    SYSTEM_BITS,
    TRANSMITTER_BITS,
    TRANSMITTER_OPERATIONS,
    part_type_text,
    states_text,
    system_text,
    words,
)
from gateway.mapping import Reading
from gateway.panel import Panel, Zones, panel_specs
from gateway.panelfile import AnalogEntry, TransmitterEntry
from watchroom.errors import ContractError
from watchroom.frames import Event
from watchroom.signals import Kind, Lane, Quality, SignalSpec

DUTY = "duty_check"
DUTY_TEXTS = {
    "0": {"zh": "无查岗", "en": "none"},
    "1": {"zh": "等待应答", "en": "waiting for an answer"},
    "2": {"zh": "已应答", "en": "answered"},
    "3": {"zh": "超时未应答", "en": "not answered"},
}
TRANSMITTER = "transmitter"


@dataclass(frozen=True, slots=True)
class AnalogRule:
    """One compiled measured value."""

    name: str
    part: int
    entry: AnalogEntry

    def fits(self, item: PartAnalog) -> bool:
        """Whether an object is this value."""
        return (
            item.part == self.part
            and self.entry.type in (None, item.analog)
            and self.entry.system in (None, item.system)
        )

    @property
    def unit(self) -> str:
        """The engineering unit."""
        if self.entry.unit is not None:
            return self.entry.unit
        return ANALOGS.get(self.entry.type or 0, ("", "", 1.0))[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class FireDevice:
    """One transmitter of a gateway file, compiled.

    Attributes:
        address: Its address on the wire; None takes any.
        networks: Where it may come from; empty for anywhere.
        systems: (type, address) of the systems asked after connecting.
    """

    name: str
    link: str
    equipment: str
    prefix: str
    entry: TransmitterEntry
    zone: ZoneInfo
    zones: Zones
    address: bytes | None = None
    networks: tuple[Network, ...] = ()
    systems: tuple[tuple[int, int], ...] = ()
    analogs: tuple[AnalogRule, ...] = ()

    def key(self, signal: str) -> str:
        """Return the key of one of its signals."""
        return f"{self.equipment}/{self.prefix}{signal}"

    @property
    def commands(self) -> tuple[str, ...]:
        """Keys of the signals that take an order."""
        return (self.key(DUTY),)

    def specs(self) -> Iterator[SignalSpec]:
        """Yield its signals; their aliases are not final."""
        yield from panel_specs(self.equipment, prefix=self.prefix, zones=self.zones.count)
        yield SignalSpec(alias=0, key=self.key(DUTY), kind=Kind.STATE, lane=Lane.URGENT, texts=DUTY_TEXTS)
        for rule in self.analogs:
            yield SignalSpec(
                alias=0,
                key=self.key(rule.name),
                kind=Kind.MEASURE,
                unit=rule.unit,
                lane=Lane.URGENT,  # so that it is on the disk before the transmitter is answered
                # a transmitter tells a measured value when it likes, and may be asked for none
                max_silence_s=self.entry.silence,
                deadband=rule.entry.deadband,
            )

    def comes_from(self, address: bytes, host: str) -> bool:
        """Whether a frame with this source address, from this host, is this transmitter's."""
        if self.address is not None and self.address != address:
            return False
        return admits(self.networks, host)


@dataclass(slots=True)
class Told:
    """What one frame says.

    Attributes:
        readings: Measured values; the panel's states are in its memory.
        duty_limit_min: A duty check came down, to be answered within so many minutes.
        is_duty_answered: The duty button was pressed.
    """

    readings: list[Reading] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    duty_limit_min: int | None = None
    is_duty_answered: bool = False


def take(device: FireDevice, panel: Panel, *, frame: FireFrame, objects: Sequence[FireObject], seen_ms: int) -> Told:
    """Enter what a frame says into the panel's memory and return its measured values and events.

    The same frame again gives events with the same ids.
    """
    told = Told()
    digest = sha256(frame.source + frame.serial.to_bytes(2, "little") + frame.data).hexdigest()[:16]
    for number, item in enumerate(objects):
        fields = _enter(device, panel, told, item=item, seen_ms=seen_ms)
        if fields is None:
            continue
        stamp = getattr(item, "stamp", b"") or frame.stamp
        told.events.append(
            Event(
                id=f"{device.name}:{digest}:{number}",
                kind="operation" if "operation" in fields else "panel_text",
                equipment=device.equipment,
                time_ms=_time(stamp, device.zone, seen_ms),
                seen_ms=seen_ms,
                fields=fields,
            )
        )
    return told


def _enter(device: FireDevice, panel: Panel, told: Told, *, item: FireObject, seen_ms: int) -> dict[str, Any] | None:
    """Take one object; return the fields of its event, None if it makes none."""
    match item:
        case SystemState():
            return _system(panel, item)
        case PartState():
            return _part(panel, item)
        case PartAnalog():
            told.readings += _analogs(device, item, seen_ms)
            return None
        case Operation():
            return _operation(panel, told, item)
        case TransmitterState():
            states = words(item.state, TRANSMITTER_BITS)
            is_news = frozenset(states) != panel.systems.get(TRANSMITTER, frozenset())
            known = panel.is_known
            panel.system(TRANSMITTER, states)
            # the box on the wall answers every minute; that says nothing about the panel behind it
            panel.is_known = known
            return {"text": f"用户信息传输装置 {states_text(states)}", "state": list(states)} if is_news else None
        case Version():
            return {"text": f"{_owner(item)} 软件版本 {item.main}.{item.minor}", "version": f"{item.main}.{item.minor}"}
        case Configuration():
            return {"text": f"{_owner(item)} 配置：{item.text}", "description": item.text}
        case Order(type=91):
            told.duty_limit_min = item.limit_min
            return {"operation": "duty_check", "text": OPERATIONS_ZH["duty_check"], "limit_min": item.limit_min}
        case Clock() | Order():
            return None


def _system(panel: Panel, item: SystemState) -> dict[str, Any]:
    states = words(item.state, SYSTEM_BITS)
    name = f"{item.system}.{item.address}"
    if "reset" in states:
        panel.reset()
    panel.system(name, set(states) - {"reset"})
    text = f"{system_text(item.system)} {states_text(states)}"
    return {"text": text, "state": list(states), "system": item.system, "system_address": item.address}


def _part(panel: Panel, item: PartState) -> dict[str, Any]:
    states = words(item.state, PART_BITS)
    panel.part(f"{item.system}.{item.address}", item.part, states=states)
    where = part_text(item.part)
    text = " ".join(filter(None, (states_text(states), part_type_text(item.part_type), where, item.text)))
    return {
        "text": text,
        "state": list(states),
        "system": item.system,
        "system_address": item.address,
        "part_type": item.part_type,
        "part": where,
        "description": item.text,
    }


def _operation(panel: Panel, told: Told, item: Operation) -> dict[str, Any]:
    names = words(item.flags, TRANSMITTER_OPERATIONS if item.is_transmitter else PANEL_OPERATIONS)
    if "reset" in names and not item.is_transmitter:
        panel.reset()
    told.is_duty_answered |= "duty_answer" in names
    owner = "用户信息传输装置" if item.is_transmitter else system_text(item.system)
    text = f"{owner} {'、'.join(OPERATIONS_ZH[name] for name in names)}".strip()
    return {"operation": ",".join(names), "text": text, "operator": item.operator, "system": item.system}


def _analogs(device: FireDevice, item: PartAnalog, seen_ms: int) -> Iterator[Reading]:
    for rule in device.analogs:
        if not rule.fits(item):
            continue
        value = item.value * rule.entry.scale + rule.entry.offset
        quality = Quality.GOOD
        if rule.entry.range and not rule.entry.range[0] <= value <= rule.entry.range[1]:
            quality = Quality.SENSOR_FAULT
        yield Reading(device.key(rule.name), seen_ms, value if math.isfinite(value) else math.nan, quality)


def _owner(item: Version | Configuration) -> str:
    if item.is_transmitter:
        return "用户信息传输装置"
    if isinstance(item, Configuration) and item.part_type is not None:
        return " ".join(filter(None, (part_type_text(item.part_type), part_text(item.part))))
    return system_text(item.system)


def _time(stamp: bytes, zone: ZoneInfo, seen_ms: int) -> int:
    """The device's time; arrival where it says none."""
    try:
        return local_ms(stamp, zone)
    except (ContractError, ValueError):
        return seen_ms

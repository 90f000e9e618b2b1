"""What a compiled device model is: signals with their place and meaning, and how the device likes to be read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.addresses import Table
from gateway.eventlog import LogSource, TextSource
from gateway.expression import Expression
from gateway.registers import Encoding, Words, put
from watchroom.signals import Kind, Lane

Hole = tuple[Table, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSignal:
    """One signal of a model.

    Attributes:
        table: Where it is read; None for a calculated signal.
        offset: First register or bit, as on the wire.
        written: Its address as the file writes it.
        urgency: 1 for alarms and events, 2 for states, 3 for telemetry: who is read first on a busy link.
        group: Polling group, a key of the model's ``groups``.
        low: Below it the quality is SENSOR_FAULT; -inf if no range is given. In the unit, like ``high``.
        invalid: Raw values that mean "no value".
        mapping: Raw number -> value; empty when numbers are kept.
        texts: Value as text -> {"zh": ..., "en": ...}.
        write: "" for read-only, "value" or "pulse".
        pulse_s: Length of a pulse.
        roles: Who may write it; empty for everybody who may send commands.
        is_polled: False for what is only commanded, such as a reset pulse.
    """

    name: str
    table: Table | None
    offset: int = 0
    written: str = ""
    encoding: Encoding = field(default_factory=Encoding)
    unit: str = ""
    kind: Kind = Kind.MEASURE
    lane: Lane = Lane.TELEMETRY
    urgency: int = 3
    group: str = "default"
    deadband: float = 0.0
    low: float = -math.inf
    high: float = math.inf
    invalid: tuple[float, ...] = ()
    mapping: tuple[tuple[float, float], ...] = ()
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    modulus: float | None = None
    max_silence_s: float = 60.0
    expression: Expression | None = None
    write: str = ""
    pulse_s: float = 0.0
    confirm: bool = False
    roles: tuple[str, ...] = ()
    is_polled: bool = True

    @property
    def last(self) -> int:
        """Last register or bit it takes, as on the wire."""
        return self.offset + self.encoding.registers - 1

    @property
    def at(self) -> str:
        """Its address as on the wire, ``holding:10``, ``holding:3.4-6``; empty for a calculated one."""
        if self.table is None:
            return ""
        text = f"{self.table}:{self.offset}"
        if not self.encoding.is_narrow or self.table.is_bits:
            return text
        low, high = self.encoding.bit, self.encoding.bit + self.encoding.bits - 1
        return f"{text}.{low}" if low == high else f"{text}.{low}-{high}"

    def put(self, image: Words, value: float, *, origin: int = 0) -> None:
        """Write an engineering value into a register image, as the device would hold it.

        Args:
            image: Registers of the signal's table (coils and discrete inputs: 0 or 1 each), changed in place.
            value: In the unit, after ``map``; NaN writes the first of ``invalid``.
            origin: Offset of ``image[0]`` on the wire.

        Raises:
            ValueError: If NaN has no code, or the value is not one that ``map`` gives.
        """
        raw = self._raw_of(value)
        put(image, self.offset - origin, replace(self.encoding, wrap=0), raw)

    def _raw_of(self, value: float) -> float:
        """The number to encode with scale and offset."""
        if math.isnan(value) and self.invalid and self.encoding.type not in {"f16", "f32", "f64"}:
            return self.invalid[0] * self.encoding.scale + self.encoding.offset
        if not self.mapping or math.isnan(value):
            return value
        for raw, mapped in self.mapping:
            if mapped == value:
                return raw
        raise ValueError(f"{self.name} never has the value {value}: its map gives {[v for _, v in self.mapping]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One compiled device model.

    Attributes:
        groups: Polling group -> period in seconds.
        signals: By name, in the order of the file; calculated ones included.
        max_regs: Longest read in registers; None leaves it to the link's default.
        max_gap: Most unused registers a merged read may contain; None leaves it to the link's default.
        holes: Ranges that are never read.
        params: Numbers that expressions may name.
        title: Name for people, {"zh": ..., "en": ...}; empty if it has none.
        is_fire: Nothing of its equipment may be written.
        write_multiple: Whether single places are written with the functions 15 and 16.
        logs: Event logs and texts, which become events and no samples.
    """

    name: str
    groups: Mapping[str, float]
    signals: Mapping[str, ModelSignal]
    max_regs: int | None = None
    max_gap: int | None = None
    holes: tuple[Hole, ...] = ()
    params: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    trust: str = ""
    title: Mapping[str, str] = field(default_factory=dict)
    is_fire: bool = False
    write_multiple: bool = False
    logs: tuple[LogSource | TextSource, ...] = ()

    @property
    def polled(self) -> tuple[ModelSignal, ...]:
        """Signals that are announced and reported, in the order of the file."""
        return tuple(signal for signal in self.signals.values() if signal.is_polled)

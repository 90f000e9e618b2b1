"""What a fire panel has told so far, and the signals that follow from it. Pure.

A panel that speaks no Modbus tells changes, not states: this module remembers them. Memory outlives a restart of the
gateway (``to_json``), because a panel does not repeat that a detector is still in alarm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.firewords import STATES_ZH
from watchroom.signals import Kind, Lane, SignalSpec

SUMMARY = ("fire", "supervisory", "fault", "disabled", "mains_fault", "battery_fault")
"""Signals of the panel as a whole, each 0 or 1."""
_BEHIND: Mapping[str, frozenset[str]] = {
    "fault": frozenset({"fault", "power_fault", "bus_fault", "line_fault"}),
}
_ZONE_BITS: Mapping[str, int] = {"fire": 1, "pre_alarm": 2, "fault": 4, "power_fault": 4, "disabled": 8}
_SURVIVES_RESET = frozenset({"disabled"})
"""An isolation stays over a reset of the panel, and is not told again."""
MAX_PARTS = 20_000
YES_NO = {"0": {"zh": "无", "en": "no"}, "1": {"zh": "有", "en": "yes"}}
ONLINE_TEXTS = {"0": {"zh": "离线", "en": "offline"}, "1": {"zh": "在线", "en": "online"}}


@dataclass(frozen=True, slots=True)
class Zones:
    """Which zone a part belongs to.

    Attributes:
        count: Zones 1 to count; 0 for none.
        ranges: (zone, first part, last part); without any a part's loop is its zone.
    """

    count: int = 0
    ranges: tuple[tuple[int, int, int], ...] = ()

    def of(self, part: int) -> int:
        """Return the zone of a part (loop in the high, number in the low 16 bits), 0 for none."""
        if not self.ranges:
            loop = part >> 16
            return loop if 1 <= loop <= self.count else 0
        return next((zone for zone, first, last in self.ranges if first <= part <= last), 0)


@dataclass(slots=True)
class Panel:
    """The memory of one panel.

    Attributes:
        zones: Which zone a part belongs to.
        parts: (system, part) -> states that are not normal; parts of two systems may have one number.
        systems: System (or ``transmitter``) -> states that are not normal.
        is_known: Whether the panel has told anything yet; before that its signals are assumed.
    """

    zones: Zones
    parts: dict[tuple[str, int], frozenset[str]] = field(default_factory=dict)
    systems: dict[str, frozenset[str]] = field(default_factory=dict)
    is_known: bool = False

    def part(self, system: str, part: int, *, states: Iterable[str]) -> None:
        """A part is in these states now, and in no other."""
        self.is_known = True
        self._put((system, part), frozenset(states))

    def change(self, system: str, part: int, *, begins: Iterable[str] = (), ends: Iterable[str] = ()) -> None:
        """Some states of a part begin or end."""
        self.is_known = True
        self._put((system, part), (self.parts.get((system, part), frozenset()) | frozenset(begins)) - frozenset(ends))

    def change_system(self, system: str, *, begins: Iterable[str] = (), ends: Iterable[str] = ()) -> None:
        """Some states of the panel itself begin or end."""
        self.system(system, (self.systems.get(system, frozenset()) | frozenset(begins)) - frozenset(ends))

    def system(self, system: str, states: Iterable[str]) -> None:
        """A system is in these states now. What it says is over is over for its parts, if it had said it before."""
        self.is_known = True
        now = frozenset(states)
        ended = self.systems.get(system, frozenset()) - now
        self.systems[system] = now
        # a system that never told 'fire' says nothing about its parts when it does not tell it now
        if over := ended & {"fire", "supervisory", "disabled"}:
            self.parts = {
                key: kept
                for key, states in self.parts.items()
                if (kept := states - over if key[0] == system else states)
            }
        if not now:
            del self.systems[system]

    def reset(self) -> None:
        """Somebody has reset the panel: what lasts it tells again."""
        self.is_known = True
        self.parts = {key: kept for key, states in self.parts.items() if (kept := states & _SURVIVES_RESET)}
        self.systems = {name: kept for name, states in self.systems.items() if (kept := states - {"fire"})}

    def values(self) -> dict[str, float]:
        """Return name of a signal -> its value now."""
        present: set[str] = set().union(*self.parts.values(), *self.systems.values())
        values = {name: float(bool(_BEHIND.get(name, frozenset({name})) & present)) for name in SUMMARY}
        zones = dict.fromkeys(range(1, self.zones.count + 1), 0)
        for (_, part), states in self.parts.items():
            zone = self.zones.of(part)
            if zone:
                for state in states:
                    zones[zone] |= _ZONE_BITS.get(state, 0)
        return values | {f"zone{zone}_state": float(bits) for zone, bits in zones.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the memory for a file."""
        return {
            "parts": {f"{system}/{part}": sorted(states) for (system, part), states in self.parts.items()},
            "systems": {name: sorted(states) for name, states in self.systems.items()},
            "is_known": self.is_known,
        }

    def restore(self, memory: Mapping[str, Any]) -> None:
        """Take the memory of a file; whatever in it cannot be understood is left out."""
        known = frozenset(STATES_ZH)
        for key, states in _items(memory.get("parts")):
            system, _, part = key.rpartition("/")
            if part.isdecimal():
                self._put((system, int(part)), known & frozenset(states))
        for name, states in _items(memory.get("systems")):
            self.systems[name] = known & frozenset(states)
        self.is_known = bool(memory.get("is_known"))

    def _put(self, key: tuple[str, int], states: frozenset[str]) -> None:
        if not states:
            self.parts.pop(key, None)
        elif key in self.parts or len(self.parts) < MAX_PARTS:
            self.parts[key] = states


def panel_specs(equipment: str, *, prefix: str, zones: int) -> Iterator[SignalSpec]:
    """Yield the signals of a panel; their aliases are not final."""
    for name in SUMMARY:
        yield _state(f"{equipment}/{prefix}{name}", YES_NO)
    for zone in range(1, zones + 1):
        yield _state(f"{equipment}/{prefix}zone{zone}_state", _zone_texts())
    yield _state(f"{equipment}/{prefix}online", ONLINE_TEXTS)


def _state(key: str, texts: dict[str, dict[str, str]]) -> SignalSpec:
    return SignalSpec(alias=0, key=key, kind=Kind.STATE, lane=Lane.URGENT, texts=texts)


def _zone_texts() -> dict[str, dict[str, str]]:
    names = ((1, "火警", "fire"), (2, "预警", "pre-alarm"), (4, "故障", "fault"), (8, "屏蔽", "isolated"))
    texts = {"0": {"zh": "正常", "en": "normal"}}
    for value in range(1, 16):
        set_ = [(zh, en) for bit, zh, en in names if value & bit]
        texts[str(value)] = {"zh": "、".join(zh for zh, _ in set_), "en": ", ".join(en for _, en in set_)}
    return texts


def _items(value: Any) -> Iterator[tuple[str, list[str]]]:
    for key, states in value.items() if isinstance(value, dict) else ():
        if isinstance(states, list):
            yield str(key), [str(state) for state in states]

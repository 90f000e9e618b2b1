"""Messages of readers to samples and events: the mapping of one kind of reader, compiled once. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.mappingfile import MqttEntry, SignalMap
from watchroom.signals import EQUIPMENT_ID, Kind, Lane, SignalSpec
from watchroom.yamlfile import Path_, YamlFile

_CAPTURE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
ONLINE = "online"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """The compiled mapping of one device entry."""

    name: str
    entry: MqttEntry
    equipment: tuple[str, ...]

    def specs(self) -> Iterator[SignalSpec]:
        """Yield the signals it can report; their aliases are not final."""
        for equipment in self.equipment:
            for name, signal in self.entry.signals.items():
                yield _spec(f"{equipment}/{name}", signal if isinstance(signal, SignalMap) else SignalMap(path=signal))
            if self.entry.online is not None:
                yield SignalSpec(alias=0, key=f"{equipment}/{ONLINE}", kind=Kind.STATE, lane=Lane.URGENT)


def compile_mapping(file: YamlFile, where: Path_, entry: MqttEntry, *, name: str) -> Mapping:
    """Return the mapping of one device entry.

    Raises:
        ConfigError: With file, line, key and what was expected.
    """
    captures = set(_CAPTURE.findall(entry.topic))
    used = _CAPTURE.findall(entry.equipment or "")
    if entry.signals or entry.online:
        if entry.equipment is None:
            raise file.error((*where, "equipment"), "this key is missing", hint="signals belong to equipment")
        if used and not entry.only:
            raise file.error((*where, "only"), "this key is missing", hint=f"list the values of {{{used[0]}}}")
    if used and (len(used) > 1 or used[0] not in captures):
        raise file.error((*where, "equipment"), "it may hold one name that the topic captures")
    values = entry.only if used else [""]
    equipment = tuple(_CAPTURE.sub(value, entry.equipment) for value in values) if entry.equipment else ()
    for item in equipment:
        if not EQUIPMENT_ID.fullmatch(item):
            raise file.error((*where, "equipment"), f"{item!r} is not an equipment id", hint="for example DR-S1")
    return Mapping(name=name, entry=entry, equipment=equipment)


def _spec(key: str, signal: SignalMap) -> SignalSpec:
    kind = Kind(signal.kind)
    signal_class = signal.signal_class or ("state" if kind is Kind.STATE else "telemetry")
    return SignalSpec(
        alias=0,
        key=key,
        kind=kind,
        unit=signal.unit,
        lane=Lane.TELEMETRY if signal_class == "telemetry" else Lane.URGENT,
        max_silence_s=signal.max_silence,
        texts={
            str(number): {"zh": text, "en": text} if isinstance(text, str) else {"zh": text.zh, "en": text.en}
            for number, text in signal.texts.items()
        },
        modulus=signal.modulus,
        deadband=signal.deadband,
    )

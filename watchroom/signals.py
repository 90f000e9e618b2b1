"""Signals: their keys, kinds and the quality of a sample."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from watchroom.errors import ContractError

EQUIPMENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
SIGNAL_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Quality(IntEnum):
    """Quality of one sample, as it stands in a frame."""

    GOOD = 0
    NO_COMMUNICATION = 1
    INVALID = 2
    SENSOR_FAULT = 3
    CLOCK_DOUBTFUL = 4
    UNCERTAIN = 5
    MANUAL = 6


USABLE = frozenset({Quality.GOOD, Quality.CLOCK_DOUBTFUL, Quality.UNCERTAIN, Quality.MANUAL})
"""Qualities whose value may be judged; the others hold the state."""


class Kind(StrEnum):
    """What a signal's number means."""

    MEASURE = "measure"
    STATE = "state"
    COUNTER = "counter"


class Lane(IntEnum):
    """Lane of a signal: urgent frames overtake telemetry."""

    URGENT = 0
    TELEMETRY = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalSpec:
    """One signal as a gateway's birth announces it.

    Attributes:
        alias: Number that stands for the key in frames of this schema, dense from 0.
        key: ``equipment/signal`` within the site.
        unit: Engineering unit, empty for states.
        max_silence_s: The signal is re-sent at least this often, so silence means *stale*.
        texts: For states: value as text -> {"zh": ..., "en": ...}.
        modulus: For counters that roll over, the value after the largest; None otherwise.
        deadband: Report-by-exception distance in the signal's unit; not part of the birth.
    """

    alias: int
    key: str
    kind: Kind
    unit: str = ""
    lane: Lane = Lane.TELEMETRY
    max_silence_s: float = 60.0
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    modulus: float | None = None
    deadband: float = 0.0


def split_key(key: str) -> tuple[str, str]:
    """Return (equipment, signal) of a key within a site.

    Raises:
        ContractError: If the key has no valid equipment id or signal name.
    """
    equipment, slash, signal = key.partition("/")
    if not slash or not EQUIPMENT_ID.fullmatch(equipment) or not SIGNAL_NAME.fullmatch(signal):
        raise ContractError("key", f"{key!r} is not equipment/signal, for example WP-01/outlet_pressure")
    return equipment, signal

"""What the evaluator hands on: transitions of alarm rows, events of readers, and the newest values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from alarms.rules import RuleRow
from watchroom.frames import Event


class Change(StrEnum):
    """How the condition of a row changed."""

    RAISE = "RAISE"
    CLEAR = "CLEAR"
    ESCALATE = "ESCALATE"
    EASE = "EASE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One change of one row's condition.

    Attributes:
        event_ms: When it became true by the equipment's time: start of the run plus the rule's delay, exactly.
        arrived_ms: Arrival of the journal record that decided it.
        value: Newest usable value of the rule's signal at that record, NaN when there is none.
        quality: Quality of that value.
        level: ``HH``, ``H``, ``L``, ``LL`` after the change; empty without levels. A CLEAR names the level left.
        limit: Limit of that level, NaN when there is none.
        is_late: Judged from history; the live state did not move.
        is_simulated: The signal's newest frame was marked as simulated or drill.
        offset: Journal offset of the record that decided it.
        cause: For health rules the signals concerned, at most ten; else empty.
    """

    row: RuleRow
    kind: Change
    event_ms: int
    arrived_ms: int
    value: float
    quality: int
    level: str
    limit: float
    is_late: bool
    is_simulated: bool
    offset: int
    cause: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedEvent:
    """One event of a reader or panel, in journal order.

    Attributes:
        judged_ms: The time it was judged at: the device's, or ``seen_ms`` when the two differ by more than 5 s.
        quality: 0, or 4 (clock doubtful) when they do.
    """

    gateway: str
    event: Event
    is_simulated: bool
    offset: int
    arrived_ms: int
    judged_ms: int
    quality: int = 0


@dataclass(slots=True, kw_only=True)
class Judged:
    """Result of one ``evaluate()``, in journal order."""

    transitions: list[Transition] = field(default_factory=list)
    events: list[JudgedEvent] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """Newest sample of every signal; all columns have shape (n,) and are copies.

    Attributes:
        time_ms: Time of the newest sample, 0 when never seen.
        value: NaN when never seen.
        gateway: Id of the gateway that sends it, empty when never announced.
        is_stale: Its silence is longer than allowed, its gateway is silent, or it was never seen.
    """

    keys: list[str]
    time_ms: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]
    gateway: list[str]
    is_stale: NDArray[np.bool_]

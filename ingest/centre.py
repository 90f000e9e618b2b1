"""What the centre says about itself, as frames of samples that go straight into the journal (ADR 8)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from watchroom import __version__
from watchroom.births import Birth, BirthStore
from watchroom.centre import CENTRE, CENTRE_GATEWAY
from watchroom.disk import Disk, replace_file
from watchroom.errors import StoreError
from watchroom.frames import FLAG_HEARTBEAT, Header, encode_samples
from watchroom.signals import Kind, Lane, Quality, SignalSpec

log = structlog.get_logger(__name__)

EPOCH: Final = 1
"""The centre has no outbox: its frames have no numbers, so nothing is counted in this epoch."""
REPORT_S: Final = 10.0
RATE_S: Final = 60.0
GENERATIONS: Final = 0xFFFF
_UNITS: Final = {"disk_use": "%", "journal_held": "%"}
_KINDS: Final = {"intake": Kind.STATE, "refused": Kind.COUNTER, "sound": Kind.STATE}
NAMES: Final = (
    "disk_use", "intake", "refused", "refused_rate", "limited", "journal_held", "journal_lost", "set_aside",
    "consoles", "sound",
)  # fmt: skip
AT_ONCE: Final = ("intake", "limited", "consoles", "sound")
"""A change of these is told with the next tick, not with the next regular report."""


class CentreReport:
    """Makes the frames; one thread uses it.

    Args:
        site_id: The site.
        births: Gets the birth that explains the frames.
        folder: Keeps the generation of the centre's clock.
        disk: File operations.
        now_ms: The centre's clock, UTC ms.

    Raises:
        StoreError: If the disk refuses the birth.
    """

    def __init__(
        self, site_id: str, *, births: BirthStore, folder: Path, disk: Disk, now_ms: Callable[[], int]
    ) -> None:
        self._now_ms, self._disk, self._path = now_ms, disk, folder / "centre-clock"
        self._schema = _announce(site_id, births, now_ms())
        self._generation = self._read_generation()
        self._last_ms = -1
        self._next_s = -math.inf
        self._told: tuple[float, ...] = ()
        self._refused: deque[tuple[float, float]] = deque()

    def frame(self, now_s: float, readings: Mapping[str, float]) -> bytes | None:
        """Return the frame that is due now, None if none is.

        Args:
            now_s: Monotonic clock.
            readings: By name, see `NAMES`; ``refused_rate`` is made of ``refused``. What is missing has no value.
        """
        at_once = tuple(readings.get(name, math.nan) for name in AT_ONCE)
        if now_s < self._next_s and at_once == self._told:
            return None
        self._next_s, self._told = now_s + REPORT_S, at_once
        values = {**readings, "refused_rate": self._rate(now_s, readings.get("refused", 0.0))}
        now_ms = self._now_ms()
        if now_ms <= self._last_ms or self._last_ms < 0:
            self._turn_clock()
        self._last_ms = now_ms
        header = Header(
            kind="D",
            lane=int(Lane.URGENT),
            flags=FLAG_HEARTBEAT,
            epoch=EPOCH,
            seq=0,
            base_ms=now_ms,
            complete_ms=now_ms,
            schema=self._schema,
            clock_gen=self._generation,
        )
        column = [values.get(name, math.nan) for name in NAMES]
        return encode_samples(
            header,
            alias=range(len(NAMES)),
            time_ms=[now_ms] * len(NAMES),
            value=column,
            quality=[int(Quality.INVALID if math.isnan(value) else Quality.GOOD) for value in column],
        )

    def _rate(self, now_s: float, refused: float) -> float:
        """Return how many messages were refused in the last minute."""
        self._refused.append((now_s, refused))
        while len(self._refused) > 1 and self._refused[1][0] <= now_s - RATE_S:
            self._refused.popleft()
        return refused - self._refused[0][1]

    def _read_generation(self) -> int:
        try:
            return int(self._disk.read(self._path))
        except (FileNotFoundError, ValueError):
            return 0

    def _turn_clock(self) -> None:
        """At a start and after a step back: what was said before cannot be compared with what is said now."""
        self._generation = self._generation % GENERATIONS + 1
        try:
            replace_file(self._disk, self._path, str(self._generation).encode())
        except StoreError as exc:
            log.warning("generation of the centre's clock not kept", error=str(exc))


def _announce(site_id: str, births: BirthStore, now_ms: int) -> int:
    """Put the birth of these signals, unless it is there; return its schema."""
    signals = tuple(
        SignalSpec(
            alias=alias,
            key=f"{CENTRE}/{name}",
            kind=_KINDS.get(name, Kind.MEASURE),
            unit=_UNITS.get(name, ""),
            lane=Lane.URGENT,
            max_silence_s=60.0,
        )
        for alias, name in enumerate(NAMES)
    )
    known = [birth for birth in births.all(site_id) if birth.gateway == CENTRE_GATEWAY and birth.epoch == EPOCH]
    for birth in known:
        if birth.signals == signals:
            return birth.schema
    schema = max((birth.schema for birth in known), default=0) + 1
    birth = Birth(
        gateway=CENTRE_GATEWAY,
        epoch=EPOCH,
        schema=schema,
        time_ms=now_ms,
        heartbeat_s=REPORT_S,
        version=__version__,
        signals=signals,
    )
    births.put(site_id, birth.to_json())
    return schema

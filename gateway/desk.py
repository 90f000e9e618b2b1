"""What messages of readers become, whichever way they came: samples reported, events returned, the rest set aside."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from gateway.mapping import ONLINE, Reading, Reply
from gateway.mapping import Mapping as ReaderMapping
from gateway.sink import Sink
from gateway.unmatched import Unmatched
from watchroom.errors import ContractError
from watchroom.frames import Event
from watchroom.signals import Quality

MAX_PAYLOAD = 4 * 1024 * 1024

log = structlog.get_logger(__name__)


class Desk:
    """The mappings of one link at work.

    Args:
        mappings: How its messages are read.
        aliases: Signal key -> alias of the birth.
        sink: Where samples go.
        now_ms: The gateway's clock, UTC ms.
        key: For hashing personal data.
        folder: Messages that fit no mapping are kept here.

    Attributes:
        is_down: Whether nothing can come; then silence says nothing about a reader.
    """

    def __init__(
        self,
        mappings: Sequence[ReaderMapping],
        *,
        aliases: Mapping[str, int],
        sink: Sink,
        now_ms: Callable[[], int],
        key: bytes,
        folder: Path,
    ) -> None:
        self.mappings = tuple(mappings)
        self._sink, self._now_ms, self._key = sink, now_ms, key
        wanted = {spec.key for mapping in mappings for spec in mapping.specs()}
        self._aliases = {key: alias for key, alias in aliases.items() if key in wanted}
        self._unmatched = Unmatched(folder)
        self._last: dict[str, Reading] = {}
        self._seen_ms: dict[str, int] = {}
        self.is_down = True
        self.ignored = 0

    @property
    def unmatched(self) -> dict[str, int]:
        """Messages and records set aside, by reason."""
        return dict(self._unmatched.counts)

    def take(
        self, mapping: ReaderMapping, captures: Mapping[str, str], *, topic: str, payload: bytes, arrived_ms: int
    ) -> tuple[tuple[Event, ...], tuple[Reply, ...]]:
        """Report the samples of a message and return its events and what the reader is told."""
        try:
            if len(payload) > MAX_PAYLOAD:
                raise ContractError("length", f"{len(payload)} bytes")
            mapped = mapping.convert(captures, payload, arrived_ms=arrived_ms, key=self._key)
        except ContractError as exc:
            self.set_aside(mapping, topic, payload, error=exc, arrived_ms=arrived_ms)
            return (), ()
        except Exception as exc:  # the boundary of one reader: its strange message must not stop the others
            log.exception("mapping failed", device=mapping.name, topic=topic)
            self.set_aside(mapping, topic, payload, error=ContractError("bug", repr(exc)), arrived_ms=arrived_ms)
            return (), ()
        for refusal in mapped.refused:
            self.set_aside(mapping, topic, payload, error=refusal, arrived_ms=arrived_ms)
        self.report(mapped.readings)
        told = {reading.key for reading in mapped.readings}
        for equipment in {key.partition("/")[0] for key in told}:
            # a message that says itself whether its device is there knows better than its arrival
            if f"{equipment}/{ONLINE}" not in told:
                self.is_alive(equipment, arrived_ms)
        return mapped.events, mapped.replies

    def report(self, readings: Sequence[Reading]) -> None:
        """Report samples, those of one moment together."""
        for time_ms, group in itertools.groupby(readings, key=lambda reading: reading.time_ms):
            same = list(group)
            for reading in same:
                self._last[reading.key] = reading
            self._sink.report(
                np.array([self._aliases[reading.key] for reading in same], dtype=np.uint32),
                time_ms,
                np.array([reading.value for reading in same]),
                np.array([reading.quality for reading in same], dtype=np.uint8),
            )

    def set_aside(
        self, mapping: ReaderMapping, topic: str, payload: bytes, *, error: ContractError, arrived_ms: int
    ) -> None:
        """Keep and count a message that does not fit."""
        if mapping.entry.on_unmatched == "ignore":
            self.ignored += 1
            return
        if not self._unmatched.counts[error.reason]:
            log.warning(
                "message fits no mapping", device=mapping.name, topic=topic, reason=error.reason, detail=error.detail
            )
        try:
            self._unmatched.keep(
                topic,
                mapping.without_dropped(payload),
                device=mapping.name,
                reason=error.reason,
                detail=error.detail,
                time_ms=arrived_ms,
            )
        except OSError as exc:
            log.error("cannot keep an unmatched message", reason=exc.strerror)

    def is_alive(self, equipment: str, now_ms: int) -> None:
        """The reader of an equipment has shown itself."""
        key = f"{equipment}/{ONLINE}"
        if key in self._aliases:
            self._seen_ms[equipment] = now_ms
            self.report([Reading(key, now_ms, 1.0, Quality.GOOD)])

    def lost(self) -> None:
        """Nothing can come any more: every signal is without communication."""
        self.is_down = True
        aliases = np.array(sorted(self._aliases.values()), dtype=np.uint32)
        if len(aliases):
            n = len(aliases)
            bad = np.full(n, Quality.NO_COMMUNICATION, dtype=np.uint8)
            self._sink.report(aliases, self._now_ms(), np.full(n, np.nan), bad)

    def restored(self) -> None:
        """Report the last values as uncertain: what changed meanwhile follows from the readers."""
        self.is_down = False
        now_ms = self._now_ms()
        known = [reading for reading in self._last.values() if reading.value == reading.value]
        if known:
            self._sink.report(
                np.array([self._aliases[reading.key] for reading in known], dtype=np.uint32),
                now_ms,
                np.array([reading.value for reading in known]),
                np.full(len(known), Quality.UNCERTAIN, dtype=np.uint8),
            )
        self._seen_ms = dict.fromkeys(self._seen_ms, now_ms)

    async def watch_online(self) -> None:
        """Report readers that have been silent for too long, until cancelled."""
        watched = {
            equipment: mapping.entry.online.timeout * 1000
            for mapping in self.mappings
            if mapping.entry.online is not None
            for equipment in mapping.equipment
        }
        if not watched:
            return
        started_ms = self._now_ms()
        while True:
            await asyncio.sleep(min(watched.values()) / 4000)
            now_ms = self._now_ms()
            for equipment, timeout_ms in watched.items():
                key = f"{equipment}/{ONLINE}"
                last = self._last.get(key)
                is_told = last is not None and last.value == 0.0
                if not self.is_down and not is_told and now_ms - self._seen_ms.get(equipment, started_ms) > timeout_ms:
                    self.report([Reading(key, now_ms, 0.0, Quality.GOOD)])

    def status(self) -> dict[str, Any]:
        """Return what the health page shows."""
        return {"is_down": self.is_down, "ignored": self.ignored, "unmatched": self.unmatched}

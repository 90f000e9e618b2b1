"""Frames of one gateway: sequence, chain of each lane, and what each lane claims to have measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.outbox import Outbox
from gateway.report import Samples
from watchroom.frames import (
    FLAG_HEARTBEAT,
    FLAG_SIMULATED,
    FLAG_SNAPSHOT,
    MAX_SAMPLES,
    Event,
    Header,
    encode_birth,
    encode_events,
    encode_samples,
)
from watchroom.signals import Lane


class Framer:
    """Turns samples, events and births into outbox records.

    Args:
        outbox: Gives the seqs and takes the frames.
        is_simulated: Marks every frame.
        clock_gen: Clock generation of the next frames.
        prev: Last seq of each lane when its chain goes on after a restart; 0 begins a new one.
    """

    def __init__(
        self, outbox: Outbox, *, is_simulated: bool, clock_gen: int, prev: dict[Lane, int] | None = None
    ) -> None:
        self._outbox = outbox
        self._flags = FLAG_SIMULATED if is_simulated else 0
        self.schema = 0
        self._birth: dict[str, Any] = {}
        self.clock_gen = clock_gen
        self._prev = {Lane.URGENT: 0, Lane.TELEMETRY: 0} | (prev or {})
        self.claimed_ms = {Lane.URGENT: 0, Lane.TELEMETRY: 0}

    def new_chain(self) -> None:
        """The next frame of each lane refers to none before it."""
        self._prev = dict.fromkeys(self._prev, 0)

    def new_clock(self, clock_gen: int) -> None:
        """Times of before the step say nothing: claims begin anew."""
        self.clock_gen = clock_gen
        self.claimed_ms = dict.fromkeys(self.claimed_ms, 0)

    def samples(self, lane: Lane, samples: Samples, *, complete_ms: int, is_snapshot: bool = False) -> None:
        """Put samples into the outbox; more than fit a frame become several."""
        for at in range(0, len(samples), MAX_SAMPLES):
            part = slice(at, at + MAX_SAMPLES)
            times = samples.time_ms[part]
            flag = FLAG_SNAPSHOT if is_snapshot and len(samples) <= MAX_SAMPLES else 0

            def make(seq: int, part: slice = part, flag: int = flag, base_ms: int = int(times.min())) -> bytes:
                return encode_samples(
                    self._header("D", lane, seq, base_ms=base_ms, complete_ms=complete_ms, flags=flag),
                    alias=samples.alias[part],
                    time_ms=samples.time_ms[part],
                    value=samples.value[part],
                    quality=samples.quality[part],
                )

            self._prev[lane] = self._outbox.append(lane, len(times), make)

    def events(self, events: Sequence[Event], *, complete_ms: int) -> int:
        """Put events into the outbox and return the frame's seq."""
        seq = self._outbox.append(
            Lane.URGENT,
            len(events),
            lambda seq: encode_events(
                self._header("E", Lane.URGENT, seq, base_ms=events[0].seen_ms, complete_ms=complete_ms), events
            ),
        )
        self._prev[Lane.URGENT] = seq
        return seq

    def birth(self, birth: dict[str, Any], *, schema: int, now_ms: int) -> None:
        """Put a birth into the outbox; the frames after it use its schema."""
        self.schema, self._birth = schema, birth
        self._prev[Lane.URGENT] = self._outbox.append(
            Lane.URGENT,
            0,
            lambda seq: encode_birth(self._header("B", Lane.URGENT, seq, base_ms=now_ms, complete_ms=0), birth),
        )

    def repeat_birth(self, *, now_ms: int) -> None:
        """Put the birth into the outbox once more: it begins a chain when there is no sample to begin it with."""
        self.birth(self._birth, schema=self.schema, now_ms=now_ms)

    def heartbeat(self, lane: Lane, *, complete_ms: int) -> bytes:
        """Return a heartbeat; it is no outbox record."""
        header = self._header("D", lane, 0, base_ms=complete_ms, complete_ms=complete_ms, flags=FLAG_HEARTBEAT)
        return encode_samples(header, alias=[], time_ms=[], value=[], quality=[])

    def _header(self, kind: Any, lane: Lane, seq: int, *, base_ms: int, complete_ms: int, flags: int = 0) -> Header:
        # a claim is never taken back within a clock generation
        claimed = self.claimed_ms[lane] = max(self.claimed_ms[lane], complete_ms)
        return Header(
            kind=kind,
            lane=lane,
            flags=self._flags | flags,
            epoch=self._outbox.epoch,
            seq=seq,
            prev=self._prev[lane],
            base_ms=base_ms,
            complete_ms=claimed,
            schema=self.schema,
            clock_gen=self.clock_gen,
        )

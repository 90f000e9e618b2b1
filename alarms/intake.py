"""From journal records to a chunk: decode, drop duplicates, put dense numbers for aliases. Pure but for the births."""

from __future__ import annotations

import numpy as np

from alarms.chunk import Chunk
from alarms.judged import JudgedEvent
from alarms.lanes import Lanes
from alarms.signal_table import NEVER, Ints, SignalTable
from watchroom.births import Birth, BirthStore
from watchroom.errors import ContractError
from watchroom.frames import Event, EventFrame, Frame, Header, SampleFrame, decode
from watchroom.journal import Record
from watchroom.signals import Quality

STALE_FACTOR = 1.5
"""A signal is stale when its silence is this many times what its gateway allows itself."""
CLOCK_TOLERANCE_MS = 5_000


def loss_of(event: Event) -> list[tuple[int, int]]:
    """Return the ranges of numbers that a ``loss`` event gives up."""
    ranges = event.fields.get("ranges", [])
    return [(a, b) for a, b in ranges] if isinstance(ranges, list) else []


class Intake:
    """Reads the frames of one site.

    Args:
        births: Explains the aliases.
        site: Its id.
        table: Gets new signals, and the lane and gateway of each.
        lanes: Gets new gateways, chains and watermarks.
    """

    def __init__(self, births: BirthStore, site: str, *, table: SignalTable, lanes: Lanes) -> None:
        self._births, self._site, self._table, self._lanes = births, site, table, lanes
        self._lookups: dict[tuple[str, int, int], Ints] = {}
        self.counters = {"frames": 0, "samples": 0, "duplicates": 0, "unreadable": 0, "unknown": 0, "late": 0}

    def forget(self) -> None:
        """Drop lookups, whose numbers a restore may have changed."""
        self._lookups.clear()

    def read(self, record: Record) -> Frame | None:
        """Return the frame of a record that was not judged yet, None for a duplicate or what is no frame."""
        try:
            frame = decode(record.payload)
        except ContractError:
            self.counters["unreadable"] += 1
            return None
        state = self._lanes.states[self._lanes.gateway(record.gateway)]
        state.arrived_ms = max(state.arrived_ms, record.arrived_ms)
        if state.is_silent and state.back_ms == NEVER:
            state.back_ms = record.arrived_ms
        if not state.is_new(frame.header):
            self.counters["duplicates"] += 1
            return None
        self.counters["frames"] += 1
        return frame

    def breaks(self, gateway: str, header: Header) -> bool:
        """Whether what came before this frame must be judged first."""
        state = self._lanes.states[self._lanes.gateway(gateway)]
        return state.is_newer(header) or header.is_simulated != state.is_simulated

    def turn(self, gateway: str, header: Header) -> int:
        """Take over epoch, clock generation and simulated mark; return the gateway if its clock has stepped, else -1.

        A new outbox counts the generations anew, and may be another box with another clock: that is a step too.
        """
        number = self._lanes.gateway(gateway)
        state = self._lanes.states[number]
        state.is_simulated = header.is_simulated
        if not state.is_newer(header):
            return -1
        has_stepped = state.epoch >= 0
        state.turn(header)
        return number if has_stepped else -1

    def add(self, chunk: Chunk, record: Record, frame: Frame) -> None:
        """Append a frame to a chunk and move its lane's watermark."""
        header = frame.header
        gateway = self._lanes.gateway(record.gateway)
        lane = self._lanes.lane(gateway, header.lane)
        number = chunk.open(record.offset, record.arrived_ms, gateway)
        if header.is_snapshot:
            chunk.snapshots.add(number)
        lookup = self._lookup(record.gateway, gateway, header)
        if isinstance(frame, SampleFrame):
            self._add_samples(chunk, number, frame, lookup)
        elif isinstance(frame, EventFrame):
            for event in frame.events:
                chunk.events.append((number, event))
                if event.kind == "loss":
                    self._skip(chunk, gateway, loss_of(event))
        # an older generation of the clock says nothing about now
        if not self._lanes.states[gateway].is_older(header):
            self._rise(chunk, lane, self._lanes.chains[lane].claim(header))

    def _skip(self, chunk: Chunk, gateway: int, lost: list[tuple[int, int]]) -> None:
        for lane in self._lanes.lanes_of(gateway):
            self._rise(chunk, lane, self._lanes.chains[lane].skip(lost))

    def _rise(self, chunk: Chunk, lane: int, complete_ms: int) -> None:
        if complete_ms > self._lanes.complete_ms[lane]:
            self._lanes.complete_ms[lane] = complete_ms
            chunk.mark(lane, complete_ms)

    def _add_samples(self, chunk: Chunk, record: int, frame: SampleFrame, lookup: Ints | None) -> None:
        if not len(frame.alias):
            return
        self.counters["samples"] += len(frame.alias)
        if lookup is None:
            self.counters["unknown"] += len(frame.alias)
            return
        chunk.count += len(frame.alias)
        alias = frame.alias.astype(np.intp)
        if alias.max() < len(lookup):
            chunk.parts.append((record, lookup[alias], frame.time_ms, frame.value, frame.quality))
            return
        known = np.flatnonzero(alias < len(lookup))
        self.counters["unknown"] += len(alias) - len(known)
        chunk.parts.append(
            (record, lookup[alias[known]], frame.time_ms[known], frame.value[known], frame.quality[known])
        )

    def _lookup(self, name: str, gateway: int, header: Header) -> Ints | None:
        """Return alias -> number of the signal, None if the birth is not known."""
        key = (name, header.epoch, header.schema)
        found = self._lookups.get(key)
        if found is None:
            birth = self._births.get(self._site, name, header.epoch, header.schema)
            if birth is None:
                return None
            found = np.array([self._table.number(signal.key) for signal in birth.signals], np.intp)
            self._lookups[key] = found
        state = self._lanes.states[gateway]
        # backlog of an older birth must not take the signals back
        if (header.epoch, header.schema) != state.schema and not (
            header.epoch == state.schema[0] and header.schema < state.schema[1]
        ):
            birth = self._births.get(self._site, name, header.epoch, header.schema)
            if birth is not None:
                self._announce(gateway, birth, found)
                state.schema = (header.epoch, header.schema)
        return found

    def _announce(self, gateway: int, birth: Birth, numbers: Ints) -> None:
        table = self._table
        table.births += 1
        gone = np.setdiff1d(np.flatnonzero(table.gateway == gateway), numbers)
        table.lane[gone], table.gateway[gone] = -1, -1
        table.gateway[numbers] = gateway
        lanes = [self._lanes.lane(gateway, int(signal.lane)) for signal in birth.signals]
        table.lane[numbers] = np.array(lanes, np.int64) if lanes else -1
        silences = [round(signal.max_silence_s * 1000 * STALE_FACTOR) for signal in birth.signals]
        table.stale_ms[numbers] = np.array(silences, np.int64) if silences else 0

    def events(self, chunk: Chunk) -> list[JudgedEvent]:
        """Return the events of a chunk with the time each is judged at."""
        names = list(self._lanes.gateways)
        result = []
        for record, event in chunk.events:
            gateway = chunk.gateway[record]
            is_doubtful = abs(event.time_ms - event.seen_ms) > CLOCK_TOLERANCE_MS
            result.append(
                JudgedEvent(
                    gateway=names[gateway],
                    event=event,
                    is_simulated=self._lanes.states[gateway].is_simulated,
                    offset=chunk.offset[record],
                    arrived_ms=chunk.arrived_ms[record],
                    judged_ms=event.seen_ms if is_doubtful else event.time_ms,
                    quality=int(Quality.CLOCK_DOUBTFUL) if is_doubtful else 0,
                )
            )
        return result

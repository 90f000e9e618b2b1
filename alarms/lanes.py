"""How far each lane of each gateway has been measured: chains of frames and their watermarks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from alarms.signal_table import I64, NEVER
from watchroom.frames import Header
from watchroom.intervals import IntervalSet

EPOCHS_KEPT = 4
WAITING_LIMIT = 1000
"""Frames of a lane that wait for one before them; beyond it that one is given up, whatever became of it."""
LOST_LIMIT = 4096
CLOCK_GENS = 0xFFFF
"""Generations of a gateway's clock are 1 to 65535, then 1 again."""


@dataclass(slots=True)
class Chain:
    """The frames of one lane in the order of their making.

    Attributes:
        head: seq up to which nothing is missing; -1 before the first frame of an epoch.
        waiting: prev -> (seq, complete_ms) of frames that arrived before the one they follow.
        beats: prev -> complete_ms of heartbeats that did.
        lost: [first, last] of numbers that will never come; the gateway may say so before what follows them is here.
    """

    epoch: int = -1
    head: int = -1
    waiting: dict[int, tuple[int, int]] = field(default_factory=dict)
    beats: dict[int, int] = field(default_factory=dict)
    lost: list[tuple[int, int]] = field(default_factory=list)

    def claim(self, header: Header) -> int:
        """Return the newest complete_ms that counts after this frame, NEVER when none does."""
        if header.epoch != self.epoch:
            self.epoch, self.head, self.waiting, self.beats, self.lost = header.epoch, -1, {}, {}, []
        if header.is_heartbeat:
            if header.prev == self.head or self.head < 0:
                return header.complete_ms
            if header.prev > self.head:
                self.beats[header.prev] = max(header.complete_ms, self.beats.get(header.prev, NEVER))
            return NEVER
        starts = self.head < 0 or ((header.is_snapshot or header.prev == 0) and header.seq > self.head)
        if not starts and header.prev != self.head:
            if header.prev > self.head:
                self.waiting[header.prev] = (header.seq, header.complete_ms)
                if self._is_lost(header.prev) or len(self.waiting) > WAITING_LIMIT:
                    return self.skip()
            return NEVER
        self.head = header.seq
        return self._follow(header.complete_ms)

    def skip(self, lost: Sequence[tuple[int, int]] = ()) -> int:
        """Give up what is missing (the gateway said it is lost); return the complete_ms that counts then."""
        self.lost = [*self.lost, *(row for row in lost if row[1] > self.head)][-LOST_LIMIT:]
        if not self.waiting:
            return NEVER
        self.head = min(self.waiting)
        return self._follow(NEVER)

    def _follow(self, complete_ms: int) -> int:
        while True:
            complete_ms = max(complete_ms, self.beats.get(self.head, NEVER))
            follower = self.waiting.pop(self.head, None)
            if follower is None:
                bridge = min((prev for prev in self.waiting if prev > self.head and self._is_lost(prev)), default=None)
                if bridge is None:
                    break
                self.head = bridge
                continue
            self.head, complete_ms = follower[0], max(complete_ms, follower[1])
        # what a new chain leaves behind belongs to the old one
        self.waiting = {prev: item for prev, item in self.waiting.items() if prev > self.head}
        self.beats = {prev: item for prev, item in self.beats.items() if prev > self.head}
        self.lost = [row for row in self.lost if row[1] > self.head]
        return complete_ms

    def _is_lost(self, seq: int) -> bool:
        return any(a <= seq <= b for a, b in self.lost)


@dataclass(slots=True)
class GatewayState:
    """What is known of one gateway.

    Attributes:
        arrived_ms: Arrival of its newest record, centre's clock; NEVER before the first.
        back_ms: Arrival of the first record after a silence.
        clock_gen: Newest generation of its clock, counted within an epoch.
        epoch: Its newest outbox; -1 before the first.
        past: Outboxes it had before.
        seen: epoch -> sequence numbers judged.
        schema: Newest (epoch, schema) whose birth was taken.
    """

    arrived_ms: int = NEVER
    back_ms: int = NEVER
    clock_gen: int = 0
    epoch: int = -1
    past: list[int] = field(default_factory=list)
    is_simulated: bool = False
    is_silent: bool = False
    seen: dict[int, IntervalSet] = field(default_factory=dict)
    schema: tuple[int, int] = (-1, -1)

    def is_new(self, header: Header) -> bool:
        """Whether a frame was not judged yet; it counts as judged from now on."""
        if header.seq == 0:
            return True
        known = self.seen.get(header.epoch)
        if known is None:
            known = self.seen[header.epoch] = IntervalSet()
            while len(self.seen) > EPOCHS_KEPT:
                del self.seen[next(iter(self.seen))]
        return known.add(header.seq)

    def is_newer(self, header: Header) -> bool:
        """Whether a frame comes from a newer outbox, or after a step of the clock."""
        if header.epoch != self.epoch:
            return header.epoch not in self.past
        return 0 < (header.clock_gen - self.clock_gen) % CLOCK_GENS < CLOCK_GENS // 2

    def is_older(self, header: Header) -> bool:
        """Whether a frame comes from an outbox before this one, or from before the last step of the clock."""
        return (header.epoch, header.clock_gen) != (self.epoch, self.clock_gen) and not self.is_newer(header)

    def turn(self, header: Header) -> None:
        """Take over the outbox and the generation of the clock of a newer frame."""
        if header.epoch != self.epoch:
            self.past = [*self.past, self.epoch][-EPOCHS_KEPT:] if self.epoch >= 0 else []
            self.epoch = header.epoch
        self.clock_gen = header.clock_gen


class Lanes:
    """Dense numbers of gateways and lanes, and the watermark of each lane.

    Attributes:
        complete_ms: Watermark by lane number, shape (capacity,): everything up to here was measured.
    """

    def __init__(self) -> None:
        self.gateways: dict[str, int] = {}
        self.states: list[GatewayState] = []
        self.chains: list[Chain] = []
        self.complete_ms: I64 = np.full(64, NEVER, np.int64)
        self._numbers: dict[tuple[int, int], int] = {}

    def gateway(self, name: str) -> int:
        """Return the number of a gateway; a new one gets the next."""
        number = self.gateways.get(name)
        if number is None:
            number = self.gateways[name] = len(self.gateways)
            self.states.append(GatewayState())
        return number

    def lane(self, gateway: int, lane: int) -> int:
        """Return the number of a gateway's lane; a new one gets the next."""
        key = (gateway, lane)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.chains)
            self.chains.append(Chain())
            if number == len(self.complete_ms):
                self.complete_ms = np.concatenate([self.complete_ms, np.full(number, NEVER, np.int64)])
        return number

    def lanes_of(self, gateway: int) -> list[int]:
        """Return the numbers of a gateway's lanes."""
        return [number for (owner, _), number in self._numbers.items() if owner == gateway]

    def name(self, gateway: int) -> str:
        """Return the id of a gateway, empty for -1."""
        return "" if gateway < 0 else list(self.gateways)[gateway]

    def to_json(self) -> dict[str, Any]:
        """Return the whole state for a checkpoint."""
        states = []
        for state in self.states:
            row = {name: getattr(state, name) for name in GatewayState.__slots__ if name != "seen"}
            row["seen"] = [[epoch, numbers.to_json()] for epoch, numbers in state.seen.items()]
            states.append(row)
        return {
            "gateways": list(self.gateways),
            "states": states,
            "lanes": [[*key, number] for key, number in self._numbers.items()],
            "chains": [
                {**asdict(chain), "waiting": list(chain.waiting.items()), "beats": list(chain.beats.items())}
                for chain in self.chains
            ],
            "complete_ms": self.complete_ms[: len(self.chains)].tolist(),
        }

    def load(self, content: dict[str, Any]) -> None:
        """Take over the state of a checkpoint."""
        self.gateways = {name: number for number, name in enumerate(content["gateways"])}
        self.states = []
        for row in content["states"]:
            seen = {epoch: IntervalSet.from_json(numbers) for epoch, numbers in row["seen"]}
            self.states.append(GatewayState(**{**row, "seen": seen, "schema": tuple(row["schema"])}))
        self._numbers = {(gateway, lane): number for gateway, lane, number in content["lanes"]}
        self.chains = [
            Chain(
                epoch=row["epoch"],
                head=row["head"],
                waiting={prev: (item[0], item[1]) for prev, item in row["waiting"]},
                beats=dict(row["beats"]),
                lost=[(a, b) for a, b in row.get("lost", [])],
            )
            for row in content["chains"]
        ]
        self.complete_ms = np.full(max(64, 2 * len(self.chains)), NEVER, np.int64)
        self.complete_ms[: len(self.chains)] = content["complete_ms"]

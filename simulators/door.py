"""One controlled door: readers, strike, contact, exit button; people, and somebody who forces it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from simulators import demand

Result = Literal["granted", "denied", "unknown", "expired", "lost"]
Method = Literal["card", "face", "qr"]
Direction = Literal["in", "out"]

REFUSED: tuple[tuple[Method, Result, float], ...] = (
    ("card", "expired", 0.003),
    ("card", "lost", 0.0015),
    ("card", "unknown", 0.003),
    ("face", "unknown", 0.008),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Somebody showed a card, a face or a code.

    Attributes:
        token: Card number (8 hex digits) or person number, as the reader sends it.
        serial: Counts the records of this reader.
        score: Similarity in percent, 0 for cards.
    """

    door: str
    method: Method
    token: str
    direction: Direction
    result: Result
    serial: int
    score: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorState:
    """Contact (1 open), exit button (1 pressed), lock (1 released) and tamper switch (1 opened)."""

    door: str
    contact: int
    button: int
    lock: int
    tamper: int


Happening = Access | DoorState
LEVER_QUIET_S = 8.0
"""Who levers a door waits until the last person is through and out of sight."""


@dataclass(slots=True)
class _Plan:
    """What still has to happen, by the door's own time in seconds."""

    steps: list[tuple[float, str, int]] = field(default_factory=list)

    def add(self, at_s: float, part: str, value: int) -> None:
        self.steps.append((at_s, part, value))
        self.steps.sort(key=lambda step: step[0])

    def drop(self, part: str) -> None:
        self.steps = [step for step in self.steps if step[1] != part]

    def due(self, now_s: float) -> list[tuple[float, str, int]]:
        due = [step for step in self.steps if step[0] <= now_s]
        self.steps = self.steps[len(due) :]
        return due


class Door:
    """A door with its readers.

    Args:
        rng: Source of chance.
        name: Equipment id.
        methods: What its readers take, with the direction of the reader.
        passages_per_h: Mean number of passages an hour over a day.
        residents: Numbers of those who live here.
        unlock_s: How long the strike stays released.

    Attributes:
        contact: 1 open. ``button``: 1 pressed. ``lock``: 1 released. ``tamper``: 1 opened.
    """

    def __init__(
        self,
        rng: Random,
        *,
        name: str,
        methods: Sequence[tuple[Method, Direction]],
        passages_per_h: float,
        residents: Sequence[int],
        unlock_s: float = 5.0,
    ) -> None:
        self.name = name
        self.contact = self.button = self.lock = self.tamper = 0
        self._rng, self._methods, self._residents = rng, tuple(methods), tuple(residents)
        self.passages_per_h, self._unlock_s = passages_per_h, unlock_s
        self._now_s = 0.0
        self._plan = _Plan()
        # a reader goes on counting where it was when it was switched off
        self._serials: dict[Method, int] = {"card": rng.randrange(100_000), "face": rng.randrange(100_000), "qr": 0}
        self._is_held = False
        self._busy_s = -LEVER_QUIET_S
        self._lever_s = 0.0
        self._levered_until_s = 0.0

    @property
    def state(self) -> DoorState:
        """Present state, for a heartbeat message."""
        return DoorState(door=self.name, contact=self.contact, button=self.button, lock=self.lock, tamper=self.tamper)

    def step(self, dt: float, time_of_day_s: float) -> list[Happening]:
        """Advance by ``dt`` seconds; return what happened, in order."""
        self._now_s += dt
        happened: list[Happening] = []
        rate = self.passages_per_h * demand.at(demand.TRIPS, time_of_day_s)
        is_levered = self._lever_s > 0 or self._now_s < self._levered_until_s
        for _ in range(demand.arrivals(self._rng, 0.0 if is_levered else rate, dt)):
            is_out = self._rng.random() < demand.at(demand.LEAVING, time_of_day_s)
            happened += self._leave() if is_out else self._come("in")
        self._lever()
        for _, part, value in self._plan.due(self._now_s):
            happened += self._set(part, value)
        return happened

    def force(self, open_s: float) -> None:
        """Lever the door open without any permission, for so many seconds, once nobody is at the door."""
        self._lever_s = open_s

    def release(self, is_released: bool) -> None:
        """Release the strike for a fire alarm, or lock it again."""
        self._is_held = is_released
        self._plan.drop("lock")
        self._plan.add(self._now_s, "lock", int(is_released))

    def _lever(self) -> None:
        if self.contact or self.lock or self.button or self._plan.steps:
            self._busy_s = self._now_s
        elif self._lever_s > 0 and self._now_s - self._busy_s >= LEVER_QUIET_S:
            self._plan.add(self._now_s, "contact", 1)
            self._plan.add(self._now_s + self._lever_s, "contact", 0)
            self._levered_until_s, self._lever_s = self._now_s + self._lever_s, 0.0

    def _come(self, direction: Direction) -> list[Happening]:
        readers = [method for method, way in self._methods if way == direction]
        method = self._rng.choice(readers)
        token, result, score = self._who(method)
        self._serials[method] += 1
        if result == "granted":
            self._pass(self._now_s + 0.3)
        return [
            Access(
                door=self.name,
                method=method,
                token=token,
                direction=direction,
                result=result,
                serial=self._serials[method],
                score=score,
            )
        ]

    def _leave(self) -> list[Happening]:
        if any(way == "out" for _, way in self._methods):
            return self._come("out")
        self._plan.add(self._now_s, "button", 1)
        self._plan.add(self._now_s + 0.6, "button", 0)
        self._pass(self._now_s + 0.2)
        return []

    def _pass(self, at_s: float) -> None:
        """The strike is released, somebody opens, the closer closes; a second person renews all of it."""
        opens = at_s + self._rng.uniform(0.7, 2.0)
        closes = opens + self._rng.uniform(2.5, 7.0)
        if self.contact or any(part == "contact" for _, part, _ in self._plan.steps):
            opens = at_s + 0.2
        self._plan.drop("contact")
        self._plan.add(opens, "contact", 1)
        self._plan.add(closes, "contact", 0)
        if not self._is_held:
            self._plan.drop("lock")
            self._plan.add(at_s, "lock", 1)
            self._plan.add(at_s + self._unlock_s, "lock", 0)

    def _who(self, method: Method) -> tuple[str, Result, float]:
        result: Result = "granted"
        chance = self._rng.random()
        for refused_method, refused, share in REFUSED:
            if refused_method == method:
                if chance < share:
                    result = refused
                    break
                chance -= share
        number = self._rng.choice(self._residents)
        if result == "unknown":
            number = 900_000 + self._rng.randrange(10_000)
        token = f"{(number * 2654435761) & 0xFFFFFFFF:08X}" if method == "card" else f"P{number:06d}"
        if method != "face":
            return token, result, 0.0
        score = self._rng.uniform(38, 61) if result == "unknown" else min(99.4, self._rng.gauss(93, 2.5))
        return token, result, round(score, 1)

    def _set(self, part: str, value: int) -> list[Happening]:
        if getattr(self, part) == value:
            return []
        setattr(self, part, value)
        return [self.state]

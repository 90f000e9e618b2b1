"""One lift: passengers, calls, doors, travel, and what goes wrong with it. Pure.

Full collective control of one car: it keeps its direction while calls lie ahead, takes up whoever wants the same
way, and rests where it emptied. The car moves only while both door contacts are made: ``step`` has no path that
moves it with an open door.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from random import Random

from simulators import demand
from simulators.motion import Limits, Travel

CLOSED, OPEN, SHIFTING = 0, 1, 2
OUT_OF_SERVICE, NORMAL, INSPECTION, FIRE_RETURN = 0, 1, 2, 3
NO_FAULT, SAFETY_CIRCUIT, STOPPED_OUTSIDE = 0, 1, 4
OPENING_S, CLOSING_S, DWELL_S, BOARD_S = 2.0, 2.6, 3.2, 0.9
DOOR_ZONE_M = 0.15
PERSON_PERCENT = 7.2
FULL_PERCENT = 80.0
EMERGENCY_MPS2 = 1.4
LEVELLING_MPS = 0.25
AMBIENT_C = 29.0


class Phase(Enum):
    """What the car does."""

    RESTING = "resting"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    MOVING = "moving"
    BRAKING = "braking"  # the brake has fallen in, the car slides to a stop
    STUCK = "stuck"
    LEVELLING = "levelling"  # slowly to the next floor, by the rescue operation


@dataclass(slots=True)
class Passenger:
    """Somebody on the way between two stops (indices)."""

    origin: int
    goal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaft:
    """Stops from the bottom up.

    Attributes:
        labels: Floor as shown, below ground negative, no 0.
        heights_m: Height of each stop.
    """

    labels: tuple[int, ...]
    heights_m: tuple[float, ...]

    @classmethod
    def between(cls, lowest: int, highest: int) -> Shaft:
        """Return the usual shaft: 4.2 m basements, a 4.5 m entrance floor, 3 m above."""
        labels = tuple(floor for floor in range(lowest, highest + 1) if floor)
        heights, here = [], 0.0
        for label in labels:
            heights.append(here)
            here += 4.2 if label < 0 else 4.5 if label == 1 else 3.0
        return cls(labels=labels, heights_m=tuple(heights))

    @property
    def lobby(self) -> int:
        """Index of the entrance floor."""
        return self.labels.index(1)

    def nearest(self, height_m: float) -> int:
        """Return the index of the nearest stop."""
        return min(range(len(self.heights_m)), key=lambda i: abs(self.heights_m[i] - height_m))


class Elevator:
    """A lift with its passengers.

    Args:
        rng: Source of chance.
        shaft: Where it stops.
        speed_mps: Rated speed.
        trips_per_h: Mean number of passengers an hour over a day.
    """

    def __init__(self, rng: Random, *, shaft: Shaft, speed_mps: float, trips_per_h: float) -> None:
        self.shaft = shaft
        self._rng, self._trips_per_h = rng, trips_per_h
        self._limits = Limits(speed=speed_mps)
        self.stop = rng.randrange(len(shaft.labels)) if rng.random() < 0.5 else shaft.lobby
        self.height_m = shaft.heights_m[self.stop]
        self.speed_mps = 0.0
        self.phase = Phase.RESTING
        self.direction = 0
        self.waiting: list[Passenger] = []
        self.aboard: list[Passenger] = []
        self.service_mode = NORMAL
        self.fault = NO_FAULT
        self.is_button_pressed = False
        self.is_trapped = False
        self.runs = 180_000 + rng.randrange(200_000)
        self.motor_c = AMBIENT_C + rng.uniform(4, 14)
        self.stuck_s = 0.0
        self._elapsed = 0.0
        self._travel: Travel | None = None
        self._from_m = self.height_m
        self._target = self.stop
        self._is_to_fail = False

    # what the monitoring unit reports
    @property
    def door(self) -> int:
        """0 closed, 1 open, 2 moving."""
        if self.phase is Phase.OPEN:
            return OPEN
        return SHIFTING if self.phase in {Phase.OPENING, Phase.CLOSING} else CLOSED

    @property
    def is_moving(self) -> bool:
        """Whether the car moves."""
        return self.phase in {Phase.MOVING, Phase.BRAKING, Phase.LEVELLING} and abs(self.speed_mps) > 0.0

    @property
    def floor(self) -> int:
        """Nearest floor as the car shows it."""
        return self.shaft.labels[self.shaft.nearest(self.height_m)]

    @property
    def is_in_door_zone(self) -> bool:
        """Whether the doors could open here."""
        return abs(self.shaft.heights_m[self.shaft.nearest(self.height_m)] - self.height_m) <= DOOR_ZONE_M

    @property
    def load_percent(self) -> float:
        """Load as a share of the rated load."""
        return min(110.0, PERSON_PERCENT * len(self.aboard))

    @property
    def power_kw(self) -> float:
        """Electrical power; lifting costs, going down with few people too (the counterweight is heavier)."""
        if not self.is_moving:
            return 0.25
        unbalance = (self.load_percent - 45.0) / 100.0 * 1000.0 * 9.81 * self.speed_mps / 1000.0
        return 1.2 + max(0.4, unbalance / 0.75)

    # what people and scenarios do
    def call(self, origin: int, goal: int) -> None:
        """Let somebody come to a stop and want to another one (indices)."""
        if origin != goal and len(self.waiting) < 24:
            self.waiting.append(Passenger(origin, goal))

    def trap(self) -> None:
        """Let the safety circuit open in the middle of the next trip with somebody aboard."""
        self._is_to_fail = True
        if not self.aboard:
            far = self.shaft.labels.index(self.shaft.labels[-1]) if self.stop < len(self.shaft.labels) // 2 else 0
            origin = self.stop if self.phase is not Phase.MOVING else self._target
            self.waiting.insert(0, Passenger(origin, far))

    def press_button(self) -> None:
        """Press the alarm button in the car."""
        self.is_button_pressed = True

    def rescue(self) -> None:
        """Let the technician bring the car to the next floor, let people out and put it back into service."""
        self._is_to_fail = False
        if self.phase is Phase.STUCK:
            self.service_mode = INSPECTION
            self._target = self.shaft.nearest(self.height_m)
            self.phase = Phase.LEVELLING

    def return_for_fire(self) -> None:
        """Go to the entrance floor and stay there with open doors."""
        self.service_mode = FIRE_RETURN
        self.waiting.clear()
        for passenger in self.aboard:
            passenger.goal = self.shaft.lobby
        if self.stop != self.shaft.lobby or self.phase is Phase.MOVING:
            self.waiting.append(Passenger(self.shaft.lobby, self.shaft.lobby))

    def back_to_normal(self) -> None:
        """End fire return or a fault; the car serves calls again."""
        self.rescue()
        if self.phase is not Phase.LEVELLING:
            self.service_mode, self.fault = NORMAL, NO_FAULT
            self.is_button_pressed = self.is_trapped = False

    def step(self, dt: float, time_of_day_s: float) -> None:
        """Advance by ``dt`` seconds."""
        if self.service_mode == NORMAL and self.fault == NO_FAULT:
            self._people_come(dt, time_of_day_s)
        self._elapsed += dt
        {
            Phase.RESTING: self._rest,
            Phase.OPENING: self._open,
            Phase.OPEN: self._dwell,
            Phase.CLOSING: self._close,
            Phase.MOVING: self._move,
            Phase.BRAKING: self._brake,
            Phase.STUCK: self._stay,
            Phase.LEVELLING: self._level,
        }[self.phase](dt)
        heat = 5.0 * self.power_kw if self.is_moving else 0.0
        self.motor_c += (AMBIENT_C + heat - self.motor_c) * (1.0 - math.exp(-dt / 1500.0))

    def _people_come(self, dt: float, time_of_day_s: float) -> None:
        rate = self._trips_per_h * demand.at(demand.TRIPS, time_of_day_s)
        for _ in range(demand.arrivals(self._rng, rate, dt)):
            # the entrance floor, or the garage below it
            ground = self.shaft.lobby if self._rng.random() < 0.75 or self.shaft.lobby == 0 else 0
            home = self._rng.randrange(self.shaft.lobby + 1, len(self.shaft.labels))
            if self._rng.random() < demand.at(demand.LEAVING, time_of_day_s):
                self.call(home, ground)
            else:
                self.call(ground, home)

    def _enter(self, phase: Phase) -> None:
        self.phase, self._elapsed = phase, 0.0

    def _rest(self, dt: float) -> None:
        if not self.aboard and not self._is_ahead():
            self.direction = 0
        wants_in = any(p.origin == self.stop and self._wants_in(p) for p in self.waiting)
        if wants_in or any(p.goal == self.stop for p in self.aboard):
            self._enter(Phase.OPENING)
        elif (target := self._next_stop()) is not None:
            self._depart(target)
        else:
            self.direction = 0
            if self.service_mode == FIRE_RETURN:
                self._enter(Phase.OPENING)

    def _depart(self, target: int) -> None:
        self._target, self._from_m = target, self.height_m
        self._travel = Travel(self.shaft.heights_m[target] - self.height_m, self._limits)
        self.direction = 1 if target > self.stop else 2
        self.runs += 1
        self._enter(Phase.MOVING)

    def _next_stop(self) -> int | None:
        """The next stop in the present direction, else the nearest call of the other."""
        goals = {p.goal for p in self.aboard}
        ups = {p.origin for p in self.waiting if p.goal >= p.origin}
        downs = {p.origin for p in self.waiting if p.goal < p.origin}
        calls = (goals | ups | downs) - {self.stop}
        if not calls:
            return None
        above, below = [c for c in calls if c > self.stop], [c for c in calls if c < self.stop]
        going_up = self.direction == 1 if self.direction else bool(above)
        if going_up and above:
            same_way = [c for c in above if c in goals or c in ups]
            return min(same_way) if same_way else max(above)
        if below:
            same_way = [c for c in below if c in goals or c in downs]
            return max(same_way) if same_way else min(below)
        return min(above, key=lambda c: c - self.stop)

    def _open(self, dt: float) -> None:
        if self._elapsed >= OPENING_S:
            self._enter(Phase.OPEN)
            self._exchange()

    def _exchange(self) -> None:
        """People get out and in; each holds the door a little longer."""
        stays = [p for p in self.aboard if p.goal != self.stop]
        moved = len(self.aboard) - len(stays)
        self.aboard = stays
        self.waiting = [p for p in self.waiting if p.origin != p.goal or p.origin != self.stop]
        if not stays and not self._is_ahead():
            self.direction = 0
        for passenger in [p for p in self.waiting if p.origin == self.stop]:
            way = 1 if passenger.goal > passenger.origin else 2
            if self.load_percent + PERSON_PERCENT <= FULL_PERCENT and self.direction in {0, way}:
                self.direction = way
                self.waiting.remove(passenger)
                self.aboard.append(passenger)
                moved += 1
        self._elapsed -= BOARD_S * moved
        if not self.aboard and self.service_mode == INSPECTION:
            self.service_mode, self.fault = NORMAL, NO_FAULT
            self.is_button_pressed = self.is_trapped = False

    def _is_ahead(self) -> bool:
        """Whether somebody waits further on in the present direction."""
        if self.direction == 1:
            return any(p.origin > self.stop for p in self.waiting)
        return any(p.origin < self.stop for p in self.waiting)

    def _dwell(self, dt: float) -> None:
        if self.service_mode == FIRE_RETURN and self.stop == self.shaft.lobby:
            self.aboard.clear()  # nobody stays in
        elif self._elapsed >= DWELL_S:
            self._enter(Phase.CLOSING)

    def _close(self, dt: float) -> None:
        latecomer = any(p.origin == self.stop and self._wants_in(p) for p in self.waiting)
        if latecomer and self._elapsed < 0.7 * CLOSING_S:
            self._elapsed = OPENING_S * self._elapsed / CLOSING_S
            self.phase = Phase.OPENING
        elif self._elapsed >= CLOSING_S:
            self._enter(Phase.RESTING)

    def _wants_in(self, passenger: Passenger) -> bool:
        way = 1 if passenger.goal > passenger.origin else 2
        return self.direction in {0, way} and self.load_percent + PERSON_PERCENT <= FULL_PERCENT

    def _move(self, dt: float) -> None:
        travel = self._travel
        assert travel is not None
        gone, self.speed_mps = travel.at(self._elapsed)
        self.height_m = self._from_m + gone
        if self._is_to_fail and self.aboard and self._may_fail_here(travel, gone):
            self.fault = SAFETY_CIRCUIT
            self._is_to_fail = False
            self._enter(Phase.BRAKING)
        elif self._elapsed >= travel.duration:
            self.stop, self.height_m, self.speed_mps = self._target, self.shaft.heights_m[self._target], 0.0
            self._enter(Phase.OPENING)

    def _may_fail_here(self, travel: Travel, gone: float) -> bool:
        """Where the brake brings the car to a stop outside every door zone, and well before its floor."""
        way = math.copysign(self.speed_mps**2 / (2 * EMERGENCY_MPS2), travel.distance)
        rest = self.height_m + way
        off = min(abs(rest - height) for height in self.shaft.heights_m)
        return abs(gone) > 1.0 and off > 0.8 and abs(gone + way) < abs(travel.distance)

    def _brake(self, dt: float) -> None:
        speed = max(0.0, abs(self.speed_mps) - EMERGENCY_MPS2 * dt)
        sign = math.copysign(1.0, self.speed_mps)
        self.height_m += sign * (abs(self.speed_mps) + speed) / 2 * dt
        self.speed_mps = sign * speed
        if speed == 0.0:
            self.speed_mps = 0.0
            self.stuck_s = 0.0
            self._enter(Phase.STUCK)

    def _stay(self, dt: float) -> None:
        self.direction = 0
        self.stuck_s += dt
        if self.stuck_s >= 5.0 and not self.is_in_door_zone:
            self.fault = STOPPED_OUTSIDE
        if self.stuck_s >= 12.0 and self.aboard:
            self.is_button_pressed = True
        if self.stuck_s >= 20.0 and self.aboard:
            self.is_trapped = True

    def _level(self, dt: float) -> None:
        goal = self.shaft.heights_m[self._target]
        left = goal - self.height_m
        self.speed_mps = math.copysign(min(LEVELLING_MPS, abs(left) / dt), left)
        self.height_m += self.speed_mps * dt
        if abs(goal - self.height_m) < 1e-6:
            self.stop, self.height_m, self.speed_mps = self._target, goal, 0.0
            for passenger in self.aboard:
                passenger.goal = self.stop
            self._enter(Phase.OPENING)

"""How a lift car travels: speed, acceleration and jerk are limited (seven-phase S-curve). Pure."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Largest speed [m/s], acceleration [m/s2] and jerk [m/s3]."""

    speed: float
    acceleration: float = 0.8
    jerk: float = 1.0


@dataclass(slots=True)
class Travel:
    """One trip over a distance from standstill to standstill.

    Attributes:
        distance: Metres, signed.
        duration: Seconds.
        top_speed: Metres a second, without sign.
    """

    distance: float
    limits: Limits
    duration: float = field(init=False)
    top_speed: float = field(init=False)
    _phases: list[tuple[float, float, float, float, float]] = field(init=False)

    def __post_init__(self) -> None:
        length = abs(self.distance)
        jerk_s, const_a_s, const_v_s = _durations(length, self.limits)
        jerk = self.limits.jerk
        plan = [(jerk_s, jerk), (const_a_s, 0.0), (jerk_s, -jerk), (const_v_s, 0.0)]
        plan += [(jerk_s, -jerk), (const_a_s, 0.0), (jerk_s, jerk)]
        self._phases = []
        start, place, speed, acceleration = 0.0, 0.0, 0.0, 0.0
        self.top_speed = 0.0
        for lasts, phase_jerk in plan:
            self._phases.append((start, place, speed, acceleration, phase_jerk))
            place += speed * lasts + acceleration * lasts**2 / 2 + phase_jerk * lasts**3 / 6
            speed += acceleration * lasts + phase_jerk * lasts**2 / 2
            acceleration += phase_jerk * lasts
            start += lasts
            self.top_speed = max(self.top_speed, speed)
        self.duration = start

    def at(self, time_s: float) -> tuple[float, float]:
        """Return (metres gone, speed), both signed, at a time since the start."""
        sign = math.copysign(1.0, self.distance)
        if time_s >= self.duration:
            return self.distance, 0.0
        index = bisect.bisect_right(self._phases, max(0.0, time_s), key=lambda phase: phase[0]) - 1
        start, place, speed, acceleration, jerk = self._phases[index]
        t = time_s - start
        gone = place + speed * t + acceleration * t**2 / 2 + jerk * t**3 / 6
        return sign * gone, sign * max(0.0, speed + acceleration * t + jerk * t**2 / 2)


def _durations(length: float, limits: Limits) -> tuple[float, float, float]:
    """Seconds of one jerk phase, of constant acceleration, and of constant speed."""
    speed, acceleration, jerk = limits.speed, limits.acceleration, limits.jerk
    if speed * jerk < acceleration**2:  # full acceleration is never reached
        jerk_s, const_a_s = math.sqrt(speed / jerk), 0.0
    else:
        jerk_s = acceleration / jerk
        const_a_s = speed / acceleration - jerk_s
    ramp_s = 2 * jerk_s + const_a_s
    if speed * ramp_s <= length:
        return jerk_s, const_a_s, (length - speed * ramp_s) / speed
    # too short for full speed: find the top speed from length = v * (v / a + a / j), else from jerk alone
    reach = acceleration / jerk
    top = acceleration / 2 * (math.sqrt(reach**2 + 4 * length / acceleration) - reach)
    if top * jerk >= acceleration**2:
        return reach, top / acceleration - reach, 0.0
    return (length / (2 * jerk)) ** (1 / 3), 0.0, 0.0

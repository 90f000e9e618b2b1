"""How much a compound uses over the day: water, electricity and trips, as shares of the daily mean.

Hourly shapes of residential use: a morning and an evening peak, a quiet night. Pure.
"""

from __future__ import annotations

import math
from random import Random

DAY_S = 86_400.0
Shape = tuple[float, ...]

WATER: Shape = (0.30, 0.22, 0.18, 0.18, 0.25, 0.60, 1.45, 1.90, 1.55, 1.15, 1.05, 1.20)
WATER += (1.25, 1.00, 0.85, 0.85, 0.95, 1.30, 1.75, 1.95, 1.75, 1.45, 1.00, 0.55)
POWER: Shape = (0.72, 0.64, 0.58, 0.56, 0.57, 0.65, 0.85, 1.00, 0.95, 0.90, 0.92, 1.02)
POWER += (1.05, 0.98, 0.92, 0.92, 0.98, 1.15, 1.40, 1.55, 1.58, 1.45, 1.20, 0.92)
TRIPS: Shape = (0.12, 0.06, 0.04, 0.04, 0.10, 0.40, 1.40, 2.60, 2.00, 1.10, 0.95, 1.15)
TRIPS += (1.20, 0.95, 0.85, 0.95, 1.25, 1.85, 2.30, 1.80, 1.25, 0.95, 0.55, 0.30)
LEAVING: Shape = (0.40, 0.40, 0.50, 0.60, 0.75, 0.80, 0.82, 0.80, 0.72, 0.60, 0.55, 0.45)
LEAVING += (0.48, 0.55, 0.52, 0.48, 0.42, 0.30, 0.26, 0.32, 0.35, 0.32, 0.30, 0.32)
"""Share of the trips that lead out of the house, by hour."""


def at(shape: Shape, time_of_day_s: float) -> float:
    """Return a shape's value, straight between full hours.

    Args:
        shape: 24 values, one for each full hour.
        time_of_day_s: Seconds since local midnight; any number of days is taken off.
    """
    hour = (time_of_day_s % DAY_S) / 3600.0
    low = int(hour)
    share = hour - low
    return shape[low % 24] * (1 - share) + shape[(low + 1) % 24] * share


class Wander:
    """A number that drifts around 0 and forgets itself (Ornstein-Uhlenbeck).

    Args:
        rng: Source of chance.
        spread: Standard deviation in the long run.
        memory_s: Time after which about a third of a deviation is left.
    """

    def __init__(self, rng: Random, *, spread: float, memory_s: float) -> None:
        self._rng, self._spread, self._memory_s = rng, spread, memory_s
        self.value = rng.gauss(0.0, spread)

    def step(self, dt: float) -> float:
        """Return the value after ``dt`` seconds."""
        keep = math.exp(-dt / self._memory_s)
        self.value = self.value * keep + self._rng.gauss(0.0, self._spread * math.sqrt(1.0 - keep * keep))
        return self.value


def arrivals(rng: Random, rate_per_h: float, dt: float) -> int:
    """Return how many arrive within ``dt`` seconds, Poisson with the given rate."""
    mean = rate_per_h / 3600.0 * dt
    limit, product, count = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count

"""A sump with two pumps on a level control, seepage and rain. Pure."""

from __future__ import annotations

from random import Random

from simulators import demand

STOP_M, START_M, HELP_M, FLOAT_M = 0.40, 1.00, 1.30, 1.60


class Sump:
    """A pit with two submersible pumps that take turns.

    Args:
        rng: Source of chance.
        depth_m: Depth up to the floor; more runs over the floor.
        seepage_m3h: What always comes in.
        catchment_m2: Paved area that drains into it when it rains.
    """

    def __init__(
        self, rng: Random, *, depth_m: float = 2.0, seepage_m3h: float = 0.2, catchment_m2: float = 0.0
    ) -> None:
        self.depth_m = depth_m
        self.area_m2 = 2.25
        self.level_m = rng.uniform(STOP_M + 0.05, START_M - 0.05)
        self.extra_m3h = 0.0
        self.spilled_m3 = 0.0
        self.pumped_m3 = 0.0
        self.came_m3 = 0.0
        self.is_on = [False, False]
        self.is_failed = [False, False]
        self._lead = rng.randrange(2)
        self._seepage_m3h, self._catchment_m2 = seepage_m3h, catchment_m2
        self._noise = demand.Wander(rng, spread=0.25, memory_s=1800.0)

    @property
    def is_high(self) -> bool:
        """Whether the high float is up."""
        return self.level_m >= FLOAT_M

    def state(self, pump: int) -> int:
        """Return 0 stopped, 1 running, 2 fault of one pump, counted from 0."""
        return 2 if self.is_failed[pump] else int(self.is_on[pump])

    def step(self, dt: float, *, rain_mm_h: float) -> None:
        """Advance by ``dt`` seconds."""
        self._control()
        seepage = self._seepage_m3h * max(0.2, 1.0 + self._noise.step(dt))
        came = (seepage + self.extra_m3h + rain_mm_h / 1000.0 * self._catchment_m2) / 3600.0 * dt
        out = min(self.level_m * self.area_m2 + came, 20.0 * sum(self.is_on) / 3600.0 * dt)
        level = self.level_m + (came - out) / self.area_m2
        spill = max(0.0, level - self.depth_m) * self.area_m2
        self.came_m3 += came
        self.pumped_m3 += out
        self.spilled_m3 += spill
        self.level_m = level - spill / self.area_m2

    def _control(self) -> None:
        if self.level_m <= STOP_M and any(self.is_on):
            self.is_on = [False, False]
            self._lead = 1 - self._lead
        lead = self._lead if not self.is_failed[self._lead] else 1 - self._lead
        if self.level_m >= START_M and not any(self.is_on):
            self.is_on[lead] = True
        if self.level_m >= HELP_M:
            self.is_on = [True, True]
        self.is_on = [on and not failed for on, failed in zip(self.is_on, self.is_failed, strict=True)]

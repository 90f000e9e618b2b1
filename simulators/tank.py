"""The water tank: filled from the mains through a float valve, emptied by the pumps. Pure."""

from __future__ import annotations

OPEN_BELOW, CLOSED_ABOVE = 70.0, 85.0
OVERFLOW_LEVEL = 97.0


class Tank:
    """A tank under atmosphere.

    Attributes:
        volume_m3: Water in it.
        inflow_m3h: Through the float valve.
        overflow_m3h: Down the overflow pipe.
        is_valve_stuck: The float valve does not close any more.
    """

    def __init__(self, *, capacity_m3: float, height_m: float, level_percent: float = 78.0) -> None:
        self.capacity_m3, self.height_m = capacity_m3, height_m
        self.volume_m3 = capacity_m3 * level_percent / 100.0
        self.inflow_m3h = 0.0
        self.overflow_m3h = 0.0
        self.is_valve_stuck = False

    @property
    def level_percent(self) -> float:
        """Level in percent of the tank's height."""
        return 100.0 * self.volume_m3 / self.capacity_m3

    @property
    def head_m(self) -> float:
        """Head of the water above the outlet."""
        return self.height_m * self.volume_m3 / self.capacity_m3

    @property
    def is_overflowing(self) -> bool:
        """Whether the overflow switch is made."""
        return self.level_percent >= OVERFLOW_LEVEL

    def step(self, dt: float, *, mains_mpa: float, outflow_m3h: float) -> None:
        """Advance by ``dt`` seconds.

        Args:
            dt: Seconds.
            mains_mpa: Pressure in front of the float valve.
            outflow_m3h: What the pumps take.
        """
        opening = min(1.0, max(0.0, (CLOSED_ABOVE - self.level_percent) / (CLOSED_ABOVE - OPEN_BELOW)))
        opening = 1.0 if self.is_valve_stuck else opening
        self.inflow_m3h = 45.0 * opening * (max(0.0, mains_mpa) / 0.3) ** 0.5
        volume = self.volume_m3 + (self.inflow_m3h - outflow_m3h) / 3600.0 * dt
        spill = max(0.0, volume - self.capacity_m3)
        self.overflow_m3h = spill * 3600.0 / dt if dt > 0 else 0.0
        self.volume_m3 = max(0.0, volume - spill)

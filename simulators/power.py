"""The low-voltage side of the compound's transformer: load of homes, pumps and lifts on three phases. Pure."""

from __future__ import annotations

from random import Random

from simulators import demand

SHARES = (0.345, 0.330, 0.325)


class PowerMeter:
    """What a meter behind the transformer measures.

    Args:
        rng: Source of chance.
        homes: Homes supplied.
        rated_va: Rating of the transformer.

    Attributes:
        voltage_v: Of the three phases against neutral.
        current_a: Of the three phases.
        power_w: Active power of all phases.
        apparent_va: Apparent power of all phases.
        frequency_hz: Of the grid.
        energy_kwh: Counter.
    """

    def __init__(self, rng: Random, *, homes: int, rated_va: float) -> None:
        self.rated_va = rated_va
        self.mean_w = 480.0 * homes + 32_000.0
        self.voltage_v = [230.0, 230.0, 230.0]
        self.current_a = [0.0, 0.0, 0.0]
        self.power_w = self.apparent_va = 0.0
        self.frequency_hz = 50.0
        self.energy_kwh = 812_400.0 + rng.uniform(0, 900)
        self._load = demand.Wander(rng, spread=0.035, memory_s=240.0)
        self._steps = demand.Wander(rng, spread=0.012, memory_s=8.0)
        self._grid = [demand.Wander(rng, spread=0.7, memory_s=120.0) for _ in SHARES]
        self._phases = [demand.Wander(rng, spread=0.02, memory_s=200.0) for _ in SHARES]
        self._frequency = demand.Wander(rng, spread=0.012, memory_s=30.0)

    @property
    def power_factor(self) -> float:
        """Active over apparent power."""
        return self.power_w / self.apparent_va if self.apparent_va else 1.0

    def step(self, dt: float, time_of_day_s: float, *, plant_w: float) -> None:
        """Advance by ``dt`` seconds.

        Args:
            dt: Seconds.
            time_of_day_s: Seconds since local midnight.
            plant_w: Pumps, lifts and other machines that are simulated one by one.
        """
        shape = demand.at(demand.POWER, time_of_day_s)
        homes_w = self.mean_w * shape * (1.0 + self._load.step(dt) + self._steps.step(dt))
        self.power_w = homes_w + plant_w
        cosine = 0.93 + 0.02 * shape
        self.apparent_va = self.power_w / cosine
        sag = 6.0 * self.apparent_va / self.rated_va
        for phase, share in enumerate(SHARES):
            part = share * (1.0 + self._phases[phase].step(dt))
            self.voltage_v[phase] = 231.5 - sag * 3 * part + self._grid[phase].step(dt)
            self.current_a[phase] = self.apparent_va * part / self.voltage_v[phase]
        self.frequency_hz = 50.0 + max(-0.06, min(0.06, self._frequency.step(dt)))
        self.energy_kwh += self.power_w * dt / 3.6e6

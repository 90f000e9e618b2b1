"""The booster set: three pumps on drives hold the pressure of the low zone; a mains, a tank, a network. Pure.

Pressure is the state: a diaphragm vessel and the pipes store water, so that
``dp/dt = (flow of the pumps - use - leak) / compliance``. A PI controller turns the drives, the running pumps at the
same frequency; it adds a pump that is at its limit for a while and drops one that is not needed, the longest-running
first, as such sets do.
"""

from __future__ import annotations

import math
from random import Random

from simulators import demand
from simulators.pump import METRES_PER_MPA, UNDERLOAD, Pump, PumpRating
from simulators.tank import Tank

LIMIT_HZ, LOWEST_HZ = 49.5, 25.0
COMFORT_HZ = 48.0
ADD_AFTER_S, DROP_AFTER_S = 8.0, 30.0
DRY_TRIP_S = 75.0
ALTERNATE_S = 8 * 3600.0
LONGEST_STEP_S = 0.125


class Supply:
    """Booster set, tank, mains and network of one zone.

    Args:
        rng: Source of chance.
        setpoint_mpa: Pressure to hold.
        mean_m3h: Mean use of the zone over a day.
        tank: Where the pumps draw from.
        rating: Of each pump.
        pumps: Number of pumps.
        alternate_s: Longest time that one pump leads.

    Attributes:
        outlet_mpa: Pressure behind the pumps.
        mains_mpa: Pressure of the city's main.
        leak_m3h: Flow that a burst would have at the setpoint; 0 for sound pipes.
        is_tank_shut: The tank is out of use, the set draws straight from the mains.
        is_mains_cut: The city has no water.
    """

    def __init__(
        self,
        rng: Random,
        *,
        setpoint_mpa: float,
        mean_m3h: float,
        tank: Tank,
        rating: PumpRating | None = None,
        pumps: int = 3,
        alternate_s: float = ALTERNATE_S,
    ) -> None:
        self.setpoint_mpa = setpoint_mpa
        self.tank = tank
        self.pumps = [Pump(rating or PumpRating()) for _ in range(pumps)]
        self.outlet_mpa = setpoint_mpa
        self.mains_mpa = 0.29
        self.leak_m3h = 0.0
        self.energy_kwh = 48_210.0 + rng.uniform(0, 500)
        self.is_tank_shut = False
        self.is_mains_cut = False
        self.is_automatic = True
        self.use_m3h = 0.0
        self._mean_m3h, self._alternate_s = mean_m3h, alternate_s
        self._compliance_m3_per_mpa = 0.30
        self._use_noise = demand.Wander(rng, spread=0.10, memory_s=90.0)
        self._tap_noise = demand.Wander(rng, spread=0.05, memory_s=6.0)
        self._mains_noise = demand.Wander(rng, spread=0.006, memory_s=300.0)
        self._output_hz = 42.0
        self._error_mpa = 0.0
        self._at_limit_s = self._spare_s = self._dry_s = self._lead_s = 0.0
        self._one_pump_m3h = self.pumps[0].flow_at(COMFORT_HZ, lift_m=setpoint_mpa * METRES_PER_MPA)
        self.pumps[rng.randrange(pumps)].start()

    @property
    def flow_m3h(self) -> float:
        """Flow behind the pumps, as the flow meter sees it."""
        return sum(pump.flow_m3h for pump in self.pumps)

    @property
    def power_kw(self) -> float:
        """Electrical power of the set."""
        return 0.15 + sum(pump.power_kw for pump in self.pumps)

    @property
    def running(self) -> list[Pump]:
        """Pumps that are switched on."""
        return [pump for pump in self.pumps if pump.is_on]

    def step(self, dt: float, time_of_day_s: float) -> None:
        """Advance by ``dt`` seconds, in steps short enough for the network."""
        parts = max(1, math.ceil(dt / LONGEST_STEP_S - 1e-9))
        part_s = dt / parts
        for _ in range(parts):
            self._surroundings(part_s, time_of_day_s)
            self._hydraulics(part_s)
            self._staging(part_s)
            self._protection(part_s)
            self.energy_kwh += self.power_kw * part_s / 3600.0

    def restore(self) -> None:
        """Everything is repaired: drives reset, valves open, mains back."""
        self.leak_m3h = 0.0
        self.is_tank_shut = self.is_mains_cut = False
        for pump in self.pumps:
            pump.reset()

    def _surroundings(self, dt: float, time_of_day_s: float) -> None:
        busy = demand.at(demand.WATER, time_of_day_s)
        noise = 1.0 + self._use_noise.step(dt) + self._tap_noise.step(dt)
        self.use_m3h = max(0.3, self._mean_m3h * busy * noise)
        goal = 0.012 if self.is_mains_cut else 0.325 - 0.018 * busy + self._mains_noise.step(dt)
        self.mains_mpa += (goal - self.mains_mpa) * (1.0 - math.exp(-dt / 8.0))

    @property
    def suction_mpa(self) -> float:
        """Pressure at the pumps' inlet."""
        return self.mains_mpa if self.is_tank_shut else self.tank.head_m / METRES_PER_MPA

    def _hydraulics(self, dt: float) -> None:
        suction_mpa = self.suction_mpa
        is_dry = suction_mpa < 0.02 if self.is_tank_shut else self.tank.level_percent < 2.0
        error = self.setpoint_mpa - self.outlet_mpa
        # PI in velocity form: nothing winds up while the drives are at a limit
        self._output_hz += 60.0 * (error - self._error_mpa) + 22.0 * error * dt
        self._output_hz = min(50.0, max(LOWEST_HZ, self._output_hz))
        self._error_mpa = error
        lift_m = (self.outlet_mpa - suction_mpa) * METRES_PER_MPA
        for pump in self.pumps:
            pump.priming += ((0.0 if is_dry else 1.0) - pump.priming) * (1.0 - math.exp(-dt / 4.0))
            pump.step(dt, self._output_hz, lift_m=lift_m)
        fullness = math.sqrt(max(0.0, self.outlet_mpa) / self.setpoint_mpa)
        net_m3h = self.flow_m3h - (self.use_m3h + self.leak_m3h) * fullness
        self.outlet_mpa = max(0.0, self.outlet_mpa + net_m3h / 3600.0 * dt / self._compliance_m3_per_mpa)
        outflow = 0.0 if self.is_tank_shut else self.flow_m3h
        self.tank.step(dt, mains_mpa=self.mains_mpa, outflow_m3h=outflow)

    def _staging(self, dt: float) -> None:
        if not self.is_automatic:
            return
        running = self.running
        at_limit = self._output_hz >= LIMIT_HZ and self.outlet_mpa < self.setpoint_mpa - 0.008
        # one pump less must do at a comfortable speed; frequency alone says little, the static head needs most of it
        has_spare = len(running) > 1 and self.flow_m3h < 0.85 * self._one_pump_m3h * (len(running) - 1)
        self._at_limit_s = self._at_limit_s + dt if at_limit else 0.0
        self._spare_s = self._spare_s + dt if has_spare else 0.0
        self._lead_s = self._lead_s + dt if len(running) == 1 else 0.0
        if not running or self._at_limit_s >= ADD_AFTER_S:
            self._add()
        elif self._spare_s >= DROP_AFTER_S:
            max(running, key=lambda pump: pump.run_s).stop()
            self._spare_s = 0.0
        elif self._lead_s >= self._alternate_s:
            self._add()
            running[0].stop()
            self._lead_s = 0.0

    def _add(self) -> None:
        idle = [pump for pump in self.pumps if not pump.is_on and not pump.fault]
        if idle:
            min(idle, key=lambda pump: pump.run_s).start()
        self._at_limit_s = 0.0

    def _protection(self, dt: float) -> None:
        dry = [pump for pump in self.running if pump.priming < 0.3]
        self._dry_s = self._dry_s + dt if dry else 0.0
        if self._dry_s >= DRY_TRIP_S:
            for pump in self.pumps:
                pump.trip(UNDERLOAD)

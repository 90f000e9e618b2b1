"""All simulated equipment of a site, advanced together; its values by signal key. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from random import Random

from simulators.demand import DAY_S
from simulators.door import Direction, Door, Happening, Method
from simulators.elevator import Elevator, Shaft
from simulators.fire import FirePanel
from simulators.power import PowerMeter
from simulators.pump import PumpRating
from simulators.sump import Sump
from simulators.supply import Supply
from simulators.tank import Tank
from watchroom.site import Equipment, Site

LONGEST_STEP_S = 0.25
HOMES_PER_UNIT = 71
SETTLE_S = 120.0
"""The booster sets run for so long before the start, so that nobody sees them switch on."""
Values = dict[str, float]


class Compound:
    """The physics of one site.

    Args:
        site: What stands where.
        seed: The same seed gives the same course, step for step.
        time_of_day_s: Seconds since local midnight at the start.

    Attributes:
        time_s: Simulated seconds since the start.
        rain_mm_h: Present rain.
        values: Signal key -> engineering value, renewed by ``step``.
    """

    def __init__(self, site: Site, *, seed: int, time_of_day_s: float) -> None:
        self.time_s = 0.0
        self.rain_mm_h = 0.0
        self.elevators: dict[str, Elevator] = {}
        self.sumps: dict[str, Sump] = {}
        self.tanks: dict[str, Tank] = {}
        self.supplies: dict[str, Supply] = {}
        self.panels: dict[str, FirePanel] = {}
        self.meters: dict[str, PowerMeter] = {}
        self.doors: dict[str, Door] = {}
        self.values: Values = {}
        self._start_s = time_of_day_s
        build: dict[str, Callable[[str, Equipment, Random], None]] = {
            "elevator": self._elevator,
            "sump": self._sump,
            "booster_set": self._supply,
            "fire_panel": self._panel,
            "door": self._door,
        }
        self._homes = site.info.homes or HOMES_PER_UNIT * sum(p.kind == "unit" for p in site.places.values())
        self._tank_specs = {key: item for key, item in site.equipment.items() if item.type == "tank"}
        for key, item in site.equipment.items():
            if item.type in build:
                build[item.type](key, item, Random(f"{seed}/{key}"))
            elif item.type == "meter":
                rated_va = 1000.0 * item.rated.get("transformer_kva", 1000.0)
                self.meters[key] = PowerMeter(Random(f"{seed}/{key}"), homes=self._homes, rated_va=rated_va)
        for key, item in self._tank_specs.items():
            if key not in self.tanks:
                self.tanks[key] = _tank(item)
        for supply in self.supplies.values():
            supply.step(SETTLE_S, time_of_day_s)
        self._publish()

    @property
    def time_of_day_s(self) -> float:
        """Simulated seconds since local midnight."""
        return (self._start_s + self.time_s) % DAY_S

    def step(self, dt: float) -> list[Happening]:
        """Advance by ``dt`` seconds; return what happened at the doors, in order.

        Long steps are cut, so that running faster gives the same physics.
        """
        happened: list[Happening] = []
        parts = max(1, math.ceil(dt / LONGEST_STEP_S - 1e-9))
        for _ in range(parts):
            happened += self._part(dt / parts)
        self._publish()
        return happened

    def _part(self, dt: float) -> list[Happening]:
        self.time_s += dt
        now_s = self.time_of_day_s
        for supply in self.supplies.values():
            supply.step(dt, now_s)
        for sump in self.sumps.values():
            sump.step(dt, rain_mm_h=self.rain_mm_h)
        for elevator in self.elevators.values():
            elevator.step(dt, now_s)
        for panel in self.panels.values():
            panel.step(dt)
        plant_kw = sum(s.power_kw for s in self.supplies.values()) + sum(e.power_kw for e in self.elevators.values())
        for meter in self.meters.values():
            meter.step(dt, now_s, plant_w=1000.0 * plant_kw)
        return [happening for door in self.doors.values() for happening in door.step(dt, now_s)]

    # building
    def _elevator(self, key: str, item: Equipment, rng: Random) -> None:
        stops: Mapping[str, int] = (item.model_extra or {}).get("stops", {})
        shaft = Shaft.between(stops.get("lowest", -1), stops.get("highest", 18))
        self.elevators[key] = Elevator(
            rng, shaft=shaft, speed_mps=item.rated.get("speed_mps", 1.75), trips_per_h=HOMES_PER_UNIT * 0.42
        )

    def _sump(self, key: str, item: Equipment, rng: Random) -> None:
        self.sumps[key] = Sump(rng, depth_m=item.rated.get("depth_m", 2.0), catchment_m2=120.0)

    def _supply(self, key: str, item: Equipment, rng: Random) -> None:
        near = [name for name, tank in self._tank_specs.items() if tank.place == item.place]
        tank = _tank(self._tank_specs[near[0]]) if near else Tank(capacity_m3=60.0, height_m=3.0)
        if near:
            self.tanks[near[0]] = tank
        rating = PumpRating(motor_kw=item.rated.get("motor_kw", 7.5), motor_a=item.rated.get("motor_a", 14.9))
        self.supplies[key] = Supply(
            rng,
            setpoint_mpa=item.rated.get("pressure_mpa", 0.60),
            mean_m3h=self._homes / 2 * 0.52 / 24,
            tank=tank,
            rating=rating,
            pumps=int(item.rated.get("pumps", 3)),
        )

    def _panel(self, key: str, item: Equipment, rng: Random) -> None:
        self.panels[key] = FirePanel(
            rng,
            zones=int((item.model_extra or {}).get("zones", 16)),
            sprinkler_mpa=item.rated.get("sprinkler_mpa", 1.12),
            hydrant_mpa=item.rated.get("hydrant_mpa", 0.86),
        )

    def _door(self, key: str, item: Equipment, rng: Random) -> None:
        readers: Mapping[Direction, list[Method]] = (item.model_extra or {}).get("readers", {"in": ["card"]})
        methods: list[tuple[Method, Direction]] = [(m, way) for way, found in readers.items() for m in found]
        is_gate = item.place.startswith("GATE")
        is_home = "-U" in item.place
        rate = 42.0 if is_gate else 20.0 if is_home else 0.4 if item.place == "PUMPS" else 6.0
        first = rng.randrange(100_000, 800_000)
        self.doors[key] = Door(
            rng,
            name=key,
            methods=methods,
            passages_per_h=rate,
            residents=range(first, first + (1200 if is_gate else 190)),
            unlock_s=item.rated.get("unlock_s", 5.0),
        )

    # values
    def _publish(self) -> None:
        put = self.values
        for key, supply in self.supplies.items():
            _supply_values(put, key, supply)
        for key, tank in self.tanks.items():
            put[f"{key}/level"] = tank.level_percent
            put[f"{key}/overflow"] = float(tank.is_overflowing)
        for key, sump in self.sumps.items():
            put[f"{key}/level"] = sump.level_m
            put[f"{key}/float_high"] = float(sump.is_high)
            put[f"{key}/p1_state"], put[f"{key}/p2_state"] = float(sump.state(0)), float(sump.state(1))
        for key, elevator in self.elevators.items():
            _elevator_values(put, key, elevator)
        for key, panel in self.panels.items():
            _panel_values(put, key, panel)
        for key, meter in self.meters.items():
            _meter_values(put, key, meter)


def _tank(item: Equipment) -> Tank:
    return Tank(capacity_m3=item.rated.get("volume_m3", 60.0), height_m=item.rated.get("height_m", 3.0))


def _supply_values(put: Values, key: str, supply: Supply) -> None:
    put[f"{key}/outlet_pressure"] = supply.outlet_mpa
    put[f"{key}/inlet_pressure"] = supply.mains_mpa
    put[f"{key}/setpoint"] = supply.setpoint_mpa
    put[f"{key}/flow"] = supply.flow_m3h
    put[f"{key}/mode"] = float(supply.is_automatic)
    put[f"{key}/energy"] = supply.energy_kwh
    for number, pump in enumerate(supply.pumps, 1):
        put[f"{key}/p{number}_state"] = float(pump.state)
        put[f"{key}/p{number}_frequency"] = pump.frequency_hz
        put[f"{key}/p{number}_current"] = pump.current_a
        put[f"{key}/p{number}_fault"] = float(pump.fault)


def _elevator_values(put: Values, key: str, elevator: Elevator) -> None:
    put[f"{key}/floor"] = float(elevator.floor)
    put[f"{key}/door"] = float(elevator.door)
    put[f"{key}/direction"] = float(elevator.direction)
    put[f"{key}/moving"] = float(elevator.is_moving)
    put[f"{key}/speed"] = abs(elevator.speed_mps)
    put[f"{key}/service_mode"] = float(elevator.service_mode)
    put[f"{key}/load_percent"] = elevator.load_percent
    put[f"{key}/person_present"] = float(bool(elevator.aboard))
    put[f"{key}/alarm_button"] = float(elevator.is_button_pressed)
    put[f"{key}/trapped"] = float(elevator.is_trapped)
    put[f"{key}/fault_code"] = float(elevator.fault)
    put[f"{key}/door_zone"] = float(elevator.is_in_door_zone)
    put[f"{key}/motor_temperature"] = elevator.motor_c
    put[f"{key}/runs"] = float(elevator.runs)


def _panel_values(put: Values, key: str, panel: FirePanel) -> None:
    put[f"{key}/fire"] = float(panel.is_fire)
    put[f"{key}/supervisory"] = float(panel.is_supervisory)
    put[f"{key}/fault"] = float(panel.is_fault)
    put[f"{key}/disabled"] = float(panel.is_disabled)
    put[f"{key}/mains_fault"] = float(panel.is_mains_lost)
    put[f"{key}/battery_fault"] = float(panel.is_battery_bad)
    for number, bits in enumerate(panel.zones, 1):
        put[f"{key}/zone{number}_state"] = float(bits)
    put[f"{key}/sprinkler_pressure"] = panel.sprinkler.shown_mpa
    put[f"{key}/hydrant_pressure"] = panel.hydrant.shown_mpa


def _meter_values(put: Values, key: str, meter: PowerMeter) -> None:
    for phase, voltage, current in zip("abc", meter.voltage_v, meter.current_a, strict=True):
        put[f"{key}/voltage_{phase}"] = voltage
        put[f"{key}/current_{phase}"] = current
    put[f"{key}/power"] = meter.power_w / 1000.0
    put[f"{key}/frequency"] = meter.frequency_hz
    put[f"{key}/power_factor"] = meter.power_factor
    put[f"{key}/energy"] = meter.energy_kwh
    put[f"{key}/transformer_load"] = 100.0 * meter.apparent_va / meter.rated_va

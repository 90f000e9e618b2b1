"""What a scenario can do to the equipment. Pure.

Each action takes the compound, the equipment's id, an amount and a number (of a zone or pump, from 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from simulators.compound import Compound
from simulators.pump import UNDERLOAD
from watchroom.errors import ConfigError

T = TypeVar("T")
Action = Callable[[Compound, str, float, int], None]

CUT, RESTORE = "cut_gateway", "restore_gateway"
"""These two act on a gateway's devices, not on the physics."""
PULL, PLUG = "pull_uplink", "plug_uplink"
"""These two act on a gateway's way to the centre; its devices answer on."""
BESIDES = (CUT, RESTORE, PULL, PLUG)


def _one(equipment: Mapping[str, T], name: str) -> T:
    if name not in equipment:
        raise ConfigError(f"{name!r} is not simulated here", hint=f"simulated: {', '.join(equipment)}")
    return equipment[name]


def _leak(compound: Compound, on: str, value: float, number: int) -> None:
    """A pipe bursts; value is the flow [m3/h] it would have at the setpoint, 0 when it is shut off."""
    _one(compound.supplies, on).leak_m3h = value


def _mains_cut(compound: Compound, on: str, value: float, number: int) -> None:
    """The city's main fails (1) or is back (0)."""
    _one(compound.supplies, on).is_mains_cut = bool(value)


def _tank_shut(compound: Compound, on: str, value: float, number: int) -> None:
    """The tank is isolated for cleaning (1): the set draws straight from the main."""
    _one(compound.supplies, on).is_tank_shut = bool(value)


def _pump_trip(compound: Compound, on: str, value: float, number: int) -> None:
    """A drive trips; value is its fault code, underload if 0."""
    _one(compound.supplies, on).pumps[number - 1].trip(int(value) or UNDERLOAD)


def _supply_normal(compound: Compound, on: str, value: float, number: int) -> None:
    _one(compound.supplies, on).restore()


def _float_valve_stuck(compound: Compound, on: str, value: float, number: int) -> None:
    _one(compound.tanks, on).is_valve_stuck = bool(value)


def _trap(compound: Compound, on: str, value: float, number: int) -> None:
    _one(compound.elevators, on).trap()


def _rescue(compound: Compound, on: str, value: float, number: int) -> None:
    _one(compound.elevators, on).rescue()


def _fire_return(compound: Compound, on: str, value: float, number: int) -> None:
    _one(compound.elevators, on).return_for_fire()


def _lift_normal(compound: Compound, on: str, value: float, number: int) -> None:
    _one(compound.elevators, on).back_to_normal()


def _zone(compound: Compound, on: str, value: float, number: int) -> None:
    """A zone reports: bits 1 alarm, 2 pre-alarm, 4 fault, 8 isolated."""
    _one(compound.panels, on).set_zone(number, int(value))


def _sprinkler(compound: Compound, on: str, value: float, number: int) -> None:
    _one(compound.panels, on).sprinkler.is_flowing = bool(value)


def _panel_reset(compound: Compound, on: str, value: float, number: int) -> None:
    _one(compound.panels, on).reset()


def _force(compound: Compound, on: str, value: float, number: int) -> None:
    """Somebody levers a door open; value is how long it stays open [s]."""
    _one(compound.doors, on).force(value)


def _release(compound: Compound, on: str, value: float, number: int) -> None:
    """The fire alarm releases a door (1), or it locks again (0)."""
    _one(compound.doors, on).release(bool(value))


def _inflow(compound: Compound, on: str, value: float, number: int) -> None:
    """Water runs into a sump [m3/h]."""
    _one(compound.sumps, on).extra_m3h = value


def _sump_pump_fails(compound: Compound, on: str, value: float, number: int) -> None:
    _one(compound.sumps, on).is_failed[number - 1] = bool(value)


def _rain(compound: Compound, on: str, value: float, number: int) -> None:
    """Rain [mm/h] over the whole compound."""
    compound.rain_mm_h = value


ACTIONS: dict[str, Action] = {
    "leak": _leak,
    "mains_cut": _mains_cut,
    "tank_shut": _tank_shut,
    "pump_trip": _pump_trip,
    "supply_normal": _supply_normal,
    "float_valve_stuck": _float_valve_stuck,
    "trap": _trap,
    "rescue": _rescue,
    "fire_return": _fire_return,
    "lift_normal": _lift_normal,
    "zone": _zone,
    "sprinkler": _sprinkler,
    "panel_reset": _panel_reset,
    "force": _force,
    "release": _release,
    "inflow": _inflow,
    "sump_pump_fails": _sump_pump_fails,
    "rain": _rain,
}

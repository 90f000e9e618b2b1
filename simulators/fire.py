"""A fire alarm panel with zones, its power supplies, and the pressures of sprinkler and hydrant lines. Pure."""

from __future__ import annotations

from random import Random

from simulators import demand

ALARM, PRE_ALARM, FAULT, ISOLATED = 1, 2, 4, 8


class PressurisedLine:
    """A line that leaks a little and that a jockey pump tops up.

    Attributes:
        pressure_mpa: Present pressure.
        is_flowing: A sprinkler is open.
    """

    def __init__(self, rng: Random, *, nominal_mpa: float) -> None:
        self.nominal_mpa = nominal_mpa
        self.pressure_mpa = nominal_mpa * rng.uniform(0.97, 1.0)
        self.is_flowing = False
        self.is_topping_up = False
        self._leak_mpa_s = nominal_mpa * 0.03 / rng.uniform(2400, 4800)
        self._noise = demand.Wander(rng, spread=0.001, memory_s=20.0)

    def step(self, dt: float) -> None:
        """Advance by ``dt`` seconds."""
        if self.pressure_mpa < 0.965 * self.nominal_mpa:
            self.is_topping_up = True
        elif self.pressure_mpa >= self.nominal_mpa:
            self.is_topping_up = False
        rise = self.nominal_mpa * 0.002 if self.is_topping_up else 0.0
        fall = self._leak_mpa_s + (self.nominal_mpa * 0.006 if self.is_flowing else 0.0)
        floor = 0.62 * self.nominal_mpa  # where the fire pump holds it
        self.pressure_mpa = max(floor if self.is_flowing else 0.0, self.pressure_mpa + (rise - fall) * dt)

    @property
    def shown_mpa(self) -> float:
        """What the transmitter sends."""
        return self.pressure_mpa + self._noise.value

    def shake(self, dt: float) -> None:
        """Let the transmitter's noise move on."""
        self._noise.step(dt)


class FirePanel:
    """A panel that reports by zones; nothing here can be written from outside.

    Attributes:
        zones: State bits of each zone, zone 1 first: 1 alarm, 2 pre-alarm, 4 fault, 8 isolated.
    """

    def __init__(self, rng: Random, *, zones: int, sprinkler_mpa: float, hydrant_mpa: float) -> None:
        self.zones = [0] * zones
        self.is_supervisory = False
        self.is_mains_lost = False
        self.is_battery_bad = False
        self.sprinkler = PressurisedLine(rng, nominal_mpa=sprinkler_mpa)
        self.hydrant = PressurisedLine(rng, nominal_mpa=hydrant_mpa)

    def set_zone(self, zone: int, bits: int) -> None:
        """Set the state of a zone, counted from 1. An isolated zone reports nothing else."""
        self.zones[zone - 1] = bits

    @property
    def is_fire(self) -> bool:
        """Whether a zone that is not isolated is in alarm."""
        return any(bits & ALARM and not bits & ISOLATED for bits in self.zones)

    @property
    def is_fault(self) -> bool:
        """Whether a zone or a power supply is at fault."""
        return self.is_mains_lost or self.is_battery_bad or any(bits & FAULT for bits in self.zones)

    @property
    def is_disabled(self) -> bool:
        """Whether anything is isolated."""
        return any(bits & ISOLATED for bits in self.zones)

    def reset(self) -> None:
        """Reset the panel: alarms go, isolations stay."""
        self.zones = [bits & ISOLATED for bits in self.zones]
        self.is_supervisory = False
        self.sprinkler.is_flowing = False

    def step(self, dt: float) -> None:
        """Advance by ``dt`` seconds."""
        for line in (self.sprinkler, self.hydrant):
            line.step(dt)
            line.shake(dt)

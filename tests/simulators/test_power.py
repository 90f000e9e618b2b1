"""The meter of the substation."""

from __future__ import annotations

from random import Random

import pytest

from simulators.power import PowerMeter

NIGHT_S, EVENING_S = 3 * 3600.0, 20 * 3600.0


def meter(at_s: float, *, plant_w: float = 20_000.0, seconds: int = 600) -> PowerMeter:
    one = PowerMeter(Random(1), homes=1142, rated_va=2_500_000.0)
    for _ in range(seconds):
        one.step(1.0, at_s, plant_w=plant_w)
    return one


def test_evening_needs_more_than_night() -> None:
    """The transformer carries some 40 % in the evening and well under 25 % at night."""
    night, evening = meter(NIGHT_S), meter(EVENING_S)
    assert 0.08 < night.apparent_va / night.rated_va < 0.25
    assert 0.30 < evening.apparent_va / evening.rated_va < 0.55


@pytest.mark.parametrize("at_s", [NIGHT_S, EVENING_S])
def test_quantities_agree(at_s: float) -> None:
    """Voltage times current of the phases is the apparent power; active is apparent times the power factor."""
    one = meter(at_s)
    volt_ampere = sum(v * a for v, a in zip(one.voltage_v, one.current_a, strict=True))
    assert volt_ampere == pytest.approx(one.apparent_va, rel=0.05)
    assert one.power_w == pytest.approx(one.apparent_va * one.power_factor)
    assert 0.9 < one.power_factor < 1.0
    assert all(218 < volt < 240 for volt in one.voltage_v)
    mean = sum(one.current_a) / 3
    assert all(abs(current - mean) < 0.15 * mean for current in one.current_a)
    assert 49.9 < one.frequency_hz < 50.1


def test_plant_is_metered() -> None:
    """Pumps and lifts stand on the bill: what they draw appears at the meter."""
    with_plant, without = meter(NIGHT_S, plant_w=80_000.0), meter(NIGHT_S, plant_w=0.0)
    assert with_plant.power_w - without.power_w == pytest.approx(80_000.0)


def test_energy_is_the_integral_of_power() -> None:
    """The counter adds up what flows."""
    one = PowerMeter(Random(1), homes=1142, rated_va=2_500_000.0)
    before, joules = one.energy_kwh, 0.0
    for _ in range(3600):
        one.step(1.0, EVENING_S, plant_w=20_000.0)
        joules += one.power_w
    assert one.energy_kwh - before == pytest.approx(joules / 3.6e6)


def test_voltage_sags_with_load() -> None:
    """More current, less voltage."""
    assert sum(meter(EVENING_S).voltage_v) < sum(meter(NIGHT_S).voltage_v)

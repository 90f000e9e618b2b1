"""Booster set, tank, mains and network together."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.pump import RUNNING, UNDERLOAD
from simulators.supply import Supply
from simulators.tank import Tank

NIGHT_S, MORNING_S, NOON_S, EVENING_S = 3 * 3600.0, 7.2 * 3600.0, 12 * 3600.0, 19 * 3600.0


def booster(seed: int = 1, *, alternate_s: float = 8 * 3600.0) -> Supply:
    tank = Tank(capacity_m3=80.0, height_m=3.0)
    return Supply(Random(seed), setpoint_mpa=0.60, mean_m3h=12.4, tank=tank, alternate_s=alternate_s)


def run(supply: Supply, seconds: float, at_s: float = NOON_S, dt: float = 0.2) -> list[float]:
    """Run and return the pressure after each step."""
    pressures = []
    for _ in range(round(seconds / dt)):
        supply.step(dt, at_s)
        pressures.append(supply.outlet_mpa)
    return pressures


@pytest.mark.parametrize("at_s", [NIGHT_S, MORNING_S, NOON_S, EVENING_S])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pressure_settles_within_tolerance(at_s: float, seed: int) -> None:
    """After a few minutes the set holds its pressure within 0.02 MPa, night and rush hour."""
    supply = booster(seed)
    run(supply, 180, at_s)
    pressures = run(supply, 600, at_s)
    assert min(pressures) > 0.58
    assert max(pressures) < 0.62
    assert abs(sum(pressures) / len(pressures) - 0.60) < 0.004


def test_more_pumps_in_the_rush_hour() -> None:
    """One pump does at night; the morning needs two."""
    night, morning = booster(), booster()
    run(night, 300, NIGHT_S)
    run(morning, 300, MORNING_S)
    assert len(night.running) == 1
    assert len(morning.running) == 2


def test_pumps_take_turns() -> None:
    """Running time spreads over all pumps, the least used one leads next, and nobody sees it in the pressure."""
    supply = booster(alternate_s=600.0)
    run(supply, 60, NIGHT_S)
    pressures = run(supply, 3 * 1200, NIGHT_S)
    assert all(900 < pump.run_s < 1500 for pump in supply.pumps)
    assert all(pump.starts <= 3 for pump in supply.pumps)
    assert min(pressures) > 0.57


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([NIGHT_S, MORNING_S, EVENING_S]))
def test_tank_balance(seed: int, at_s: float) -> None:
    """What came in, less what went out and over, is what the tank gained: no water is lost."""
    supply = booster(seed)
    dt, gained, before = 0.1, 0.0, supply.tank.volume_m3
    for _ in range(3000):
        supply.step(dt, at_s)
        tank = supply.tank
        gained += (tank.inflow_m3h - tank.overflow_m3h - supply.flow_m3h) / 3600 * dt
    assert supply.tank.volume_m3 - before == pytest.approx(gained, abs=1e-6)


def test_network_balance() -> None:
    """In the steady state the pumps give what people take."""
    supply = booster()
    run(supply, 300)
    given_m3 = taken_m3 = 0.0
    for _ in range(6000):
        supply.step(0.1, NOON_S)
        given_m3 += supply.flow_m3h / 3600 * 0.1
        taken_m3 += supply.use_m3h * (supply.outlet_mpa / 0.60) ** 0.5 / 3600 * 0.1
    assert given_m3 == pytest.approx(taken_m3, rel=0.01)


@pytest.mark.parametrize("at_s", [NIGHT_S, MORNING_S])
def test_burst_pipe_drops_the_pressure(at_s: float) -> None:
    """A burst main: within ten seconds the pressure is far below its limits, the flow far above; all pumps run."""
    supply = booster()
    run(supply, 120, at_s)
    supply.leak_m3h = 150.0
    assert min(run(supply, 10, at_s)) < 0.40
    run(supply, 60, at_s)
    assert supply.outlet_mpa < 0.45
    assert supply.flow_m3h > 100
    assert [pump.state for pump in supply.pumps] == [RUNNING] * 3
    supply.leak_m3h = 0.0
    run(supply, 60, at_s)
    assert supply.outlet_mpa == pytest.approx(0.60, abs=0.02)


def test_dry_run_trips_the_drives() -> None:
    """No water in the main while the tank is shut: flow ends, current falls, then the drives trip on underload."""
    supply = booster()
    run(supply, 60)
    wet_a = max(pump.current_a for pump in supply.pumps)
    supply.is_tank_shut = supply.is_mains_cut = True
    run(supply, 60)
    assert supply.mains_mpa < 0.03
    assert supply.flow_m3h == 0.0
    assert all(pump.current_a < 0.6 * wet_a for pump in supply.running)
    assert supply.running
    run(supply, 90)
    assert [pump.fault for pump in supply.pumps] == [UNDERLOAD] * 3
    assert supply.power_kw < 0.2
    supply.restore()
    run(supply, 180)
    assert supply.outlet_mpa == pytest.approx(0.60, abs=0.02)


def test_standby_takes_over() -> None:
    """When the running pump trips, another starts by itself and the pressure comes back."""
    supply = booster()
    run(supply, 300, NIGHT_S)
    lead = supply.running[0]
    lead.trip(0x7112)
    run(supply, 60, NIGHT_S)
    assert supply.running
    assert lead not in supply.running
    assert supply.outlet_mpa == pytest.approx(0.60, abs=0.02)


def test_energy_only_grows() -> None:
    """The counter counts what the set draws."""
    supply = booster()
    before, drawn = supply.energy_kwh, 0.0
    for _ in range(1000):
        supply.step(0.1, NOON_S)
        drawn += supply.power_kw * 0.1 / 3600
    assert supply.energy_kwh - before == pytest.approx(drawn, rel=0.02)
    assert drawn > 0.05

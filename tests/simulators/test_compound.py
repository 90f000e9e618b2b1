"""All equipment together."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.compound import Compound
from tests.simulators.places import spruce_court

SITE = spruce_court()


def test_same_seed_same_day() -> None:
    """The same seed gives the same course, another seed another one."""
    first, second, other = (Compound(SITE, seed=seed, time_of_day_s=28_800.0) for seed in (5, 5, 6))
    for _ in range(300):
        assert first.step(0.2) == second.step(0.2)
        other.step(0.2)
    assert first.values == second.values
    assert first.values != other.values


def test_running_faster_gives_the_same_physics() -> None:
    """Ten times the speed is ten times as many steps of the same length, not longer ones."""
    slow, fast = (Compound(SITE, seed=5, time_of_day_s=28_800.0) for _ in range(2))
    for _ in range(200):
        slow.step(0.25)
    for _ in range(10):
        fast.step(5.0)
    assert fast.time_s == pytest.approx(slow.time_s)
    assert fast.values == slow.values


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 86_400))
def test_a_normal_hour_raises_nothing(seed: int, time_of_day_s: float) -> None:
    """Without a scenario every value stays where no alarm limit is: a demo that cries wolf is no demo."""
    compound = Compound(SITE, seed=seed, time_of_day_s=time_of_day_s)
    for _ in range(600):
        compound.step(1.0)
        values = compound.values
        assert all(math.isfinite(value) for value in values.values())
        assert 0.56 < values["WP-01/outlet_pressure"] < 0.64
        assert 0.2 < values["WP-01/inlet_pressure"] < 0.4
        assert values["WP-01/flow"] < 50
        assert 30 < values["TK-01/level"] < 92
        for sump in ("SP-01", "SP-02", "SP-03", "SP-04"):
            assert values[f"{sump}/level"] < 1.4
            assert values[f"{sump}/float_high"] == 0.0
        for pump in (1, 2, 3):
            assert values[f"WP-01/p{pump}_fault"] == 0.0
            assert values[f"WP-01/p{pump}_current"] < 1.1 * 14.9
            is_fast = values[f"WP-01/p{pump}_frequency"] > 40.5
            assert not is_fast or values[f"WP-01/p{pump}_current"] > 0.33 * 14.9
        for elevator in compound.elevators:
            assert values[f"{elevator}/fault_code"] == 0.0
            assert values[f"{elevator}/motor_temperature"] < 75
        assert values["FP-01/fire"] == 0.0
        assert 207 < values["PM-01/voltage_a"] < 253
        assert values["PM-01/transformer_load"] < 80


def test_plant_is_on_the_meter() -> None:
    """A pump set that runs at full speed shows at the substation."""
    quiet, busy = (Compound(SITE, seed=1, time_of_day_s=3 * 3600.0) for _ in range(2))
    busy.supplies["WP-01"].leak_m3h = 150.0
    for _ in range(300):
        quiet.step(0.2)
        busy.step(0.2)
    assert busy.values["PM-01/power"] - quiet.values["PM-01/power"] > 10.0


def test_the_tank_belongs_to_its_pumps() -> None:
    """The tank beside the booster set is the one it draws from."""
    compound = Compound(SITE, seed=1, time_of_day_s=0.0)
    assert compound.supplies["WP-01"].tank is compound.tanks["TK-01"]


def test_rain_reaches_the_sumps() -> None:
    """A cloudburst raises every sump."""
    dry, wet = (Compound(SITE, seed=1, time_of_day_s=0.0) for _ in range(2))
    wet.rain_mm_h = 80.0
    for _ in range(120):
        dry.step(1.0)
        wet.step(1.0)
    for sump in dry.sumps:
        assert wet.sumps[sump].came_m3 > dry.sumps[sump].came_m3 + 0.2


def test_time_of_day_goes_round() -> None:
    """After midnight comes morning."""
    compound = Compound(SITE, seed=1, time_of_day_s=86_390.0)
    compound.step(20.0)
    assert compound.time_of_day_s == pytest.approx(10.0)

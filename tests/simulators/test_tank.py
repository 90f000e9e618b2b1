"""The water tank."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.tank import Tank


@settings(deadline=None)
@given(st.floats(0, 100), st.floats(0, 0.5), st.floats(0, 200), st.floats(0.1, 60))
def test_water_is_neither_made_nor_lost(level: float, mains_mpa: float, outflow_m3h: float, dt: float) -> None:
    """Inflow less outflow less overflow is the change, except that an empty tank gives nothing."""
    tank = Tank(capacity_m3=80.0, height_m=3.0, level_percent=level)
    before = tank.volume_m3
    tank.step(dt, mains_mpa=mains_mpa, outflow_m3h=outflow_m3h)
    change = (tank.inflow_m3h - outflow_m3h - tank.overflow_m3h) / 3600 * dt
    assert 0.0 <= tank.volume_m3 <= tank.capacity_m3
    assert abs(tank.volume_m3 - max(0.0, before + change)) < 1e-9


def test_float_valve_holds_the_level() -> None:
    """With usual use the level stays between 70 and 85 %."""
    tank = Tank(capacity_m3=80.0, height_m=3.0, level_percent=40.0)
    for _ in range(24 * 360):
        tank.step(10.0, mains_mpa=0.3, outflow_m3h=12.0)
    assert 70 < tank.level_percent < 85
    assert not tank.is_overflowing


def test_stuck_valve_overflows() -> None:
    """A float valve that does not close fills the tank until the overflow switch is made and water runs off."""
    tank = Tank(capacity_m3=80.0, height_m=3.0)
    tank.is_valve_stuck = True
    for _ in range(6 * 360):
        tank.step(10.0, mains_mpa=0.3, outflow_m3h=5.0)
    assert tank.is_overflowing
    assert tank.level_percent == 100.0
    assert tank.overflow_m3h > 0


def test_no_mains_no_inflow() -> None:
    """Without pressure in the main the tank only empties."""
    tank = Tank(capacity_m3=80.0, height_m=3.0)
    tank.step(3600.0, mains_mpa=0.0, outflow_m3h=10.0)
    assert tank.inflow_m3h == 0.0
    assert tank.head_m < 2.3

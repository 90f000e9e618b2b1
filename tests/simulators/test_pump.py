"""One pump on its drive."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.pump import FAULT, RUNNING, STOPPED, UNDERLOAD, Pump, PumpRating


def at_speed(frequency_hz: float, *, lift_m: float, priming: float = 1.0) -> Pump:
    """A pump that has run at one frequency long enough."""
    pump = Pump(PumpRating())
    pump.start()
    pump.priming = priming
    for _ in range(100):
        pump.step(0.1, frequency_hz, lift_m=lift_m)
    return pump


def test_affinity_laws() -> None:
    """Half the speed gives half the flow against a quarter of the head."""
    pump = Pump(PumpRating())
    full = pump.flow_at(50.0, lift_m=60.0)
    half = pump.flow_at(25.0, lift_m=15.0)
    assert half == pytest.approx(full / 2, rel=0.02)


def test_rated_point_is_plausible() -> None:
    """At full speed and 65 m the pump gives about 25 m3/h and loads its motor well."""
    pump = at_speed(50.0, lift_m=65.0)
    assert 20 < pump.flow_m3h < 28
    assert 0.75 < pump.current_a / pump.rating.motor_a < 1.05
    hydraulic_kw = 1000 * 9.81 * pump.flow_m3h / 3600 * 65.0 / 1000
    assert 0.55 < hydraulic_kw / pump.power_kw < 0.75


@settings(deadline=None)
@given(st.floats(20, 50), st.floats(0, 90))
def test_flow_never_runs_backwards(frequency_hz: float, lift_m: float) -> None:
    """The check valve holds: whatever the head, no water flows back through a pump."""
    assert at_speed(frequency_hz, lift_m=lift_m).flow_m3h >= 0.0


@settings(deadline=None)
@given(st.floats(20, 50), st.floats(0, 80), st.floats(0.5, 20))
def test_more_head_means_less_flow(frequency_hz: float, lift_m: float, more_m: float) -> None:
    """The pump curve falls everywhere."""
    pump = Pump(PumpRating())
    assert pump.flow_at(frequency_hz, lift_m=lift_m + more_m) <= pump.flow_at(frequency_hz, lift_m=lift_m)


def test_dry_run_lowers_current_and_flow() -> None:
    """A pump full of air gives no water and draws less than any pump with water in it."""
    wet = at_speed(45.0, lift_m=50.0)
    shut = at_speed(45.0, lift_m=90.0)
    dry = at_speed(45.0, lift_m=50.0, priming=0.0)
    assert dry.flow_m3h == 0.0
    assert shut.flow_m3h == 0.0
    assert dry.current_a < 0.3 * dry.rating.motor_a < shut.current_a < wet.current_a


def test_run_out_overloads_only_a_little() -> None:
    """Against little head the power curve levels off: the motor is warm, not burnt."""
    pump = at_speed(50.0, lift_m=25.0)
    assert 1.0 < pump.current_a / pump.rating.motor_a < 1.2


def test_drive_ramps() -> None:
    """A drive does not jump: from standstill to 50 Hz takes some six seconds."""
    pump = Pump(PumpRating())
    pump.start()
    seconds = 0.0
    while pump.frequency_hz < 50.0:
        pump.step(0.1, 50.0, lift_m=60.0)
        seconds += 0.1
    assert 5.5 < seconds < 7.0


def test_states_of_a_drive() -> None:
    """Stopped, running, tripped; a tripped drive starts only after a reset."""
    pump = Pump(PumpRating())
    assert pump.state == STOPPED
    pump.start()
    assert pump.state == RUNNING
    pump.trip(UNDERLOAD)
    assert (pump.state, pump.fault) == (FAULT, UNDERLOAD)
    pump.start()
    pump.step(1.0, 50.0, lift_m=10.0)
    assert (pump.state, pump.current_a) == (FAULT, 0.0)
    pump.reset()
    pump.start()
    assert (pump.state, pump.starts) == (RUNNING, 2)

"""How a lift car travels."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.motion import Limits, Travel

LIMITS = st.builds(Limits, speed=st.floats(0.5, 4.0), acceleration=st.floats(0.4, 1.5), jerk=st.floats(0.4, 2.0))
DISTANCES = st.one_of(st.floats(0.05, 100), st.floats(-100, -0.05))


@settings(deadline=None)
@given(DISTANCES, LIMITS)
def test_arrives_exactly_and_stands(distance: float, limits: Limits) -> None:
    """Every trip ends at its floor with speed 0."""
    travel = Travel(distance, limits)
    gone, speed = travel.at(travel.duration)
    assert gone == pytest.approx(distance)
    assert speed == 0.0
    almost, slow = travel.at(travel.duration - 1e-6)
    assert almost == pytest.approx(distance, abs=1e-4)
    assert abs(slow) < 1e-2


@settings(deadline=None)
@given(DISTANCES, LIMITS)
def test_limits_hold(distance: float, limits: Limits) -> None:
    """Speed, acceleration and jerk stay within their limits, and the car never turns round on the way."""
    travel = Travel(distance, limits)
    steps = 400
    dt = travel.duration / steps
    places = [travel.at(i * dt) for i in range(steps + 1)]
    speeds = [abs(speed) for _, speed in places]
    assert max(speeds) <= limits.speed * (1 + 1e-9)
    rates = [(b - a) / dt for a, b in itertools.pairwise(speeds)]
    assert max(map(abs, rates)) <= limits.acceleration * 1.001 + 1e-6
    jerks = [(b - a) / dt for a, b in itertools.pairwise(rates)]
    assert max(map(abs, jerks)) <= limits.jerk * 1.01 + 1e-3
    way = [abs(gone) for gone, _ in places]
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(way))


def test_known_trip() -> None:
    """Thirty metres at 1.75 m/s, 0.8 m/s2, 1 m/s3 take distance / v + v / a + a / j seconds."""
    travel = Travel(30.0, Limits(speed=1.75, acceleration=0.8, jerk=1.0))
    assert travel.duration == pytest.approx(30.0 / 1.75 + 1.75 / 0.8 + 0.8 / 1.0)
    assert travel.top_speed == pytest.approx(1.75)


def test_one_floor_does_not_reach_full_speed() -> None:
    """Between neighbouring floors the car turns to braking before it is at rated speed."""
    travel = Travel(3.0, Limits(speed=2.0))
    assert 0.8 < travel.top_speed < 2.0

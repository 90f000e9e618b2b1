"""How much a compound uses over the day."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators import demand

SHAPES = [demand.WATER, demand.POWER, demand.TRIPS]


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_shares_of_the_mean(shape: demand.Shape) -> None:
    """A shape has 24 hours, is never negative and has a mean of about 1."""
    assert len(shape) == 24
    assert min(shape) > 0
    assert sum(shape) / 24 == pytest.approx(1.0, abs=0.06)


@settings(deadline=None)
@given(st.floats(0, 10 * demand.DAY_S), st.sampled_from(SHAPES))
def test_shapes_are_continuous(time_s: float, shape: demand.Shape) -> None:
    """Nothing jumps at a full hour or at midnight."""
    assert demand.at(shape, time_s) == pytest.approx(demand.at(shape, time_s + 1.0), abs=0.002)


def test_mornings_lead_out_and_evenings_in() -> None:
    """People leave in the morning and come home in the evening."""
    assert demand.at(demand.LEAVING, 7.5 * 3600) > 0.7
    assert demand.at(demand.LEAVING, 18 * 3600) < 0.35


def test_arrivals_have_their_rate() -> None:
    """Over many hours as many arrive as the rate says, and the spread is Poisson's."""
    rng = Random(5)
    counts = [sum(demand.arrivals(rng, 60.0, 1.0) for _ in range(3600)) for _ in range(60)]
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / len(counts)
    assert mean == pytest.approx(60, rel=0.06)
    assert variance == pytest.approx(60, rel=0.6)


def test_wander_keeps_its_spread_at_any_step() -> None:
    """A drifting number has the same spread in small and in large steps."""
    for dt in (0.2, 5.0, 100.0):
        wander = demand.Wander(Random(3), spread=2.0, memory_s=20.0)
        values = [wander.step(dt) for _ in range(20_000)]
        spread = (sum(value**2 for value in values) / len(values)) ** 0.5
        assert spread == pytest.approx(2.0, rel=0.25)

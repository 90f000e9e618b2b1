"""Sumps and their pumps."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.sump import START_M, STOP_M, Sump


def run(sump: Sump, seconds: float, *, rain_mm_h: float = 0.0, dt: float = 1.0) -> list[float]:
    """Run and return the level after each step."""
    levels = []
    for _ in range(round(seconds / dt)):
        sump.step(dt, rain_mm_h=rain_mm_h)
        levels.append(sump.level_m)
    return levels


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 9999), st.floats(0, 120), st.floats(0, 80))
def test_no_water_is_lost(seed: int, rain_mm_h: float, extra_m3h: float) -> None:
    """What came in is in the pit, was pumped out, or ran over the floor."""
    sump = Sump(Random(seed), catchment_m2=400.0)
    sump.extra_m3h = extra_m3h
    before = sump.level_m
    run(sump, 900, rain_mm_h=rain_mm_h)
    gained = (sump.level_m - before) * sump.area_m2
    assert gained == pytest.approx(sump.came_m3 - sump.pumped_m3 - sump.spilled_m3, abs=1e-6)
    assert 0.0 <= sump.level_m <= sump.depth_m


def test_cycles_between_start_and_stop() -> None:
    """Seepage fills the pit for hours, then one pump empties it in minutes; the pumps take turns."""
    sump = Sump(Random(1), seepage_m3h=1.0)
    started: list[int] = []
    was = [False, False]
    for _ in range(24 * 3600):
        sump.step(1.0, rain_mm_h=0.0)
        started += [i for i in (0, 1) if sump.is_on[i] and not was[i]]
        was = list(sump.is_on)
        assert sump.level_m < START_M + 0.02
        assert sump.level_m > STOP_M - 0.02 or sump.level_m > 0.3
    assert len(started) >= 6
    assert all(a != b for a, b in itertools.pairwise(started))


def test_heavy_rain_needs_both_pumps() -> None:
    """A cloudburst brings the second pump in; the float stays down."""
    sump = Sump(Random(1), catchment_m2=400.0)
    run(sump, 1200, rain_mm_h=60.0)
    levels = run(sump, 600, rain_mm_h=60.0)
    assert max(levels) < 1.6
    sump.extra_m3h = 60.0
    run(sump, 900, rain_mm_h=60.0)
    assert sump.is_on == [True, True]
    assert sump.is_high


def test_failed_pumps_flood_the_pit() -> None:
    """With both pumps at fault the high float comes up, and the states say fault."""
    sump = Sump(Random(1), seepage_m3h=6.0)
    sump.is_failed = [True, True]
    run(sump, 3600)
    assert sump.is_high
    assert (sump.state(0), sump.state(1)) == (2, 2)


def test_other_pump_takes_over() -> None:
    """One pump at fault: the other does its work."""
    sump = Sump(Random(1), seepage_m3h=2.0)
    sump.is_failed = [True, False]
    levels = run(sump, 6 * 3600)
    assert max(levels) < START_M + 0.05
    assert sump.pumped_m3 > 5

"""The fire alarm panel."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.fire import ALARM, FAULT, ISOLATED, PRE_ALARM, FirePanel


def panel() -> FirePanel:
    return FirePanel(Random(1), zones=16, sprinkler_mpa=1.12, hydrant_mpa=0.86)


@settings(deadline=None)
@given(st.lists(st.integers(0, 15), min_size=16, max_size=16))
def test_summary_follows_the_zones(zones: list[int]) -> None:
    """Fire: a zone in alarm that is not isolated. Fault and disabled: any zone says so."""
    one = panel()
    for number, bits in enumerate(zones, 1):
        one.set_zone(number, bits)
    assert one.is_fire == any(bits & ALARM and not bits & ISOLATED for bits in zones)
    assert one.is_fault == any(bits & FAULT for bits in zones)
    assert one.is_disabled == any(bits & ISOLATED for bits in zones)


def test_a_pre_alarm_is_no_fire() -> None:
    """A detector near its alarm value does not raise the fire bit."""
    one = panel()
    one.set_zone(3, PRE_ALARM)
    assert not one.is_fire


def test_reset_keeps_isolations() -> None:
    """A reset ends alarms and faults; what people isolated stays isolated."""
    one = panel()
    one.set_zone(3, ALARM)
    one.set_zone(4, ISOLATED | FAULT)
    one.sprinkler.is_flowing = True
    one.reset()
    assert one.zones[2:4] == [0, ISOLATED]
    assert not one.is_fire
    assert not one.sprinkler.is_flowing


def test_jockey_pump_holds_the_pressure() -> None:
    """Over a day the lines stay within four percent of their pressure; the jockey pump works now and then."""
    one = panel()
    ran = 0
    for _ in range(86_400):
        one.step(1.0)
        ran += one.sprinkler.is_topping_up
        assert 0.95 * 1.12 < one.sprinkler.shown_mpa < 1.03 * 1.12
        assert 0.95 * 0.86 < one.hydrant.shown_mpa < 1.03 * 0.86
    assert 0 < ran < 3600


def test_open_sprinkler_drops_to_the_fire_pump() -> None:
    """An open sprinkler takes the pressure down to what the fire pump holds; afterwards it comes back."""
    one = panel()
    one.sprinkler.is_flowing = True
    for _ in range(300):
        one.step(1.0)
    assert 0.6 * 1.12 < one.sprinkler.pressure_mpa < 0.65 * 1.12
    one.reset()
    for _ in range(300):
        one.step(1.0)
    assert one.sprinkler.pressure_mpa > 0.95 * 1.12


def test_power_supplies_are_faults() -> None:
    """Lost mains or a bad battery is a fault of the panel."""
    one = panel()
    one.is_mains_lost = True
    assert one.is_fault
    one.is_mains_lost, one.is_battery_bad = False, True
    assert one.is_fault

"""A fire panel's memory: what was told stands until the panel says that it is over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fireobjects import parse_part
from gateway.firewords import STATES_ZH, states_text
from gateway.panel import Panel, Zones, panel_specs
from gateway.panelcheck import compile_zones
from watchroom.errors import ConfigError
from watchroom.signals import Lane
from watchroom.yamlfile import parse_yaml

MAIN = "1.0"
SMOKE, SECOND, OTHER = parse_part("1-12"), parse_part("1-13"), parse_part("2-1")


def panel() -> Panel:
    return Panel(Zones(2))


def shown(item: Panel) -> dict[str, float]:
    """Signals that are not 0."""
    return {name: value for name, value in item.values().items() if value}


def test_a_detector_in_fire_lights_its_zone_and_the_panel() -> None:
    """One smoke detector: the summary and its zone show it, the other zone does not."""
    item = panel()
    item.part(MAIN, SMOKE, states=["fire"])
    assert shown(item) == {"fire": 1, "zone1_state": 1}


def test_one_of_two_detectors_going_normal_ends_nothing() -> None:
    """The fire lasts while any detector is in fire."""
    item = panel()
    item.part(MAIN, SMOKE, states=["fire"])
    item.part(MAIN, SECOND, states=["fire"])
    item.part(MAIN, SMOKE, states=[])
    assert shown(item) == {"fire": 1, "zone1_state": 1}
    item.part(MAIN, SECOND, states=[])
    assert shown(item) == {}


def test_an_isolated_part_is_not_normal() -> None:
    """屏蔽 is shown as disabled and isolated, and outlives a reset."""
    item = panel()
    item.part(MAIN, OTHER, states=["disabled"])
    item.part(MAIN, SMOKE, states=["fire", "started"])
    item.reset()
    assert shown(item) == {"disabled": 1, "zone2_state": 8}


def test_a_panel_that_never_tells_fire_as_a_whole_ends_no_detectors_fire() -> None:
    """A transmitter that reports 'system normal' every minute does not clear what a detector told."""
    item = panel()
    item.part(MAIN, SMOKE, states=["fire"])
    item.system(MAIN, [])
    assert shown(item)["fire"] == 1


def test_a_panel_that_told_fire_and_takes_it_back_ends_its_detectors_too() -> None:
    """Fire of the whole system, then system normal: over, for its own parts only."""
    item = panel()
    item.system(MAIN, ["fire"])
    item.part(MAIN, SMOKE, states=["fire"])
    item.part("12.0", OTHER, states=["fire"])
    item.system(MAIN, [])
    assert shown(item) == {"fire": 1, "zone2_state": 1}


def test_supply_faults_are_told_apart() -> None:
    """Mains and battery have signals of their own; a bus fault or a cut line counts as fault."""
    item = panel()
    item.system(MAIN, ["mains_fault", "bus_fault"])
    item.system("transmitter", ["battery_fault"])
    assert shown(item) == {"fault": 1, "mains_fault": 1, "battery_fault": 1}
    item.system(MAIN, [])
    assert shown(item) == {"battery_fault": 1}


states = st.lists(st.sampled_from(sorted(STATES_ZH)), max_size=3)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("part"), st.sampled_from([SMOKE, SECOND, OTHER]), states),
        st.tuples(st.just("system"), st.sampled_from(["1.0", "12.0"]), states),
        st.tuples(st.just("change"), st.sampled_from([SMOKE, OTHER]), states),
        st.tuples(st.just("reset"), st.just(0), st.just([])),
    ),
    max_size=20,
)


@given(steps)
def test_memory_survives_a_restart(story: list[tuple[str, object, list[str]]]) -> None:
    """After any story a new gateway with the old one's file shows the same, and a reset leaves no fire."""
    item = panel()
    for what, which, told in story:
        match what:
            case "part":
                item.part(MAIN, int(str(which)), states=told)
            case "change":
                item.change(MAIN, int(str(which)), begins=told[:1], ends=told[1:])
            case "system":
                item.system(str(which), told)
            case _:
                item.reset()
    again = panel()
    again.restore(json.loads(json.dumps(item.to_json())))
    assert again.values() == item.values()
    assert again.is_known == item.is_known
    again.reset()
    assert again.values()["fire"] == 0


@pytest.mark.parametrize("memory", [{}, {"parts": 3}, {"parts": {"x": ["fire"]}, "systems": {"1.0": "fire"}}])
def test_a_strange_file_of_the_memory_is_no_fire(memory: dict[str, object]) -> None:
    """What cannot be understood is left out."""
    item = panel()
    item.restore(memory)
    assert shown(item) == {}


def test_every_value_of_a_zone_has_a_text() -> None:
    """Whatever bits a zone shows, the screen has words in both languages; all of it travels on the urgent lane."""
    specs = {spec.key: spec for spec in panel_specs("FP-01", prefix="", zones=2)}
    assert {spec.lane for spec in specs.values()} == {Lane.URGENT}
    zone = specs["FP-01/zone2_state"]
    assert set(zone.texts) == {str(value) for value in range(16)}
    assert zone.texts["9"] == {"zh": "火警、屏蔽", "en": "fire, isolated"}
    assert states_text(()) == "正常"


ZONES = 'zones: {1: ["1-1..1-64", "2-5"], 3: ["2-6..2-9"]}'


def zones(text: str) -> Zones:
    file = parse_yaml(text, Path("gate.yaml"))
    return compile_zones(file, ("zones",), file.data["zones"])


def test_parts_belong_to_the_zones_the_file_says() -> None:
    """Ranges of parts and single parts; a part in none has no zone."""
    found = zones(ZONES)
    assert found.count == 3
    wanted = {"1-1": 1, "1-64": 1, "1-65": 0, "2-5": 1, "2-6": 3, "9-1": 0}
    assert {part: found.of(parse_part(part)) for part in wanted} == wanted


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("zones: -1", "zones"),
        ("zones: {0: [1-1]}", "numbered from 1"),
        ("zones: {1: [x]}", "not a part"),
        ("zones: {1: [1-9..1-2]}", "the lower part comes first"),
        ("zones: {1: [1-1..1-9], 2: [1-9]}", "overlaps with zone 1"),
    ],
)
def test_wrong_zones_are_named(text: str, problem: str) -> None:
    """A mistake in the zones is told with file, line and key."""
    with pytest.raises(ConfigError, match=problem) as caught:
        zones(text)
    assert caught.value.line == 1
    assert caught.value.key.startswith("zones")

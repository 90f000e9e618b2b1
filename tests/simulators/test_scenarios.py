"""Scenarios: their files, what they do to the equipment, and that everything is as before afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alarms.rules import compile_rules
from alarms.templates import load_templates
from simulators.actions import ACTIONS, BESIDES
from simulators.compound import Compound
from simulators.door import DoorState, Happening
from simulators.scenario import Play, Scenario, load_scenario, scenario_names
from tests.simulators.places import spruce_court
from watchroom.errors import ConfigError
from watchroom.yamlfile import parse_yaml

NAMES = ["burst_pipe", "door_forced", "entrapment", "fire", "gateway_cut", "normal_day", "pump_dry_run"]
SITE = spruce_court()
NOON_S = 12 * 3600.0


def compound(seed: int = 1, time_of_day_s: float = NOON_S) -> Compound:
    return Compound(SITE, seed=seed, time_of_day_s=time_of_day_s)


class Course:
    """What a scenario did: when each signal first had which value."""

    def __init__(self, name: str, *, seed: int = 1, time_of_day_s: float = NOON_S) -> None:
        self.compound = compound(seed, time_of_day_s)
        self.cuts: list[tuple[float, str, bool]] = []
        self.pulls: list[tuple[float, str, bool]] = []
        self.happened: list[tuple[float, Happening]] = []
        self.history: list[tuple[float, dict[str, float]]] = []
        play = Play(load_scenario(name), begin_s=0.0, cut=self._cut, pull=self._pull)
        while not play.is_over(self.compound.time_s):
            play.advance(self.compound)
            self.happened += [(self.compound.time_s, h) for h in self.compound.step(0.2)]
            self.history.append((self.compound.time_s, dict(self.compound.values)))

    def _cut(self, gateway: str, is_cut: bool) -> None:
        self.cuts.append((self.compound.time_s, gateway, is_cut))

    def _pull(self, gateway: str, is_out: bool) -> None:
        self.pulls.append((self.compound.time_s, gateway, is_out))

    def first(self, key: str, value: float, after_s: float = 0.0) -> float:
        """Return when a signal first had a value; fails if it never had."""
        return next(time_s for time_s, values in self.history if time_s >= after_s and values[key] == value)

    def at(self, time_s: float, key: str) -> float:
        """Return a signal's value at a time."""
        return next(values[key] for when, values in self.history if when >= time_s)


def test_all_seven_are_there() -> None:
    """The demo offers these and no others."""
    assert list(scenario_names()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_files_are_complete(name: str) -> None:
    """Each has titles in both languages, steps and expectations within its duration, and equipment of the site."""
    scenario = load_scenario(name)
    assert scenario.title.zh
    assert scenario.title.en
    for step in scenario.steps:
        assert step.at <= scenario.duration
        if step.do in BESIDES:
            assert any(path.stem == step.on for path in SITE.gateway_files)
        else:
            assert step.on in SITE.equipment
    for expectation in scenario.expect:
        assert expectation.on in SITE.equipment
        assert expectation.before <= scenario.duration
    assert bool(scenario.expect) == (name != "normal_day")


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("hour", [3, 7.5, 19])
def test_burst_pipe(seed: int, hour: float) -> None:
    """At any hour: pressure under 0.45 MPa with a flow over 40 m3/h soon after, float up before the valve is shut."""
    course = Course("burst_pipe", seed=seed, time_of_day_s=hour * 3600)
    low = [t for t, v in course.history if v["WP-01/outlet_pressure"] < 0.45 and v["WP-01/flow"] > 40]
    assert 5.0 < low[0] < 15.0
    assert max(low) < 260.0
    assert all(t in low for t, _ in course.history if 40.0 < t < 239.0)
    assert course.first("SP-03/float_high", 1.0) < 230.0
    assert course.at(299.0, "WP-01/outlet_pressure") == pytest.approx(0.60, abs=0.02)


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("hour", [3, 7.5])
def test_entrapment(seed: int, hour: float) -> None:
    """The button within 150 s, trapped soon after, and free again after the rescue."""
    course = Course("entrapment", seed=seed, time_of_day_s=hour * 3600)
    button, trapped = course.first("EL-5-2/alarm_button", 1.0), course.first("EL-5-2/trapped", 1.0)
    assert 15 < button < trapped < 150
    assert course.at(trapped, "EL-5-2/door_zone") == 0.0
    assert course.at(trapped, "EL-5-2/person_present") == 1.0
    assert 360 < course.first("EL-5-2/trapped", 0.0, after_s=360.0) < 405
    assert course.at(419.0, "EL-5-2/fault_code") == 0.0


def test_fire() -> None:
    """Pre-alarm, then fire; doors released; lifts at the entrance floor with open doors; all normal at the end."""
    course = Course("fire")
    assert course.at(5.0, "FP-01/fire") == 0.0
    assert course.at(5.0, "FP-01/zone3_state") == 2.0
    assert 14 <= course.first("FP-01/fire", 1.0) < 14.5
    assert course.at(140.0, "EL-3-1/floor") == 1.0
    assert course.at(140.0, "EL-3-1/door") == 1.0
    assert course.at(140.0, "EL-3-2/service_mode") == 3.0
    released = [h for t, h in course.happened if 18 <= t < 160 and isinstance(h, DoorState) and h.door == "DR-3-1"]
    assert released
    assert all(state.lock == 1 for state in released)
    assert course.at(140.0, "FP-01/sprinkler_pressure") < 0.8 * 1.12
    assert course.at(159.0, "FP-01/fire") == 0.0
    assert course.at(179.9, "EL-3-1/service_mode") == 1.0


def test_door_forced() -> None:
    """The contact opens with a locked strike and no record, for 45 seconds."""
    course = Course("door_forced", time_of_day_s=3 * 3600)
    states = [(t, h) for t, h in course.happened if isinstance(h, DoorState) and h.door == "DR-7-1"]
    opened = [(t, h) for t, h in states if h.contact == 1]
    assert opened[0][0] == pytest.approx(5.0, abs=0.5)
    assert opened[0][1].lock == 0
    closed = [t for t, h in states if t > opened[0][0] and h.contact == 0]
    assert closed[0] == pytest.approx(50.0, abs=0.5)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pump_dry_run(seed: int) -> None:
    """Inlet low, then flow and current gone, then the drives trip; water is back at the end."""
    course = Course("pump_dry_run", seed=seed)
    assert 10 < next(t for t, v in course.history if v["WP-01/inlet_pressure"] < 0.05) < 45
    tripped = course.first("WP-01/p1_fault", float(0x8120))
    assert 85 < tripped < 160
    assert course.at(tripped - 5, "WP-01/flow") == 0.0
    assert course.at(tripped + 1, "WP-01/p1_state") == 2.0
    assert course.at(329.0, "WP-01/outlet_pressure") == pytest.approx(0.60, abs=0.03)
    assert course.at(329.0, "WP-01/p1_fault") == 0.0


def test_gateway_cut() -> None:
    """One gateway's uplink is out for 45 seconds; its devices and the equipment notice nothing."""
    course = Course("gateway_cut")
    (cut_at, gateway, cut), (back_at, _, back) = course.pulls
    assert course.cuts == []
    assert (gateway, cut, back) == ("garage", True, False)
    assert cut_at == pytest.approx(5.0, abs=0.3)
    assert back_at == pytest.approx(50.0, abs=0.3)


def test_normal_day_has_no_steps() -> None:
    """On a normal day the scenario does nothing."""
    assert load_scenario("normal_day").steps == []


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_course(name: str) -> None:
    """A scenario played twice with one seed gives the same values and happenings, bit for bit."""
    first, second = Course(name, seed=7), Course(name, seed=7)
    assert first.history == second.history
    assert first.happened == second.happened


def test_unknown_names_are_told() -> None:
    """A misspelt scenario or piece of equipment is answered with what exists."""
    with pytest.raises(ConfigError, match="did you mean 'burst_pipe'"):
        load_scenario("burst_pip")
    with pytest.raises(ConfigError, match=r"not simulated here.*WP-01"):
        ACTIONS["leak"](compound(), "WP-99", 1.0, 1)
    bad = "title: {zh: a, en: a}\nstory: {zh: a, en: a}\nduration: 9s\nsteps:\n  - {at: 1s, do: explode}\n"
    with pytest.raises(ConfigError, match=r"bad.yaml:5: steps.0.do: nothing is called 'explode'"):
        parse_yaml(bad, Path("bad.yaml")).parse(Scenario)


@settings(deadline=None)
@given(st.sampled_from(sorted(ACTIONS)), st.floats(0, 100), st.integers(1, 3))
def test_every_action_says_whom_it_misses(action: str, value: float, number: int) -> None:
    """An action on equipment that is not there is refused, except the weather."""
    if action == "rain":
        rained = compound()
        ACTIONS[action](rained, "", value, number)
        assert rained.rain_mm_h == value
        return
    with pytest.raises(ConfigError):
        ACTIONS[action](compound(), "XX-99", value, number)


def test_every_action_changes_something() -> None:
    """No action is a dead name: on its equipment each one changes what is measured within a few minutes."""
    targets = {"WP-01": ("leak", "mains_cut", "pump_trip"), "TK-01": ("float_valve_stuck",)}
    targets |= {"EL-1-1": ("trap", "fire_return"), "FP-01": ("zone", "sprinkler"), "DR-1-1": ("force", "release")}
    targets |= {"SP-01": ("inflow", "sump_pump_fails")}
    for equipment, actions in targets.items():
        for action in actions:
            changed, same = compound(3), compound(3)
            ACTIONS[action](changed, equipment, 20.0, 1)
            differs = False
            for _ in range(1200):
                differs = differs or changed.step(0.2) != same.step(0.2) or changed.values != same.values
            assert differs, action


@pytest.mark.parametrize("name", NAMES)
def test_expected_alarms_are_rules_of_the_site(name: str) -> None:
    """What a scenario promises can happen: each rule exists for that equipment, and its tickets are that rule's."""
    rows = compile_rules(SITE, load_templates()).rows
    tickets = {(row.equipment, kind) for row in rows if row.ticket for kind in (row.ticket.type, row.ticket.also)}
    for expectation in load_scenario(name).expect:
        if expectation.alarm is None:
            assert (expectation.on, expectation.ticket) in tickets
            continue
        found = [row for row in rows if (row.rule, row.equipment) == (expectation.alarm, expectation.on)]
        assert [row for row in found if expectation.instance in {None, row.instance}], expectation

"""What the demo plays and what the centre must make of it: every scenario's ``expect:`` is checked over the API.

Two compounds run side by side. One keeps real time, because its scenarios race against delays of the rules (a door
held for 30 s, a gateway silent for 15 s); the other plays the slow stories three times as fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from simulators.scenario import Expectation, load_scenario
from tests.system.room import Room, running_up, until
from watchroom.centre import CENTRE
from watchroom.clock import utc_ms

pytestmark = pytest.mark.slow

QUIET_S = 15.0
FAST = 3.0
GRACE_S = 15.0
"""How long after its window an alarm may still be missing from the API before we call it absent."""
SLOP_S = 1.0
"""A tick of the simulators, a poll of the gateway, and our own clock at the start."""
PLAYED = {
    "real": ("gateway_cut", "door_forced", "fire"),
    "fast": ("burst_pipe", "entrapment", "pump_dry_run"),
}
AFTER = {"fire": "door_forced", "pump_dry_run": "burst_pipe"}
"""Scenarios that must wait for another one: on fire a door may stand open, and two breakdowns share the pumps."""
TOUCHED = {
    "gateway_cut": {"GW-10"},
    "fire": {"FP-01", "EL-3-1", "EL-3-2"},
    "door_forced": {"DR-7-1"},
    "burst_pipe": {"WP-01", "SP-03"},
    "entrapment": {"EL-5-2"},
    "pump_dry_run": {"WP-01", "TK-01"},
}
"""Scenario -> equipment that may raise alarms because of it."""
CASES = [
    pytest.param(name, expected, id=f"{name}-{expected.alarm or expected.ticket}-{expected.on}-{expected.becomes}")
    for names in PLAYED.values()
    for name in names
    for expected in load_scenario(name).expect
]


@dataclass
class Stage:
    """One running compound and when each scenario began there."""

    room: Room
    speed: float
    begun_ms: dict[str, int] = field(default_factory=dict)

    def play(self, name: str) -> None:
        assert self.room.post(f"/demo/{name}").status_code == 200
        self.begun_ms[name] = utc_ms()

    def second(self, name: str, at_ms: int) -> float:
        """Return a time as seconds of the scenario's own story."""
        return (at_ms - self.begun_ms[name]) / 1000 * self.speed

    def now(self, name: str) -> float:
        return self.second(name, utc_ms())

    def alarms(self, **wanted: Any) -> list[dict[str, Any]]:
        return _those(self.room.items("/alarms", view="journal", limit=500), wanted)

    def tickets(self, **wanted: Any) -> list[dict[str, Any]]:
        return _those(self.room.items("/tickets", view="all"), wanted)


def _those(items: list[dict[str, Any]], wanted: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for item in items if all(item[key] == value for key, value in wanted.items())]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Stage]]:
    """Both compounds, after a quiet time in which nothing was played, with everything of the first minutes begun."""
    folder = tmp_path_factory.mktemp("scenarios")
    with ExitStack() as stack:
        real, _ = stack.enter_context(running_up(folder / "real"))
        fast, _ = stack.enter_context(running_up(folder / "fast", "--speed", str(FAST)))
        stages = {"real": Stage(real, 1.0), "fast": Stage(fast, FAST)}
        for stage in stages.values():
            until("the compound is whole", stage.room.is_whole)
        quiet_from = utc_ms()
        until("a quiet time", lambda: utc_ms() - quiet_from > QUIET_S * 1000, within_s=QUIET_S + 5, every_s=1.0)
        for stage in stages.values():
            stage.play("normal_day")
            assert not [alarm["row"] for alarm in stage.alarms() if alarm["priority"] <= 2], (
                "alarms of a quiet compound"
            )
        for key, names in PLAYED.items():
            for name in names:
                if name not in AFTER:
                    stages[key].play(name)
        yield stages


def stage_of(stages: dict[str, Stage], name: str) -> Stage:
    """Return the compound that plays a scenario, and begin it once the one before it is over."""
    stage = next(stages[key] for key, names in PLAYED.items() if name in names)
    if name not in stage.begun_ms:
        before = AFTER[name]
        last = load_scenario(before).duration
        until(f"{before} is over", lambda: stage.now(before) > last, within_s=last + GRACE_S, every_s=0.5)
        stage.play(name)
    return stage


def moments(stage: Stage, name: str, expected: Expectation) -> list[float]:
    """Return when what is expected has happened, in seconds of the scenario."""
    if expected.ticket is not None:
        found = stage.tickets(type=expected.ticket, equipment=expected.on)
        return [stage.second(name, ticket["created_ms"]) for ticket in found]
    wanted = {"rule": expected.alarm, "equipment": expected.on}
    wanted |= {"instance": expected.instance} if expected.instance is not None else {}
    key = "raised_ms" if expected.becomes == "raised" else "cleared_ms"
    return [stage.second(name, alarm[key]) for alarm in stage.alarms(**wanted) if alarm[key] is not None]


@pytest.mark.parametrize(("name", "expected"), CASES)
def test_what_must_follow_follows_in_time(stages: dict[str, Stage], name: str, expected: Expectation) -> None:
    """Each alarm is raised and cleared, each ticket opened, between the seconds that the scenario states."""
    stage = stage_of(stages, name)
    slop_s = SLOP_S * stage.speed
    first, last = expected.after - slop_s, expected.before + slop_s

    def found() -> list[float] | None:
        inside = [second for second in moments(stage, name, expected) if first <= second <= last]
        if not inside and stage.now(name) > last + GRACE_S:
            seen = [round(second, 1) for second in moments(stage, name, expected)]
            raise AssertionError(f"expected between {expected.after:g} and {expected.before:g} s, found at {seen}")
        return inside or None

    until(f"{expected}", found, within_s=2 * last + GRACE_S, every_s=0.5)


def test_a_cut_gateway_is_one_alarm_and_one_ticket(stages: dict[str, Stage]) -> None:
    """Its equipment's data stop too, but one outage is told once, and what it kept meanwhile arrives later."""
    stage = stages["real"]
    name, gateway = "gateway_cut", "garage"
    until("the story is over", lambda: stage.now(name) > load_scenario(name).duration, within_s=90, every_s=0.5)
    behind = {item["id"] for item in stage.room.items("/equipment") if item["gateway"] == gateway}
    assert {"SP-01", "SP-02", "DR-G1"} <= behind
    rules = [(alarm["rule"], alarm["equipment"]) for alarm in stage.alarms() if alarm["equipment"] in behind]
    assert rules == [("gateway.silent", "GW-10")]
    assert len([ticket for ticket in stage.tickets() if ticket["equipment"] in behind]) == 1
    start = stage.begun_ms[name] + 20_000  # well inside the outage

    def kept() -> list[int]:
        found = stage.room.get("/signals/SP-01/level/history", start=start, end=start + 25_000, buckets=25)
        return [int(time_ms) for time_ms in found["t"]]

    until("what the gateway read while it was cut off is in the history", kept, within_s=20, every_s=0.5)


def test_released_doors_are_neither_forced_nor_held(stages: dict[str, Stage]) -> None:
    """The fire alarm unlocks doors by design: people who leave through them raise nothing."""
    stage = stages["real"]
    until("the fire is over", lambda: stage.now("fire") > load_scenario("fire").duration, within_s=200, every_s=0.5)
    released = stage.room.get("/signals/DR-3-1/lock/history", start=stage.begun_ms["fire"], end=utc_ms(), buckets=200)
    assert max(released["max"]) == 1, "the door was released"
    doors = [alarm["row"] for alarm in stage.alarms() if alarm["equipment"] in {"DR-3-1", "DR-3-2"}]
    assert doors == []


def test_forced_door_waits_for_a_person(stages: dict[str, Stage]) -> None:
    """The door is shut again, but somebody must look: the alarm latches until it is reset."""
    stage = stages["real"]
    (forced,) = until("the door is shut", lambda: stage.alarms(rule="door.forced", is_active=False), within_s=90)
    assert (forced["equipment"], forced["state"], forced["is_latching"]) == ("DR-7-1", "LUNACK", True)
    acknowledged = stage.room.post(f"/alarms/{forced['id']}/ack", {"comment": "已查看录像"})
    assert (acknowledged.status_code, acknowledged.json()["acked_by"]) == (200, "admin")
    assert stage.room.post(f"/alarms/{forced['id']}/reset").status_code == 200
    assert [alarm["id"] for alarm in stage.room.items("/alarms") if alarm["rule"] == "door.forced"] == []
    kinds = [event["kind"] for event in stage.room.get(f"/alarms/{forced['id']}")["events"]]
    assert (kinds[0], kinds[-1]) == ("RAISE", "RESET")


def test_one_sump_one_pair_of_tickets(stages: dict[str, Stage]) -> None:
    """Level and float complain about the same water: one repair and one patrol, as urgent as the worse alarm."""
    stage = stage_of(stages, "burst_pipe")
    until("the float acts", lambda: stage.alarms(rule="float.high", equipment="SP-03"), within_s=90, every_s=0.5)
    tickets = stage.tickets(equipment="SP-03")
    assert sorted(ticket["type"] for ticket in tickets) == ["patrol", "repair"]
    assert {ticket["priority"] for ticket in tickets} == {1}


@pytest.mark.parametrize("which", list(PLAYED))
def test_only_the_played_equipment_complains(stages: dict[str, Stage], which: str) -> None:
    """Whatever was played, the rest of the compound stays free of priority 1 and 2: no false alarms, no flood."""
    stage = stages[which]
    # nobody signs on here, and the centre rightly says so
    expected = {CENTRE} | {equipment for name in PLAYED[which] for equipment in TOUCHED[name]}
    others = [alarm["row"] for alarm in stage.alarms() if alarm["equipment"] not in expected]
    urgent = [alarm["row"] for alarm in stage.alarms() if alarm["row"] in others and alarm["priority"] <= 2]
    assert urgent == []
    assert len(others) <= 2, others


@pytest.mark.parametrize("which", list(PLAYED))
def test_every_alarm_and_ticket_is_complete(stages: dict[str, Stage], which: str) -> None:
    """Both languages, guidance, a place, and the flag that says simulated; urgent alarms have tickets with clocks."""
    stage = stages[which]
    alarms, tickets = stage.alarms(), stage.tickets()
    assert alarms
    assert tickets
    for item in (*alarms, *tickets):
        assert item["is_simulated"] is (item["equipment"] != CENTRE), item
        for text in (item["title"], item["detail"], item["place_name"], item["equipment_name"]):
            assert all(text[lang].strip() and "{" not in text[lang] for lang in ("zh", "en")), item
    for alarm in alarms:
        for lang in ("zh", "en"):
            guide = alarm["guidance"][lang]
            assert guide["cause"], alarm["row"]
            assert guide["consequence"], alarm["row"]
            assert guide["do"], alarm["row"]
        if alarm["priority"] <= 2:
            assert alarm["tickets"], alarm["row"]
    for ticket in tickets:
        assert {"accept", "arrive"} <= {clock["kind"] for clock in ticket["clocks"]}, ticket["number"]
        assert all(clock["target_ms"] > clock["start_ms"] for clock in ticket["clocks"])
        assert ticket["alarms"]

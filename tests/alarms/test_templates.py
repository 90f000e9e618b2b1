"""The templates that ship: every rule can raise, says what it means in both languages, and knows its place."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from alarms.conditions import clear_band, conditions_of
from alarms.judged import Change, Transition
from alarms.rows import Op, RuleRow, StateTest
from alarms.rules import compile_rules
from alarms.templates import load_templates
from watchroom.errors import ConfigError
from watchroom.site import load_site

from .bench import Bench, small_site

TYPES = sorted(load_templates())
SPRUCE_COURT = Path(__file__).parents[2] / "sites" / "spruce-court"


def rows_of(kind: str) -> list[RuleRow]:
    extra = {"gateway": "g"} if kind == "gateway" else {}
    site = small_site({"X-1": {"type": kind, **extra}})
    return list(compile_rules(site, load_templates()).rows)


ALL = [(kind, row.key) for kind in TYPES for row in rows_of(kind)]
SIMPLE = [(kind, row.key) for kind in TYPES for row in rows_of(kind) if row.kind in ("limit", "state")]


def passing(test: StateTest) -> float:
    """Return a value that just passes a test, so that it does not reach the next level."""
    if test.op is Op.ABOVE:
        return test.limit + 1e-6
    if test.op is Op.BELOW:
        return test.limit - 1e-6
    if test.op is Op.BITS:
        return float(test.mask)
    return test.values[0] if test.op is Op.IN else max(test.values) + 1.0


def normal(row: RuleRow) -> float:
    """Return a value at which every level of a row is clear."""
    bands = [clear_band(test) for _, test in conditions_of(row)]
    low, high = max(low for low, _ in bands), min(high for _, high in bands)
    if math.isfinite(low) and math.isfinite(high):
        return (low + high) / 2
    return low + 1.0 if math.isfinite(low) else high - 1.0


@pytest.mark.parametrize(("kind", "key"), SIMPLE, ids=[f"{kind}-{key}" for kind, key in SIMPLE])
def test_every_level_of_every_rule_raises_and_clears(tmp_path: Path, kind: str, key: str) -> None:
    """Values beyond the limit, for longer than the delay, raise the alarm; values inside clear it again."""
    row = next(row for row in rows_of(kind) if row.key == key)
    for number, (level, test) in enumerate(conditions_of(row)):
        bench = Bench(tmp_path / str(number), {"X-1": {"type": kind}}, {"g": ["X-1"]})
        time = 0
        if row.guard is not None:
            bench.plant.samples((row.guard.signal, 0, passing(row.guard)))
        for value, wait in ((normal(row), 1000), (passing(test), row.on_delay_ms), (normal(row), row.off_delay_ms)):
            end = time + wait + 2000
            while time < end:
                bench.plant.samples((test.signal, time, value), complete=time)
                if row.guard is not None and time:
                    bench.plant.samples((row.guard.signal, time, passing(row.guard)), complete=time)
                time += min(50_000, max(1000, wait // 3))
            bench.plant.samples((test.signal, end, value), complete=end)
            time = end + 1
        bench.judge()
        told = [(str(t.kind), t.level) for t in bench.told if t.row.key == key]
        assert told[:1] == [("RAISE", level)], level
        assert told[-1][0] == "CLEAR", level


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "gateway"])
def test_health_rules_of_every_type_raise(tmp_path: Path, kind: str) -> None:
    """Data that stop, turn bad or never come are told for equipment of every type."""
    bench = Bench(tmp_path, {"X-1": {"type": kind}}, {"g": ["X-1"]})
    keys = list(bench.plant._alias)
    bench.plant.tick(0)
    bench.plant.run(1000, 200_000, step=5000)
    bench.judge()
    assert {t.row.rule for t in bench.told} == {"data.never_seen"}
    bench.plant.samples((keys[0], 200_100, 0.0, 1))
    bench.plant.run(201_000, 290_000, step=5000)
    bench.judge()
    assert "data.bad" in {t.row.rule for t in bench.told}
    bench.plant.run(291_000, 400_000, step=5000)
    bench.judge()
    assert "data.stale" in {t.row.rule for t in bench.told}


def sample(row: RuleRow, level: str) -> Transition:
    return Transition(
        row=row,
        kind=Change.RAISE,
        event_ms=0,
        arrived_ms=0,
        value=row.limits.get(level, 1.0),
        quality=0,
        level=level,
        limit=row.limits.get(level, math.nan),
        is_late=False,
        is_simulated=False,
        offset=0,
        cause=("a", "b"),
    )


@pytest.mark.parametrize(("kind", "key"), ALL, ids=[f"{kind}-{key}" for kind, key in ALL])
def test_every_alarm_tells_what_it_is_and_what_to_do(kind: str, key: str) -> None:
    """Title, detail and guidance stand in both languages, with nothing left to fill in."""
    row = next(row for row in rows_of(kind) if row.key == key)
    for level in row.limits or {"": 0.0}:
        title, detail = row.describe(sample(row, level))
        for text in (title, detail):
            assert set(text) == {"zh", "en"}
            assert all(word and "{" not in word for word in text.values()), text
            assert all(" ," not in word and " ，" not in word for word in text.values()), text
            assert " ," not in text["en"], "a gap where a signal has no unit"
            assert " ，" not in text["zh"]
        assert 1 <= row.priority(level) <= 4
    for guide in (row.guidance.zh, row.guidance.en):
        assert guide.cause
        assert guide.consequence
        assert guide.do
        assert guide.respond_min is not None
    assert len(row.guidance.zh.do) == len(row.guidance.en.do)
    assert row.guidance.zh.respond_min == row.guidance.en.respond_min


@pytest.mark.parametrize(("kind", "key"), ALL, ids=[f"{kind}-{key}" for kind, key in ALL])
def test_urgent_alarms_open_tickets_with_clocks(kind: str, key: str) -> None:
    """Priority 1 and 2 always open a ticket that somebody must accept within minutes."""
    row = next(row for row in rows_of(kind) if row.key == key)
    most_urgent = min(row.priorities.values())
    if most_urgent <= 2:
        assert row.ticket is not None
        assert row.ticket.sla.accept is not None
        assert row.ticket.sla.accept <= (300 if most_urgent == 1 else 1800)


def test_what_latches() -> None:
    """Fire, gas, entrapment, forced doors, tampering, listed cards and safety faults stay until reset; no more."""
    latching = {row.rule for kind in TYPES for row in rows_of(kind) if row.latching}
    assert latching == {
        "fire",
        "zone.fire",
        "trapped",
        "alarm_button",
        "fault.safety",
        "fault.open_door",
        "door.forced",
        "door.tamper",
        "line.cut",
        "access.duress",
        "access.blacklisted",
        "access.lost",
        "fault.alarm",
        "gas.high",
        "smoke",
        "manual_alarm",
    }


def test_priority_one_is_rare() -> None:
    """Only what endangers people or floods the compound is priority 1."""
    emergencies = {row.rule for kind in TYPES for row in rows_of(kind) if 1 in row.priorities.values()}
    assert emergencies == {
        "fire",
        "zone.fire",
        "trapped",
        "alarm_button",
        "fault.safety",
        "fault.open_door",
        "speed.over",
        "pipe.burst",
        "mains.lost",
        "access.duress",
        "fault.alarm",
        "gas.high",
        "room.leak",
        "smoke",
        "manual_alarm",
        "start.failed",
        "start.late",
    }
    rules = Counter(min(row.priorities.values()) for kind in TYPES for row in rows_of(kind) if not row.instance)
    assert rules[1] < rules[2] + rules[3] + rules[4]


@pytest.mark.parametrize("kind", TYPES)
def test_normal_ranges_lie_inside_the_limits(kind: str) -> None:
    """A value in the band that screens draw as normal raises nothing."""
    site = small_site({"X-1": {"type": kind}})
    template, equipment = load_templates()[kind], site.equipment["X-1"]
    signals = template.signals_of(equipment)
    for row in rows_of(kind):
        if row.kind != "limit" or row.signal is None or row.guard is not None:
            continue
        usual = template.normal_of(equipment, signals[row.signal.partition("/")[2]])
        for _, test in conditions_of(row):
            assert usual is None or all(test.verdict(value) <= 0 for value in usual), row.key


@pytest.mark.skipif(not SPRUCE_COURT.exists(), reason="the example compound is not here")
def test_example_compound_compiles() -> None:
    """The compound that ships has rules for all its equipment, each row once."""
    rules = compile_rules(load_site(SPRUCE_COURT), load_templates())
    assert len({row.key for row in rules.rows}) == len(rules.rows)
    assert {row.equipment for row in rules.rows} == set(rules.expected)


@pytest.mark.parametrize("table", ["gbt24476_a", "gbt24476_b", "bacnet_c"])
def test_fault_codes_of_three_makes(table: str) -> None:
    """Every code of a make's table is told by exactly one rule, and what the table lacks by one more."""
    site = small_site({"EL-1": {"type": "elevator", "fault_codes": table}})
    rows = [row for row in compile_rules(site, load_templates()).rows if row.signal == "EL-1/fault_code"]
    texts = next(row.texts for row in rows)
    told = {code: [row.rule for row in rows if row.state and row.state.verdict(code) > 0] for code in [*texts, 77]}
    assert told[77] == ["fault.other"]
    quiet = {0, 99, *range(40, 41), *range(42, 48)}
    assert {code for code, by in told.items() if len(by) != 1} <= quiet
    assert told[5] == ["fault.safety"]
    assert (told[8], told.get(11)) == {
        "gbt24476_a": (["fault.open_door"], ["fault.safety"]),
        "gbt24476_b": (["fault.drive"], ["fault.trapped"]),
        "bacnet_c": (["fault.drive"], None),
    }[table]


def test_a_make_nobody_knows() -> None:
    """A fault-code table that does not exist is told with the known ones."""
    with pytest.raises(ConfigError, match="gbt24476_b"):
        compile_rules(small_site({"EL-1": {"type": "elevator", "fault_codes": "gbt24476_z"}}), load_templates())

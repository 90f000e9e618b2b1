"""Values made of windows, several signals and events: what they say, and that nobody's lateness changes it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alarms.evaluator import Evaluator
from alarms.judged import Transition
from alarms.rows import Derived, Op, RuleRow, StateTest
from alarms.windows import KEPT, Occurrences, Window
from watchroom.errors import ConfigError
from watchroom.journal import Record
from watchroom.signals import Lane

from .bench import Bench
from .plant import SITE, Plant, rules, signal
from .test_evaluator_property import woven


def plain_window(how: str, length: int, samples: Sequence[tuple[int, float]]) -> float:
    """What a window says after the newest sample, from the definition: a value holds until the next one."""
    now, value = samples[-1]
    start = now - length
    if samples[0][0] > start:
        return math.nan
    before = [v for t, v in samples if t <= start][-1]
    inside = [(start, before)] + [(t, v) for t, v in samples if t > start]

    values = [v for _, v in inside]
    if how == "delta":
        return value - before
    if how == "rate":
        return (value - before) / length * 60_000
    if how in ("min", "max"):
        return min(values) if how == "min" else max(values)
    if how == "starts":
        return float(sum(b != 0 and a == 0 for a, b in pairwise(values)))
    heights = [float(v != 0) if how == "duty" else v for v in values]
    ends = [t for t, _ in inside[1:]] + [now]
    return sum(h * (e - t) for (t, _), h, e in zip(inside, heights, ends, strict=True)) / length


@pytest.mark.parametrize("how", ["delta", "rate", "mean", "min", "max", "duty", "starts"])
@settings(max_examples=150, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(1, 700), st.sampled_from([0.0, 0.0, 1.0, 2.5, -3.0])), min_size=1))
def test_window_agrees_with_its_definition(how: str, steps: list[tuple[int, float]]) -> None:
    """Rate, change, mean, extremes, share of time on and starts are those of the last second."""
    window, samples, now = Window(how, 1000), [], 0
    for step, value in steps:
        now += step
        samples.append((now, value))
        assert window.add(now, value) == pytest.approx(plain_window(how, 1000, samples), nan_ok=True, abs=1e-9)


def test_window_of_a_fast_signal_is_shorter() -> None:
    """A signal that changes more often than the window can keep is judged over what is kept, not over nothing."""
    window = Window("max", 10_000_000)
    said = [window.add(i, float(i % 7)) for i in range(KEPT + 100)]
    assert math.isnan(said[100])
    assert said[-1] == 6.0


def test_restored_window_goes_on() -> None:
    """A restart in the middle of a window changes nothing."""
    one, other = Window("mean", 1000), Window("mean", 1000)
    for i in range(20):
        assert one.add(i * 130, float(i * i % 11)) == pytest.approx(other.add(i * 130, float(i * i % 11)), nan_ok=True)
        content = other.to_json()
        other = Window("mean", 1000)
        other.load(content)


def test_occurrences_count_each_key_apart() -> None:
    """Three denials of one card within a minute count three; one each of three cards count one."""
    counted = Occurrences(60_000)
    for time, card in ((0, "a"), (1000, "b"), (2000, "c")):
        counted.add(time, card)
    assert counted.at(2000) == 1
    counted.add(3000, "b")
    counted.add(2500, "b")
    assert counted.at(3000) == 3
    assert counted.next_ms == 60_000
    assert counted.at(61_000) == 2
    assert counted.at(63_000) == 0


MACHINE: dict[str, dict[str, Any]] = {
    "M-01": {"type": "machine"},
    "SP-01": {"type": "sump", "rated": {"pumps": 2}},
    "DR-01": {"type": "door"},
}
HEAD = "rules:\n  own:\n    class: equipment\n    priority: 2\n"


def bench(folder: Path, text: str) -> Bench:
    return Bench(folder, MACHINE, {"g": ["M-01", "SP-01"], "h": ["DR-01"]}, rules=HEAD + text)


def own(bench: Bench) -> list[tuple[str, int]]:
    return [(kind, time) for row, kind, time in bench.judge() if row.startswith("own|")]


def test_rate_of_rise(tmp_path: Path) -> None:
    """Five degrees a minute raise although the temperature itself is normal; the alarm tells the rate."""
    site = bench(
        tmp_path,
        "    equipment: {id: [M-01]}\n    limit: {signal: temperature, transform: rate, window: 60s, H: 5}\n",
    )
    for minute, value in enumerate([60.0, 61.0, 62.0, 68.0, 69.0]):
        site.plant.samples(("M-01/temperature", minute * 60_000, value))
    assert own(site) == [("RAISE", 180_000), ("CLEAR", 240_000)]
    assert site.rows("own")[0].value == 6.0
    assert all(key[0] != "~" for key in site.evaluator.latest().keys)


def test_bad_sample_holds_a_rate(tmp_path: Path) -> None:
    """A sensor fault in the window neither raises nor clears the rate, and is not taken for a value."""
    site = bench(
        tmp_path,
        "    equipment: {id: [M-01]}\n    limit: {signal: temperature, transform: delta, window: 60s, H: 5}\n",
    )
    for time, value, quality in [(0, 60.0, 0), (60_000, 70.0, 0), (61_000, 0.0, 3), (62_000, 71.0, 0)]:
        site.plant.samples(("M-01/temperature", time, value, quality))
    assert own(site) == [("RAISE", 60_000)]


def test_two_of_two_pumps(tmp_path: Path) -> None:
    """Both pumps running at the high float for ten seconds raise, at the moment the last one joined plus the delay."""
    site = bench(
        tmp_path,
        "    equipment: {type: sump}\n    on_delay: 10s\n    logic:\n      inputs:\n"
        "        - {signal: float_high, in: [1]}\n        - {signal: p1_state, in: [1]}\n"
        "        - {signal: p2_state, in: [1]}\n",
    )
    for name, time in (("p1_state", 1000), ("float_high", 2000), ("p2_state", 3000)):
        site.plant.samples((f"SP-01/{name}", time, 1.0))
    site.plant.beat("g", 14_000)
    assert own(site) == []
    site.plant.beat("g", 14_002)
    assert own(site) == [("RAISE", 13_000)]
    site.plant.samples(("SP-01/p1_state", 20_000, 0.0))
    site.plant.beat("g", 22_000)
    assert own(site) == [("CLEAR", 20_000)]


def test_starts_within_an_hour(tmp_path: Path) -> None:
    """A pump that starts three times within ten minutes raises, and clears when the first start is ten minutes old."""
    site = bench(
        tmp_path,
        "    equipment: {type: sump}\n    count: {signal: p1_state, in: [1], times: 3, within: 10m}\n",
    )
    for time in range(0, 360_001, 60_000):
        site.plant.samples(("SP-01/p1_state", time, float(time // 60_000 % 2)))
    site.plant.beat("g", 400_000)
    assert own(site) == [("RAISE", 300_000)]
    site.plant.beat("g", 661_002)
    assert own(site) == [("CLEAR", 660_000)]


def test_denials_of_one_card(tmp_path: Path) -> None:
    """Three denials of one card within a minute raise; three cards denied once each do not."""
    site = bench(
        tmp_path,
        "    equipment: {type: door}\n"
        "    count: {event: access, field: result, in: [denied, unknown], by: card, times: 3, within: 60s}\n",
    )
    for time, card, result in [
        (1000, "k:1", "denied"),
        (2000, "k:2", "denied"),
        (3000, "k:3", "denied"),
        (4000, "k:1", "granted"),
        (5000, "k:1", "unknown"),
    ]:
        site.plant.event("h", "DR-01", time, card=card, result=result)
    site.plant.beat("h", 10_000)
    assert own(site) == []
    site.plant.event("h", "DR-01", 20_000, card="k:1", result="denied")
    site.plant.beat("h", 22_000)
    assert own(site) == [("RAISE", 20_000)]
    site.plant.beat("h", 70_000)
    assert own(site) == [("CLEAR", 61_000)]


def test_minimum_on_holds_a_short_alarm(tmp_path: Path) -> None:
    """An alarm with a minimum on of thirty seconds stays that long, and no longer than its cause beyond it."""
    site = bench(
        tmp_path,
        "    equipment: {type: sump}\n    minimum_on: 30s\n    state: {signal: float_high, in: [1]}\n",
    )
    for time, value in [(1000, 1.0), (2000, 0.0), (3000, 0.0)]:
        site.plant.samples(("SP-01/float_high", time, value))
    assert own(site) == [("RAISE", 1000)]
    site.plant.beat("g", 31_001)
    assert own(site) == [("CLEAR", 31_000)]
    for time, value in [(40_000, 1.0), (80_000, 0.0)]:
        site.plant.samples(("SP-01/float_high", time, value))
        site.plant.beat("g", time + 1)
    assert own(site) == [("RAISE", 40_000), ("CLEAR", 80_000)]


def test_count_waits_for_no_silent_gateway(tmp_path: Path) -> None:
    """A difference of two gateways' signals is judged on when one of them has fallen silent."""
    plant = Plant(tmp_path, {"g": [signal("A-1/x")], "h": [signal("B-1/x")]})
    row = random_row("difference", 0)
    evaluator = Evaluator(rules(row, gateways={"g": "GW-1", "h": "GW-2"}, expected={}), plant.births, SITE)
    plant.samples(("A-1/x", 1000, 1.0))
    plant.samples(("B-1/x", 1000, 1.0))
    plant.tick(1500)
    plant.run(2000, 20_000, silent=["h"])
    plant.samples(("A-1/x", 20_500, 9.0))
    plant.run(21_000, 23_000, silent=["h"])
    for record in plant.records:
        evaluator.feed(record)
    told = [(str(t.kind), t.value) for t in evaluator.evaluate().transitions]
    assert told == [("RAISE", 8.0)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limit: {signal: temperature, transform: rate, H: 5}", ["transform rate needs a window"]),
        ("limit: {signal: temperature, window: 5m, H: 5}", ["transform raw takes no window"]),
        ("limit: {signal: temperature, transform: difference, H: 5}", ["needs minus"]),
        ("limit: {signal: temperature, transform: difference, minus: temprature, H: 5}", ["did you mean"]),
        ("count: {signal: temperature, event: access, in: [1], times: 2, within: 1m}", ["either event"]),
        ("count: {signal: temperature, in: [a], times: 2, within: 1m}", ["numbers"]),
        (
            "logic: {inputs: [{signal: temperature, above: 1}, {signal: temperature, above: 2}], need: 4}",
            ["never hold"],
        ),
        ("state: {signal: temperature, above: 1}\n    minimum_on: x", ["minimum_on"]),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, words: list[str]) -> None:
    """What cannot be judged is refused with its line."""
    with pytest.raises(ConfigError) as caught:
        bench(tmp_path, f"    equipment: {{id: [M-01]}}\n    {text}\n")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "rules.own" in str(caught.value)


KEYS = [("g", "A-1/x"), ("g", "A-1/y"), ("h", "B-1/x")]


def random_row(how: str, number: int, rng: random.Random | None = None) -> RuleRow:
    rng = rng or random.Random(0)
    keys = tuple(key for _, key in KEYS)
    tests = tuple(StateTest(signal=key, op=Op.ABOVE, limit=4.0, deadband=1.0) for key in keys)
    event = ("access", "result", "DR-1", ("denied",))
    made = {
        "difference": Derived(how=how, signals=("A-1/x", "B-1/x"), skew_ms=500),
        "logic": Derived(how=how, signals=keys, tests=tests, skew_ms=500),
        "count": Derived(how=how, signals=("A-1/y",), tests=(tests[1],), window_ms=4000, skew_ms=500),
        "denials": Derived(how="count", event=event, by="card", window_ms=4000, skew_ms=500),
    }
    derived = made.get(how) or Derived(how=how, signals=("A-1/x",), window_ms=3000)
    return RuleRow(
        key=f"{how}|{number}|",
        rule=how,
        version="0",
        equipment="A-1",
        kind="limit",
        class_="equipment",
        priorities={"": 3},
        signal=derived.signals[0] if derived.signals else None,
        signals=derived.signals,
        limits={"H": rng.choice([0.5, 1.5, 2.5])},
        deadband=rng.choice([0.0, 0.5]),
        on_delay_ms=rng.choice([0, 700, 3000]),
        off_delay_ms=rng.choice([0, 900]),
        minimum_on_ms=rng.choice([0, 0, 2500]),
        derived=derived,
    )


def random_journal(rng: random.Random, plant: Plant) -> None:
    """Write samples and events, each in front of what its lane claims; both gateways measure to the same end."""
    plant.samples(*((key, 0, 0.0) for owner, key in KEYS if owner == "g"))
    plant.samples(("B-1/x", 0, 0.0))
    plant.event("h", "DR-1", 0, result="granted")
    clock = {"g": 0, "h": 0}
    for _ in range(rng.randint(10, 50)):
        gateway = rng.choice(["g", "h"])
        now = clock[gateway] + rng.choice([1, 50, 400, 1000, 2500])
        keys = [key for owner, key in KEYS if owner == gateway and rng.random() < 0.8]
        if gateway == "h" and rng.random() < 0.4:
            plant.event("h", "DR-1", now, result=rng.choice(["denied", "granted"]), card=rng.choice("ab"))
        elif keys:
            plant.samples(*((key, now, float(rng.randint(0, 8)), rng.choice([0, 0, 0, 0, 3])) for key in keys))
        clock[gateway] = now
    for gateway in ("g", "h"):
        plant.beat(gateway, max(clock.values()) + 10_000)


def judge(
    rows: Sequence[RuleRow], plant: Plant, records: Sequence[Record], rng: random.Random | None
) -> list[Transition]:
    evaluator = Evaluator(rules(*rows), plant.births, SITE)
    result: list[Transition] = []
    for record in records:
        evaluator.feed(record)
        if rng is not None and rng.random() < 0.4:
            result += evaluator.evaluate().transitions
            if rng.random() < 0.4:
                state = evaluator.checkpoint()
                evaluator = Evaluator(rules(*rows), plant.births, SITE)
                evaluator.restore(state)
    return result + evaluator.evaluate().transitions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("births")


HOW = ["difference", "logic", "count", "denials", "rate", "delta", "mean", "min", "max", "duty", "starts"]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 40))
def test_batches_restarts_and_arrival_do_not_matter(seed: int, folder: Path) -> None:
    """Cut into batches, interrupted by restarts: the same alarms. Arriving in another order: at the same times."""
    rng = random.Random(seed)
    plant = Plant(
        folder,
        {
            "g": [signal("A-1/x", max_silence_s=9), signal("A-1/y", max_silence_s=9)],
            "h": [signal("B-1/x", max_silence_s=9), signal("DR-1/contact", lane=Lane.URGENT)],
        },
    )
    rows = [random_row(how, number, rng) for number, how in enumerate(HOW)]
    random_journal(rng, plant)
    whole = judge(rows, plant, plant.records, None)
    assert judge(rows, plant, plant.records, random.Random(seed + 1)) == whole

    def times(told: Sequence[Transition]) -> list[tuple[str, int, str]]:
        return sorted((t.row.key, t.event_ms, str(t.kind)) for t in told)

    # a gateway that was never heard is not waited for: both are known before the order is mixed
    other = [*plant.records[:3], *(r._replace(offset=r.offset + 3) for r in woven(rng, plant.records[3:]))]
    assert times(judge(rows, plant, other, None)) == times(whole)

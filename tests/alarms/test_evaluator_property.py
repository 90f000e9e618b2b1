"""The vectorised judge against a plain one, over random rules, journals, batches, duplicates and restarts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alarms.evaluator import Evaluator
from alarms.judged import Transition
from alarms.rows import Op, RuleRow, StateTest
from watchroom.journal import Record
from watchroom.signals import Lane, SignalSpec

from .plant import SITE, Plant, rules, signal
from .reference import Reference, Told

KEYS = [("g1", "A-1/x", Lane.TELEMETRY), ("g1", "A-1/y", Lane.URGENT), ("g2", "B-1/x", Lane.TELEMETRY)]
CALM = [f"C-{i}/x" for i in range(12)]
"""Signals of g2 that rarely leave their band: most samples of a plant are like that."""
HUGE = 1 << 30
DELAYS = [0, 0, 1, 500, 1000, 2000, 5000]


def random_rule(rng: random.Random, number: int) -> RuleRow:
    key = rng.choice(KEYS)[1]
    others = [other for _, other, _ in KEYS if other != key]
    guard = None
    if rng.random() < 0.3:
        guard = StateTest(signal=rng.choice(others), op=rng.choice([Op.IN, Op.NOT_IN]), values=(1.0, 2.0))
    limits, state = {}, None
    if rng.random() < 0.65:
        cut = sorted(rng.sample(range(0, 11), 4))
        every = dict(zip(("LL", "L", "H", "HH"), map(float, cut), strict=True))
        limits = {level: every[level] for level in rng.sample(list(every), rng.randint(1, 4))}
    elif rng.random() < 0.5:
        values = tuple(float(v) for v in rng.sample(range(0, 11), 3))
        state = StateTest(signal=key, op=rng.choice([Op.IN, Op.NOT_IN]), values=values)
    else:
        state = StateTest(signal=key, op=Op.BITS, mask=rng.choice([1, 2, 4, 6]))
    return RuleRow(
        key=f"r{number}|{key}|",
        rule=f"r{number}",
        version="0",
        equipment=key.partition("/")[0],
        kind="limit" if limits else "state",
        class_="equipment",
        priorities={"": 3},
        signal=key,
        signals=(key, guard.signal) if guard else (key,),
        limits=limits,
        deadband=rng.choice([0.0, 0.5, 1.0, 2.0]),
        on_delay_ms=rng.choice(DELAYS),
        off_delay_ms=rng.choice(DELAYS),
        state=state,
        guard=guard,
    )


def random_journal(rng: random.Random, plant: Plant) -> None:
    """Write samples, bad ones and old ones among them, heartbeats and duplicates."""
    clock = {"g1": 0, "g2": 0}
    level = {key: float(rng.randint(0, 10)) for _, key, _ in KEYS}
    for _ in range(rng.randint(5, 60)):
        gateway, lane = rng.choice([("g1", Lane.TELEMETRY), ("g1", Lane.URGENT), ("g2", Lane.TELEMETRY)])
        clock[gateway] += rng.choice([1, 10, 499, 500, 501, 1000, 1001, 3000, 70_000 if rng.random() < 0.1 else 7])
        now = clock[gateway]
        if rng.random() < 0.25:
            plant.beat(gateway, now, lanes=[int(lane)])
            continue
        rows: list[tuple[str, int, float, int]] = []
        if (gateway, lane) == ("g2", Lane.TELEMETRY) and rng.random() < 0.7:
            calm = [(key, now, 20.0 if rng.random() < 0.05 else 5.0, 0) for key in CALM]
            rows += rng.sample(calm, len(calm)) if rng.random() < 0.3 else calm
        for owner, key, where in KEYS:
            if (owner, where) != (gateway, lane):
                continue
            for i in range(rng.randint(1, 4)):
                if rng.random() < 0.6:
                    level[key] = float(rng.randint(0, 20)) / 2
                time = now - rng.choice([0, 0, 1, 3, 400]) + i * rng.choice([1, 200])
                quality = rng.choice([0, 0, 0, 0, 0, 4, 1, 3])
                rows.append((key, max(time, 0), float("nan") if rng.random() < 0.05 else level[key], quality))
        clock[gateway] = max(now, max(row[1] for row in rows))
        plant.samples(*rows, complete=clock[gateway] if rng.random() < 0.9 else 0)
        if rng.random() < 0.1:
            plant.records.append(plant.records[-1]._replace(offset=len(plant.records)))


def told(transitions: Sequence[Transition]) -> list[Told]:
    return [(t.offset, t.event_ms, t.row.key, str(t.kind), t.level, t.value) for t in transitions]


def calm_rules() -> list[RuleRow]:
    """A limit with a delay for each calm signal."""
    return [
        RuleRow(
            key=f"calm|{key}|",
            rule="calm",
            version="0",
            equipment=key.partition("/")[0],
            kind="limit",
            class_="equipment",
            priorities={"": 3},
            signal=key,
            signals=(key,),
            limits={"H": 10.0, "HH": 19.0},
            on_delay_ms=500 * (i % 3),
            off_delay_ms=700 * (i % 2),
        )
        for i, key in enumerate(CALM)
    ]


def judge(
    rows: Sequence[RuleRow],
    plant: Plant,
    records: Sequence[Record],
    rng: random.Random | None = None,
    *,
    deep: int = HUGE,
) -> list[Transition]:
    """Judge a journal; with a random generator in random batches, with restarts between them."""
    evaluator = Evaluator(rules(*rows), plant.births, SITE, deep=deep)
    result: list[Transition] = []
    for record in records:
        evaluator.feed(record)
        if rng is not None and rng.random() < 0.3:
            result += evaluator.evaluate().transitions
            if rng.random() < 0.3:
                state = evaluator.checkpoint()
                evaluator = Evaluator(rules(*rows), plant.births, SITE, deep=deep)
                evaluator.restore(state)
                assert evaluator.checkpoint() == state
    return result + evaluator.evaluate().transitions


def random_plant(rng: random.Random, folder: Path) -> tuple[Plant, list[RuleRow]]:
    """Return a plant with a journal, and rules."""
    specs: dict[str, Sequence[SignalSpec]] = {
        name: [signal(key, lane=lane, max_silence_s=2.0) for owner, key, lane in KEYS if owner == name]
        for name in dict.fromkeys(owner for owner, _, _ in KEYS)
    }
    specs["g2"] = [*specs["g2"], *(signal(key, max_silence_s=2.0) for key in CALM)]
    plant = Plant(folder, specs)
    rows = [random_rule(rng, number) for number in range(rng.randint(1, 5))] + calm_rules()
    random_journal(rng, plant)
    return plant, rows


def trial(seed: int, folder: Path, *, deep: int = HUGE) -> tuple[list[Told], list[Told], list[Told]]:
    """Return what the reference, one batch, and random batches with restarts say about one random plant."""
    rng = random.Random(seed)
    plant, rows = random_plant(rng, folder)
    reference = Reference(rows, plant.births)
    for record in plant.records:
        reference.feed(record)
    whole = judge(rows, plant, plant.records, deep=deep)
    split = judge(rows, plant, plant.records, random.Random(seed + 1), deep=deep)
    return reference.told, told(whole), told(split)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("births")


@pytest.mark.parametrize("deep", [HUGE, 1, 3], ids=["by steps", "by runs", "by both"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 40))
def test_vectorised_judge_agrees_with_a_plain_one(seed: int, deep: int, folder: Path) -> None:
    """Whatever the rules and the samples, judging many at once says exactly what judging one by one says."""
    plain, whole, split = trial(seed, folder, deep=deep)
    assert whole == plain
    assert split == plain


def woven(rng: random.Random, records: Sequence[Record]) -> list[Record]:
    """Return the records in another order of arrival; those of one gateway keep theirs."""
    queues: dict[str, list[Record]] = {}
    for record in records:
        queues.setdefault(record.gateway, []).append(record)
    result: list[Record] = []
    while queues:
        name = rng.choice(sorted(queues))
        result.append(queues[name].pop(0)._replace(offset=len(result)))
        if not queues[name]:
            del queues[name]
    return result


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 40))
def test_order_of_arrival_does_not_matter(seed: int, folder: Path) -> None:
    """However the frames of several gateways interleave on their way, each alarm rises and clears at the same times."""
    rng = random.Random(seed)
    plant, rows = random_plant(rng, folder)
    # a guard of another gateway is judged as it arrives, that is its nature
    rows = [row for row in rows if row.guard is None]
    other = woven(rng, plant.records)

    def times(records: Sequence[Record]) -> list[tuple[str, int, str, str]]:
        return sorted((t.row.key, t.event_ms, str(t.kind), t.level) for t in judge(rows, plant, records))

    assert times(other) == times(plant.records)

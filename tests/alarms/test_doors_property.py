"""Doors: the judge against a plain one, over random days, gateways that lag, batches, duplicates and restarts."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alarms.evaluator import Evaluator
from alarms.judged import Transition
from watchroom.journal import Record

from .bench import Bench, brief
from .door_reference import RATED, World, judge
from .plant import T0

DOORS = ["DR-1", "DR-2"]
FIRE = "FP-01/fire"
INPUTS = [f"{door}/{name}" for door in DOORS for name in ("contact", "lock", "exit_button")] + [FIRE]
JUDGED = {
    "door.forced",
    "door.tailgating",
    "door.held",
    "door.release_failed",
    "door.unlocked",
    "access.denials",
    "access.denials_door",
}
END = 90_000


def site(folder: Path) -> Bench:
    """Two doors behind two gateways and a fire panel behind a third, all at rest."""
    bench = Bench(
        folder,
        {
            **{door: {"type": "door", "rated": RATED, "release_on": {"FP-01": []}} for door in DOORS},
            "FP-01": {"type": "fire_panel"},
        },
        {"g1": ["DR-1"], "g2": ["DR-2"], "fire": ["FP-01"]},
    )
    bench.plant.tick(0)
    for gateway, specs in bench.plant.gateways.items():
        lanes = {int(spec.lane) for spec in specs}
        for lane in lanes:
            rows = [(spec.key, 0, 0.0) for spec in specs if int(spec.lane) == lane]
            bench.plant.samples(*rows, snapshot=True)
        for door in DOORS:
            if gateway == {"DR-1": "g1", "DR-2": "g2"}[door]:
                bench.plant.event(gateway, door, 0, result="hello")
    bench.plant.tick(1)
    return bench


def random_day(rng: random.Random) -> World:
    """Ninety seconds at two doors: openings, grants, buttons, releases, a fire now and then."""
    world = World({signal: [(0, False)] for signal in INPUTS})
    for signal in INPUTS:
        often = 0.25 if signal.endswith("contact") else 0.06
        time = 0
        while time < END - 10_000:
            time += rng.choice([50, 400, 499, 500, 900, 1000, 3000, 4999, 5000, 5001])
            if rng.random() < (often if signal != FIRE else 0.02):
                world.edges[signal].append((time, True))
                time += rng.choice([50, 300, 2000, 4000, 4001, 8000, 8001, 12_000, 15_001, 30_000])
                if time < END - 1:
                    world.edges[signal].append((time, False))
    for door in DOORS:
        time = 0
        while time < END - 10_000:
            time += rng.choice([300, 1000, 2000, 5000, 9000])
            if rng.random() < 0.5:
                result = rng.choice(["granted", "granted", "denied"])
                world.swipes.append((time, door, rng.choice(["k:a", "k:b"]), result))
    return world


def write(rng: random.Random, bench: Bench, world: World) -> None:
    """Write the day as three gateways tell it, each in its own order, each with its own lag."""
    told: dict[str, list[tuple[int, Callable[[], object]]]] = {"g1": [], "g2": [], "fire": []}
    plant = bench.plant
    owner = {"DR-1": "g1", "DR-2": "g2", "FP-01": "fire"}
    for signal, edges in world.edges.items():
        for time, value in edges[1:]:
            row = (signal, time, float(value))
            told[owner[signal.partition("/")[0]]].append((time, lambda row=row: plant.samples(row)))  # type: ignore[misc]
    for time, door, card, result in world.swipes:
        gateway = owner[door]
        told[gateway].append(
            (time, lambda g=gateway, d=door, t=time, c=card, r=result: plant.event(g, d, t, card=c, result=r))  # type: ignore[misc]
        )
    arrivals: list[tuple[int, int, Callable[[], object]]] = []
    for gateway, items in told.items():
        items += [(t, lambda g=gateway, t=t: plant.beat(g, t)) for t in range(1000, END + 1, 1000)]  # type: ignore[misc]
        lag, now = rng.choice([0, 0, 200, 2500]), 0
        for i, (time, tell) in enumerate(sorted(items, key=lambda item: item[0])):
            now = max(now, time + lag + rng.choice([0, 0, 0, 300]))
            arrivals.append((now, i, tell))
    arrivals += [(t, -1, lambda t=t: plant.tick(t)) for t in range(2000, END + 1, 1000)]  # type: ignore[misc]
    for _, _, tell in sorted(arrivals, key=lambda item: item[:2]):
        tell()


def feed(evaluator: Evaluator, records: list[Record], cuts: set[int]) -> list[Transition]:
    told: list[Transition] = []
    for i, record in enumerate(records):
        evaluator.feed(record)
        if i in cuts:
            told += evaluator.evaluate().transitions
    return told + evaluator.evaluate().transitions


def full(transition: Transition) -> tuple[object, ...]:
    return (*brief(transition), transition.level, transition.offset, transition.arrived_ms, transition.is_late)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 30))
def test_equal_to_the_plain_judge(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever happens at the doors, and however the gateways lag: the alarms are those a plain look would give."""
    rng = random.Random(seed)
    bench = site(tmp_path_factory.mktemp("doors"))
    world = random_day(rng)
    write(rng, bench, world)
    bench.judge()
    told = sorted(brief(t) for t in bench.told if t.row.rule in JUDGED)
    assert told == judge(world, DOORS, FIRE, END)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 30))
def test_batches_restarts_and_duplicates_change_nothing(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One record at a time, all at once, after a restart, or with frames twice: to the record the same alarms."""
    rng = random.Random(seed)
    bench = site(tmp_path_factory.mktemp("doors"))
    write(rng, bench, random_day(rng))
    disturb(rng, bench)
    records = bench.plant.records
    whole = [full(t) for t in feed(bench.new_evaluator(), records, set())]
    single = [full(t) for t in feed(bench.new_evaluator(), records, set(range(len(records))))]
    assert single == whole
    cut = rng.randrange(len(records))
    first, second = bench.new_evaluator(), bench.new_evaluator()
    told = feed(first, records[:cut], {rng.randrange(cut + 1)})
    second.restore(first.checkpoint())
    told += feed(second, records[cut:], {rng.randrange(len(records))})
    assert [full(t) for t in told] == whole
    twice = [
        copy for record in records for copy in ([record, record] if record.gateway and rng.random() < 0.1 else [record])
    ]
    assert [full(t) for t in feed(bench.new_evaluator(), twice, set())] == whole


def disturb(rng: random.Random, bench: Bench) -> None:
    """After the day: a gateway that falls silent and comes back with a backlog, late swipes, a clock that is set."""
    plant = bench.plant
    plant.samples(("DR-1/contact", END + 100, 1.0))
    plant.run(END + 1000, END + 4000, silent=["fire"])
    plant.event("g1", "DR-1", END + 500, seen=END + 4100, result="granted", card="k:a")
    plant.run(END + 5000, END + 40_000, step=1000, silent=["g2", "fire"])
    plant.samples(("DR-2/contact", END + 40_100, 1.0), ("DR-2/lock", END + 40_100, 0.0), snapshot=True)
    plant.samples(("DR-2/contact", END + 10_000, 0.0), arrived=END + 40_200)
    plant.samples(("DR-2/contact", END + 11_000, 1.0), arrived=END + 40_300)
    if rng.random() < 0.5:
        plant.event("g2", "DR-2", END + 10_500, seen=END + 10_600, result="granted", card="k:b")
    plant.run(END + 41_000, END + 50_000, silent=["fire"] if rng.random() < 0.5 else [])
    plant.samples(("DR-1/contact", END + 51_000, 0.0))
    plant.samples(("DR-1/contact", END + 51_050, 1.0))
    if rng.random() < 0.5:
        plant.clock_gen = 2
        plant.beat("g1", END - 3_000_000)
    plant.run(END + 52_000, END + 60_000)


def test_the_day_is_rich_enough() -> None:
    """The random days hold alarms of every kind, or the comparison would prove little."""
    seen = {
        told[0].partition("|")[0]
        for seed in range(40)
        for told in judge(random_day(random.Random(seed)), DOORS, FIRE, END)
    }
    assert seen == JUDGED
    assert T0 > 0

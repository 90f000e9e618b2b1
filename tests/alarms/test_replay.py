"""The same journal gives the same alarms, however it is cut and wherever the judge is restarted: all kinds of rules."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alarms.evaluator import Evaluator
from alarms.judged import JudgedEvent, Transition
from watchroom.frames import FLAG_SIMULATED
from watchroom.journal import Record

from .bench import Bench
from .plant import SITE, Plant

GATEWAYS = ["gate", "fire-room", "pumps"]
PAUSES = [100, 500, 1000, 1000, 1000, 900, 7000, 40_000]
Told = tuple[object, ...]


class Life:
    """Some minutes of doors, cards, fire, water, outages, backlogs, lost frames, a drill and a stepped clock."""

    def __init__(self, plant: Plant, rng: random.Random) -> None:
        self.plant, self.rng = plant, rng
        self.silent: set[str] = set()
        self.held: list[Record] = []
        self.keys: dict[tuple[str, int], list[str]] = {}
        for key, (owner, _, where) in plant._alias.items():
            self.keys.setdefault((owner, int(where)), []).append(key)

    def live(self) -> None:
        """Write the records."""
        rng, plant, time = self.rng, self.plant, 0
        plant.tick(0)
        for _ in range(rng.randint(20, 80)):
            before, time = time, time + rng.choice(PAUSES)
            if rng.random() < 0.7:  # else the centre was down meanwhile
                plant.run(before + 4000, time, step=4000, silent=sorted(self.silent))
            what = rng.random()
            if what < 0.35:
                plant.run(time, time, silent=sorted(self.silent))
            elif what < 0.4:
                self.silent.symmetric_difference_update({rng.choice(GATEWAYS)})
            elif what < 0.45 and "gate" not in self.silent:
                result = rng.choice(["granted", "denied"])
                plant.event("gate", "DR-1", time - rng.choice([0, 500, 3_600_000]), seen=time, result=result)
            elif what < 0.52 and "gate" not in self.silent:
                plant.samples(("DR-1/contact", time, 0.0))
                plant.samples(("DR-1/contact", time + 50, 1.0))
            elif what < 0.53:
                plant.flags ^= FLAG_SIMULATED
            elif what < 0.54:
                plant.clock_gen += 1
            else:
                self._samples(time)
        plant.records[:] = [record._replace(offset=offset) for offset, record in enumerate(plant.records)]

    def _samples(self, time: int) -> None:
        rng, records = self.rng, self.plant.records
        gateway, lane = rng.choice(list(self.keys))
        if gateway in self.silent:
            return
        mine = self.keys[gateway, lane]
        late = rng.choice([0, 0, 20_000])
        rows = [
            (key, max(0, time - late), rng.choice([0.0, 1.0, 0.2, 99.0]), rng.choice([0, 0, 1]))
            for key in rng.sample(mine, min(len(mine), rng.randint(1, 3)))
        ]
        is_snapshot = rng.random() < 0.1
        record = self.plant.samples(*rows, complete=0 if late else time, snapshot=is_snapshot, arrived=time)
        if rng.random() < 0.1:
            records.remove(record)
            self.held.append(record)
        elif self.held and rng.random() < 0.3:
            records.append(self.held.pop()._replace(arrived_ms=record.arrived_ms))
        elif rng.random() < 0.1:
            records.append(record)


def judge(bench: Bench, records: Sequence[Record], rng: random.Random | None = None) -> list[Told]:
    """Judge in one batch, or with a random generator in random batches with restarts."""
    evaluator = bench.new_evaluator()
    transitions: list[Transition] = []
    events: list[JudgedEvent] = []
    for record in records:
        evaluator.feed(record)
        if rng is None or rng.random() < 0.6:
            continue
        judged = evaluator.evaluate()
        transitions += judged.transitions
        events += judged.events
        if rng.random() < 0.3:
            state = evaluator.checkpoint()
            evaluator = Evaluator(bench.rules, bench.plant.births, SITE)
            evaluator.restore(state)
    judged = evaluator.evaluate()
    return [*told(transitions + judged.transitions, events + judged.events), *newest(evaluator)]


def told(transitions: Sequence[Transition], events: Sequence[JudgedEvent]) -> list[Told]:
    result: list[Told] = []
    for t in transitions:
        head = (t.row.key, str(t.kind), t.event_ms, t.arrived_ms, repr(t.value), t.quality)
        result.append((*head, t.level, t.is_late, t.is_simulated, t.offset, t.cause))
    return result + [(e.gateway, e.event.id, e.is_simulated, e.offset, e.judged_ms) for e in events]


def newest(evaluator: Evaluator) -> list[Told]:
    latest = evaluator.latest()
    values = map(repr, latest.value.tolist())
    return list(zip(latest.keys, latest.time_ms.tolist(), values, latest.is_stale.tolist(), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("births")


def live(seed: int, folder: Path) -> tuple[Bench, list[Told]]:
    """Return a plant with a random life, and what one batch says about it."""
    bench = Bench(
        folder,
        {
            "DR-1": {"type": "door"},
            "FP-01": {"type": "fire_panel", "zones": 2},
            "SP-1": {"type": "sump"},
            "TK-1": {"type": "tank"},
            "GW-1": {"type": "gateway", "gateway": "gate"},
            "GW-2": {"type": "gateway", "gateway": "fire-room"},
            "GW-3": {"type": "gateway", "gateway": "pumps"},
        },
        {"gate": ["DR-1"], "fire-room": ["FP-01"], "pumps": ["SP-1"]},
    )
    Life(bench.plant, random.Random(seed)).live()
    return bench, judge(bench, bench.plant.records)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 40))
def test_replay_is_exact(seed: int, folder: Path) -> None:
    """Whatever happens in the plant: one batch, many batches and restarts tell the same, to the last field."""
    bench, whole = live(seed, folder)
    assert judge(bench, bench.plant.records, random.Random(seed + 1)) == whole


def test_the_lives_are_eventful(folder: Path) -> None:
    """The random lives raise sequence, health, state, limit and late alarms: the comparison is not of nothing."""
    rows = [row for seed in range(60) for row in live(seed, folder)[1] if len(row) == 11]
    rules = {str(row[0]).partition("|")[0] for row in rows}
    assert {"door.forced", "gateway.silent", "data.bad", "float.high", "level.high", "zone.fire"} <= rules
    assert {row[7] for row in rows} == {False, True}

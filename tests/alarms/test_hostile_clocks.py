"""Clocks that lie: an hour back, no time at boot, a fast reader beside slow neighbours. Alarms come all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.alarms.bench import Bench
from watchroom.signals import Lane

from .plant import T0, Plant, rules, signal
from .test_evaluator import MODE, Judge, X, row

HOUR = 3_600_000


def test_clock_stepped_back_an_hour(tmp_path: Path) -> None:
    """After a step of an hour back the alarm clears by what is measured now; the next one raises at its new time."""
    judge = Judge(tmp_path, row(on=5000))
    judge.values((HOUR, 5.0), (HOUR + 1000, 11.0))
    judge.plant.beat("g", HOUR + 7000)
    assert judge.told() == [("RAISE", HOUR + 6000)]
    judge.plant.clock_gen = 2
    judge.plant.samples((X, 8000, 5.0), complete=8000, snapshot=True, arrived=HOUR + 8000)
    assert judge.told() == [("CLEAR", 8000)]
    judge.plant.samples((X, 9000, 11.0), complete=9000, arrived=HOUR + 9000)
    judge.plant.samples((X, 13_000, 11.0), complete=13_000, arrived=HOUR + 13_000)
    assert judge.told() == []
    judge.plant.samples((X, 14_001, 11.0), complete=14_001, arrived=HOUR + 14_001)
    assert judge.told() == [("RAISE", 14_000)]


def test_clock_stepped_back_satisfies_no_delay(tmp_path: Path) -> None:
    """A delay that ran when the clock stepped starts anew: two clocks cannot be subtracted."""
    judge = Judge(tmp_path, row(on=10_000))
    judge.values((HOUR, 5.0), (HOUR + 1000, 11.0))
    assert judge.told() == []
    judge.plant.clock_gen = 2
    judge.plant.samples((X, 2000, 11.0), complete=2000, snapshot=True, arrived=HOUR + 2000)
    judge.plant.samples((X, 11_000, 11.0), complete=11_000, arrived=HOUR + 11_000)
    assert judge.told() == []
    judge.plant.samples((X, 12_001, 11.0), complete=12_001, arrived=HOUR + 12_001)
    assert judge.told() == [("RAISE", 12_000)]


def test_boot_without_network_time(tmp_path: Path) -> None:
    """A gateway that boots in 1970 raises where no delay asks for time, and goes on when its clock is set."""
    judge = Judge(tmp_path, row(), row(key=MODE, limits={"H": 0.5}, on=3000))
    boot = -T0 + 5000
    judge.plant.base_ms, judge.plant.clock_gen = 0, 3
    judge.plant.samples((X, boot, 5.0), complete=boot, arrived=0)
    judge.plant.samples((X, boot + 1000, 11.0), complete=boot + 1000, arrived=1000)
    assert judge.told() == [("RAISE", boot + 1000)]
    judge.plant.samples((MODE, boot + 1500, 1.0), complete=boot + 1500, arrived=1500)
    judge.plant.base_ms, judge.plant.clock_gen = T0, 4
    judge.plant.samples((X, 2000, 11.0), complete=2000, snapshot=True, arrived=2000)
    judge.plant.samples((MODE, 2100, 1.0), complete=2100, snapshot=True, arrived=2100)
    assert judge.told() == []
    judge.plant.samples((X, 3000, 5.0), complete=3000, arrived=3000)
    assert judge.told() == [("CLEAR", 3000)]
    judge.plant.samples((MODE, 5200, 1.0), complete=5200, arrived=5200)
    kind, at = judge.told()[0]
    assert kind == "RAISE"
    assert 2000 + 3000 <= at <= 2100 + 3000


DOORS: dict[str, dict[str, Any]] = {"DR-S1": {"type": "door"}, "DR-S2": {"type": "door"}}


def test_fast_reader_clock_beside_slow_neighbours(tmp_path: Path) -> None:
    """A reader four seconds fast and one four seconds slow: granted entries force no door, others do."""
    bench = Bench(tmp_path, DOORS, {"g": ["DR-S1", "DR-S2"]})
    for door in DOORS:
        bench.plant.samples((f"{door}/contact", 0, 0.0))
    bench.plant.run(1000, 9000)
    # both are read at 10 s by the gateway's clock; only the devices' own clocks differ
    bench.plant.event("g", "DR-S1", 14_000, seen=10_000, result="granted", card="k:1")
    bench.plant.event("g", "DR-S2", 6_000, seen=10_000, result="granted", card="k:2")
    bench.plant.samples(("DR-S2/contact", 10_500, 1.0))
    bench.plant.samples(("DR-S2/contact", 12_000, 0.0))
    bench.plant.run(13_000, 20_000)
    bench.judge()
    assert bench.rows("door.forced") == []
    bench.plant.samples(("DR-S2/contact", 30_000, 1.0))
    bench.plant.run(31_000, 40_000)
    bench.judge()
    assert [t.row.equipment for t in bench.rows("door.forced") if str(t.kind) == "RAISE"] == ["DR-S2"]


def test_fast_gateway_does_not_hurry_its_neighbour(tmp_path: Path) -> None:
    """A gateway whose clock is ten minutes fast raises by its own time and ends no delay of another gateway."""
    judge = Judge(tmp_path, row(on=60_000), row(key="B-1/z", on=60_000))
    judge.plant = Plant(tmp_path / "two", {"g": [signal(X), signal(MODE, lane=Lane.URGENT)], "h": [signal("B-1/z")]})
    judge.evaluator = type(judge.evaluator)(rules(*judge.rows), judge.plant.births, "test-site")
    judge.plant.samples((X, 0, 11.0))
    judge.plant.samples(("B-1/z", 600_000, 5.0), arrived=0)
    for second in range(1, 50):
        judge.plant.samples(("B-1/z", 600_000 + second * 1000, 5.0), arrived=second * 1000)
        judge.plant.samples((X, second * 1000, 11.0), arrived=second * 1000)
    assert judge.told() == []
    judge.plant.samples((X, 60_001, 11.0), arrived=60_001)
    assert judge.told() == [("RAISE", 60_000)]

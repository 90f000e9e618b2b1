"""Why is this in alarm, or not: the answer for each thing that can hold a rule back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from alarms.engine import AlarmEngine
from alarms.explain import REASONS, lines
from tests.alarms.bench import Bench
from tests.alarms.plant import SITE, T0
from watchroom.database.connect import open_database
from watchroom.disk import RealDisk
from watchroom.journal import FileJournal

DEADLINE_S = 20.0
FLOAT = "SP-01/float_high"
SUMP: dict[str, dict[str, Any]] = {
    "SP-01": {"type": "sump", "rated": {"pumps": 2}},
    "GW-01": {"type": "gateway", "gateway": "g"},
}
OWN = """\
rules:
  deep:
    equipment: {type: sump}
    limit: {signal: level, H: 2.0, HH: 3.0}
    deadband: 0.5
    on_delay: 10s
    off_delay: 20s
    when: {signal: p1_state, in: [1]}
    class: equipment
    priority: 2
"""


def site(folder: Path) -> Bench:
    bench = Bench(folder, SUMP, {"g": ["SP-01"]}, rules=OWN)
    bench.plant.samples(("SP-01/p1_state", 0, 1.0))
    bench.plant.samples(("SP-01/level", 0, 1.0))
    return bench


def high(bench: Bench) -> dict[str, Any]:
    """What the H condition of the own rule says now."""
    bench.judge()
    found = bench.evaluator.explain("SP-01/level")
    row = next(row for row in found["rules"] if row["rule"] == "deep")
    return next(one for one in row["conditions"] if one["level"] == "H")


def test_delay_that_runs_tells_what_is_left(tmp_path: Path) -> None:
    """In mid-delay the answer is: true since then, four of ten seconds left, not in alarm."""
    bench = site(tmp_path)
    bench.plant.samples(("SP-01/level", 1000, 2.5))
    bench.plant.beat("g", 7000)
    told = high(bench)
    assert told["reason"] == "on_delay"
    assert (told["is_true"], told["is_active"]) == (True, False)
    assert (told["since_ms"], told["delay_ms"], told["left_ms"]) == (T0 + 1000, 10_000, 4_000)
    assert (told["value"], told["limit"], told["test"]) == (2.5, 2.0, "> 2")


def test_every_reason_is_told_apart(tmp_path: Path) -> None:
    """Normal, in alarm, in the deadband, clearing, guard off, bad data: each is named."""
    bench = site(tmp_path)
    assert high(bench)["reason"] == "normal"
    bench.plant.samples(("SP-01/level", 1000, 2.5))
    bench.plant.beat("g", 12_000)
    assert high(bench)["reason"] == "active"
    bench.plant.samples(("SP-01/level", 13_000, 1.8))
    assert high(bench)["reason"] == "deadband"
    bench.plant.samples(("SP-01/level", 14_000, 0.5))
    told = high(bench)
    assert (told["reason"], told["left_ms"]) == ("off_delay", 20_000)
    bench.plant.samples(("SP-01/level", 15_000, 9.0))
    bench.plant.samples(("SP-01/p1_state", 15_500, 0.0))
    bench.plant.beat("g", 60_000)
    told = high(bench)
    assert told["reason"] == "guard_off"
    assert told["guard"] == {"signal": "SP-01/p1_state", "test": "in [1]", "value": 0.0, "holds": False}
    bench.plant.samples(("SP-01/level", 61_000, 9.0, 3))
    assert high(bench)["reason"] == "bad_quality"
    bench.plant.samples(("SP-01/level", 62_000, 1.0))
    bench.plant.beat("g", 152_001)
    assert high(bench)["reason"] == "stale"


def test_silent_gateway_and_signal_never_seen(tmp_path: Path) -> None:
    """A signal nobody has sent, and one whose gateway has fallen silent, are told as such."""
    bench = Bench(tmp_path, SUMP, {"g": ["SP-01"]}, rules=OWN)
    assert high(bench)["reason"] == "never_seen"
    bench.plant.samples(("SP-01/level", 0, 1.0))
    bench.plant.run(1000, 60_000, silent=["g"])
    assert high(bench)["reason"] == "gateway_silent"
    assert bench.evaluator.explain("SP-01/level")["signal"]["is_gateway_silent"]


def test_unknown_signal(tmp_path: Path) -> None:
    """A misspelt signal is said to be unknown, not normal."""
    found = site(tmp_path).evaluator.explain("SP-01/levle")
    assert found["rules"] == []
    assert "no rule and no gateway" in lines(found)[0]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_lines_for_a_terminal(tmp_path: Path, lang: str) -> None:
    """The text names value, limit, reason, what is left and the guard, in both languages."""
    bench = site(tmp_path)
    bench.plant.samples(("SP-01/level", 1000, 2.5))
    bench.judge()
    text = "\n".join(lines(bench.evaluator.explain("SP-01/level"), lang=lang))
    assert "deep|SP-01|" in text
    assert "> 2" in text
    assert "10 s left of 10 s" in text
    assert REASONS["on_delay"][lang] in text
    assert "guard SP-01/p1_state in [1]: holds (1)" in text


@contextmanager
def running(engine: AlarmEngine, end: int) -> Iterator[None]:
    """Run an engine; the block begins when it has written everything before a position."""
    stop = threading.Event()
    thread = threading.Thread(target=engine.run, args=(stop,))
    thread.start()
    try:
        deadline = time.monotonic() + DEADLINE_S
        while engine.status()["committed"] < end:
            assert time.monotonic() < deadline, "everything must be judged and written"
            stop.wait(0.01)
        yield
    finally:
        stop.set()
        engine.wake()
        thread.join(DEADLINE_S)
    assert not thread.is_alive()


def test_engine_adds_what_sql_knows(tmp_path: Path) -> None:
    """The engine's answer has the alarm's state and its last events with local times."""
    bench = Bench(tmp_path / "site", SUMP, {"g": ["SP-01"]})
    journal = FileJournal(tmp_path / "journal")
    bench.plant.samples((FLOAT, 0, 0.0), (FLOAT, 1000, 1.0))
    bench.plant.beat("g", 60_000)
    for record in bench.plant.records:
        journal.append(SITE, record.gateway, record.payload, arrived_ms=record.arrived_ms)
    end = journal.sync(SITE)
    engine = AlarmEngine(
        bench.site,
        bench.rules,
        journal=journal,
        births=bench.plant.births,
        database=open_database(f"sqlite:///{tmp_path / 'w.db'}"),
        folder=tmp_path / "alarms",
        disk=RealDisk(),
        on_commit=lambda _: None,
        now_ms=lambda: T0 + 60_000,
        registry=CollectorRegistry(),
    )
    with running(engine, end):
        found = engine.explain(FLOAT)
    row = next(row for row in found["rules"] if row["rule"] == "float.high")
    assert (row["is_active"], row["state"], row["overlays"]) == (True, "UNACK", [])
    assert [event["kind"] for event in row["events"]] == ["RAISE"]
    assert row["events"][0]["time"].endswith("+08:00")
    assert "alarm UNACK" in "\n".join(lines(found))

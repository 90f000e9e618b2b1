"""Rules that change while the engine runs: unchanged ones keep their state, removed ones clear; nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from alarms.engine import AlarmEngine
from alarms.evaluator import Evaluator
from alarms.rules import compile_rules
from alarms.templates import load_templates
from tests.alarms.bench import Bench, small_site
from tests.alarms.plant import SITE, T0
from watchroom.database.connect import open_database, reading
from watchroom.database.tables import alarm
from watchroom.disk import RealDisk
from watchroom.journal import FileJournal

DEADLINE_S = 20.0
SUMP: dict[str, dict[str, Any]] = {"SP-01": {"type": "sump", "rated": {"pumps": 2}}}
LEVEL = "SP-01/level"
HEAD = "rules:\n"
DEEP = "  deep: {equipment: {type: sump}, limit: {signal: level, H: 2.0, HH: 3.0}, class: equipment, priority: 2}\n"
SLOW = (
    "  slow: {equipment: {type: sump}, limit: {signal: level, H: 2.0}, on_delay: 10s, class: equipment, priority: 2}\n"
)
DEEP_WITHOUT_HH = DEEP.replace(", HH: 3.0", "")


class Room:
    """An engine over a journal that a bench writes."""

    def __init__(self, folder: Path, rules: str) -> None:
        self.bench = Bench(folder / "site", SUMP, {"g": ["SP-01"]}, rules=HEAD + rules)
        self.journal = FileJournal(folder / "journal")
        self.database = open_database(f"sqlite:///{folder / 'w.db'}")
        self._written = 0
        self.engine = AlarmEngine(
            self.bench.site,
            self.bench.rules,
            journal=self.journal,
            births=self.bench.plant.births,
            database=self.database,
            folder=folder / "alarms",
            disk=RealDisk(),
            on_commit=lambda _: None,
            now_ms=lambda: T0 + self.bench.plant.now,
            registry=CollectorRegistry(),
        )

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline, pause = time.monotonic() + DEADLINE_S, threading.Event()
        while not condition():
            assert time.monotonic() < deadline, what
            pause.wait(0.01)

    def judge(self) -> None:
        """Write what the bench has made, and wait until the engine has committed it."""
        new = self.bench.plant.records[self._written :]
        self._written = len(self.bench.plant.records)
        for record in new:
            self.journal.append(SITE, record.gateway, record.payload, arrived_ms=record.arrived_ms)
        end = self.journal.sync(SITE)
        self.until(lambda: self.engine.status()["committed"] >= end, "everything must be judged")

    def change(self, rules: str) -> None:
        ruleset = compile_rules(small_site(SUMP, rules=HEAD + rules), load_templates())
        self.engine.reload(ruleset)
        self.until(lambda: self.engine.status()["rules_version"] == ruleset.version, "the rules must change")

    def alarms(self, rule: str) -> list[tuple[bool, str, str]]:
        query = select(alarm.c.is_active, alarm.c.level, alarm.c.state).where(alarm.c.rule == rule)
        with reading(self.database) as connection:
            return [tuple(row) for row in connection.execute(query.order_by(alarm.c.raised_ms))]

    @contextmanager
    def running(self) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self.engine.run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            self.engine.wake()
            thread.join(DEADLINE_S)
        assert not thread.is_alive()


def test_rule_removed_while_active_clears_and_others_keep_their_delay(tmp_path: Path) -> None:
    """The alarm of a removed rule clears as retired; a delay of another rule ends when it would have."""
    room = Room(tmp_path, DEEP + SLOW)
    with room.running():
        room.bench.plant.samples((LEVEL, 0, 1.0))
        room.bench.plant.samples((LEVEL, 1000, 2.5))
        room.bench.plant.beat("g", 6000)
        room.judge()
        assert room.alarms("deep") == [(True, "H", "UNACK")]
        room.change(SLOW)
        room.until(lambda: room.alarms("deep") == [(False, "H", "RTNUN")], "the alarm of the removed rule must clear")
        assert room.alarms("slow") == []
        room.bench.plant.beat("g", 11_001)
        room.judge()
        assert room.alarms("slow") == [(True, "H", "UNACK")]
        with reading(room.database) as connection:
            since = connection.execute(select(alarm.c.raised_ms).where(alarm.c.rule == "slow")).scalar()
        assert since == T0 + 11_000


def test_level_that_is_gone_eases(tmp_path: Path) -> None:
    """An alarm at HH goes to H when the rule loses HH: at the next record, and once."""
    room = Room(tmp_path, DEEP)
    with room.running():
        room.bench.plant.samples((LEVEL, 0, 9.0))
        room.judge()
        assert room.alarms("deep") == [(True, "HH", "UNACK")]
        room.change(DEEP_WITHOUT_HH)
        room.bench.plant.beat("g", 2000)
        room.judge()
        assert room.alarms("deep") == [(True, "H", "UNACK")]
        room.bench.plant.samples((LEVEL, 3000, 1.0))
        room.judge()
        assert room.alarms("deep") == [(False, "H", "RTNUN")]


@pytest.mark.parametrize("same", [True, False])
def test_unchanged_rules_judge_on_as_if_nothing_happened(tmp_path: Path, same: bool) -> None:
    """Taking over the same rules, or rules with one more, in mid-delay, gives the transitions of no change."""
    bench = Bench(tmp_path, SUMP, {"g": ["SP-01"]}, rules=HEAD + DEEP + SLOW)
    bench.plant.samples((LEVEL, 0, 1.0))
    bench.plant.samples((LEVEL, 1000, 2.5))
    bench.judge()
    more = "" if same else DEEP.replace("deep", "other").replace("H: 2.0", "H: 2.9")
    ruleset = compile_rules(small_site(SUMP, rules=HEAD + DEEP + SLOW + more), load_templates())
    changed = Evaluator(ruleset, bench.plant.births, SITE)
    changed.restore(bench.evaluator.checkpoint())
    bench.plant.beat("g", 12_000)
    bench.plant.samples((LEVEL, 13_000, 1.0))
    for record in bench.plant.records[2:]:
        changed.feed(record)
    mine = [(t.row.key, str(t.kind), t.event_ms - T0) for t in changed.evaluate().transitions]
    assert mine == bench.judge()
    assert ("slow|SP-01|", "RAISE", 11_000) in mine

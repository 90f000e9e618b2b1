"""What other rules would have said: the stored journal judged twice, the alarms of each rule side by side."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from alarms.evaluator import Evaluator
from alarms.judged import Change
from alarms.rules import compile_rules
from alarms.templates import load_templates
from alarms.whatif import compare
from tests.alarms.bench import Bench, small_site
from tests.alarms.plant import SITE, T0
from watchroom.births import BirthStore
from watchroom.cli import run
from watchroom.journal import FileJournal

SUMP: dict[str, dict[str, Any]] = {"SP-01": {"type": "sump", "rated": {"pumps": 2}}}
LEVEL = "SP-01/level"
RULES = (
    "rules:\n  own: {{equipment: {{type: sump}}, limit: {{signal: level, H: {high}}}, class: equipment, priority: 2}}\n"
)
MINUTE = 60_000


def wave(bench: Bench) -> None:
    """Ten minutes: the level swings to 1.0, every other time to 1.6, each for half a minute."""
    for minute in range(10):
        bench.plant.samples((LEVEL, minute * MINUTE, 1.6 if minute % 2 else 1.0))
        bench.plant.samples((LEVEL, minute * MINUTE + 30_000, 0.2))
        bench.plant.tick(minute * MINUTE + 31_000)


def test_alarms_before_and_after_are_those_of_each_judge(tmp_path: Path) -> None:
    """A limit of 0.9 raises ten times, one of 1.5 five times; half a minute each; only within the stretch."""
    bench = Bench(tmp_path, SUMP, {"g": ["SP-01"]}, rules=RULES.format(high=0.9))
    wave(bench)
    other = compile_rules(small_site(SUMP, rules=RULES.format(high=1.5)), load_templates())

    def judged(start: int, end: int) -> Any:
        pair = bench.new_evaluator(), Evaluator(other, bench.plant.births, SITE)
        lines, samples = compare(bench.plant.records, *pair, start_ms=T0 + start, end_ms=T0 + end)
        assert samples == 20
        return next(line for line in lines if line.rule == "own")

    whole = judged(0, 10 * MINUTE)
    assert (whole.before, whole.after, whole.rows_before) == (10, 5, 1)
    assert (whole.active_before_ms, whole.active_after_ms) == (300_000, 150_000)
    part = judged(MINUTE + 10_000, 3 * MINUTE + 10_000)
    assert (part.before, part.after) == (2, 1)
    assert (part.active_before_ms, part.active_after_ms) == (20_000 + 30_000 + 10_000, 20_000 + 10_000)


def test_same_rules_say_what_was_said_live(tmp_path: Path) -> None:
    """With the rules in force the counts are those of the live journal."""
    bench = Bench(tmp_path, SUMP, {"g": ["SP-01"]}, rules=RULES.format(high=0.9))
    wave(bench)
    lines, _ = compare(
        bench.plant.records, bench.new_evaluator(), bench.new_evaluator(), start_ms=T0, end_ms=T0 + 20 * MINUTE
    )
    bench.judge()
    live = {rule: sum(t.kind is Change.RAISE for t in bench.rows(rule)) for rule in {t.row.rule for t in bench.told}}
    assert {line.rule: line.before for line in lines} == live
    assert all(line.before == line.after and line.active_before_ms == line.active_after_ms for line in lines)


@pytest.fixture
def room(tmp_path: Path) -> tuple[Path, Path]:
    """A site folder and a data folder with ten minutes of journal."""
    site, data = tmp_path / "site", tmp_path / "data"
    site.mkdir()
    (site / "site.yaml").write_text(
        f"site: {{id: {SITE}, name: {{zh: 测试, en: Test & co}}, zone: Asia/Shanghai}}\n"
        "places:\n  P: {kind: area, name: {zh: 处, en: Place}, outline: [[0, 0], [9, 0], [9, 9]]}\n",
        encoding="utf-8",
    )
    (site / "equipment.yaml").write_text(
        "SP-01: {type: sump, place: P, name: {zh: 井, en: Sump}, rated: {pumps: 2}}\n", encoding="utf-8"
    )
    (site / "rules.yaml").write_text(RULES.format(high=0.9), encoding="utf-8")
    bench = Bench(tmp_path / "plant", SUMP, {"g": ["SP-01"]})
    wave(bench)
    births, journal = BirthStore(data / "births"), FileJournal(data / "journal")
    for birth in bench.plant.births.all(SITE):
        births.put(SITE, birth.to_json())
    for record in bench.plant.records:
        journal.append(SITE, record.gateway, record.payload, arrived_ms=record.arrived_ms)
    journal.sync(SITE)
    journal.close()
    return site, data


def test_command(room: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`watchroom replay` prints the table and writes the page; the journal stays as it was."""
    site, data = room
    (tmp_path / "new.yaml").write_text(RULES.format(high=1.5), encoding="utf-8")
    before = {path: path.read_bytes() for path in (data / "journal").rglob("*") if path.is_file()}
    arguments = ["replay", str(site), "--rules", str(tmp_path / "new.yaml"), "--data", str(data)]
    span = ["--from", str(T0), "--to", str(T0 + 10 * MINUTE)]
    assert run([*arguments, *span, "--html", str(tmp_path / "out.html")]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^own +10 +5 +-5 +1 +1 +5\.0 +2\.5$", told, re.MULTILINE), told
    assert "20 samples judged twice" in told
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "Test &amp; co" in page
    assert "<td>own</td><td>10</td><td>5</td><td>-5</td>" in page
    assert {path: path.read_bytes() for path in (data / "journal").rglob("*") if path.is_file()} == before
    assert run([*arguments, "--from", "tomorrow"]) == 2
    assert run([*arguments, "--from", str(T0), "--to", str(T0)]) == 2
    assert run([*arguments[:-1], str(tmp_path / "empty"), *span]) == 2
    assert "no journal" in capsys.readouterr().err

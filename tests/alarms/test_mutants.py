"""The property test would notice: each of these mistakes, made on purpose, makes it fail."""

from __future__ import annotations

import inspect
import random
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import alarms.chunk
import alarms.conditions
import alarms.evaluator
import alarms.levels
import alarms.runs
import alarms.sifting
import alarms.steps
from alarms.rows import RuleRow

from .plant import Plant
from .reference import Reference, Told
from .test_evaluator_property import HUGE, judge, random_plant, told

SEEDS = range(150)
SPLIT_SEEDS = range(30)

MUTANTS = [
    ("no deadband above", alarms.conditions, "Conditions", "test.limit - test.deadband if", "test.limit if"),
    ("no deadband below", alarms.conditions, "Conditions", "else test.limit + test.deadband", "else test.limit"),
    (
        "at the limit counts as above",
        alarms.conditions,
        "Conditions",
        "signed > self._limit",
        "signed >= self._limit",
    ),
    (
        "late samples are judged",
        alarms.sifting,
        "Sieve",
        "is_late: Bools = time_ms <= before",
        "is_late: Bools = time_ms < 0",
    ),
    ("the watermark counts when it is reached", alarms.chunk, "Chunk", 'side="right"', 'side="left"'),
    ("easing is told as escalation", alarms.levels, "RowLevels", "Change.EASE if", "Change.ESCALATE if"),
    (
        "quiet samples overwrite late ones",
        alarms.sifting,
        "Sieve",
        "table.time_ms[old[0]], table.value[old[0]], table.quality[old[0]] = old[1:]",
        "pass",
    ),
    (
        "a step of exactly the delay matures",
        alarms.steps,
        "Steps",
        "(time_ms[waiting] > due_ms)",
        "(time_ms[waiting] >= due_ms)",
    ),
    ("steps judge bad samples", alarms.steps, "Steps", "verdict[~is_usable] = 0", "pass"),
    ("steps forget the guard", alarms.steps, "Steps", "(hyst > 0) & (guard > 0)", "(hyst > 0) & (guard > -9)"),
    ("steps count unknown time", alarms.steps, "Steps", "(is_known | confirms)", "(is_known | True)"),
    ("a guard's sample confirms", alarms.steps, "Steps", "confirms &= ~step.is_guard[waiting]", "pass"),
    (
        "steps prove by stale samples",
        alarms.steps,
        "Steps",
        "+ table.stale_ms[signal] > due_ms",
        "> due_ms - (1 << 61)",
    ),
    ("steps never ask the watermark", alarms.steps, "Steps", "(at < NO_RECORD)", "(at < -1)"),
    ("a watermark counts before its samples", alarms.steps, "Steps", "(at < record)", "(at <= record)"),
    (
        "time of two signals runs back",
        alarms.steps,
        "Steps",
        "np.maximum(step.time_ms, state.item_ms[condition])",
        "step.time_ms",
    ),
    ("a short delay is none", alarms.steps, "Steps", "(delay == 0) &", "(delay <= 1) &"),
    (
        "a signal in alarm counts as clean",
        alarms.steps,
        "Steps",
        "table.is_clean[signal[position[busy]]] = False",
        "pass",
    ),
    ("touched conditions pend no more", alarms.steps, "Steps", "if now.any():", "if False:"),
]

RUNS = [
    (
        "a run of exactly the delay matures",
        alarms.runs,
        "judge_runs",
        "(stream.time_ms[closing] > event_ms[before])",
        "(stream.time_ms[closing] >= event_ms[before])",
    ),
    (
        "the carried run is dropped",
        alarms.runs,
        "judge_runs",
        "np.where(is_carried, state.since[condition], stream.time_ms[first])",
        "stream.time_ms[first]",
    ),
    ("the guard is forgotten", alarms.runs, "judge_runs", "(hyst > 0) & (guard > 0)", "(hyst > 0) & (guard > -9)"),
    ("bad samples are judged", alarms.runs, "judge_runs", "use = items.is_usable", "use = items.value == items.value"),
    ("unknown time counts", alarms.runs, "judge_runs", "& was_known[closing]", "& (was_known[closing] | True)"),
    ("stale samples count", alarms.runs, "judge_runs", "is_known & (fresh_until_ms > event_ms[run])", "is_known"),
    (
        "the watermark is never asked",
        alarms.runs,
        "judge_runs",
        "(at >= 0) & (at < closed_by)",
        "(at >= 0) & (at < -1)",
    ),
]


def mutant(module: ModuleType, name: str, old: str, new: str) -> object:
    """Return a name of a module whose source was changed in one place."""
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {module.__name__}"
    changed = ModuleType(module.__name__)
    changed.__dict__["__file__"] = module.__file__
    # dataclasses look their module up: the original serves, its types are the same
    exec(compile(source.replace(old, new), str(module.__file__), "exec"), changed.__dict__)
    return getattr(changed, name)


def is_noticed(folder: Path, *, deep: int) -> bool:
    """Whether any trial of the property test fails; in one batch first, that is the quicker one."""
    for seed in SEEDS:
        plant, rows, plain = known(seed, folder)
        if told(judge(rows, plant, plant.records, deep=deep)) != plain:
            return True
    for seed in SPLIT_SEEDS:
        plant, rows, plain = known(seed, folder)
        if told(judge(rows, plant, plant.records, random.Random(seed), deep=deep)) != plain:
            return True
    return False


@cache
def known(seed: int, folder: Path) -> tuple[Plant, list[RuleRow], list[Told]]:
    """Return a random plant and what the plain judge says about it."""
    plant, rows = random_plant(random.Random(seed), folder)
    reference = Reference(rows, plant.births)
    for record in plant.records:
        reference.feed(record)
    return plant, rows, reference.told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("births")


@pytest.mark.parametrize(
    ("module", "name", "old", "new"), [row[1:] for row in MUTANTS], ids=[row[0] for row in MUTANTS]
)
def test_mistake_is_noticed(
    monkeypatch: pytest.MonkeyPatch, folder: Path, module: ModuleType, name: str, old: str, new: str
) -> None:
    """A judge with this mistake disagrees with the plain one in some trial."""
    monkeypatch.setattr(alarms.evaluator, name, mutant(module, name, old, new))
    assert is_noticed(folder, deep=HUGE)


@pytest.mark.parametrize(("module", "name", "old", "new"), [row[1:] for row in RUNS], ids=[row[0] for row in RUNS])
def test_mistake_in_whole_runs_is_noticed(
    monkeypatch: pytest.MonkeyPatch, folder: Path, module: ModuleType, name: str, old: str, new: str
) -> None:
    """The same where many samples of one signal are judged as whole runs."""
    monkeypatch.setattr(alarms.steps, name, mutant(module, name, old, new))
    assert is_noticed(folder, deep=1)


@pytest.mark.parametrize("deep", [1, HUGE])
def test_without_mistakes_all_trials_agree(folder: Path, deep: int) -> None:
    """The same trials find nothing wrong with the judge as it is."""
    assert not is_noticed(folder, deep=deep)

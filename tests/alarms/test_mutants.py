"""The property test would notice: each of these mistakes, made on purpose, makes it fail."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType

import pytest

import alarms.chunk
import alarms.conditions
import alarms.evaluator
import alarms.levels
import alarms.runs
import alarms.sifting

from .test_evaluator_property import trial

SEEDS = range(150)

MUTANTS = [
    ("no deadband above", alarms.conditions, "Conditions", "test.limit - test.deadband if", "test.limit if"),
    ("no deadband below", alarms.conditions, "Conditions", "else test.limit + test.deadband", "else test.limit"),
    (
        "at the limit counts as above",
        alarms.conditions,
        "Conditions",
        "value > limit, value < limit",
        "value >= limit, value < limit",
    ),
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
    (
        "late samples are judged",
        alarms.sifting,
        "Sieve",
        "is_late: Bools = time_ms <= before",
        "is_late: Bools = time_ms < 0",
    ),
    ("the watermark counts when it is reached", alarms.chunk, "Chunk", 'side="right"', 'side="left"'),
    ("easing is told as escalation", alarms.levels, "RowLevels", "Change.EASE if", "Change.ESCALATE if"),
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


def is_noticed(folder: Path) -> bool:
    """Whether any trial of the property test fails."""
    for seed in SEEDS:
        plain, whole, split = trial(seed, folder)
        if whole != plain or split != plain:
            return True
    return False


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
    assert is_noticed(folder)


def test_without_mistakes_all_trials_agree(folder: Path) -> None:
    """The same trials find nothing wrong with the judge as it is."""
    assert not is_noticed(folder)

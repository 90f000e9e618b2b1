"""kill -9 at every step of compaction, closing and retention: nothing lost, nothing twice, and the work goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ingest.duckdb_store import DuckStore
from ingest.store import DAY_MS
from tests.ingest.compacting_process import BASE, MOST_HOT, rows_of
from tests.ingest.store_contract import Case, check_everything, check_range

ROOT = Path(__file__).parents[2]


def child(path: Path, number: int, step: int) -> tuple[int, list[str]]:
    """Run the process until it ends or dies; return its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.ingest.compacting_process", str(path), str(number), str(step)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -9), done.stderr
    return done.returncode, done.stdout.split()


@pytest.mark.slow
def test_killed_at_every_step_of_the_background_work(tmp_path: Path) -> None:
    """Whatever statement the process dies before, the next one finds every sample once and finishes the work."""
    path = tmp_path / "history.duckdb"
    batches: list[tuple[tuple[int, int, float, int], ...]] = []
    step, killed, whole = 1, 0, 0
    while whole < 2:
        code, said = child(path, len(batches), step)
        assert said[:1] == ["written"]
        batches.append(tuple(rows_of(len(batches))))
        killed, whole = killed + (code == -9), whole + (code == 0)
        # a stride without a common factor with the statements of one day: all of them are met over the days
        step += 1 if step < 8 else 5
        store = DuckStore(path, most_hot=MOST_HOT)
        store.open()
        assert store.position() == len(batches)
        case = Case(batches=tuple(batches))
        check_range(store, case, start_ms=BASE, end_ms=BASE + 3 * DAY_MS, buckets=72)
        check_range(store, case, start_ms=BASE + 777, end_ms=BASE + 2 * DAY_MS + 13, buckets=7)
        store.close()
    assert killed > 15
    store = DuckStore(path, most_hot=MOST_HOT)
    store.open()
    check_everything(store, Case(batches=tuple(batches)), start_ms=BASE, end_ms=BASE + 3 * DAY_MS, buckets=500)
    folder = {file.name for file in (tmp_path / "history-days").iterdir()}
    assert folder == store.places.shape.files(), "nothing is left behind"
    store.close()

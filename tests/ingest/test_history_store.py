"""Every history store: the contract, and what belongs to DuckDB alone."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from ingest.duckdb_store import DuckStore
from ingest.store import MOST_BUCKETS, MOST_KEYS, SampleBatch, check_range
from watchroom.errors import StateError, StoreError

KEYS = ("WP-01/outlet_pressure", "WP-01/flow", "TK-01/level")


def batch(rows: list[tuple[int, int, float, int]]) -> SampleBatch:
    """Return (series, time, value, quality) rows as a batch of KEYS."""
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return SampleBatch(
        keys=KEYS,
        series=np.array(columns[0], np.uint32),
        time_ms=np.array(columns[1], np.int64),
        value=np.array(columns[2], np.float64),
        quality=np.array(columns[3], np.uint8),
    )


@pytest.fixture
def store(tmp_path: Path) -> DuckStore:
    result = DuckStore(tmp_path / "history.duckdb")
    result.open()
    return result


def test_new_store_starts_at_the_beginning_of_the_journal(store: DuckStore) -> None:
    """A store that never saw a sample asks for the journal from its first record."""
    assert store.position() == 0


def test_position_and_rows_survive_reopening(store: DuckStore, tmp_path: Path) -> None:
    """What was written once is there after a restart, with the position that belongs to it."""
    store.write(batch([(0, 1000, 0.6, 0), (2, 1500, 72.5, 0)]), position=7)
    store.close()
    again = DuckStore(tmp_path / "history.duckdb")
    again.open()
    assert again.position() == 7
    series = again.range(KEYS, start_ms=0, end_ms=2000, buckets=10)
    assert series["WP-01/outlet_pressure"].last == [0.6]
    assert series["TK-01/level"].t == [1500]
    assert series["WP-01/flow"].t == []


def test_a_failing_batch_leaves_nothing_behind(store: DuckStore) -> None:
    """Rows and position are one transaction: a batch that fails half way changes neither."""
    store.write(batch([(0, 1000, 0.6, 0)]), position=1)
    broken = batch([(0, 2000, 0.7, 0)])
    object.__setattr__(broken, "value", np.array([1.0, 2.0]))
    with pytest.raises(StoreError):
        store.write(broken, position=2)
    assert store.position() == 1
    assert store.range(KEYS, start_ms=0, end_ms=5000, buckets=5)["WP-01/outlet_pressure"].count == [1]
    store.write(batch([(1, 2000, 18.6, 0)]), position=2)
    assert store.range(KEYS, start_ms=0, end_ms=5000, buckets=5)["WP-01/flow"].last == [18.6]


def test_bad_and_missing_values_are_kept_but_never_averaged(store: DuckStore) -> None:
    """A value of bad quality must not move a mean, and NaN is no value."""
    store.write(batch([(0, 10, 1.0, 0), (0, 20, 100.0, 2), (0, 30, math.nan, 1), (0, 40, 3.0, 5)]), position=1)
    series = store.range(["WP-01/outlet_pressure"], start_ms=0, end_ms=100, buckets=1)["WP-01/outlet_pressure"]
    assert (series.min, series.max, series.mean, series.last, series.count) == ([1.0], [3.0], [2.0], [3.0], [2])


def test_a_file_that_is_no_database_is_a_store_error(tmp_path: Path) -> None:
    """Garbage in place of the database names the file instead of ending in a traceback."""
    path = tmp_path / "history.duckdb"
    path.write_bytes(b"this is not a database" * 500)
    with pytest.raises(StoreError, match=r"history\.duckdb"):
        DuckStore(path).open()


@pytest.mark.parametrize(
    ("keys", "start", "end", "buckets", "code"),
    [
        ([], 0, 1, 1, "history.keys"),
        (["A-1/x"] * (MOST_KEYS + 1), 0, 1, 1, "history.keys"),
        (["A-1/x"], 5, 5, 1, "history.range"),
        (["A-1/x"], 0, 5, 0, "history.buckets"),
        (["A-1/x"], 0, 5, MOST_BUCKETS + 1, "history.buckets"),
    ],
)
def test_too_big_queries_are_refused(keys: list[str], start: int, end: int, buckets: int, code: str) -> None:
    """A query that makes no sense or would be too big is refused with a code that both languages translate."""
    with pytest.raises(StateError) as caught:
        check_range(keys, start_ms=start, end_ms=end, buckets=buckets)
    assert caught.value.code == code

"""A process that writes one batch to a store and does its background work, and dies by SIGKILL at a numbered step.

Arguments: database, number of the batch, number of the statement before which it dies (0: never).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ingest import duckdb_store
from ingest.duckdb_compaction import Compaction
from ingest.duckdb_layout import Places
from ingest.store import DAY_MS
from tests.ingest.store_contract import Row, batch_of

BASE = 20_000 * DAY_MS
BATCH = 120
MOST_HOT = 100


def rows_of(number: int) -> list[Row]:
    """Return the samples of one batch: of three days, some of them again from the batch before."""
    return [*_fresh(number), *_fresh(number - 1)[:20]] if number else _fresh(0)


def _fresh(number: int) -> list[Row]:
    random = np.random.default_rng(number)
    times = BASE + random.choice(3 * DAY_MS // 1000, BATCH, replace=False) * 1000 + number
    return [
        (int(series), int(time_ms), round(float(value), 2), int(quality))
        for series, time_ms, value, quality in zip(
            random.integers(0, 3, BATCH), times, random.normal(20, 5, BATCH), random.choice([0, 0, 2], BATCH),
            strict=True,
        )
    ]  # fmt: skip


class Mortal:
    """A connection that kills its process before a numbered statement."""

    left = 0

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, *arguments: Any) -> Any:
        """Execute, or die."""
        Mortal.left -= 1
        if Mortal.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._connection.execute(*arguments)


class MortalCompaction(Compaction):
    """The background work over such a connection."""

    def __init__(
        self, connection: Any, places: Places, *, republish: Callable[[], None], should_stop: Callable[[], bool]
    ) -> None:
        super().__init__(Mortal(connection), places, republish=republish, should_stop=should_stop)


def main() -> None:
    """Write, say so, compact, close the days, say so."""
    path, number, step = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    duckdb_store.Compaction = MortalCompaction  # type: ignore[attr-defined]
    store = duckdb_store.DuckStore(path, most_hot=MOST_HOT)
    store.open()
    store.write(batch_of(rows_of(number)), position=number + 1)
    print("written", flush=True)
    Mortal.left = step
    store.tend(BASE + 20 * DAY_MS, should_stop=lambda: False)
    print("tended", flush=True)
    store.close()


if __name__ == "__main__":
    main()

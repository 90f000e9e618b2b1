"""The history writer: everything in the journal reaches the store once, whatever the store does."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from ingest.duckdb_store import DuckStore
from ingest.history import Collected, HistoryWriter
from ingest.store import Buckets, Retention, SampleBatch
from tests.ingest.history_frames import SITE, birth, samples
from watchroom.births import BirthStore
from watchroom.disk import RealDisk
from watchroom.errors import StoreError
from watchroom.journal import FileJournal, fresh_offset

PRESSURE = "WP-01/outlet_pressure"
KEEP_ALL = Retention(raw_days=0, minute_days=0, hour_days=0)


class UnwillingStore(DuckStore):
    """A store that is away for its first few writes."""

    def __init__(self, path: Path, failures: int) -> None:
        super().__init__(path)
        self.failures = failures

    def write(self, batch: SampleBatch, *, position: int | None) -> None:
        """Fail until the failures are used up."""
        if self.failures > 0:
            self.failures -= 1
            raise StoreError("away")
        super().write(batch, position=position)


def births(folder: Path) -> BirthStore:
    """Return a store that knows the gateway of the test frames."""
    result = BirthStore(folder / "births")
    result.put(SITE, birth().to_json())
    return result


def run_until(writer: HistoryWriter, position: int) -> None:
    """Run a writer in its thread until it has stored everything before a position."""
    stop = threading.Event()
    thread = threading.Thread(target=writer.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 15
    while writer.status()["position"] != position and time.monotonic() < deadline and thread.is_alive():
        stop.wait(0.01)
    stop.set()
    thread.join(10)
    assert writer.status()["position"] == position


def stored(path: Path) -> Mapping[str, Buckets]:
    """Return everything a store holds of the two test signals."""
    store = DuckStore(path)
    store.open()
    try:
        return store.range([PRESSURE, "WP-01/flow"], start_ms=0, end_ms=100_000, buckets=5000)
    finally:
        store.close()


def fill(journal: FileJournal, seqs: Sequence[int]) -> None:
    """Append frames whose values are their own numbers."""
    for seq in seqs:
        add(journal, "pump-house", samples(seq, [0, 1], [seq * 100, seq * 100 + 1], [seq, -seq]))
    journal.sync(SITE)


def add(journal: FileJournal, gateway: str, payload: bytes) -> None:
    """Append one record."""
    journal.append(SITE, gateway, payload, arrived_ms=0)


def writer_of(journal: FileJournal, folder: Path, store: DuckStore) -> HistoryWriter:
    """Return a writer with everything it needs."""
    return HistoryWriter(
        SITE,
        journal,
        births=births(folder),
        store=store,
        registry=CollectorRegistry(),
        keep=KEEP_ALL,
    )


def test_samples_reach_the_store_under_their_keys(tmp_path: Path) -> None:
    """Aliases become signal keys by the birth; ticks and heartbeats store nothing."""
    journal = FileJournal(tmp_path / "journal", disk=RealDisk())
    fill(journal, range(1, 8))
    add(journal, "", b"")
    add(journal, "pump-house", samples(8, [0], [800], [8.0]))
    journal.sync(SITE)
    run_until(writer_of(journal, tmp_path, DuckStore(tmp_path / "h.duckdb")), 9)
    found = stored(tmp_path / "h.duckdb")
    assert found[PRESSURE].last == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found["WP-01/flow"].last == [-1, -2, -3, -4, -5, -6, -7]


def test_a_restart_goes_on_where_the_store_ended(tmp_path: Path) -> None:
    """Nothing is stored twice and nothing left out when the writer stops and starts again."""
    journal = FileJournal(tmp_path / "journal", disk=RealDisk())
    fill(journal, range(1, 5))
    run_until(writer_of(journal, tmp_path, DuckStore(tmp_path / "h.duckdb")), 4)
    fill(journal, range(5, 9))
    run_until(writer_of(journal, tmp_path, DuckStore(tmp_path / "h.duckdb")), 8)
    assert stored(tmp_path / "h.duckdb")[PRESSURE].count == [1] * 8
    assert journal.checkpoints(SITE)["history"] == 8


def test_a_store_that_was_away_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer repeats the batch until the store takes it, and says meanwhile what is wrong."""
    monkeypatch.setattr("ingest.history.RETRY_S", (0.01,))
    journal = FileJournal(tmp_path / "journal", disk=RealDisk())
    fill(journal, range(1, 6))
    store = UnwillingStore(tmp_path / "h.duckdb", failures=3)
    writer = writer_of(journal, tmp_path, store)
    run_until(writer, 5)
    assert store.failures == 0
    assert writer.status()["problem"] == ""
    assert stored(tmp_path / "h.duckdb")[PRESSURE].last == [1, 2, 3, 4, 5]


def test_frames_that_cannot_be_read_do_not_stop_the_rest(tmp_path: Path) -> None:
    """A frame of an unknown birth, one with a foreign alias and plain garbage are counted; the others are stored."""
    journal = FileJournal(tmp_path / "journal", disk=RealDisk())
    add(journal, "stranger", samples(1, [0], [100], [1.0]))
    add(journal, "pump-house", samples(1, [9], [100], [1.0]))
    add(journal, "pump-house", b"garbage")
    add(journal, "pump-house", samples(2, [0], [200], [2.0]))
    journal.sync(SITE)
    registry = CollectorRegistry()
    writer = HistoryWriter(
        SITE,
        journal,
        births=births(tmp_path),
        store=DuckStore(tmp_path / "h.duckdb"),
        registry=registry,
        keep=KEEP_ALL,
    )
    run_until(writer, 4)
    assert registry.get_sample_value("watchroom_history_unknown_total") == 3
    assert stored(tmp_path / "h.duckdb")[PRESSURE].last == [2.0]


def test_a_store_from_another_journal_starts_at_the_present_one(tmp_path: Path) -> None:
    """A store that is ahead of the journal (its folder was emptied) goes on with what there is, not with nothing."""
    store = DuckStore(tmp_path / "h.duckdb")
    store.open()
    store.write(
        Collected().batch(),
        position=500,
    )
    store.close()
    journal = FileJournal(tmp_path / "journal", disk=RealDisk())
    fill(journal, range(1, 4))
    run_until(writer_of(journal, tmp_path, DuckStore(tmp_path / "h.duckdb")), 3)
    assert stored(tmp_path / "h.duckdb")[PRESSURE].last == [1, 2, 3]


def test_a_wiped_journal_is_neither_skipped_nor_stored_twice(tmp_path: Path) -> None:
    """The journal was deleted beside its history: what comes now is stored, what was stored stands once."""
    known = births(tmp_path)
    for round_, now_ms in enumerate((1_763_800_000_000, 1_763_900_000_000)):
        journal = FileJournal(tmp_path / "journal", begins_at=partial(fresh_offset, now_ms))
        store = DuckStore(tmp_path / "history.duckdb")
        writer = HistoryWriter(SITE, journal, births=known, store=store, registry=CollectorRegistry())
        fill(journal, range(1 + 5 * round_, 6 + 5 * round_))
        assert writer.status()["lag"] == 5, "counted from where the journal begins"
        run_until(writer, journal.end(SITE))
        assert writer.status()["lag"] == 0
        journal.close()
        shutil.rmtree(tmp_path / "journal")
    found = stored(tmp_path / "history.duckdb")[PRESSURE]
    assert (found.last, found.count) == ([float(seq) for seq in range(1, 11)], [1] * 10)

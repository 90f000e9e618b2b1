"""The embedded store: the contract at every stage of compaction."""

from __future__ import annotations

import threading
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ingest.cells import HOUR_MS
from ingest.duckdb_store import DuckStore
from ingest.store import DAY_MS, Retention
from tests.ingest.store_contract import (
    KEYS,
    Case,
    Row,
    batch_of,
    cases,
    check_ends,
    check_everything,
    check_samples,
)

BASE = 20_000 * DAY_MS
FIRST_VERSION = """
create table signal (id integer primary key, key varchar not null unique);
create table sample (signal integer not null, time_ms bigint not null, value double, quality utinyint not null);
create table position (one integer primary key, journal bigint not null);
insert into position values (1, 0);
"""


def opened(folder: Path) -> DuckStore:
    store = DuckStore(folder / "history.duckdb")
    store.open()
    return store


def tended(store: DuckStore, now_ms: int) -> None:
    """Let the store do all its background work."""
    store.settle()
    store.tend(now_ms, should_stop=lambda: False)


def numbers(seed: int, count: int, *, span_ms: int) -> list[Row]:
    """Return unique samples of every quality within a span."""
    random = np.random.default_rng(seed)
    times = random.choice(span_ms, count, replace=False) + BASE
    return [
        (int(series), int(time_ms), round(float(value), 2), int(quality))
        for series, time_ms, value, quality in zip(
            random.integers(0, 3, count), times, random.normal(20, 5, count), random.choice([0, 0, 0, 2, 5], count),
            strict=True,
        )
    ]  # fmt: skip


def check_at_all_levels(store: DuckStore, case: Case) -> None:
    """Ask with buckets that need samples, minutes and hours, aligned with them and not."""
    for start, end, buckets in (
        (BASE, BASE + 2 * DAY_MS, 48),
        (BASE + 1, BASE + 2 * DAY_MS - 7, 17),
        (BASE, BASE + DAY_MS, 1440),
        (BASE + 12_345, BASE + DAY_MS + 77_777, 211),
        (BASE + 30_500, BASE + 3_700_000, 1000),
        (0, BASE + 20 * DAY_MS, 3),
    ):
        check_everything(store, case, start_ms=start, end_ms=end, buckets=buckets)


SPANS = pytest.mark.parametrize("span_ms", [3 * DAY_MS, HOUR_MS // 6], ids=["days", "minutes"])


@SPANS
@settings(max_examples=20, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    data=st.data(),
    stages=st.lists(st.sampled_from(["none", "settle", "close"]), min_size=7, max_size=7),
    buckets=st.integers(1, 40),
    align=st.sampled_from([1, 60_000, 3_600_000]),
)
def test_any_split_order_and_repetition_gives_the_same_answers(
    tmp_path_factory: pytest.TempPathFactory,
    span_ms: int,
    data: st.DataObject,
    stages: list[str],
    buckets: int,
    align: int,
) -> None:
    """However samples arrive, late or twice, compacted or not: every answer is that of the samples themselves."""
    # the short span lies across midnight
    base = BASE if span_ms > DAY_MS else BASE + DAY_MS - span_ms // 3
    case = data.draw(cases(span_ms=span_ms, base_ms=base))
    start, width = data.draw(st.tuples(st.integers(0, span_ms - 1), st.integers(1, span_ms)))
    store = opened(tmp_path_factory.mktemp("duck"))
    for number, (batch, stage) in enumerate(zip(case.batches, stages, strict=False)):
        store.write(batch_of(batch), position=number + 1)
        if stage != "none":
            tended(store, BASE if stage == "settle" else BASE + 10 * DAY_MS)
    begin = (base + start) // align * align
    end = begin + (width if align == 1 else max(1, width // align // buckets) * align * buckets)
    check_everything(store, case, start_ms=begin, end_ms=end, buckets=buckets)
    store.close()


def test_all_levels_agree_before_and_after_each_stage(tmp_path: Path) -> None:
    """Hot, compacted, closed, with late samples above a closed day, and closed again: the same answers."""
    store = opened(tmp_path)
    rows = numbers(1, 6000, span_ms=2 * DAY_MS)
    first, second, late = rows[:3000], rows[3000:5500], rows[5500:] + rows[:300]
    store.write(batch_of(first), position=1)
    check_at_all_levels(store, Case(batches=(tuple(first),)))
    tended(store, BASE)
    store.write(batch_of(second), position=2)
    check_at_all_levels(store, Case(batches=(tuple(first + second),)))
    tended(store, BASE + 10 * DAY_MS)
    assert {path.name for path in (tmp_path / "history-days").iterdir()} == {
        "raw-20000-1.duckdb", "raw-20001-1.duckdb", "minute-20000-1.duckdb", "minute-20001-1.duckdb",
    }  # fmt: skip
    check_at_all_levels(store, Case(batches=(tuple(first + second),)))
    store.write(batch_of(late), position=3)
    check_at_all_levels(store, Case(batches=(tuple(rows),)))
    tended(store, BASE)
    check_at_all_levels(store, Case(batches=(tuple(rows),)))
    tended(store, BASE + 10 * DAY_MS)
    check_at_all_levels(store, Case(batches=(tuple(rows),)))
    store.close()
    again = opened(tmp_path)
    check_at_all_levels(again, Case(batches=(tuple(rows),)))
    assert again.position() == 3
    again.close()


def test_a_corrected_sample_replaces_the_first_one(tmp_path: Path) -> None:
    """Of two samples with one time the one written later is shown, wherever the first one is by then."""
    store = opened(tmp_path)
    for number, value in enumerate((1.0, 2.0, 3.0, 4.0)):
        store.write(batch_of([(0, BASE + 5, value, 0)]), position=number)
        for stage in (None, BASE, BASE + 10 * DAY_MS):
            if stage is not None:
                tended(store, stage)
            for buckets in (1, 500):
                found = store.range(KEYS[:1], start_ms=BASE, end_ms=BASE + 2 * HOUR_MS, buckets=buckets)[KEYS[0]]
                assert (found.last, found.count) == ([value], [1])
    store.close()


def test_a_file_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    """An upgrade keeps every sample and the position of a history that the first version wrote."""
    rows = numbers(2, 500, span_ms=2 * DAY_MS)
    with duckdb.connect(str(tmp_path / "history.duckdb")) as old:
        old.execute(FIRST_VERSION)
        for number, key in enumerate(KEYS):
            old.execute("insert into signal values (?, ?)", [number, key])
        old.executemany("insert into sample values (?, ?, ?, ?)", rows)
        old.execute("update position set journal = 77")
    store = opened(tmp_path)
    assert store.position() == 77
    case = Case(batches=(tuple(rows), ((1, BASE + 9, 5.0, 0),)))
    store.write(batch_of(case.batches[1]), position=78)
    check_at_all_levels(store, case)
    tended(store, BASE + 10 * DAY_MS)
    check_at_all_levels(store, case)
    store.close()
    again = opened(tmp_path)
    check_at_all_levels(again, case)
    again.close()


def test_each_class_of_data_is_kept_its_own_time(tmp_path: Path) -> None:
    """Samples go first, then minutes, then hours; what is left still answers."""
    store = opened(tmp_path)
    rows = [(0, BASE + minute * 60_000 + second * 1000, float(minute), 0) for minute in range(120) for second in (0, 9)]
    store.write(batch_of(rows), position=1)
    tended(store, BASE + 2 * DAY_MS)
    whole = {"start_ms": BASE, "end_ms": BASE + 2 * HOUR_MS}

    def kept(day: int) -> tuple[int, list[int], list[int]]:
        keep = Retention(raw_days=5, minute_days=10, hour_days=20)
        store.expire(BASE + day * DAY_MS, keep)
        raw = len(store.samples(KEYS[0], **whole, limit=1000))
        minutes = store.range(KEYS[:1], **whole, buckets=120)[KEYS[0]].count
        return raw, minutes, store.range(KEYS[:1], **whole, buckets=2)[KEYS[0]].count

    assert kept(5) == (240, [2] * 120, [120, 120])
    assert kept(7) == (0, [2] * 120, [120, 120])
    assert kept(12) == (0, [120, 120], [120, 120])
    assert kept(22) == (0, [], [])
    assert list((tmp_path / "history-days").iterdir()) == []
    store.close()


def test_late_samples_of_a_forgotten_day_do_not_spoil_its_minutes(tmp_path: Path) -> None:
    """Where the samples are gone, a minute that was rolled up stays as it was, and a new one is added."""
    store = opened(tmp_path)
    store.write(batch_of([(0, BASE + s * 1000, 1.0, 0) for s in range(60)]), position=1)
    tended(store, BASE + 2 * DAY_MS)
    store.expire(BASE + 9 * DAY_MS, Retention(raw_days=5))
    store.write(batch_of([(0, BASE + 30_500, 9.0, 0), (0, BASE + 90_000, 2.0, 0)]), position=2)
    for _ in range(2):
        found = store.range(KEYS[:1], start_ms=BASE, end_ms=BASE + 180_000, buckets=3)[KEYS[0]]
        assert (found.count, found.max) == ([60, 1], [1.0, 2.0])
        tended(store, BASE + 9 * DAY_MS)
        store.expire(BASE + 9 * DAY_MS, Retention(raw_days=5))
    store.close()


def test_minutes_count_the_seconds_of_bad_quality(tmp_path: Path) -> None:
    """A bad sample spoils the time until the next one, into the next minutes, at most two minutes long."""
    store = opened(tmp_path)
    store.write(
        batch_of([(0, BASE + 50_000, 1.0, 2), (0, BASE + 75_000, 1.0, 0), (0, BASE + 100_000, 1.0, 1)]), position=1
    )
    tended(store, BASE)
    table = store.places.shape.days[20_000].minute_table
    query = f"select cell - {BASE // 60_000}, bad_ms from {table} order by rowid"
    with store.cursor() as cursor:
        assert dict(cursor.execute(query).fetchall()) == {0: 10_000, 1: 15_000 + 20_000, 2: 60_000, 3: 40_000}
    store.write(batch_of([(0, BASE + 130_000, 1.0, 0)]), position=2)
    tended(store, BASE)
    with store.cursor() as cursor:
        minutes = dict(cursor.execute(query).fetchall())
        assert {n: ms for n, ms in minutes.items() if ms} == {0: 10_000, 1: 35_000, 2: 10_000}
        hours = cursor.execute("select bad_ms from hour order by rowid desc limit 1").fetchone()
    assert hours == (55_000,)
    store.close()


def test_a_page_of_a_sparse_signal_reads_on_through_years(tmp_path: Path) -> None:
    """Raw pages jump over empty time, in both directions of a gap of years."""
    store = opened(tmp_path)
    rows = [(0, BASE - 900 * DAY_MS, 1.0, 0), (0, BASE, 2.0, 1), (0, BASE + 700 * DAY_MS, 3.0, 0)]
    store.write(batch_of(rows), position=1)
    for _ in range(2):
        check_samples(store, Case(batches=(tuple(rows),)), start_ms=0, end_ms=BASE + 5000 * DAY_MS, limit=2)
        check_ends(store, Case(batches=(tuple(rows),)), at_ms=BASE + 1)
        tended(store, BASE + 800 * DAY_MS)
    store.close()


def test_samples_outside_of_all_time_are_left_out(tmp_path: Path) -> None:
    """A device whose clock says 1969 or the year 9999 stops nothing."""
    store = opened(tmp_path)
    store.write(batch_of([(0, -5, 1.0, 0), (0, 1 << 50, 1.0, 0), (0, BASE, 2.0, 0)]), position=1)
    tended(store, BASE + 10 * DAY_MS)
    assert store.range(KEYS[:1], start_ms=0, end_ms=BASE + 1, buckets=1)[KEYS[0]].last == [2.0]
    store.close()


def test_generations_begin_when_full(tmp_path: Path) -> None:
    """What must be searched unsorted stays small, however much is written within an hour."""
    store = DuckStore(tmp_path / "history.duckdb", most_hot=100)
    store.open()
    rows = numbers(3, 450, span_ms=HOUR_MS)
    for number in range(9):
        store.write(batch_of(rows[number * 50 : number * 50 + 50]), position=number)
    assert len(store.places.shape.generations) == 5
    store.tend(BASE, should_stop=lambda: False)
    assert len(store.places.shape.generations) == 1
    check_everything(store, Case(batches=(tuple(rows),)), start_ms=BASE, end_ms=BASE + HOUR_MS, buckets=60)
    store.close()


def test_readers_and_writer_go_on_while_a_day_is_closed(tmp_path: Path) -> None:
    """Queries beside compaction and closing always see exactly what was written."""
    store = DuckStore(tmp_path / "history.duckdb", most_hot=2000)
    store.open()
    rows = numbers(4, 20_000, span_ms=DAY_MS)
    failures: list[BaseException] = []
    written, done = [0], threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                before = written[0]
                counts = store.count(KEYS, start_ms=BASE, end_ms=BASE + DAY_MS)
                buckets = store.range(KEYS, start_ms=BASE, end_ms=BASE + DAY_MS, buckets=24)
                after = min(written[0] + 500, len(rows))
                assert before <= sum(counts.values()) <= after
                assert before <= sum(sum(b.count) + sum(b.bad) for b in buckets.values()) <= after
        except BaseException as exc:
            failures.append(exc)

    readers = [threading.Thread(target=read) for _ in range(2)]
    tender = threading.Thread(target=lambda: _tend_until(store, done, failures))
    for thread in (*readers, tender):
        thread.start()
    for at in range(0, len(rows), 500):
        store.write(batch_of(rows[at : at + 500]), position=at)
        written[0] = at + 500
    done.set()
    for thread in (*readers, tender):
        thread.join(60)
    assert not failures
    check_everything(store, Case(batches=(tuple(rows),)), start_ms=BASE, end_ms=BASE + DAY_MS, buckets=24)
    store.close()


def _tend_until(store: DuckStore, done: threading.Event, failures: list[BaseException]) -> None:
    try:
        while not done.is_set():
            store.tend(BASE + 10 * DAY_MS, should_stop=done.is_set)
    except BaseException as exc:
        failures.append(exc)

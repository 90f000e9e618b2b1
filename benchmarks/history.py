"""The history on one box: room on disk, and how fast a chart opens, quiet and while samples pour in.

``python -m benchmarks.history [--samples 8e6] [--queries 40] [--displaced 0] [--no-victoria]``. A million samples a
signal, 11.6 days at one a second: walks with two and three decimals, states, counters; 1 % of bad quality.
``--samples 50e6`` is 50 signals, ``1e9`` (``make bench-history``) is 1,000. ``--displaced 0.01`` moves that share of
the times by up to half a second. Where the program ``victoria-metrics`` is installed, it holds the same samples and
answers the same queries, one after the other.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import structlog

from benchmarks.figures import Figure, quantile, report
from ingest.duckdb_store import DuckStore
from ingest.store import DAY_MS, HistoryReads, HistoryWrites, SampleBatch
from ingest.victoria_store import VictoriaStore

BEGIN_MS = 20_400 * DAY_MS
SECONDS = 1_000_000
BATCH = 200_000
WRITTEN_PER_S = 100_000
BUCKETS = 1000
VICTORIA = shutil.which("victoria-metrics")


class Load:
    """Samples of signals at one a second, batch by batch, the same for every store."""

    def __init__(self, signals: int, displaced: float = 0.0) -> None:
        self._displaced = displaced
        self.keys = tuple(f"EQ-{number // 10}/signal_{number % 10}" for number in range(signals))
        self._random = np.random.default_rng(7)
        self._level = self._random.uniform(10, 80, signals)

    def batches(self) -> Iterator[SampleBatch]:
        """Return everything in order of time."""
        step = max(1, BATCH // len(self.keys))
        for begin in range(0, SECONDS, step):
            yield self.slice(begin, min(step, SECONDS - begin))

    def slice(self, begin_s: int, seconds: int) -> SampleBatch:
        """Return some seconds of all signals, interleaved as they would arrive."""
        count, random = len(self.keys), self._random
        kind = np.arange(count) % 10
        step = random.normal(0, np.where(kind < 6, 0.02, 0.0005), (seconds, count))
        step[:, kind == 8] = (random.random((seconds, int((kind == 8).sum()))) < 0.001) * 1.0
        step[:, kind == 9] = random.random((seconds, int((kind == 9).sum()))) * 0.01
        walk = self._level + np.cumsum(step, axis=0)
        self._level = walk[-1]
        value = np.where(kind < 6, np.round(walk, 2), np.where(kind < 8, np.round(walk, 3), np.round(walk, 1)))
        value[:, kind == 8] = np.floor(walk[:, kind == 8]) % 4
        time_ms = BEGIN_MS + (begin_s + np.arange(seconds, dtype=np.int64))[:, None] * 1000 + np.arange(count) % 400
        time_ms = time_ms + np.where(
            random.random(time_ms.shape) < self._displaced, random.integers(0, 500, time_ms.shape), 0
        )
        return SampleBatch(
            keys=self.keys,
            series=np.tile(np.arange(count, dtype=np.uint32), seconds),
            time_ms=time_ms.reshape(-1),
            value=value.reshape(-1),
            quality=np.where(random.random(seconds * count) < 0.01, 2, 0).astype(np.uint8),
        )

    def late(self, count: int) -> SampleBatch:
        """Return samples between those that are there, anywhere in the range."""
        random = self._random
        return SampleBatch(
            keys=self.keys,
            series=random.integers(0, len(self.keys), count).astype(np.uint32),
            time_ms=BEGIN_MS + random.integers(0, SECONDS, count) * 1000 + 950,
            value=np.round(random.normal(40, 1, count), 2),
            quality=np.zeros(count, np.uint8),
        )


class Asked:
    """The queries, and how long they take."""

    def __init__(self, store: HistoryReads, keys: tuple[str, ...], queries: int) -> None:
        self._store, self._keys, self._queries = store, keys, queries
        self._random = np.random.default_rng(11)

    def whole_aligned(self) -> None:
        """One signal, 1,000 buckets of 16 minutes."""
        self._range(self._one(), BEGIN_MS, 16 * 60_000 * BUCKETS)

    def whole_unaligned(self) -> None:
        """One signal, everything there is, boundaries anywhere."""
        self._range(self._one(), BEGIN_MS + 12_345, SECONDS * 1000 - 33_333)

    def eight_a_day(self) -> None:
        """Eight signals, 24 hours from anywhere."""
        keys = list(self._random.choice(self._keys, min(8, len(self._keys)), replace=False))
        self._range([str(key) for key in keys], BEGIN_MS + self._anywhere(DAY_MS), DAY_MS)

    def raw_hour(self) -> None:
        """One signal, every sample of an hour."""
        start = BEGIN_MS + self._anywhere(3_600_000)
        found = self._store.samples(self._one()[0], start_ms=start, end_ms=start + 3_600_000, limit=10_000)
        if len(found) < 3590:
            raise SystemExit(f"only {len(found)} samples in an hour")

    def spent(self, query: Callable[[], None]) -> list[float]:
        """Return the milliseconds of each of some queries, after one that is not counted."""
        query()
        result = []
        for _ in range(self._queries):
            began = time.perf_counter()
            query()
            result.append((time.perf_counter() - began) * 1000)
        return result

    def _range(self, keys: list[str], start_ms: int, width_ms: int) -> None:
        found = self._store.range(keys, start_ms=start_ms, end_ms=start_ms + width_ms, buckets=BUCKETS)
        if min(len(series.t) for series in found.values()) < BUCKETS - 1:
            raise SystemExit("a bucket is missing")

    def _one(self) -> list[str]:
        return [str(self._random.choice(self._keys))]

    def _anywhere(self, width_ms: int) -> int:
        return int(self._random.integers(0, SECONDS * 1000 - width_ms))


def fill(store: DuckStore, load: Load) -> tuple[float, float]:
    """Write everything and let every day close; return seconds writing and seconds compacting."""
    writing = compacting = 0.0
    for number, batch in enumerate(load.batches()):
        began = time.perf_counter()
        store.write(batch, position=number + 1)
        writing += time.perf_counter() - began
        began = time.perf_counter()
        store.tend(int(batch.time_ms[-1]), should_stop=lambda: False)
        compacting += time.perf_counter() - began
    began = time.perf_counter()
    store.settle()
    store.tend(BEGIN_MS + SECONDS * 1000 + 2 * DAY_MS, should_stop=lambda: False)
    return writing, compacting + time.perf_counter() - began


def pour(store: DuckStore, load: Load, stop: threading.Event) -> None:
    """Write at a steady rate, after the range that is asked for, and compact beside it."""
    now, began, written = [BEGIN_MS + SECONDS * 1000], time.perf_counter(), 0

    def tend() -> None:
        while not stop.wait(1.0):
            store.tend(now[0], should_stop=stop.is_set)

    tender = threading.Thread(target=tend)
    tender.start()
    seconds = max(1, WRITTEN_PER_S // 4 // len(load.keys))
    at = SECONDS
    while not stop.is_set():
        batch = load.slice(at, seconds)
        store.write(batch, position=None)
        at, written, now[0] = at + seconds, written + len(batch), int(batch.time_ms[-1])
        stop.wait(max(0.0, written / WRITTEN_PER_S - (time.perf_counter() - began)))
    tender.join()
    print(f"poured {written / (time.perf_counter() - began):,.0f} samples/s", flush=True)


def asked(name: str, store: HistoryReads, load: Load, queries: int, *, goals: bool) -> dict[str, list[Figure]]:
    """Return the figures of all four queries."""
    questions = Asked(store, load.keys, queries)
    result = {}
    for what, query, goal in (
        ("one signal, all, aligned", questions.whole_aligned, "<= 30"),
        ("one signal, all, unaligned", questions.whole_unaligned, "<= 30"),
        ("8 signals, a day", questions.eight_a_day, "<= 50"),
        ("one signal, raw hour", questions.raw_hour, "<= 10"),
    ):
        spent = questions.spent(query)
        result[what] = [
            Figure(name=f"{name}: {what} p50", value=round(quantile(spent, 0.5), 2), unit="ms"),
            Figure(
                name=f"{name}: {what} p99", value=round(quantile(spent, 0.99), 2), unit="ms", goal=goal if goals else ""
            ),
        ]
    return result


def duckdb(folder: Path, load: Load, queries: int) -> list[Figure]:
    """Measure the embedded store."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    store = DuckStore(folder / "history.duckdb")
    store.open()
    total = SECONDS * len(load.keys)
    writing, compacting = fill(store, load)
    store.close()
    store.open()
    closed = sum(path.stat().st_size for path in store.places.folder.iterdir())
    figures = [
        Figure(name="samples", value=total, unit=""),
        Figure(name="DuckDB: bytes a sample, closed days", value=round(closed / total, 3), unit="B", goal="<= 1.5"),
        Figure(
            name="DuckDB: open days, roll-ups by the hour",
            value=round((folder / "history.duckdb").stat().st_size / 1e6),
            unit="MB",
        ),
        Figure(name="DuckDB: samples/s written", value=round(total / writing), unit="1/s"),
        Figure(name="DuckDB: samples/s compacted and closed", value=round(total / compacting), unit="1/s"),
    ]
    quiet = asked("DuckDB", store, load, queries, goals=True)
    store.write(load.late(len(load.keys) * 50), position=None)
    late = asked("DuckDB, late samples hot", store, load, queries, goals=True)
    store.settle()
    store.tend(BEGIN_MS, should_stop=lambda: False)
    settled = asked("DuckDB, late samples compacted", store, load, queries, goals=True)
    stop = threading.Event()
    writer = threading.Thread(target=pour, args=(store, load, stop))
    writer.start()
    try:
        busy = asked(f"DuckDB, {WRITTEN_PER_S:,} samples/s written", store, load, queries, goals=False)
    finally:
        stop.set()
        writer.join()
    store.close()
    figures += [figure for part in (quiet, late, settled, busy) for pair in part.values() for figure in pair]
    for what, (_, p99) in busy.items():
        ratio = round(p99.value / settled[what][1].value, 2)
        figures.append(Figure(name=f"DuckDB: {what}, p99 writing / quiet", value=ratio, unit="x", goal="<= 2"))
    return figures


def victoria(folder: Path, load: Load, queries: int) -> list[Figure]:
    """Measure VictoriaMetrics with the same samples."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [str(VICTORIA), f"-storageDataPath={folder / 'data'}", f"-httpListenAddr=127.0.0.1:{port}",
         "-retentionPeriod=100y", "-dedup.minScrapeInterval=1ms", "-search.latencyOffset=0s", "-search.disableCache"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(f"http://127.0.0.1:{port}/health")
        store = VictoriaStore(f"victoria://127.0.0.1:{port}", token="", site="bench", position_file=folder / "at.json")
        store.open()
        began = time.perf_counter()
        _write_all(store, load)
        spent = time.perf_counter() - began
        for call in ("internal/force_flush", "internal/force_merge"):
            httpx.get(f"http://127.0.0.1:{port}/{call}", timeout=600)
        total = SECONDS * len(load.keys)
        figures = [Figure(name="VictoriaMetrics: samples/s written", value=round(total / spent), unit="1/s")]
        found = asked("VictoriaMetrics", store, load, queries, goals=False)
        store.close()
    finally:
        server.terminate()
        server.wait(30)
    # what it holds in memory reaches the disk when it ends
    size = sum(path.stat().st_size for path in (folder / "data").rglob("*") if path.is_file())
    figures.append(Figure(name="VictoriaMetrics: bytes a sample", value=round(size / total, 3), unit="B"))
    return figures + [figure for pair in found.values() for figure in pair]


def _write_all(store: HistoryWrites, load: Load) -> None:
    for number, batch in enumerate(load.batches()):
        store.write(batch, position=number + 1)


def _wait_for(url: str) -> None:
    for _ in range(300):
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=float, default=8e6, help="about how many samples; at least 8 signals")
    parser.add_argument("--queries", type=int, default=40, help="queries of each kind")
    parser.add_argument("--displaced", type=float, default=0.0, help="share of samples not exactly on the second")
    parser.add_argument("--no-victoria", action="store_true", help="leave VictoriaMetrics out")
    options = parser.parse_args()
    signals = max(8, round(options.samples / SECONDS))
    with tempfile.TemporaryDirectory(prefix="watchroom-history-") as name:
        figures = duckdb(_made(Path(name) / "duckdb"), Load(signals, options.displaced), options.queries)
        if VICTORIA and not options.no_victoria:
            figures += victoria(
                _made(Path(name) / "victoria"), Load(signals, options.displaced), min(options.queries, 20)
            )
    report("history", figures)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()

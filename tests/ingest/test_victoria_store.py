"""The VictoriaMetrics store against a real server: the contract, and each of its measured traps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from ingest.history import HistoryWriter
from ingest.store import Retention, RewoundError
from ingest.victoria_link import VictoriaLink
from ingest.victoria_reads import EXACT_SAMPLES, VictoriaReads
from ingest.victoria_store import VictoriaStore
from tests.ingest.history_frames import SITE as FRAME_SITE
from tests.ingest.history_frames import birth
from tests.ingest.history_frames import samples as frame_of
from tests.ingest.store_contract import KEYS, Case, batch_of, check_everything, check_range, check_samples
from tests.ingest.victoria_server import VictoriaServer
from watchroom.births import BirthStore
from watchroom.disk import RealDisk
from watchroom.errors import ConfigError, StoreError
from watchroom.journal import FileJournal

START = 1_763_800_000_000
SITE = "maple-garden"
FRAME_KEYS = ("WP-01/outlet_pressure", "WP-01/flow")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VictoriaServer]:
    running = VictoriaServer(tmp_path)
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaServer]:
    """A server for tests that only add; each takes a site of its own."""
    running = VictoriaServer(tmp_path_factory.mktemp("shared"))
    running.start()
    yield running
    running.kill()


def store_at(server: VictoriaServer, folder: Path, *, site: str = SITE, settle_s: float = 0.0) -> VictoriaStore:
    """Return an open store."""
    store = VictoriaStore(server.url, site=site, position_file=folder / f"{site}.json", settle_s=settle_s)
    store.open()
    return store


def until(action: Callable[[], bool], what: str) -> None:
    """Try until an action says yes."""
    deadline = time.monotonic() + 60
    while not action():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.1)


_SITES = iter(f"site-{number}" for number in range(1_000_000))
_DECIMAL = st.one_of(
    st.integers(-50, 50).map(lambda v: v / 4),
    st.integers(-(10**9), 10**9).map(lambda v: v / 1000),
    st.just(float("nan")),
)
"""VictoriaMetrics keeps about 15 decimal digits, so the values are what an instrument would tell."""


@st.composite
def instrument_cases(draw: st.DrawFn) -> Case:
    """Return cases of unique samples, some repeated, in any split."""
    row = st.tuples(
        st.integers(0, len(KEYS) - 1),
        st.integers(START, START + 5_000),
        _DECIMAL,
        st.sampled_from([0, 0, 0, 0, 1, 2, 4]),
    )
    rows = draw(st.lists(row, max_size=60, unique_by=lambda r: (r[0], r[1])))
    cut = draw(st.integers(0, len(rows)))
    again = draw(st.integers(0, len(rows)))
    return Case(batches=(tuple(rows[:cut]), tuple(rows[cut:]), tuple(rows[:again])))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=instrument_cases(), start=st.integers(0, 3000), width=st.integers(1, 4000), buckets=st.integers(1, 40))
def test_every_answer_is_that_of_the_samples(
    shared_server: VictoriaServer,
    tmp_path_factory: pytest.TempPathFactory,
    case: Case,
    start: int,
    width: int,
    buckets: int,
) -> None:
    """Buckets, pages, neighbours and counts are exactly those of what was written, repeated batches or not."""
    store = store_at(shared_server, tmp_path_factory.mktemp("p"), site=next(_SITES))
    for number, rows in enumerate(case.batches):
        store.write(batch_of(rows), position=number)
    shared_server.flush()
    begin = START + start
    check_everything(store, case, start_ms=begin, end_ms=begin + width, buckets=buckets)
    store.close()


def long_case() -> Case:
    """Return more samples of one signal than are cut here, with a bad one every hundred."""
    rows = [
        (0, START + n * 20, round(float(np.sin(n / 900)), 6), 2 if n % 100 == 0 else 0)
        for n in range(EXACT_SAMPLES + 5_000)
    ]
    return Case(batches=(tuple(rows),), keys=(KEYS[0],))


def test_long_ranges_are_cut_by_the_server_and_read_in_pages(shared_server: VictoriaServer, tmp_path: Path) -> None:
    """A range that is too big to be fetched gives the same buckets, and its pages give every sample once."""
    case = long_case()
    store = store_at(shared_server, tmp_path, site=next(_SITES))
    store.write(batch_of(case.batches[0], case.keys), position=1)
    shared_server.flush()
    end = START + (EXACT_SAMPLES + 5_000) * 20
    check_range(store, case, start_ms=START, end_ms=end, buckets=1_000)
    check_samples(store, case, start_ms=START + 7, end_ms=end + 1_000, limit=20_000)
    ragged = store.range(case.keys, start_ms=START, end_ms=end - 11, buckets=777)[KEYS[0]]
    usable = [row for row in case.batches[0] if row[1] < end - 11 and row[3] == 0]
    assert sum(ragged.count) == len(usable)
    assert max(ragged.max) == max(row[2] for row in usable)
    assert len(ragged.t) <= 777
    store.close()


def test_the_newest_seconds_are_told_as_they_are(shared_server: VictoriaServer, tmp_path: Path) -> None:
    """VictoriaMetrics itself repeats an old value for the last 30 s; our answers do not, cut here or by the server."""
    now = int(time.time() * 1000)
    rows = tuple((0, now - 60_000 + n, float(n), 0) for n in range(EXACT_SAMPLES + 8_000))
    case = Case(batches=(rows,), keys=(KEYS[0],))
    store = store_at(shared_server, tmp_path, site=next(_SITES))
    store.write(batch_of(rows, case.keys), position=1)
    shared_server.flush()
    check_range(store, case, start_ms=now - 60_000, end_ms=now, buckets=60)
    check_range(store, case, start_ms=now - 5_000, end_ms=now, buckets=50)
    assert store.last(case.keys, before_ms=now + 10_000)[KEYS[0]].time_ms == rows[-1][1]
    store.close()


class Room:
    """A journal and writers that fill one server from it.

    Args:
        folder: Everything it keeps.
        server: The history store.
    """

    def __init__(self, folder: Path, server: VictoriaServer) -> None:
        self.folder, self.server = folder, server
        self.journal = FileJournal(folder / "journal", disk=RealDisk())
        self.births = BirthStore(folder / "births")
        self.births.put(FRAME_SITE, birth().to_json())
        self.seq, self._filled_s = 0, 0.0

    def fill(self, number: int) -> None:
        """Append frames whose values are their own numbers."""
        self._filled_s = time.monotonic()
        for _ in range(number):
            self.seq += 1
            at = [START + self.seq * 100, START + self.seq * 100 + 1]
            payload = frame_of(self.seq, [0, 1], at, [self.seq, -self.seq], [0, 2 if self.seq % 7 == 0 else 0])
            self.journal.append(FRAME_SITE, "pump-house", payload, arrived_ms=0)
        self.journal.sync(FRAME_SITE)

    @contextmanager
    def writer(self) -> Iterator[HistoryWriter]:
        """Run a writer in its thread."""
        store = VictoriaStore(self.server.url, site=FRAME_SITE, position_file=self.folder / "position.json")
        writer = HistoryWriter(
            FRAME_SITE, self.journal, births=self.births, store=store, registry=CollectorRegistry(), keep=Retention()
        )
        stop = threading.Event()
        thread = threading.Thread(target=writer.run, args=(stop,))
        thread.start()
        try:
            yield writer
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()

    def is_complete_as_time_goes_on(self) -> bool:
        """Append a frame each second, as no journal ever stands still, and see `is_complete`."""
        if time.monotonic() - self._filled_s > 1.0:
            self.fill(1)
        return self.is_complete()

    def is_complete(self) -> bool:
        """Return whether the server holds exactly what the journal was given."""
        reads = VictoriaReads(VictoriaLink(self.server.url), FRAME_SITE)
        try:
            self.server.flush()
            found = [reads.samples(key, start_ms=START, end_ms=START + 10**9, limit=100_000) for key in FRAME_KEYS]
        except (StoreError, OSError):
            return False
        seqs = np.arange(1, self.seq + 1)
        wants = [
            (START + seqs * 100, seqs, np.zeros(self.seq)),
            (START + seqs * 100 + 1, -seqs, np.where(seqs % 7 == 0, 2, 0)),
        ]
        return all(
            np.array_equal(page.time_ms, want[0])
            and np.array_equal(page.value, want[1])
            and np.array_equal(page.quality, want[2])
            for page, want in zip(found, wants, strict=True)
        )


def test_a_killed_server_loses_nothing(server: VictoriaServer, tmp_path: Path) -> None:
    """Killed right after it confirmed, with the samples only in its memory: they are sent again from the journal."""
    room = Room(tmp_path, server)
    with room.writer() as writer:
        for _ in range(3):
            room.fill(40)
            until(lambda: writer.status()["position"] == room.seq, "the writer does not go on")
            server.kill()
            room.fill(20)
            until(lambda: bool(writer.status()["problem"]), "nobody is told that the store is away")
            server.start()
            until(room.is_complete, "samples are missing after the kill")
        assert writer.status()["position"] == room.seq
        assert writer.status()["problem"] == ""


def test_a_wiped_server_is_filled_again(server: VictoriaServer, tmp_path: Path) -> None:
    """Its data folder is gone: what the journal has is sent again, while running and over a restart of the engine."""
    room = Room(tmp_path, server)
    with room.writer() as writer:
        room.fill(50)
        until(lambda: writer.status()["position"] == room.seq, "the writer does not go on")
        server.kill()
        server.wipe()
        server.start()
        assert not room.is_complete()
        room.fill(10)
        until(room.is_complete_as_time_goes_on, "samples are missing after the wipe")
    server.kill()
    server.wipe()
    server.start()
    room.fill(5)
    with room.writer():
        until(room.is_complete_as_time_goes_on, "samples are missing after the wipe beside a stopped engine")


def test_the_journal_keeps_what_the_server_may_still_lose(server: VictoriaServer, tmp_path: Path) -> None:
    """Confirmed is not durable: the checkpoint of the journal follows only when a kill can no longer take it."""
    room = Room(tmp_path, server)
    with room.writer() as writer:
        room.fill(10)
        until(lambda: writer.status()["position"] == room.seq, "the writer does not go on")
        assert room.journal.checkpoints(FRAME_SITE).get("history", 0) == 0
    store = store_at(server, tmp_path, site="other", settle_s=0.0)
    store.write(batch_of([(0, START, 1.0, 0)]), position=7)
    until(lambda: _position_after(store, 7) == 7, "a settled batch moves the position")
    store.close()


def _position_after(store: VictoriaStore, position: int) -> int:
    """Write nothing new, as the journal of a quiet site brings it, and return what is surely kept."""
    store.write(batch_of([]), position=position)
    return store.position()


def test_a_server_that_drops_lines_is_found_out(tmp_path: Path) -> None:
    """It answers 204 and stores nothing: its own counters tell, and the position stays."""
    server = VictoriaServer(
        tmp_path, "-retentionPeriod=100y", "-dedup.minScrapeInterval=1ms", "-storage.maxHourlySeries=2"
    )
    server.start()
    try:
        store = store_at(server, tmp_path)
        store.write(batch_of([(n % 3, START + n, float(n), 0) for n in range(30)]), position=9)
        with pytest.raises(StoreError, match="confirmed and dropped"):
            until(lambda: _position_after(store, 9) == 9, "what was dropped counts as stored")
        assert store.position() == 0
        with pytest.raises(RewoundError) as caught:
            store.write(batch_of([]), position=10)
        assert caught.value.position == 0
    finally:
        server.kill()


def test_an_import_that_meets_a_restart_tells_the_writer_too(server: VictoriaServer, tmp_path: Path) -> None:
    """The import is told to try again, and what the journal had on its way is sent again all the same."""
    store = store_at(server, tmp_path, settle_s=3600.0)
    store.write(batch_of([(0, START, 1.0, 0)]), position=5)
    server.kill()
    with pytest.raises(StoreError, match=str(server.port)):
        store.write(batch_of([(1, START, 2.0, 0)]), position=None)
    # the server counts its age in whole seconds
    until(lambda: int(time.time()) > store._started_s, "the clock stands")
    server.start()
    with pytest.raises(StoreError, match="try again"):
        store.write(batch_of([(1, START, 2.0, 0)]), position=None)
    store.write(batch_of([(1, START, 2.0, 0)]), position=None)
    with pytest.raises(RewoundError) as caught:
        store.write(batch_of([(0, START + 1, 3.0, 0)]), position=6)
    assert caught.value.position == 0
    store.close()


def test_an_import_older_than_the_server_keeps_is_refused(tmp_path: Path) -> None:
    """A person is there to be told: nothing of it is thrown away silently."""
    server = VictoriaServer(tmp_path, "-retentionPeriod=30d", "-dedup.minScrapeInterval=1ms")
    server.start()
    try:
        store = store_at(server, tmp_path)
        old = int(time.time() * 1000) - 40 * 86_400_000
        with pytest.raises(StoreError, match="older than the -retentionPeriod"):
            store.write(batch_of([(0, old, 1.0, 0)]), position=None)
        assert store.refused == 0
        store.close()
    finally:
        server.kill()


def test_samples_outside_the_retention_are_counted_not_sent(tmp_path: Path) -> None:
    """The server would throw them away behind a 204 for ever: they are left out, said, and hold up nothing."""
    server = VictoriaServer(tmp_path, "-retentionPeriod=30d", "-dedup.minScrapeInterval=1ms")
    server.start()
    try:
        store, now = store_at(server, tmp_path), int(time.time() * 1000)
        times = (START - 10 * 365 * 86_400_000, now - 1000, now + 3 * 86_400_000)
        store.write(batch_of([(0, at, 1.0, 0) for at in times]), position=3)
        until(lambda: _position_after(store, 3) == 3, "they hold up the position")
        assert store.refused == 2
        server.flush()
        assert store.count(KEYS, start_ms=0, end_ms=now + 10**10)[KEYS[0]] == 1
    finally:
        server.kill()


def test_a_server_that_would_count_twice_is_refused(tmp_path: Path) -> None:
    """Without deduplication a repeated batch counts twice; the message says with which option to start it."""
    server = VictoriaServer(tmp_path, "-retentionPeriod=100y")
    server.start()
    try:
        with pytest.raises(StoreError, match=r"-dedup\.minScrapeInterval=1ms"):
            store_at(server, tmp_path)
    finally:
        server.kill()


def test_a_server_that_is_away_is_a_store_error(tmp_path: Path) -> None:
    """Nobody listens: the error names the address, for writes and reads."""
    server = VictoriaServer(tmp_path)
    store = VictoriaStore(server.url, site=SITE, position_file=tmp_path / "p.json")
    for action in (store.open, store.keys, lambda: store.write(batch_of([]), position=1)):
        with pytest.raises(StoreError, match=str(server.port)):
            action()


@pytest.mark.parametrize("url", ["victoria://", "victoria://host:port", "http://h:8428", "victorias:///path"])
def test_incomplete_url_says_what_is_expected(url: str, tmp_path: Path) -> None:
    """A wrong WATCHROOM_STORE shows the right form, and never a password."""
    with pytest.raises(ConfigError, match="victoria://HOST:PORT"):
        VictoriaStore(url, site=SITE, position_file=tmp_path / "p")

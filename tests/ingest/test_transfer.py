"""History to files and back through a running engine's local API, on a real store."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ingest.packed import pack_batch, unpack
from ingest.reading import HistoryReading
from ingest.transfer import export, import_file
from ingest.victoria_store import VictoriaStore
from tests.dashboard.center import until
from tests.ingest.store_contract import KEYS, batch_of
from tests.ingest.victoria_server import VictoriaServer
from watchroom.errors import ConfigError, LinkError, StateError
from watchroom.local import LocalClient, LocalServer

AT = 1_763_800_000_000
LATEST = AT + 10**10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaServer]:
    running = VictoriaServer(tmp_path_factory.mktemp("victoria"))
    running.start()
    yield running
    running.kill()


class Room:
    """An engine's history: store, local API and a client of it."""

    def __init__(self, store: VictoriaStore, server: VictoriaServer, client: LocalClient) -> None:
        self.store, self._server, self.client = store, server, client

    def flush(self) -> None:
        """Make what was written visible."""
        self._server.flush()


@asynccontextmanager
async def room_at(server: VictoriaServer, folder: Path, site: str) -> AsyncIterator[Room]:
    """Run one."""
    store = VictoriaStore(server.url, site=site, position_file=folder / "position.json")
    store.open()
    operations = HistoryReading(store, slots=asyncio.Semaphore(2)).operations()
    local, started = LocalServer(folder / "engine.sock", operations), asyncio.Event()
    serving = asyncio.create_task(local.run(started))
    await started.wait()
    client = LocalClient(folder / "engine.sock")
    asking = asyncio.create_task(client.run(retry_s=0.01))
    try:
        await until("the local API", lambda: client.is_connected, within_s=30)
        yield Room(store, server, client)
    finally:
        for task in (asking, serving):
            task.cancel()
        await asyncio.gather(asking, serving, return_exceptions=True)
        store.close()


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
async def test_a_file_carries_a_history_to_another_site(server: VictoriaServer, tmp_path: Path, name: str) -> None:
    """Export, then import elsewhere, twice: every sample is there once, with its quality."""
    rows = [(n % 3, AT + n * 40, n / 8, 2 if n % 11 == 0 else 0) for n in range(4_000)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with room_at(server, tmp_path / "a", f"from-{name}") as room:
        room.store.write(batch_of(rows), position=1)
        room.flush()
        total = await export(room.client, tmp_path / name, KEYS, start_ms=AT, end_ms=AT + 120_000, zone=None)
    inside = [row for row in rows if row[1] < AT + 120_000]
    assert total == len(inside)
    assert not (tmp_path / f"{name}.part").exists()
    async with room_at(server, tmp_path / "b", f"to-{name}") as room:
        for _ in range(2):
            done = await import_file(room.client, tmp_path / name, zone=None, latest_ms=LATEST, known=frozenset(KEYS))
            assert (done.samples, done.keys) == (len(inside), frozenset(KEYS))
        room.flush()
        for number, key in enumerate(KEYS):
            span = {"start_ms": AT, "end_ms": AT + 10**6, "limit": 10_000}
            page = unpack(await room.client.ask("history.samples", key=key, **span))
            mine = [row for row in inside if row[0] == number]
            np.testing.assert_array_equal(page.time_ms, [row[1] for row in mine])
            np.testing.assert_array_equal(page.value, [row[2] for row in mine])
            np.testing.assert_array_equal(page.quality, [row[3] for row in mine])


async def test_other_programs_read_the_files(server: VictoriaServer, tmp_path: Path) -> None:
    """CSV has a header and ISO times with their offset; Parquet has time stamps in UTC and nulls."""
    async with room_at(server, tmp_path, "files") as room:
        room.store.write(batch_of([(0, AT, 0.5, 0), (0, AT + 1000, float("nan"), 1)]), position=1)
        room.flush()
        span = {"start_ms": AT, "end_ms": AT + 5000}
        await export(room.client, tmp_path / "x.csv", KEYS[:1], zone=None, **span)
        await export(room.client, tmp_path / "x.parquet", KEYS[:1], zone=None, **span)
    assert list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines())) == [
        {"time": "2025-11-22T08:26:40.000Z", "signal": KEYS[0], "value": "0.5", "quality": "0"},
        {"time": "2025-11-22T08:26:41.000Z", "signal": KEYS[0], "value": "", "quality": "1"},
    ]
    table = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert [row["time"].isoformat() for row in table] == ["2025-11-22T08:26:40+00:00", "2025-11-22T08:26:41+00:00"]
    assert [row["value"] for row in table] == [0.5, None]


async def test_an_import_says_what_was_stored_before_the_mistake(server: VictoriaServer, tmp_path: Path) -> None:
    """The line is named, and that repeating after mending is harmless; a check stores nothing."""
    good = "".join(f"{AT + n},{KEYS[0]},{n}\n" for n in range(20_000))
    path = tmp_path / "x.csv"
    path.write_text("time,signal,value\n" + good + f"{AT},{KEYS[0]},oops\n")
    known = frozenset(KEYS)
    async with room_at(server, tmp_path, "mistakes") as room:
        with pytest.raises(ConfigError, match=r"x\.csv:20002: value: 'oops' is no number \(20000 samples before"):
            await import_file(room.client, path, zone=None, latest_ms=LATEST, known=known)
        with pytest.raises(ConfigError, match=r"x\.csv:20002: value: 'oops' is no number$"):
            await import_file(room.client, path, zone=None, latest_ms=LATEST, known=known, is_check=True)
        path.write_text(f"time,signal,value\n{AT},WP-99/flow,1\n")
        with pytest.raises(ConfigError, match="no signal WP-99/flow"):
            await import_file(room.client, path, zone=None, latest_ms=LATEST, known=known)
        done = await import_file(room.client, path, zone=None, latest_ms=LATEST, known=None)
        assert done.keys == {"WP-99/flow"}
        room.flush()
        assert (await room.client.ask("history.keys"))["keys"] == sorted([KEYS[0], "WP-99/flow"])


async def test_a_broken_export_leaves_no_file(tmp_path: Path) -> None:
    """Nobody takes half a file for a whole one."""
    client = LocalClient(tmp_path / "engine.sock")
    with pytest.raises(LinkError):
        await export(client, tmp_path / "x.csv", KEYS, start_ms=0, end_ms=1, zone=None)
    assert not (tmp_path / "x.csv").exists()
    assert not (tmp_path / "x.csv.part").exists()


async def test_figures_over_samples(server: VictoriaServer, tmp_path: Path) -> None:
    """Time in each state, growth of a counter, neighbours and checksums come from the samples of any store."""
    async with room_at(server, tmp_path, "figures") as room:
        rows = [
            (1, AT - 5_000, 1.0, 0),
            (1, AT + 10_000, 0.0, 0),
            (1, AT + 40_000, 1.0, 0),
            (1, AT + 50_000, float("nan"), 1),
            (0, AT - 1_000, 90.0, 0),
            (0, AT + 1_000, 99.0, 0),
            (0, AT + 2_000, 4.0, 0),
            (0, AT + 3_000, 6.0, 0),
        ]
        room.store.write(batch_of(rows), position=1)
        room.flush()
        span = {"start_ms": AT, "end_ms": AT + 60_000}
        states = await room.client.ask("history.states", key=KEYS[1], **span)
        assert states["states"] == [{"value": 0.0, "ms": 30_000}, {"value": 1.0, "ms": 20_000}]
        assert (states["bad_ms"], states["unknown_ms"]) == (10_000, 0)
        grown = await room.client.ask("history.increase", key=KEYS[0], modulus=100, **span)
        assert (grown["increase"], grown["roll_overs"], grown["restarts"]) == (16.0, 1, 0)
        restarted = await room.client.ask("history.increase", key=KEYS[0], **span)
        assert (restarted["increase"], restarted["restarts"]) == (15.0, 1)
        ends = await room.client.ask("history.ends", keys=list(KEYS), at_ms=AT)
        assert ends["before"][KEYS[1]] == {"time_ms": AT - 5_000, "value": 1.0, "quality": 0}
        assert ends["from"][KEYS[0]]["time_ms"] == AT + 1_000
        assert KEYS[2] not in ends["before"]
        counts = await room.client.ask("history.count", keys=list(KEYS), **span)
        assert counts["count"] == {KEYS[0]: 3, KEYS[1]: 3, KEYS[2]: 0}
        first = await room.client.ask("history.digest", key=KEYS[0], **span)
        assert first["count"] == 3
        again = await room.client.ask("history.digest", key=KEYS[1], **span)
        assert first["checksum"] != again["checksum"]


async def test_wrong_requests_are_refused_with_a_reason(server: VictoriaServer, tmp_path: Path) -> None:
    """Too big, empty, or damaged: a code and the number, and the engine goes on."""
    async with room_at(server, tmp_path, "wrong") as room:
        with pytest.raises(StateError, match="at most 200000"):
            await room.client.ask("history.samples", key=KEYS[0], start_ms=AT, end_ms=AT + 1, limit=10**9)
        with pytest.raises(StateError, match=r"history\.range"):
            await room.client.ask("history.states", key=KEYS[0], start_ms=5, end_ms=5)
        good = pack_batch(batch_of([(0, AT, 1.0, 0)]))
        breaks: list[dict[str, Any]] = [
            {"value": "x"},
            {"value": ""},
            {"keys": []},
            {"keys": ["../x", "b", "c"]},
        ]
        for broken in breaks:
            with pytest.raises(StateError, match="history"):
                await room.client.ask("history.import", **(good | broken))
        big = pack_batch(batch_of([(0, AT + n, 1.0, 0) for n in range(50_001)]))
        with pytest.raises(StateError, match="at most 50000"):
            await room.client.ask("history.import", **big)
        assert (await room.client.ask("history.import", **good)) == {"stored": 1}

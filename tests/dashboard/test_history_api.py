"""History over HTTP: samples, tables, figures and files, from a real store behind a real local API."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import pytest_asyncio

from dashboard import api_history, models
from dashboard.api_history import align
from ingest.duckdb_store import DuckStore
from ingest.queries import HistoryQueries
from ingest.reading import HistoryReading
from ingest.sample_csv import read_csv
from tests.dashboard.center import PRESSURE, Center
from tests.dashboard.desk import Desk, settings_for
from tests.dashboard.test_api import body
from tests.ingest.store_contract import batch_of
from watchroom.errors import StoreError

AT = 1_763_800_000_000
KEYS = (PRESSURE, "WP-01/p1_state", "WP-01/energy")
URL = f"/api/v1/signals/{PRESSURE}"
ROWS = [
    *[(0, AT + n * 1000, n / 4, 2 if n == 5 else 0) for n in range(60)],
    (1, AT - 10_000, 1.0, 0),
    (1, AT + 20_000, 0.0, 0),
    (2, AT - 1_000, 90.0, 0),
    (2, AT + 5_000, 99.0, 0),
    (2, AT + 6_000, 3.0, 0),
]


@pytest_asyncio.fixture
async def center(center: Center) -> AsyncIterator[Center]:
    """The engine's side with a store that holds ROWS."""
    store = DuckStore(center.data / "history.duckdb")
    store.open()
    store.write(batch_of(ROWS, KEYS), position=1)
    queries = HistoryQueries(store)
    center.operations["history.range"] = queries.range
    center.operations.update(HistoryReading(store, slots=queries.slots).operations())
    yield center
    store.close()


async def test_samples_come_page_by_page(desk: Desk) -> None:
    """Every sample once, in order, the bad one too; the end stays where the first page put it."""
    times, qualities, pages = [], [], 0
    async with desk.person("guard") as guard:
        query = f"?start={AT}&end={AT + 50_000}&limit=7"
        while True:
            page = body(await guard.get(f"{URL}/samples{query}"), models.RawSamples)
            times += page["t"]
            qualities += page["quality"]
            pages += 1
            if page["next"] is None:
                break
            query = f"?limit=7&cursor={page['next']}"
        broken = await guard.get(f"{URL}/samples?cursor=nonsense")
        too_many = await guard.get(f"{URL}/samples?limit=20001")
    assert times == [AT + n * 1000 for n in range(50)]
    assert qualities == [2 if n == 5 else 0 for n in range(50)]
    assert pages == 8
    assert (broken.status_code, broken.json()["code"]) == (400, "request.cursor")
    assert (too_many.status_code, too_many.json()["code"]) == (422, "request.invalid")


async def test_several_signals_stand_in_one_table(desk: Desk) -> None:
    """The same buckets for all; where a signal has nothing there is null, so that rows can be compared."""
    async with desk.person("manager") as manager:
        query = f"?key={PRESSURE}&key=WP-01/p1_state&start={AT}&end={AT + 60_000}&buckets=6"
        table = body(await manager.get(f"/api/v1/history{query}"), models.Aligned)
        none = await manager.get(f"/api/v1/history?start={AT}")
        twisted = await manager.get(f"/api/v1/history?key={PRESSURE}&start=5&end=5")
    assert table["t"] == [AT + n * 10_000 for n in range(6)]
    assert table["series"][PRESSURE]["count"] == [9, 10, 10, 10, 10, 10]
    assert table["series"][PRESSURE]["max"] == [2.25, 4.75, 7.25, 9.75, 12.25, 14.75]
    assert table["series"]["WP-01/p1_state"]["last"] == [None, None, 0.0, None, None, None]
    assert none.status_code == 422
    assert (twisted.status_code, twisted.json()["code"]) == (422, "history.range")


async def test_running_hours_and_consumption(desk: Desk) -> None:
    """How long at each state, and how much a counter grew over a roll-over, from what was before the range on."""
    async with desk.person("manager") as manager:
        span = f"start={AT}&end={AT + 60_000}"
        told = body(await manager.get(f"/api/v1/signals/WP-01/p1_state/states?{span}"), models.StateTimes)
        held = body(await manager.get(f"/api/v1/signals/WP-01/p1_state/states?{span}&hold_ms=30000"), models.StateTimes)
        grown = body(
            await manager.get(f"/api/v1/signals/WP-01/energy/increase?{span}&modulus=100"), models.CounterIncrease
        )
        beside = body(await manager.get(f"/api/v1/signals/WP-01/energy/neighbours?at={AT}"), models.Neighbours)
        alone = body(await manager.get(f"/api/v1/signals/WP-01/energy/neighbours?at={AT + 10**6}"), models.Neighbours)
        unknown = await manager.get("/api/v1/signals/WP-01/nothing/states")
    assert told["states"] == [{"value": 0.0, "ms": 40_000}, {"value": 1.0, "ms": 20_000}]
    assert held["unknown_ms"] == 10_000
    assert (grown["increase"], grown["roll_overs"], grown["count"]) == (13.0, 1, 3)
    assert beside["before"] == {"time_ms": AT - 1_000, "value": 90.0, "quality": 0}
    assert beside["after"]["time_ms"] == AT + 5_000
    assert alone["after"] is None
    assert (unknown.status_code, unknown.json()["code"]) == (404, "signal.unknown")


async def test_a_download_is_a_file_that_can_be_imported(desk: Desk, tmp_path: Path) -> None:
    """CSV in the asked zone and Parquet hold the same samples, with a name that tells the range."""
    async with desk.person("guard") as guard:
        url = f"/api/v1/history/export?key={PRESSURE}&start={AT}&end={AT + 60_000}"
        text = await guard.get(f"{url}&zone=Asia/Shanghai")
        table = await guard.get(f"{url}&format=parquet")
        nowhere = await guard.get(f"{url}&zone=Mars/Olympus")
    assert text.status_code == 200
    assert text.headers["content-type"] == "text/csv; charset=utf-8"
    assert text.headers["content-disposition"].endswith(f'history-{AT}-{AT + 60_000}.csv"')
    lines = text.text.splitlines()
    assert lines[:2] == ["time,signal,value,quality", f"2025-11-22T16:26:40.000+08:00,{PRESSURE},0.0,0"]
    path = tmp_path / "x.csv"
    path.write_bytes(text.content)
    [batch] = read_csv(path, None, latest_ms=AT * 2)
    rows = pq.read_table(io.BytesIO(table.content)).to_pylist()
    assert batch.value.tolist() == [row["value"] for row in rows] == [n / 4 for n in range(60)]
    assert batch.quality.tolist() == [row["quality"] for row in rows]
    assert (nowhere.status_code, nowhere.json()["code"]) == (422, "request.zone")


async def test_a_download_that_is_too_big_is_refused_with_the_number(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is a problem that tells how many, how many are allowed, and what to do."""
    monkeypatch.setattr(api_history, "MOST_EXPORTED", 59)
    async with desk.person("guard") as guard:
        reply = await guard.get(f"/api/v1/history/export?key={PRESSURE}&start={AT}&end={AT + 60_000}")
    assert reply.status_code == 422
    assert reply.headers["content-type"] == "application/problem+json"
    told = reply.json()
    assert told["code"] == "history.samples"
    assert "60 samples; at most 59" in told["detail"]
    assert "watchroom history export" in told["detail"]


async def test_nobody_takes_half_a_file_for_a_whole_one(desk: Desk, center: Center) -> None:
    """The engine goes away in the middle of a download: the connection breaks instead of ending well."""
    whole = center.operations["history.samples"]
    asked = 0

    async def once(args: dict[str, object]) -> object:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise StoreError("the store went away")
        return await whole(args)

    center.operations["history.samples"] = once
    async with desk.person("guard") as guard:
        url = f"/api/v1/history/export?key={PRESSURE}&key=WP-01/energy&start={AT}&end={AT + 60_000}"
        with pytest.raises(Exception, match=r"(?i)peer closed|incomplete|disconnected|timed out"):
            async with asyncio.timeout(60):
                await guard.get(url)


async def test_history_needs_the_engine(center: Center) -> None:
    """Without it the answer says so, as for charts."""
    async with Desk(center, settings_for(center.data / "elsewhere")) as desk, desk.person("guard") as guard:
        reply = await guard.get(f"{URL}/samples")
    assert (reply.status_code, reply.json()["code"]) == (503, "engine.away")


def test_a_sample_on_the_edge_belongs_to_the_later_bucket() -> None:
    """Tables count as the store does: start <= t < end."""
    series = {"t": [0, 9, 10], "count": [1, 1, 1]} | {name: [1, 2, 3] for name in api_history.FIGURES}
    assert align(series, start_ms=0, end_ms=20, buckets=2)["last"] == [2, 3]
    assert align(series, start_ms=0, end_ms=20, buckets=4)["count"] == [1, 1, 1, 0]

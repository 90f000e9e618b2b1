"""The second opinion: a sound history passes, and every kind of damage is told with its place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ingest import verify as verify_module
from ingest.cells import HOUR_MS, MINUTE_MS
from ingest.duckdb_store import DuckStore
from ingest.history import HistoryWriter
from ingest.store import DAY_MS, Retention, TooBigError
from ingest.verify import Verdict, Verifier
from tests.ingest.history_frames import SITE, birth, samples
from tests.ingest.store_contract import batch_of
from watchroom.births import BirthStore
from watchroom.disk import RealDisk
from watchroom.journal import FileJournal
from watchroom.local import LocalServer
from watchroom.serve.history_verify import run_verify, verdict_lines, verify_operation
from watchroom.settings import Settings

BASE = 20_000 * DAY_MS
SPAN = {"start_ms": BASE, "end_ms": BASE + 3 * HOUR_MS}


class Site:
    """A journal and a store that a history writer filled from it."""

    def __init__(self, folder: Path) -> None:
        self.journal = FileJournal(folder / "journal", disk=RealDisk())
        self.births = BirthStore(folder / "births")
        self.births.put(SITE, birth().to_json())
        self.store = DuckStore(folder / "history.duckdb")
        for seq in range(1, 101):
            times = [BASE + seq * 90_000, BASE + seq * 90_000 + 1]
            payload = samples(seq, [0, 1], times, [seq / 4, float("nan") if seq % 7 else -seq], [0, seq % 3])
            self.journal.append(SITE, "pump-house", payload, arrived_ms=times[1])
        self.journal.sync(SITE)
        self._write(folder)
        self.store.open()

    def _write(self, folder: Path) -> None:
        keep = Retention(raw_days=0, minute_days=0, hour_days=0)
        writer = HistoryWriter(
            SITE, self.journal, births=self.births, store=self.store, registry=CollectorRegistry(), keep=keep
        )
        stop = threading.Event()
        thread = threading.Thread(target=writer.run, args=(stop,))
        thread.start()
        while thread.is_alive() and writer.status()["position"] != 100:
            stop.wait(0.01)
        stop.set()
        thread.join()

    def verdict(self) -> Verdict:
        """Return the verdict on the whole range."""
        return Verifier(SITE, self.journal, births=self.births, store=self.store).verify(**SPAN)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def compacted(site: Site, *, is_closed: bool = False) -> None:
    """Let the store roll everything up."""
    site.store.settle()
    site.store.tend(BASE + (10 * DAY_MS if is_closed else 0), should_stop=lambda: False)


@pytest.mark.parametrize("stage", ["hot", "compacted", "closed"])
def test_a_sound_history_passes(site: Site, stage: str) -> None:
    """Journal and store have one digest, and every minute and hour follows from its samples, at every stage."""
    if stage != "hot":
        compacted(site, is_closed=stage == "closed")
    verdict = site.verdict()
    assert verdict.is_sound
    assert verdict.journal == verdict.store
    assert (verdict.journal.count, verdict.signals, verdict.only_in_store, verdict.unread) == (200, 2, 0, 0)
    assert verdict.cells > 100
    assert verdict_lines(as_json(verdict))[-1] == "sound"


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as the local API tells it."""
    names = (
        "from_ms",
        "signals",
        "missing",
        "different",
        "only_in_store",
        "cells",
        "wrong_cells",
        "unread",
        "examples",
    )
    told = {name: getattr(verdict, name) for name in names}
    return told | {"journal": verdict.journal.text(), "store": verdict.store.text(), "is_sound": verdict.is_sound}


def lose(site: Site) -> None:
    """Remove one sample."""
    with site.store.cursor() as cursor:
        cursor.execute(f"delete from hot_1 where time_ms = {BASE + 900_000}")


def falsify(site: Site) -> None:
    """Change one value."""
    with site.store.cursor() as cursor:
        cursor.execute(f"update hot_1 set value = 99 where time_ms = {BASE + 900_000}")


def spoil_minute(site: Site) -> None:
    """Change one minute."""
    compacted(site)
    table = site.store.places.shape.days[20_000].minute_table
    with site.store.cursor() as cursor:
        cursor.execute(f'update {table} set "max" = 1e6 where cell = {(BASE + 900_000) // MINUTE_MS} and signal = 0')


def spoil_hour(site: Site) -> None:
    """Change one hour."""
    compacted(site)
    with site.store.cursor() as cursor:
        cursor.execute(f"update hour set total = total + 1 where cell = {BASE // HOUR_MS + 1} and signal = 0")


@pytest.mark.parametrize(
    ("damage", "counts", "example"),
    [
        (lose, (1, 0, 0), f"WP-01/outlet_pressure at {BASE + 900_000}: not in the store"),
        (
            falsify,
            (0, 1, 0),
            f"WP-01/outlet_pressure at {BASE + 900_000}: 2.5 (0) in the journal, 99.0 (0) in the store",
        ),
        (spoil_minute, (0, 0, 1), f"WP-01/outlet_pressure, 60 s from {BASE + 900_000}: does not follow"),
        (spoil_hour, (0, 0, 1), f"WP-01/outlet_pressure, 3600 s from {BASE + HOUR_MS}: does not follow"),
    ],
    ids=["lost", "changed", "minute", "hour"],
)
def test_every_damage_is_found_and_named(
    site: Site, damage: Callable[[Site], None], counts: tuple[int, int, int], example: str
) -> None:
    """A lost or changed sample, a wrong minute and a wrong hour each make the verdict bad, with the place."""
    damage(site)
    verdict = site.verdict()
    assert (verdict.missing, verdict.different, verdict.wrong_cells) == counts
    assert not verdict.is_sound
    assert [line for line in verdict.examples if line.startswith(example)], verdict.examples
    assert (verdict.journal == verdict.store) is (damage in (spoil_minute, spoil_hour))
    assert verdict_lines(as_json(verdict))[-1] == "NOT sound"


def test_imported_samples_are_no_error(site: Site) -> None:
    """What a user brought by import is not in the journal; it is counted, not blamed."""
    site.store.write(batch_of([(0, BASE + 5, 1.0, 0)], keys=("WP-01/flow",)), position=None)
    verdict = site.verdict()
    assert (verdict.only_in_store, verdict.is_sound) == (1, True)


def test_too_much_is_refused_with_the_number(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A range that would fill the memory is refused, with the number and what to do."""
    monkeypatch.setattr(verify_module, "MOST_VERIFIED", 150)
    with pytest.raises(TooBigError, match="200 samples; at most 150: verify a shorter time"):
        site.verdict()


class Options:
    """The command's options."""

    start = "2024-10-04T00:00:00+00:00"
    end = "2024-10-04T03:00:00+00:00"
    zone = None


def test_the_command_asks_the_engine(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``watchroom history verify`` prints the verdict of the running engine, and fails if it is bad."""

    def run() -> tuple[int, str]:
        operation = verify_operation(
            SITE, site.journal, births=site.births, store=site.store, slots=asyncio.Semaphore(1)
        )
        stop, started = threading.Event(), threading.Event()
        server = threading.Thread(target=lambda: asyncio.run(_serve(tmp_path, operation, stop, started)))
        server.start()
        assert started.wait(10)
        try:
            code = run_verify(Options(), Settings(data=tmp_path))  # type: ignore[arg-type]
        finally:
            stop.set()
            server.join(10)
        return code, capsys.readouterr().out

    code, said = run()
    assert (code, said.splitlines()[-1]) == (0, "sound")
    lose(site)
    code, said = run()
    assert (code, said.splitlines()[-1]) == (1, "NOT sound")
    assert "missing   1" in said


async def _serve(folder: Path, operation: Any, stop: threading.Event, started: threading.Event) -> None:
    server = LocalServer(folder / "engine.sock", {"history.verify": operation})
    up = asyncio.Event()
    task = asyncio.create_task(server.run(up))
    await up.wait()
    started.set()
    await asyncio.to_thread(stop.wait, 60)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

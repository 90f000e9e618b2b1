"""The whole engine with its real evaluator and real frames: from a sample to a ticket."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, select

from alarms.engine import AlarmEngine
from tests.alarms.handmade import plant as site_of
from tests.alarms.handmade import rule
from tests.alarms.plant import SITE, T0, Plant, rules, signal
from watchroom.clock import utc_ms
from watchroom.database.connect import reading
from watchroom.database.tables import access_event, alarm, alarm_event, ticket
from watchroom.disk import RealDisk
from watchroom.journal import FileJournal

KEY = "WP-01/outlet_pressure"
ROW = replace(rule(), limits={"L": 0.35}, deadband=0.01, signals=(KEY,))


class Station:
    """A gateway's frames, a journal, and engines that may be stopped and started."""

    def __init__(self, folder: Path, database: Engine) -> None:
        self.folder, self.database = folder, database
        self.plant = Plant(folder / "births", {"pump-house": [signal(KEY)]})
        self.journal = FileJournal(folder / "journal")

    def run(self) -> None:
        """Journal what the plant has written since, and run an engine until all of it is judged."""
        for record in self.plant.records[self.journal.end(SITE) :]:
            self.journal.append(SITE, record.gateway, record.payload, arrived_ms=record.arrived_ms)
        end = self.journal.sync(SITE)
        site = site_of()
        engine = AlarmEngine(
            replace(site, info=site.info.model_copy(update={"id": SITE})),
            rules(ROW),
            journal=self.journal,
            births=self.plant.births,
            database=self.database,
            folder=self.folder / "alarms",
            disk=RealDisk(),
            on_commit=lambda feed_seq: None,
            now_ms=utc_ms,
            registry=CollectorRegistry(),
        )
        stop = threading.Event()
        thread = threading.Thread(target=engine.run, args=(stop,))
        thread.start()
        deadline = time.monotonic() + 20
        while thread.is_alive() and engine.status()["committed"] < end and time.monotonic() < deadline:
            thread.join(0.005)
        stop.set()
        thread.join(20)
        assert engine.status()["committed"] == end

    def journal_rows(self) -> list[tuple[str, int, str, float | None]]:
        with reading(self.database) as connection:
            rows = connection.execute(select(alarm_event).order_by(alarm_event.c.seq)).mappings()
            return [(row["kind"], row["event_ms"] - T0, row["state"], row["value"]) for row in rows]


@pytest.fixture
def station(tmp_path: Path, database: Engine) -> Iterator[Station]:
    station = Station(tmp_path, database)
    yield station
    station.journal.close()


def test_a_register_that_falls_becomes_a_ticket(station: Station) -> None:
    """The outlet pressure falls below its limit and recovers: alarm with true times and values, and one ticket."""
    station.plant.samples((KEY, 0, 0.6), snapshot=True)
    station.plant.samples((KEY, 1000, 0.3))
    station.plant.event("pump-house", "DR-P1", 1500, result="granted", method="card")
    station.plant.samples((KEY, 2000, 0.5))
    station.run()
    assert station.journal_rows() == [("RAISE", 1000, "UNACK", 0.3), ("CLEAR", 2000, "RTNUN", 0.5)]
    with reading(station.database) as connection:
        (row,) = connection.execute(select(alarm)).mappings()
        (found,) = connection.execute(select(ticket)).mappings()
        (event,) = connection.execute(select(access_event)).mappings()
    assert (row["limit"], row["level"], row["signal"]) == (0.35, "L", KEY)
    assert (found["equipment"], found["state"]) == ("WP-01", "NEW")
    assert (event["equipment"], event["result"], event["time_ms"]) == ("DR-P1", "granted", T0 + 1500)


@pytest.mark.parametrize("keeps_checkpoint", [True, False])
def test_restarts_in_between_change_nothing(station: Station, *, keeps_checkpoint: bool) -> None:
    """Stopped after every frame, with or without its checkpoint: the same journal of alarms."""
    values = [0.6, 0.3, 0.355, 0.5, 0.34, 0.2, 0.4]
    for index, value in enumerate(values):
        station.plant.samples((KEY, 1000 * index, value), snapshot=index == 0)
        station.run()
        if not keeps_checkpoint:
            (station.folder / "alarms" / f"{SITE}.checkpoint").unlink()
    assert [(kind, at) for kind, at, _, _ in station.journal_rows()] == [
        ("RAISE", 1000),
        ("CLEAR", 3000),
        ("SUPERSEDE", 4000),
        ("RAISE", 4000),
        ("CLEAR", 6000),
    ]


def test_a_frame_that_came_twice_is_judged_once(station: Station) -> None:
    """A gateway resends what it was not acknowledged: no second alarm, no second ticket."""
    station.plant.samples((KEY, 0, 0.6), snapshot=True)
    low = station.plant.samples((KEY, 1000, 0.3))
    station.plant.records.append(low)
    station.run()
    assert [kind for kind, _, _, _ in station.journal_rows()] == ["RAISE"]

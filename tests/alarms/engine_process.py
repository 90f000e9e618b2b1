"""An alarm engine in a process of its own, to be killed: ``python -m tests.alarms.engine_process FOLDER URL COUNT``.

It writes a record with a raise and later a clear for COUNT pieces of equipment, if the journal does not hold them
yet, judges them and ends; killed at any moment and started again it must come to the same end.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from prometheus_client import CollectorRegistry

from alarms.engine import AlarmEngine
from tests.alarms.handmade import SITE, plant, rules
from tests.alarms.script import ScriptJudge, row_of, tell
from watchroom.births import BirthStore
from watchroom.clock import utc_ms
from watchroom.database.connect import open_database
from watchroom.disk import RealDisk
from watchroom.journal import FileJournal, Journal


def name_of(index: int) -> str:
    """Return the equipment of one pair of records."""
    return f"EQ-{index:04d}"


def engine_of(folder: Path, url: str, journal: Journal, *, count: int) -> AlarmEngine:
    """Return an engine that judges by script."""
    names = [name_of(index) for index in range(count)]
    return AlarmEngine(
        plant(names),
        rules([row_of(name) for name in names]),
        journal=journal,
        births=BirthStore(folder / "births"),
        database=open_database(url),
        folder=folder / "alarms",
        disk=RealDisk(),
        on_commit=lambda feed_seq: None,
        now_ms=utc_ms,
        registry=CollectorRegistry(),
        make_judge=ScriptJudge,
    )


def fill(journal: Journal, count: int) -> None:
    """Append what is missing: raise of each, and ten records later its clear and a swipe."""
    for index in range(journal.end(SITE), count + 10):
        lines: list[list[object]] = []
        if index < count:
            lines.append(["RAISE", name_of(index), 1000 + index])
        if index >= 10:
            lines += [["CLEAR", name_of(index - 10), 1000 + index], ["swipe", f"e{index}"]]
        tell(journal, SITE, *lines)


def main() -> None:
    """Fill the journal and judge it to its end."""
    folder, url, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    journal = FileJournal(folder / "journal")
    engine = engine_of(folder, url, journal, count=count)
    stop = threading.Event()
    thread = threading.Thread(target=engine.run, args=(stop,))
    thread.start()
    print("running", flush=True)
    fill(journal, count)
    while thread.is_alive() and engine.status()["committed"] < count + 10:
        thread.join(0.01)
    stop.set()
    thread.join()
    journal.close()
    print("done", flush=True)


if __name__ == "__main__":
    main()

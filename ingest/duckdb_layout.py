"""Where the samples of the embedded store stand: tables, day files, and who still reads them.

The database holds *generations* of hot samples in order of arrival, and for each open day the tables of what was
compacted. A closed day is two immutable files, its samples and its minutes, both sorted by (signal, time). A sample may
stand in several places; the place written later holds: file < table of the day < generations by number, and within a
table the later row. So every step may be repeated or stopped half way, and nothing is counted twice.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.store import DAY_MS
from watchroom.disk import RealDisk
from watchroom.signals import USABLE

MOST_ATTACHED = 48
"""Day files kept open at once; each costs some memory."""
GOOD = f"(quality in ({', '.join(str(int(q)) for q in sorted(USABLE))}) and value is not null and not isnan(value))"
SAMPLE = "signal integer not null, time_ms bigint not null, value double, quality utinyint not null"
FILED = (
    "signal integer not null, second integer not null, ms usmallint not null, value double, quality utinyint not null"
)
"""Samples in a file: the second of the day and the rest apart. One sample off the second would otherwise cost a byte
more for each of the thousand samples around it."""
CELL = (
    'signal integer not null, cell integer not null, "count" integer not null, bad integer not null,'
    ' bad_ms integer not null, "min" double not null, "max" double not null, total double not null,'
    ' "last" double not null, last_ms integer not null'
)
SCHEMA = f"""
create table if not exists signal (id integer primary key, key varchar not null unique);
create table if not exists position (one integer primary key, journal bigint not null);
insert into position values (1, 0) on conflict do nothing;
create table if not exists generation (id integer primary key);
create table if not exists day (
    day integer primary key, raw integer not null, minute integer not null, is_open boolean not null,
    raw_gone boolean not null, minute_gone boolean not null
);
create table if not exists hour ({CELL});
"""


def hot_table(generation: int) -> str:
    """Return the table of a generation; 0 is the only table of the first version."""
    return f"hot_{generation}" if generation else "sample"


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Where one UTC day stands.

    Attributes:
        day: Days since the epoch.
        raw: Number of the file of samples, 0 if there is none; ``minute`` alike.
        is_open: Whether there are tables above the files.
        raw_gone: Whether samples were forgotten, so that minutes are the finest left; ``minute_gone`` alike.
    """

    day: int
    raw: int = 0
    minute: int = 0
    is_open: bool = False
    raw_gone: bool = False
    minute_gone: bool = False

    @property
    def version(self) -> int:
        """Number of the newest file; the tables above it carry it in their names."""
        return max(self.raw, self.minute)

    @property
    def raw_table(self) -> str:
        """Table of samples above the file."""
        return f"raw_{self.day}_{self.version}"

    @property
    def minute_table(self) -> str:
        """Table of minutes above the file."""
        return f"minute_{self.day}_{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """All places at one moment."""

    generations: tuple[int, ...] = ()
    days: Mapping[int, Day] = field(default_factory=dict)

    def files(self) -> set[str]:
        """Return the names of all day files."""
        raw = {file_name("raw", day.day, day.raw) for day in self.days.values() if day.raw}
        return raw | {file_name("minute", day.day, day.minute) for day in self.days.values() if day.minute}

    def tables(self) -> set[str]:
        """Return the names of all tables that hold samples or minutes."""
        hot = {hot_table(generation) for generation in self.generations}
        open_days = [day for day in self.days.values() if day.is_open]
        return hot | {day.raw_table for day in open_days} | {day.minute_table for day in open_days}


def file_name(kind: str, day: int, version: int) -> str:
    """Return the name of a day file."""
    return f"{kind}-{day}-{version}.duckdb"


def raw_file(day: Day) -> str:
    """Return what stands for the table of a day's file of samples in a query; no sample is twice in it."""
    columns = f"signal, {day.day * DAY_MS} + second::bigint * 1000 + ms as time_ms, value, quality, 0 as rowid"
    return f'(select {columns} from "{file_name("raw", day.day, day.raw)}".raw)'


def read_shape(connection: Any) -> Shape:
    """Return what the database says about its places."""
    generations = connection.execute("select id from generation order by id").fetchall()
    days = connection.execute("select day, raw, minute, is_open, raw_gone, minute_gone from day").fetchall()
    return Shape(
        generations=tuple(row[0] for row in generations),
        days={
            row[0]: Day(
                day=row[0], raw=row[1], minute=row[2], is_open=row[3], raw_gone=row[4], minute_gone=row[5]
            )
            for row in days
        },
    )  # fmt: skip


def put_day(connection: Any, day: Day) -> None:
    """Write where a day stands."""
    connection.execute(
        "insert or replace into day values (?, ?, ?, ?, ?, ?)",
        [day.day, day.raw, day.minute, day.is_open, day.raw_gone, day.minute_gone],
    )


class Places:
    """The present shape, and the day files that readers have open.

    A reader takes a `lease`: as long as it lasts, no table or file of its shape goes away.

    Args:
        folder: Where the day files stand.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shape = Shape()
        self._changed = threading.Condition()
        self._leases: dict[int, int] = {}
        self._number = 0
        self._attached: OrderedDict[str, int] = OrderedDict()
        self._door: Any = None

    def use(self, connection: Any) -> None:
        """Attach and detach through a connection of its own, never inside a reader's transaction."""
        with self._changed:
            self._door = connection
            self._attached.clear()

    @property
    def shape(self) -> Shape:
        """The present shape."""
        return self._shape

    def publish(self, shape: Shape) -> None:
        """Let new readers use another shape."""
        with self._changed:
            self._shape = shape
            self._number += 1

    def path(self, name: str) -> Path:
        """Return the path of a day file."""
        return self.folder / name

    @contextmanager
    def lease(self) -> Iterator[Shape]:
        """Hold the present shape together."""
        with self._changed:
            number, shape = self._number, self._shape
            self._leases[number] = self._leases.get(number, 0) + 1
        try:
            yield shape
        finally:
            with self._changed:
                self._leases[number] -= 1
                if not self._leases[number]:
                    del self._leases[number]
                self._changed.notify_all()

    def wait_for_readers(self, timeout_s: float) -> bool:
        """Wait until nobody uses a shape before the present one; False if somebody still does."""
        with self._changed:
            return self._changed.wait_for(lambda: not any(number < self._number for number in self._leases), timeout_s)

    @contextmanager
    def attached(self, names: Sequence[str]) -> Iterator[None]:
        """Keep some day files attached, under their names."""
        with self._changed:
            for name in names:
                if name not in self._attached:
                    self._door.execute(f"attach '{quoted(self.path(name))}' as \"{name}\" (read_only)")
                    self._attached[name] = 0
                self._attached[name] += 1
                self._attached.move_to_end(name)
        try:
            yield
        finally:
            with self._changed:
                for name in names:
                    if name in self._attached:
                        self._attached[name] -= 1
                self._shrink()

    def _shrink(self) -> None:
        idle = [name for name, users in self._attached.items() if not users]
        for name in idle[: max(0, len(self._attached) - MOST_ATTACHED)]:
            self._door.execute(f'detach "{name}"')
            del self._attached[name]

    def remove(self, names: Sequence[str]) -> None:
        """Unlink day files that nobody reads any more."""
        with self._changed:
            for name in names:
                if self._attached.pop(name, None) is not None:
                    self._door.execute(f'detach "{name}"')
                self.path(name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove tables and files that a stopped compaction left behind. Call before anybody reads."""
        named = self._door.execute("select table_name from duckdb_tables() where database_name = current_database()")
        for (table,) in named.fetchall():
            if table.startswith(("hot_", "raw_", "minute_")) and table not in self._shape.tables():
                self._door.execute(f"drop table {table}")
        if self.folder.is_dir():
            known = self._shape.files()
            for path in self.folder.iterdir():
                if path.name.startswith(("raw-", "minute-")) and path.name not in known:
                    path.unlink()
            RealDisk().sync_folder(self.folder)


def quoted(path: Path) -> str:
    """Return a path as it stands between quotes in SQL."""
    return str(path).replace("'", "''")

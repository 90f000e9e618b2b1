"""Recorded data as if a machine measured them now: a CSV file, column by column, at recorded speed or faster."""

from __future__ import annotations

import bisect
import csv
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from watchroom.errors import ConfigError
from watchroom.site import Site

FOLDER = Path(__file__).parent / "data"
GAP_STEPS = 10
TIME_NAMES = ("timestamp", "datetime", "time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A row or cell that could not be used.

    Attributes:
        line: Line of the file, counted from 1.
        column: Name of the column, empty for the whole row.
    """

    line: int
    column: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The usable part of a recording.

    Attributes:
        times_s: Seconds since the first row, ascending, shape (n,).
        columns: Name -> values, shape (n,); NaN where a cell was damaged.
        step_s: Usual distance of two rows.
        faults: What was skipped, in the order of the file.
    """

    path: Path
    times_s: tuple[float, ...]
    columns: Mapping[str, tuple[float, ...]]
    step_s: float
    faults: tuple[Fault, ...]

    @property
    def duration_s(self) -> float:
        """Recorded seconds from the first row to the end of the last."""
        return self.times_s[-1] + self.step_s

    def at(self, column: str, time_s: float) -> float:
        """Return the value at a recorded time; the recording starts over at its end.

        A value holds until the next row. NaN inside a gap of more than ten usual steps, and where it was damaged.
        """
        time_s %= self.duration_s
        index = bisect.bisect_right(self.times_s, time_s) - 1
        if time_s - self.times_s[index] > GAP_STEPS * self.step_s:
            return math.nan
        return self.columns[column][index]


def read_recording(path: Path, *, step_s: float | None = None) -> Recording:
    """Read a CSV file with a header, separated by commas or semicolons.

    Damaged cells become NaN; rows with a wrong number of cells, a damaged time or a time that is not later than
    the row before are skipped. All of them are told in ``faults``.

    Args:
        path: The file.
        step_s: Distance of two rows if the file has no column called timestamp, datetime or time.

    Raises:
        ConfigError: If the file cannot be read, has no usable row, or has no time and no ``step_s``.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read this recording: {exc}", path=path) from exc
    first = text.partition("\n")[0]
    reader = csv.reader(text.splitlines(), delimiter=";" if first.count(";") > first.count(",") else ",")
    names = [name.strip() for name in next(reader, [])]
    clock = next((i for i, name in enumerate(names) if name.lower() in TIME_NAMES), None)
    if clock is None and step_s is None:
        raise ConfigError("this recording has no time", path=path, line=1, hint="a column named timestamp, or step_s")
    faults: list[Fault] = []
    times: list[float] = []
    columns: dict[str, list[float]] = {name: [] for i, name in enumerate(names) if i != clock}
    for line, row in enumerate(reader, 2):
        when = _time(row, names, clock, (line - 2) * (step_s or 0.0), line, faults)
        if when is None:
            continue
        if times and when <= times[-1]:
            faults.append(Fault(line=line, column="", reason="its time is not later than the row before"))
            continue
        times.append(when)
        for i, name in enumerate(names):
            if i != clock:
                columns[name].append(_cell(row[i], name, line, faults))
    if not times:
        raise ConfigError("this recording has no usable row", path=path)
    usual_s = step_s or _usual_step(times)
    return Recording(
        path=path,
        times_s=tuple(time - times[0] for time in times),
        columns={name: tuple(cells) for name, cells in columns.items()},
        step_s=usual_s,
        faults=tuple(faults),
    )


def _time(
    row: list[str], names: list[str], clock: int | None, counted_s: float, line: int, faults: list[Fault]
) -> float | None:
    if len(row) != len(names):
        faults.append(Fault(line=line, column="", reason=f"{len(row)} cells in place of {len(names)}"))
        return None
    if clock is None:
        return counted_s
    try:
        return datetime.fromisoformat(row[clock].strip()).replace(tzinfo=UTC).timestamp()
    except ValueError:
        faults.append(Fault(line=line, column=names[clock], reason=f"{row[clock]!r} is not a time"))
        return None


def _cell(text: str, name: str, line: int, faults: list[Fault]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        faults.append(Fault(line=line, column=name, reason=f"{text!r} is not a number"))
        return math.nan
    return value


def _usual_step(times: list[float]) -> float:
    return median(b - a for a, b in itertools.pairwise(times)) if len(times) > 1 else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One piece of equipment whose values come from a recording.

    Attributes:
        columns: Signal name -> column.
        factor: Recorded seconds that pass in one simulated second.
    """

    equipment: str
    recording: Recording
    columns: Mapping[str, str]
    factor: float

    def values(self, time_s: float) -> Iterator[tuple[str, float]]:
        """Yield (signal key, value) at a simulated time since the start."""
        for signal, column in self.columns.items():
            yield f"{self.equipment}/{signal}", self.recording.at(column, time_s * self.factor)


def replays_of(site: Site) -> tuple[Replay, ...]:
    """Return the replays that a site's equipment asks for with ``replay: {file, columns, factor, step_s}``.

    Files are looked for beside the site's files, then in the package.

    Raises:
        ConfigError: If a file is missing or has no such column.
    """
    found: list[Replay] = []
    for key, item in site.equipment.items():
        entry = (item.model_extra or {}).get("replay")
        if entry is None:
            continue
        name = str(entry.get("file", ""))
        path = next((folder / name for folder in (site.folder, FOLDER) if (folder / name).is_file()), None)
        if path is None:
            raise ConfigError(
                f"there is no recording {name!r}", path=site.folder / "equipment.yaml", key=f"{key}.replay"
            )
        recording = read_recording(path, step_s=entry.get("step_s"))
        columns: dict[str, str] = dict(entry["columns"])
        for column in columns.values():
            if column not in recording.columns:
                hint = f"columns: {', '.join(recording.columns)}"
                raise ConfigError(f"the recording has no column {column!r}", path=path, line=1, hint=hint)
        found.append(
            Replay(equipment=key, recording=recording, columns=columns, factor=float(entry.get("factor", 1.0)))
        )
    return tuple(found)

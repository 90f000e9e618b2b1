"""Samples as CSV: written line by line, read batch by batch, with errors that name file, line and column."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

from ingest.moments import moment_text
from ingest.sample_rows import CellError, Layout, Rows, layout_of, number_of, quality_of, signal_key, time_of
from ingest.store import SampleBatch, Samples
from watchroom.errors import ConfigError

HEADER = b"time,signal,value,quality\r\n"
BATCH = 20_000
LONGEST_LINE = 1 << 20


def csv_rows(key: str, page: Samples, zone: ZoneInfo | None) -> bytes:
    """Return a page of samples as lines of a long file; a missing value is an empty cell."""
    lines = [
        f"{moment_text(time_ms, zone)},{key},{'' if math.isnan(value) else repr(value)},{quality}\r\n"
        for time_ms, value, quality in zip(
            page.time_ms.tolist(), page.value.tolist(), page.quality.tolist(), strict=True
        )
    ]
    return "".join(lines).encode()


def read_csv(path: Path, zone: ZoneInfo | None, *, latest_ms: int) -> Iterator[SampleBatch]:
    """Yield the samples of a CSV file in batches, with little memory for any length.

    Args:
        path: The file, UTF-8; separated by commas or semicolons, as its header shows.
        zone: Zone of times without an offset.
        latest_ms: Later times are refused.

    Raises:
        ConfigError: With file, line and column, at the first cell that is wrong.
    """
    line = 1
    try:
        # a cell of one megabyte is no sample: the csv module refuses it instead of filling the memory
        csv.field_size_limit(LONGEST_LINE)
        with open(path, encoding="utf-8", newline="") as file:
            head = file.readline(LONGEST_LINE)
            file.seek(0)
            reader = csv.reader(file, delimiter=";" if head.count(";") > head.count(",") else ",", strict=True)
            layout = layout_of(next(reader, []))
            rows = Rows()
            for cells in reader:
                line = reader.line_num
                if not cells:
                    continue
                _take(cells, layout, rows, zone=zone, latest_ms=latest_ms)
                if len(rows) >= BATCH:
                    yield rows.batch()
            if len(rows):
                yield rows.batch()
    except CellError as exc:
        raise ConfigError(exc.problem, path=path, line=line, key=exc.column) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"not UTF-8 text: {exc.reason}", path=path, line=line + 1) from exc
    except csv.Error as exc:
        raise ConfigError(f"not CSV: {exc}", path=path, line=line + 1) from exc
    except OSError as exc:
        raise ConfigError(f"cannot read the file: {exc.strerror or exc}", path=path) from exc


def _take(cells: list[str], layout: Layout, rows: Rows, *, zone: ZoneInfo | None, latest_ms: int) -> None:
    if len(cells) != len(layout.names):
        raise CellError(layout.names[min(len(cells), len(layout.names) - 1)], _width_problem(cells, layout))
    time_ms = time_of(cells[layout.time], zone, latest_ms=latest_ms)
    if layout.signal >= 0:
        value = number_of(cells[layout.value], column="value")
        code = quality_of(cells[layout.quality] if layout.quality >= 0 else "", value)
        rows.add(signal_key(cells[layout.signal], column="signal"), time_ms, value, quality=code)
        return
    for number, key in layout.wide.items():
        if cells[number].strip():
            value = number_of(cells[number], column=key)
            rows.add(key, time_ms, value, quality=quality_of("", value))


def _width_problem(cells: list[str], layout: Layout) -> str:
    return f"the line has {len(cells)} cells, the header {len(layout.names)}"

"""Files with old data: what is read, and how a wrong cell is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.sample_csv import HEADER, csv_rows, read_csv
from ingest.sample_parquet import ParquetPages, read_parquet
from ingest.store import SampleBatch, Samples
from watchroom.errors import ConfigError

AT = 1_763_800_000_000
LATEST = AT + 10**9
KEY = "WP-01/flow"
Row = tuple[str, int, float, int]


def rows_of(batches: Iterator[SampleBatch]) -> list[Row]:
    """Return samples as rows, NaN as None would be: by representation."""
    return [
        (batch.keys[series], time_ms, value, quality)
        for batch in batches
        for series, time_ms, value, quality in zip(
            batch.series.tolist(), batch.time_ms.tolist(), batch.value.tolist(), batch.quality.tolist(), strict=True
        )
    ]


def csv_file(folder: Path, text: str | bytes) -> Path:
    """Return a file with some text."""
    path = folder / "old.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def page(rows: list[tuple[int, float, int]]) -> Samples:
    """Return (time, value, quality) rows as a page."""
    return Samples(
        time_ms=np.array([row[0] for row in rows], np.int64),
        value=np.array([row[1] for row in rows], np.float64),
        quality=np.array([row[2] for row in rows], np.uint8),
        next_ms=None,
    )


PAGES = st.lists(
    st.tuples(
        st.integers(10**11, LATEST),
        st.one_of(st.floats(allow_infinity=False), st.just(math.nan)),
        st.integers(0, 6),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=50)
@given(parts=st.lists(PAGES, max_size=4), zone=st.sampled_from([None, ZoneInfo("Asia/Shanghai")]))
def test_an_exported_file_is_imported_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[tuple[int, float, int]]], zone: ZoneInfo | None
) -> None:
    """CSV and Parquet give back every time, value (missing ones too) and quality, whatever they are."""
    folder = tmp_path_factory.mktemp("files")
    keys = [f"WP-0{number}/flow" for number in range(len(parts))]
    pages, data = ParquetPages(), b""
    for key, rows in zip(keys, parts, strict=True):
        data += pages.add(key, page(rows))
    (folder / "x.parquet").write_bytes(data + pages.finish())
    text = HEADER + b"".join(csv_rows(key, page(rows), zone) for key, rows in zip(keys, parts, strict=True))
    expected = [repr((key, *row)) for key, rows in zip(keys, parts, strict=True) for row in rows]
    read_back = rows_of(read_csv(csv_file(folder, text), None, latest_ms=LATEST))
    assert [repr(row) for row in read_back] == expected
    read_back = rows_of(read_parquet(folder / "x.parquet", None, latest_ms=LATEST))
    assert [repr(row) for row in read_back] == expected


def test_a_wide_table_of_another_system_is_read(tmp_path: Path) -> None:
    """One column a signal, semicolons, local time, gaps: what a spreadsheet of an old system looks like."""
    path = csv_file(
        tmp_path,
        "\ufefftime;WP-01/flow;TK-01/level\r\n"
        "2025-11-22 16:26:40;12.5;80\r\n"
        "2025-11-22 16:27:40;;81.5\r\n\r\n"
        "2025-11-22 16:28:40;nan;\r\n",
    )
    found = rows_of(read_csv(path, ZoneInfo("Asia/Shanghai"), latest_ms=LATEST))
    assert [repr(row) for row in found] == [
        repr(("WP-01/flow", AT, 12.5, 0)),
        repr(("TK-01/level", AT, 80.0, 0)),
        repr(("TK-01/level", AT + 60_000, 81.5, 0)),
        repr(("WP-01/flow", AT + 120_000, math.nan, 2)),
    ]


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("", 1, "time", "column is missing"),
        ("when,signal,value\n", 1, "time", "column is missing; found when, signal, value"),
        ("time,signal\n", 1, "value", "column is missing"),
        ("time,signal,value,unit\n", 1, "unit", "unknown column"),
        ("time,time,WP-01/flow\n", 1, "time", "twice"),
        ("time,flow\n", 1, "flow", "is not equipment/signal"),
        ("time\n", 1, "signal", "no signal"),
        ("time,signal,value\nyesterday,WP-01/flow,1\n", 2, "time", "'yesterday' is no time"),
        ("time,signal,value\n1763800000000,WP-01/flow,1\n1763800000,WP-01/flow,1\n", 3, "time", "seconds are not"),
        ("time,signal,value\n4000000000000,WP-01/flow,1\n", 2, "time", "lies in the future"),
        ("time,signal,value\n1763800000000,WP-01,1\n", 2, "signal", "is not equipment/signal"),
        ("time,signal,value\n1763800000000,WP-01/flow,on\n", 2, "value", "'on' is no number"),
        ('time,signal,value\n1763800000000,WP-01/flow,"1,5"\n', 2, "value", "decimal point"),
        ("time,signal,value\n1763800000000,WP-01/flow,inf\n", 2, "value", "no finite number"),
        ("time,signal,value,quality\n1763800000000,WP-01/flow,1,9\n", 2, "quality", "expected 0"),
        ("time,signal,value\n1763800000000,WP-01/flow\n", 2, "value", "2 cells, the header 3"),
        ("time,WP-01/flow\n1763800000000,1_0\n", 2, "WP-01/flow", "no finite number"),
    ],
)
def test_a_wrong_cell_is_told_with_file_line_and_column(
    tmp_path: Path, text: str, line: int, column: str, says: str
) -> None:
    """The message names the place and what was expected, so that a person can mend the file."""
    path = csv_file(tmp_path, text)
    with pytest.raises(ConfigError, match=says) as caught:
        rows_of(read_csv(path, None, latest_ms=LATEST))
    assert (caught.value.path, caught.value.line, caught.value.key) == (path, line, column)


@pytest.mark.parametrize(
    "content", [b"time,signal,value\n\xff\xfe,1,2\n", b'time,signal,value\n"1763800000000,x', b"\0"]
)
def test_what_is_no_csv_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    """Another encoding, an open quote, binary data: the file is named, and nothing ends in a traceback."""
    with pytest.raises(ConfigError, match=r"old\.csv"):
        rows_of(read_csv(csv_file(tmp_path, content), None, latest_ms=LATEST))


def parquet_file(folder: Path, columns: dict[str, Any]) -> Path:
    """Return a Parquet file with some columns."""
    path = folder / "old.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    "times",
    [
        pa.array([AT, AT + 1000], pa.timestamp("ms", tz="UTC")),
        pa.array([AT * 1000, (AT + 1000) * 1000], pa.timestamp("us", tz="Asia/Shanghai")),
        pa.array([(AT + 28_800_000) * 10**6, (AT + 28_801_000) * 10**6], pa.timestamp("ns")),
        pa.array([AT, AT + 1000], pa.int64()),
        pa.array(["2025-11-22T08:26:40Z", "2025-11-22 16:26:41"]),
    ],
)
def test_every_kind_of_time_column_is_read(tmp_path: Path, times: Any) -> None:
    """Time stamps of any unit with or without a zone, integers and texts mean the same moments."""
    path = parquet_file(tmp_path, {"time": times, "signal": [KEY, KEY], "value": pa.array([1.5, None])})
    found = rows_of(read_parquet(path, ZoneInfo("Asia/Shanghai"), latest_ms=LATEST))
    assert [repr(row) for row in found] == [repr((KEY, AT, 1.5, 0)), repr((KEY, AT + 1000, math.nan, 2))]


def test_a_wide_parquet_table_is_read(tmp_path: Path) -> None:
    """One column a signal, of any number kind; nulls are no samples."""
    columns = {"time": [AT, AT + 1], "WP-01/flow": pa.array([1, None], pa.int32()), "TK-01/full": [True, False]}
    assert rows_of(read_parquet(parquet_file(tmp_path, columns), None, latest_ms=LATEST)) == [
        ("WP-01/flow", AT, 1.0, 0),
        ("TK-01/full", AT, 1.0, 0),
        ("TK-01/full", AT + 1, 0.0, 0),
    ]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: parquet_file(folder, {"time": [AT, 5], "signal": [KEY] * 2, "value": [1.0, 2.0]}), ":2: time"),
        (lambda folder: parquet_file(folder, {"time": [AT], "signal": ["x"], "value": [1.0]}), ":1: signal"),
        (lambda folder: parquet_file(folder, {"time": [AT], "signal": [KEY], "value": [math.inf]}), ":1: value"),
        (lambda folder: csv_file(folder, "no parquet at all"), "cannot read the file"),
        (lambda folder: folder / "missing.parquet", "cannot read the file"),
    ],
)
def test_a_wrong_parquet_file_is_told(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    """File, row and column as for CSV."""
    with pytest.raises(ConfigError, match=says):
        rows_of(read_parquet(make(tmp_path), None, latest_ms=LATEST))

"""Samples as Parquet: written in row groups, read batch by batch. The only module that imports pyarrow."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingest.sample_rows import CellError, Layout, Rows, layout_of, number_of, quality_of, signal_key, time_of
from ingest.store import SampleBatch, Samples
from watchroom.errors import ConfigError
from watchroom.signals import Quality

BATCH = 20_000
SCHEMA = pa.schema([
    pa.field("time", pa.timestamp("ms", tz="UTC"), nullable=False),
    pa.field("signal", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    pa.field("value", pa.float64()),
    pa.field("quality", pa.uint8(), nullable=False),
])  # fmt: skip


class ParquetPages:
    """Write pages of samples as one Parquet file, handing out its bytes as they come.

    Usage: for each page send ``add(...)``, at the end ``finish()``. Memory: one row group.
    """

    def __init__(self) -> None:
        self._sink = _Sink()
        self._writer = pq.ParquetWriter(pa.PythonFile(self._sink, mode="w"), SCHEMA, compression="zstd")

    def add(self, key: str, page: Samples) -> bytes:
        """Take a page and return the bytes that are ready."""
        if len(page):
            table = pa.table(
                {
                    "time": pa.array(page.time_ms, pa.timestamp("ms", tz="UTC")),
                    "signal": pa.DictionaryArray.from_arrays(np.zeros(len(page), np.int32), [key]),
                    "value": pa.array(page.value, pa.float64(), mask=np.isnan(page.value)),
                    "quality": pa.array(page.quality, pa.uint8()),
                },
                schema=SCHEMA,
            )
            self._writer.write_table(table)
        return self._sink.taken()

    def finish(self) -> bytes:
        """Return the last bytes."""
        self._writer.close()
        return self._sink.taken()


class _Sink(io.RawIOBase):
    """A stream that is emptied while it is written."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        return self._position

    def taken(self) -> bytes:
        """Return what was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def read_parquet(path: Path, zone: ZoneInfo | None, *, latest_ms: int) -> Iterator[SampleBatch]:
    """Yield the samples of a Parquet file in batches, with little memory for any length.

    Args:
        path: The file, long or wide (`ingest.sample_rows`).
        zone: Zone of time stamps without one, and of texts without an offset.
        latest_ms: Later times are refused.

    Raises:
        ConfigError: With file, row (as line, the first row is 1) and column, at the first cell that is wrong.
    """
    row = 0
    try:
        with pq.ParquetFile(path) as file:
            layout = layout_of(file.schema_arrow.names)
            for part in file.iter_batches(batch_size=BATCH):
                rows = Rows()
                for cells in zip(*(_texts(column) for column in part.columns), strict=True):
                    row += 1
                    _take(cells, layout, rows, zone=zone, latest_ms=latest_ms)
                if len(rows):
                    yield from _split(rows.batch())
    except CellError as exc:
        raise ConfigError(exc.problem, path=path, line=row, key=exc.column) from exc
    except (pa.ArrowException, OSError) as exc:
        raise ConfigError(f"cannot read the file: {exc}", path=path, line=row) from exc


def _texts(column: Any) -> list[Any]:
    """Return a column as Python values, time stamps as UTC milliseconds or local texts."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        stamps = column.cast(pa.timestamp("ms", tz=kind.tz), safe=False)
        if kind.tz:
            return [str(number) if number is not None else "" for number in stamps.cast(pa.int64()).to_pylist()]
        return [moment.isoformat() if moment is not None else "" for moment in stamps.to_pylist()]
    return list(column.to_pylist())


def _take(cells: tuple[Any, ...], layout: Layout, rows: Rows, *, zone: ZoneInfo | None, latest_ms: int) -> None:
    time_ms = time_of(_text(cells[layout.time]), zone, latest_ms=latest_ms)
    if layout.signal >= 0:
        value = _number(cells[layout.value], column="value")
        code = quality_of(_text(cells[layout.quality]) if layout.quality >= 0 else "", value)
        rows.add(signal_key(_text(cells[layout.signal]), column="signal"), time_ms, value, quality=code)
        return
    for number, key in layout.wide.items():
        value = _number(cells[number], column=key)
        if not math.isnan(value):
            rows.add(key, time_ms, value, quality=int(Quality.GOOD))


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)


def _number(cell: Any, *, column: str) -> float:
    if cell is None:
        return math.nan
    if isinstance(cell, bool):
        return float(cell)
    if isinstance(cell, (int, float)) and (math.isnan(cell) or math.isfinite(cell)):
        return float(cell)
    return number_of(str(cell), column=column)


def _split(batch: SampleBatch) -> Iterator[SampleBatch]:
    """Yield a batch in parts: the rows of a wide file hold many samples each."""
    for start in range(0, len(batch), BATCH):
        part = slice(start, start + BATCH)
        columns = {name: getattr(batch, name)[part] for name in ("series", "time_ms", "value", "quality")}
        yield SampleBatch(keys=batch.keys, **columns)

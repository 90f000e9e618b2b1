"""What goes to InfluxDB 2 as text: line protocol, Flux queries, and the task that makes roll-ups. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ingest.store import SampleBatch
from watchroom.signals import USABLE

MEASUREMENT = "signal"
FIGURES = ("min", "max", "mean", "last", "count")
HOUR_MS = 3_600_000


def line_protocol(batch: SampleBatch, site: str) -> list[bytes]:
    """Return one line a sample; never an object a sample.

    A value of bad quality goes to field ``raw``, so that no query averages it by accident. Numbers are always
    written as floats: a field that once saw an integer would refuse the next float.
    """
    heads = []
    for key in batch.keys:
        equipment, _, signal = key.partition("/")
        heads.append(f"{MEASUREMENT},equipment={_tag(equipment)},signal={_tag(signal)},site={_tag(site)} ")
    lines = []
    columns = zip(
        batch.series.tolist(),
        batch.time_ms.tolist(),
        batch.value.tolist(),
        batch.quality.tolist(),
        strict=True,
    )
    for series, time_ms, value, quality in columns:
        field = "value" if quality in USABLE else "raw"
        number = f"{field}={value!r}," if math.isfinite(value) else ""
        lines.append(f"{heads[series]}{number}quality={quality}i {time_ms}".encode())
    return lines


def data(bucket: str, site: str, keys: Sequence[str], *, start_ms: int, end_ms: int, measurement: str) -> str:
    """Return the beginning of every script: the samples of some signals in a range, as variable ``data``."""
    wanted = " or ".join(
        f"(r.equipment == {flux(key.partition('/')[0])} and r.signal == {flux(key.partition('/')[2])})" for key in keys
    )
    return (
        f"data = from(bucket: {flux(bucket)})\n"
        f"  |> range(start: time(v: {start_ms * 1_000_000}), stop: time(v: {end_ms * 1_000_000}))\n"
        f'  |> filter(fn: (r) => r._measurement == "{measurement}")\n'
        f"  |> filter(fn: (r) => r.site == {flux(site)})\n"
        f"  |> filter(fn: (r) => {wanted})\n"
    )


def range_query(bucket: str, site: str, keys: Sequence[str], *, start_ms: int, end_ms: int, every_ms: int) -> str:
    """Return the script that reads some signals by windows from the start of the range, one result for each figure."""
    window = f"window(every: {every_ms}ms, offset: {start_ms % every_ms}ms)"
    values = 'data |> filter(fn: (r) => r._field == "value")'
    codes = 'data |> filter(fn: (r) => r._field == "quality")'
    # selectors keep the time of the sample they chose; every result keeps the start of its window
    figures = "".join(f'{values} |> {window} |> {name}() |> toFloat() |> yield(name: "{name}")\n' for name in FIGURES)
    every = f'{codes} |> {window} |> count() |> toFloat() |> yield(name: "all")\n'
    head = data(bucket, site, keys, start_ms=start_ms, end_ms=end_ms, measurement=MEASUREMENT)
    return head + figures + every


def fields_query(
    bucket: str,
    site: str,
    keys: Sequence[str],
    *,
    start_ms: int,
    end_ms: int,
    what: str,
    measurement: str = MEASUREMENT,
) -> str:
    """Return the script that reads ``limit(n: 100)``, ``first()``, ``last()`` ... of every field of some signals."""
    head = data(bucket, site, keys, start_ms=start_ms, end_ms=end_ms, measurement=measurement)
    return f"{head}data |> {what}\n"


def count_query(bucket: str, site: str, keys: Sequence[str], *, start_ms: int, end_ms: int) -> str:
    """Return the script that counts the samples of some signals, of any quality."""
    head = data(bucket, site, keys, start_ms=start_ms, end_ms=end_ms, measurement=MEASUREMENT)
    return f'{head}data |> filter(fn: (r) => r._field == "quality") |> count()\n'


def keys_query(bucket: str, site: str) -> str:
    """Return the script that lists the signals of a site: the newest quality of each."""
    return (
        f"from(bucket: {flux(bucket)})\n  |> range(start: 0, stop: 2100-01-01T00:00:00Z)\n"
        f'  |> filter(fn: (r) => r._measurement == "{MEASUREMENT}" and r._field == "quality")\n'
        f"  |> filter(fn: (r) => r.site == {flux(site)})\n  |> last()\n"
    )


def rollup_task(bucket: str, target: str, org: str, *, name: str) -> str:
    """Return the task that writes min, max, mean, last and count of each hour into the roll-up bucket.

    It runs every hour over the last 26 whole hours, so that what came late by a day is counted in.
    """
    values = "".join(
        f'data |> aggregateWindow(every: 1h, fn: {figure}, createEmpty: false, timeSrc: "_start") |> toFloat()\n'
        f'  |> set(key: "_field", value: "{figure}") |> set(key: "_measurement", value: "{MEASUREMENT}_1h")\n'
        f"  |> to(bucket: {flux(target)}, org: {flux(org)})\n"
        for figure in FIGURES
    )
    return (
        f'import "date"\n\noption task = {{name: {flux(name)}, every: 1h, offset: 5m}}\n\n'
        "stop = date.truncate(t: now(), unit: 1h)\n"
        f"data = from(bucket: {flux(bucket)})\n"
        "  |> range(start: date.sub(from: stop, d: 26h), stop: stop)\n"
        f'  |> filter(fn: (r) => r._measurement == "{MEASUREMENT}" and r._field == "value")\n\n{values}'
    )


def _tag(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")


def flux(text: str) -> str:
    """Return a text as Flux writes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${") + '"'

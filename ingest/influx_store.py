"""History in InfluxDB 2 (and servers that take its line protocol). The only module that imports influxdb_client.

Writes are idempotent by themselves: a sample is named by measurement, tags and time stamp, so repeating a batch
after a crash overwrites it with the same values. The journal position stands in a small local file, replaced
after each batch that the server confirmed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from ingest.store import Buckets, Retention, SampleBatch
from watchroom.disk import Disk, RealDisk, replace_file
from watchroom.errors import ConfigError, StoreError
from watchroom.signals import USABLE

MEASUREMENT = "signal"
MOST_LINES = 5_000
TIMEOUT_MS = 10_000


class InfluxStore:
    """History in one bucket of an InfluxDB 2 server.

    Args:
        url: ``influxdb://HOST:PORT/ORG/BUCKET``, or ``influxdbs://`` for HTTPS.
        token: API token that may read and write the bucket.
        site: Site id, a tag of every sample.
        position_file: Where the journal position is kept.
        disk: How that file is written.

    Raises:
        ConfigError: If the URL is not complete.
    """

    def __init__(self, url: str, *, token: str, site: str, position_file: Path, disk: Disk | None = None) -> None:
        parts = urlsplit(url)
        path = [unquote(part) for part in parts.path.split("/") if part]
        if parts.scheme not in {"influxdb", "influxdbs"} or not parts.hostname or len(path) != 2:
            raise ConfigError(
                f"the history store {url!r} is not complete",
                key="WATCHROOM_STORE",
                hint="expected influxdb://HOST:PORT/ORG/BUCKET, the token in WATCHROOM_STORE_TOKEN",
            )
        scheme = "https" if parts.scheme == "influxdbs" else "http"
        self._url = f"{scheme}://{parts.hostname}:{parts.port or 8086}"
        self._org, self._bucket = path
        self._token, self._site = token, site
        self._file, self._disk = position_file, disk or RealDisk()
        self._client: InfluxDBClient | None = None

    def open(self) -> None:
        """Connect lazily; the first write tells whether the server is there."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._client = InfluxDBClient(self._url, token=self._token, org=self._org, timeout=TIMEOUT_MS, enable_gzip=True)

    def position(self) -> int:
        """Return the journal offset after the last one the server confirmed."""
        try:
            return int(json.loads(self._file.read_bytes())["journal"])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError) as exc:
            raise StoreError(f"cannot read {self._file}: {exc}") from exc

    def write(self, batch: SampleBatch, *, position: int | None) -> None:
        """Send the batch as line protocol, then remember the position."""
        client = self._open_client()
        lines = line_protocol(batch, self._site)
        try:
            with client.write_api(write_options=SYNCHRONOUS) as api:
                for start in range(0, len(lines), MOST_LINES):
                    body = b"\n".join(lines[start : start + MOST_LINES])
                    api.write(self._bucket, self._org, body, write_precision="ms")
        except (ApiException, HTTPError, OSError) as exc:
            raise StoreError(f"InfluxDB at {self._url}: {_reason(exc)}") from exc
        if position is not None:
            replace_file(self._disk, self._file, json.dumps({"journal": position}).encode())

    def range(self, keys: Sequence[str], *, start_ms: int, end_ms: int, buckets: int) -> Mapping[str, Buckets]:
        """Return each signal by buckets, computed by the server."""
        client = self._open_client()
        query = flux_range(
            self._bucket,
            self._site,
            keys,
            start_ms=start_ms,
            end_ms=end_ms,
            every_ms=max(1, -(-(end_ms - start_ms) // buckets)),
        )
        found: dict[str, dict[int, dict[str, float]]] = {key: {} for key in keys}
        try:
            for table in client.query_api().query(query, org=self._org):
                for record in table.records:
                    key = f"{record.values['equipment']}/{record.values['signal']}"
                    time_ms = round(record.get_time().timestamp() * 1000)
                    if key in found and record.get_value() is not None:
                        found[key].setdefault(time_ms, {})[record.values["result"]] = float(record.get_value())
        except (ApiException, HTTPError, OSError) as exc:
            raise StoreError(f"InfluxDB at {self._url}: {_reason(exc)}") from exc
        return {key: _buckets(rows) for key, rows in found.items()}

    def expire(self, now_ms: int, keep: Retention) -> None:
        """Leave it to the bucket's retention rule."""

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _open_client(self) -> InfluxDBClient:
        if self._client is None:
            raise StoreError("the InfluxDB store is not open")
        return self._client


def line_protocol(batch: SampleBatch, site: str) -> list[bytes]:
    """Return one line for each sample.

    A value of bad quality goes to the field ``raw``, so that no average ever counts it; a sample without any value
    carries its quality alone. Numbers are always floats: a server that once saw an integer would refuse the next float.
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


def flux_range(bucket: str, site: str, keys: Sequence[str], *, start_ms: int, end_ms: int, every_ms: int) -> str:
    """Return the Flux script that reads some signals by windows, one result for each figure.

    Windows are counted from the start of the range; the time of a window is its end.
    """
    wanted = " or ".join(
        f"(r.equipment == {_flux(key.partition('/')[0])} and r.signal == {_flux(key.partition('/')[2])})"
        for key in keys
    )
    aggregates = "\n".join(
        f"data |> aggregateWindow(every: {every_ms}ms, offset: {start_ms % every_ms}ms, fn: {name}, createEmpty: false)"
        f' |> toFloat() |> yield(name: "{name}")'
        for name in ("min", "max", "mean", "last", "count")
    )
    return (
        f"data = from(bucket: {_flux(bucket)})\n"
        f"  |> range(start: time(v: {start_ms * 1_000_000}), stop: time(v: {end_ms * 1_000_000}))\n"
        f'  |> filter(fn: (r) => r._measurement == "{MEASUREMENT}" and r._field == "value")\n'
        f"  |> filter(fn: (r) => r.site == {_flux(site)})\n"
        f"  |> filter(fn: (r) => {wanted})\n{aggregates}\n"
    )


def _buckets(rows: Mapping[int, Mapping[str, float]]) -> Buckets:
    times = sorted(time for time, row in rows.items() if {"min", "max", "mean", "last", "count"} <= row.keys())
    least, most, mean, last = ([rows[t][name] for t in times] for name in ("min", "max", "mean", "last"))
    return Buckets(t=times, min=least, max=most, mean=mean, last=last, count=[int(rows[t]["count"]) for t in times])


def _tag(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")


def _flux(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${") + '"'


def _reason(exc: Exception) -> str:
    if isinstance(exc, ApiException):
        return f"HTTP {exc.status} {exc.reason}"
    return f"{type(exc).__name__}: {exc}"

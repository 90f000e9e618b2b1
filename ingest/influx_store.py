"""History in InfluxDB 2. The only module that imports influxdb_client.

Writes are idempotent by themselves: a sample is named by measurement, tags and time stamp, so repeating a batch
after a crash overwrites it with the same values. The journal position stands in a small local file with the id of
the bucket, replaced after each batch that the server confirmed (it writes its log to disk before it does); a bucket
of another id is a new one, and is filled from the journal.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import structlog
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules
from influxdb_client.domain.task_create_request import TaskCreateRequest
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from ingest.influx_flux import (
    FIGURES,
    count_query,
    fields_query,
    keys_query,
    line_protocol,
    range_query,
    rollup_task,
)
from ingest.store import Buckets, Retention, RewoundError, Sample, SampleBatch, Samples
from watchroom.disk import Disk, RealDisk, replace_file
from watchroom.errors import ConfigError, StoreError

log = structlog.get_logger(__name__)

MOST_LINES = 5_000
TIMEOUT_MS = 10_000
DAY_S = 86_400
FAR_MS = 4_102_444_800_000
"""The year 2100: the end of a search for the next sample."""
_GONE = {404}
"""The bucket is not there: the server was wiped, or somebody removed it."""


class InfluxStore:
    """History in one bucket of an InfluxDB 2 server, with a second one for hourly roll-ups.

    Args:
        url: ``influxdb://HOST:PORT/ORG/BUCKET``, or ``influxdbs://`` for HTTPS.
        token: API token that may read and write the bucket; to make it at the first start it needs more.
        site: Site id, a tag of every sample.
        position_file: Where position and bucket id are kept.
        disk: How that file is written.
        keep: Retention of the buckets that are made; one that is there keeps its own.

    Raises:
        ConfigError: If the URL is not complete.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str,
        site: str,
        position_file: Path,
        disk: Disk | None = None,
        keep: Retention | None = None,
    ) -> None:
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
        self._token, self._site, self._keep = token, site, keep or Retention()
        self._file, self._disk = position_file, disk or RealDisk()
        self._client: InfluxDBClient | None = None
        self._lock = threading.Lock()
        self._position, self._bucket_id, self._retention_s = 0, "", 0
        self._is_sure = False
        self.refused = 0
        """Samples older than the bucket keeps, which it would refuse for ever."""

    def open(self) -> None:
        """Find the buckets and the task, and make what is missing."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._position, self._bucket_id = self._load()
        if self._client is None:
            self._client = InfluxDBClient(
                self._url, token=self._token, org=self._org, timeout=TIMEOUT_MS, enable_gzip=True
            )
        with self._lock:
            self._settle()

    def position(self) -> int:
        """Return the journal offset after the last one the server confirmed."""
        return self._position

    def write(self, batch: SampleBatch, *, position: int | None) -> None:
        """Send the batch as line protocol, then remember the position."""
        client = self._open_client()
        with self._lock:
            if not self._is_sure:
                before = self._position
                self._settle()
                if self._position < before:
                    problem = f"the bucket {self._bucket} of {self._url} is a new one"
                    raise RewoundError(problem, position=self._position)
            lines = line_protocol(self._kept(batch, is_journal=position is not None), self._site)
            try:
                with client.write_api(write_options=SYNCHRONOUS) as api:
                    for start in range(0, len(lines), MOST_LINES):
                        body = b"\n".join(lines[start : start + MOST_LINES])
                        api.write(self._bucket, self._org, body, write_precision="ms")
            except (ApiException, HTTPError, OSError) as exc:
                if isinstance(exc, ApiException) and exc.status in _GONE:
                    self._is_sure = False
                raise self._problem(exc) from exc
            if position is not None:
                self._save(position)

    def _kept(self, batch: SampleBatch, *, is_journal: bool) -> SampleBatch:
        """Return what the bucket's retention lets in; it refuses a whole batch for one older sample."""
        oldest_ms = int(time.time() * 1000) - self._retention_s * 1000 + 60_000 if self._retention_s else 0
        fits = batch.time_ms >= oldest_ms
        if fits.all():
            return batch
        lost = int(len(batch) - np.count_nonzero(fits))
        if not is_journal:
            raise StoreError(f"{lost} samples are older than the bucket {self._bucket} keeps")
        self.refused += lost
        log.warning("samples older than the bucket keeps", count=lost, total=self.refused)
        return batch.only(fits)

    def _settle(self) -> None:
        """Find or make bucket, roll-up bucket and task; go back to the beginning if the bucket is a new one."""
        try:
            found = self._made(self._bucket, days=self._keep.raw_days)
            identity = "" if found is None else str(found.id)
            self._retention_s = 0 if found is None else _retention_s(found)
            if found is not None:
                self._make_rollups(str(found.org_id))
        except (ApiException, HTTPError, OSError) as exc:
            raise self._problem(exc) from exc
        if identity and identity != self._bucket_id:
            if self._bucket_id:
                log.warning("the bucket is a new one, it is filled from the journal", bucket=self._bucket)
                self._position = 0
            self._bucket_id = identity
            self._save(self._position)
        self._is_sure = True

    def _made(self, name: str, *, days: float) -> Any:
        """Return a bucket, made if missing; None if the token may not look."""
        client = self._open_client()
        try:
            found = client.buckets_api().find_buckets(name=name, org=self._org).buckets
        except ApiException as exc:
            if exc.status == 404:
                found = []
            elif exc.status == 403:
                log.info("the token may not list buckets: it is taken as it is", bucket=name)
                return None
            else:
                raise
        if found:
            return found[0]
        rules = BucketRetentionRules(type="expire", every_seconds=int(days * DAY_S)) if days else None
        log.info("bucket made", bucket=name, days=days)
        return client.buckets_api().create_bucket(bucket_name=name, retention_rules=rules, org=self._org)

    def _make_rollups(self, org_id: str) -> None:
        """Make the hourly bucket and its task; history goes on without them."""
        client, name = self._open_client(), f"watchroom {self._bucket} 1h"
        try:
            if client.tasks_api().find_tasks(name=name, org_id=org_id):
                return
            self._made(self.rollup_bucket, days=self._keep.hour_days)
            script = rollup_task(self._bucket, self.rollup_bucket, self._org, name=name)
            request = TaskCreateRequest(org_id=org_id, flux=script, status="active")
            client.tasks_api().create_task(task_create_request=request)
            log.info("roll-up task made", task=name)
        except ApiException as exc:
            if exc.status not in {401, 403}:
                raise
            log.warning("the token may not make the roll-up task", task=name, problem=_reason(exc))

    @property
    def rollup_bucket(self) -> str:
        """Name of the bucket with a row an hour."""
        return f"{self._bucket}_1h"

    def range(self, keys: Sequence[str], *, start_ms: int, end_ms: int, buckets: int) -> Mapping[str, Buckets]:
        """Return each signal by buckets, computed by the server; their width is rounded up to a millisecond."""
        every_ms = max(1, -(-(end_ms - start_ms) // buckets))
        query = range_query(self._bucket, self._site, keys, start_ms=start_ms, end_ms=end_ms, every_ms=every_ms)
        found: dict[str, dict[int, dict[str, float]]] = {key: {} for key in keys}
        for record in self._records(query):
            key, window = _key(record), _ms(record.values["_start"])
            if key in found and record.get_value() is not None:
                row = found[key].setdefault(window, {})
                row[record.values["result"]] = float(record.get_value())
                if record.values["result"] == "last":
                    row["t"] = _ms(record.get_time())
        return {key: _buckets(rows) for key, rows in found.items()}

    def keys(self) -> list[str]:
        """Return every signal that was ever stored, sorted."""
        return sorted({_key(record) for record in self._records(keys_query(self._bucket, self._site))})

    def samples(self, key: str, *, start_ms: int, end_ms: int, limit: int) -> Samples:
        """Return the first samples of a range and where to go on."""
        # every sample has a quality: its rows say which times there are; value and raw belong to some of them
        rows = self._fields([key], start_ms=start_ms, end_ms=end_ms, what=f"limit(n: {limit + 1})").get(key, {})
        times = sorted(at for at, row in rows.items() if "quality" in row)
        page = times[:limit]
        return Samples(
            time_ms=np.array(page, np.int64),
            value=np.array([_value(rows[at]) for at in page], np.float64),
            quality=np.array([int(rows[at]["quality"]) for at in page], np.uint8),
            next_ms=page[-1] + 1 if len(times) > limit else None,
        )

    def last(self, keys: Sequence[str], *, before_ms: int) -> Mapping[str, Sample]:
        """Return the newest sample of each signal before a time."""
        found = self._fields(keys, start_ms=0, end_ms=max(1, before_ms), what="last()")
        return {
            key: _sample(rows, max(at for at, row in rows.items() if "quality" in row)) for key, rows in found.items()
        }

    def first(self, keys: Sequence[str], *, from_ms: int) -> Mapping[str, Sample]:
        """Return the oldest sample of each signal from a time on."""
        found = self._fields(keys, start_ms=from_ms, end_ms=max(FAR_MS, from_ms + 1), what="first()")
        return {
            key: _sample(rows, min(at for at, row in rows.items() if "quality" in row)) for key, rows in found.items()
        }

    def count(self, keys: Sequence[str], *, start_ms: int, end_ms: int) -> Mapping[str, int]:
        """Return how many samples of any quality each signal has."""
        result = dict.fromkeys(keys, 0)
        query = count_query(self._bucket, self._site, keys, start_ms=start_ms, end_ms=end_ms)
        for record in self._records(query):
            result[_key(record)] += int(record.get_value())
        return result

    def expire(self, now_ms: int, keep: Retention) -> None:
        """Leave it to the bucket's retention rule."""

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _fields(
        self, keys: Sequence[str], *, start_ms: int, end_ms: int, what: str
    ) -> dict[str, dict[int, dict[str, float]]]:
        """Return key -> time -> field -> number."""
        query = fields_query(self._bucket, self._site, keys, start_ms=start_ms, end_ms=end_ms, what=what)
        found: dict[str, dict[int, dict[str, float]]] = {}
        for record in self._records(query):
            row = found.setdefault(_key(record), {}).setdefault(_ms(record.get_time()), {})
            row[record.get_field()] = float(record.get_value())
        return {key: rows for key, rows in found.items() if any("quality" in row for row in rows.values())}

    def _records(self, query: str) -> list[Any]:
        try:
            tables = self._open_client().query_api().query(query, org=self._org)
        except (ApiException, HTTPError, OSError) as exc:
            raise self._problem(exc) from exc
        return [record for table in tables for record in table.records]

    def _load(self) -> tuple[int, str]:
        try:
            content = json.loads(self._file.read_bytes())
            return int(content["journal"]), str(content.get("bucket", ""))
        except FileNotFoundError:
            return 0, ""
        except (OSError, ValueError, KeyError) as exc:
            raise StoreError(f"cannot read {self._file}: {exc}") from exc

    def _save(self, position: int) -> None:
        content = {"journal": position, "bucket": self._bucket_id}
        replace_file(self._disk, self._file, json.dumps(content).encode())
        self._position = position

    def _open_client(self) -> InfluxDBClient:
        if self._client is None:
            raise StoreError("the InfluxDB store is not open")
        return self._client

    def _problem(self, exc: Exception) -> StoreError:
        return StoreError(f"InfluxDB at {self._url}: {_reason(exc)}")


def _buckets(rows: Mapping[int, Mapping[str, float]]) -> Buckets:
    windows = sorted(at for at, row in rows.items() if {"t", *FIGURES} <= row.keys())
    column = {name: [rows[at][name] for at in windows] for name in ("min", "max", "mean", "last")}
    count = [int(rows[at]["count"]) for at in windows]
    bad = [int(rows[at].get("all", rows[at]["count"])) - usable for at, usable in zip(windows, count, strict=True)]
    return Buckets(t=[int(rows[at]["t"]) for at in windows], count=count, bad=bad, **column)


def _sample(rows: Mapping[int, Mapping[str, float]], at: int) -> Sample:
    return Sample(time_ms=at, value=_value(rows[at]), quality=int(rows[at]["quality"]))


def _value(row: Mapping[str, float]) -> float:
    return row.get("value", row.get("raw", float("nan")))


def _key(record: Any) -> str:
    return f"{record.values['equipment']}/{record.values['signal']}"


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _retention_s(bucket: Any) -> int:
    return max((int(rule.every_seconds or 0) for rule in bucket.retention_rules or ()), default=0)


def _reason(exc: Exception) -> str:
    if isinstance(exc, ApiException):
        return f"HTTP {exc.status} {exc.reason}"
    return f"{type(exc).__name__}: {exc}"

"""HTTP to a VictoriaMetrics server: writes, queries, exports, and what the server says of itself."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Timeout, make_headers
from urllib3.exceptions import HTTPError

from watchroom.errors import ConfigError, StoreError

TIMEOUT_S = 30.0
CONNECT_S = 3.0
CONNECTIONS = 4
DEFAULT_PORT = 8428
_UNITS_MS = {"h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000, "": 2_678_400_000}
"""A retention without a unit is in months, which VictoriaMetrics counts as 31 days."""
_INSERTED = 'vm_rows_inserted_total{type="influx"}'
_DROPPED = (
    'vm_rows_ignored_total{reason="big_timestamp"}',
    'vm_rows_ignored_total{reason="small_timestamp"}',
    "vm_hourly_series_limit_rows_dropped_total",
    "vm_daily_series_limit_rows_dropped_total",
    "vm_concurrent_addrows_dropped_rows_total",
    "vm_relabel_metrics_dropped_total",
)
"""What the server counts as inserted and does not store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the server counts; refreshed by it once a second.

    Attributes:
        started_s: When its process began, UTC s.
        inserted: Numbers from Influx lines that were stored since then.
    """

    started_s: int
    inserted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """How the server was started, as far as it matters to us.

    Attributes:
        retention_ms: Older samples are thrown away on arrival.
        dedup: ``-dedup.minScrapeInterval`` as given; empty when it was not.
    """

    retention_ms: int
    dedup: str


class VictoriaLink:
    """Requests to one server; may be used by several threads.

    Args:
        url: ``victoria://[USER:PASSWORD@]HOST[:PORT][/PREFIX]``, or ``victorias://`` for HTTPS.
        token: Sent as a bearer token if not empty.

    Raises:
        ConfigError: If the URL is not complete.
    """

    def __init__(self, url: str, *, token: str = "") -> None:
        hint = "expected victoria://HOST:PORT, or victorias://HOST:PORT for HTTPS"
        try:
            parts = urlsplit(url)
            port = parts.port or DEFAULT_PORT
        except ValueError as exc:
            raise ConfigError(f"the history store is not understood: {exc}", key="WATCHROOM_STORE", hint=hint) from exc
        if parts.scheme not in {"victoria", "victorias"} or not parts.hostname:
            raise ConfigError("the history store is not complete", key="WATCHROOM_STORE", hint=hint)
        kind = HTTPSConnectionPool if parts.scheme == "victorias" else HTTPConnectionPool
        self.name = f"VictoriaMetrics at {parts.hostname}:{port}"
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        if parts.username:
            given = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers = dict(make_headers(basic_auth=given))
        # full: a query waits for a free connection, so that pages cannot open hundreds
        self._pool = kind(
            parts.hostname,
            port,
            maxsize=CONNECTIONS,
            block=True,
            retries=False,
            timeout=Timeout(connect=CONNECT_S, read=TIMEOUT_S),
        )

    def write(self, body: bytes) -> None:
        """Send Influx lines with times in milliseconds, compressed.

        Raises:
            StoreError: If the server is away or refuses; a part may have been taken.
        """
        packed = gzip.compress(body, compresslevel=1)
        headers = {"Content-Encoding": "gzip", "Content-Type": "text/plain"}
        self._ask("POST", "/write?precision=ms", body=packed, headers=headers)

    def query(self, text: str, *, time_ms: int) -> list[dict[str, Any]]:
        """Return the series of a PromQL query at one time: ``{"metric": {...}, "value": [s, "number"]}``."""
        return self._result("/api/v1/query", {"query": text, "time": time_ms / 1000})

    def query_range(self, text: str, *, start_ms: int, end_ms: int, step_ms: int) -> list[dict[str, Any]]:
        """Return the series of a PromQL query: ``{"metric": {...}, "values": [[s, "number"], ...]}``."""
        # without nocache the server moves start and end to multiples of the step
        span = {"start": start_ms / 1000, "end": end_ms / 1000, "step": f"{step_ms}ms", "nocache": 1}
        return self._result("/api/v1/query_range", {"query": text, **span})

    def series(self, selector: str) -> list[dict[str, str]]:
        """Return the labels of all time series ever stored that a selector names."""
        # start=0 would mean "no start given"
        answer = self._json("/api/v1/series", {"match[]": selector, "start": 1})
        return list(answer["data"])

    def export(self, selector: str, *, start_ms: int, end_ms: int) -> list[bytes]:
        """Return JSON lines with all samples of start <= t < end."""
        span = {"start": start_ms / 1000, "end": (end_ms - 1) / 1000}
        return self._ask("POST", "/api/v1/export", fields={"match[]": selector, **span}).splitlines()

    def flush(self) -> None:
        """Make everything that was written visible to queries; it is not yet durable."""
        self._ask("GET", "/internal/force_flush")

    def figures(self) -> Figures:
        """Return the server's own counters."""
        text = self._ask("GET", "/metrics").decode()
        return Figures(
            started_s=_number(text, "vm_app_start_timestamp"),
            inserted=_number(text, _INSERTED) - sum(_number(text, name) for name in _DROPPED),
        )

    def flags(self) -> Flags:
        """Return how the server was started."""
        text = self._ask("GET", "/flags").decode()
        # the server lists only what was given on its command line
        given = dict(re.findall(r'^-{1,2}([\w.]+)="(.*)"$', text, re.MULTILINE))
        return Flags(
            retention_ms=retention_ms(given.get("retentionPeriod", "1")),
            dedup=given.get("dedup.minScrapeInterval", ""),
        )

    def close(self) -> None:
        """Close idle connections."""
        self._pool.close()

    def _result(self, path: str, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
        return list(self._json(path, fields)["data"]["result"])

    def _json(self, path: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._ask("POST", path, fields=fields))
        return answer

    def _ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        fields: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        sent = {**self._headers, **(headers or {})}
        if fields is not None:
            body = urlencode(fields).encode()
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            answer = self._pool.urlopen(method, self._prefix + path, body=body, headers=sent, redirect=False)
        except (HTTPError, OSError) as exc:
            raise StoreError(f"{self.name}: {type(exc).__name__}: {exc}") from exc
        if answer.status not in {200, 204}:
            said = answer.data[:300].decode("utf-8", "replace").strip()
            raise StoreError(f"{self.name}: HTTP {answer.status} to {path.partition('?')[0]}: {said}")
        return answer.data


def retention_ms(text: str) -> int:
    """Return a ``-retentionPeriod`` in milliseconds; 0 if it is not understood."""
    found = re.fullmatch(r"([0-9.]+)([hdwy]?)", text)
    return int(float(found[1]) * _UNITS_MS[found[2]]) if found else 0


def _number(text: str, name: str) -> int:
    found = re.search(rf"^{re.escape(name)} ([0-9.e+]+)$", text, re.MULTILINE)
    return int(float(found[1])) if found else 0

"""The InfluxDB store: line protocol, exchanges in the server's documented format, and a real victoria-metrics server.

No InfluxDB 2 server is started here: none can be installed from the package registries. The answers below are written
to InfluxDB's documentation of annotated CSV; the write path is also checked against victoria-metrics, which takes the
same endpoint and counts what arrived.
"""

from __future__ import annotations

import gzip
import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from ingest.influx_flux import line_protocol, range_query, rollup_task
from ingest.influx_store import InfluxStore
from ingest.store import RewoundError, SampleBatch
from tests.ingest.victoria_server import VictoriaServer
from watchroom.errors import ConfigError, StoreError

KEYS = ("WP-01/outlet_pressure", "TK-01/level")
START = 1_763_800_000_000


def batch(rows: list[tuple[int, int, float, int]]) -> SampleBatch:
    """Return (series, time, value, quality) rows as a batch of KEYS."""
    columns = list(zip(*rows, strict=True))
    return SampleBatch(
        keys=KEYS,
        series=np.array(columns[0], np.uint32),
        time_ms=np.array(columns[1], np.int64),
        value=np.array(columns[2], np.float64),
        quality=np.array(columns[3], np.uint8),
    )


class Exchange(HTTPServer):
    """What InfluxDB's API documentation says a server answers, with prepared answers to queries.

    Attributes:
        seen: Path and body of each write and query.
        answer: What the next writes and queries get.
        buckets: Name -> bucket; a write to another name is 404.
        tasks: Tasks that were made.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, bytes]] = []
        self.answer: tuple[int, bytes] = (204, b"")
        self.buckets: dict[str, dict[str, Any]] = {}
        self.tasks: list[dict[str, Any]] = []
        self.may_make = True
        self.made = 0

    def make(self, bucket: dict[str, Any]) -> dict[str, Any]:
        """Make a bucket, with an id that no bucket had before."""
        self.made += 1
        self.buckets[bucket["name"]] = {**bucket, "id": f"{self.made:016x}", "orgID": "0a"}
        return self.buckets[bucket["name"]]


class _Handler(BaseHTTPRequestHandler):
    server: Exchange

    def do_GET(self) -> None:
        assert self.headers["Authorization"] == "Token secret"
        url = urlsplit(self.path)
        name = parse_qs(url.query).get("name", [""])[0]
        if url.path == "/api/v2/buckets":
            found = [bucket for bucket in self.server.buckets.values() if bucket["name"] == name]
            missing = {"code": "not found", "message": f'bucket "{name}" not found'}
            self._tell(200 if found else 404, {"buckets": found} if found else missing)
        elif url.path == "/api/v2/orgs":
            self._tell(200, {"orgs": [{"id": "0a", "name": "spruce"}]})
        elif url.path == "/api/v2/tasks":
            self._tell(200, {"tasks": [task for task in self.server.tasks if task["name"] == name]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        assert self.headers["Authorization"] == "Token secret"
        url = urlsplit(self.path)
        if url.path in {"/api/v2/buckets", "/api/v2/tasks"} and not self.server.may_make:
            self._tell(403, {"code": "forbidden", "message": "insufficient permissions"})
        elif url.path == "/api/v2/buckets":
            self._tell(201, self.server.make(json.loads(body)))
        elif url.path == "/api/v2/tasks":
            task = json.loads(body)
            name = task["flux"].partition('name: "')[2].partition('"')[0]
            self.server.tasks.append({**task, "id": "0b", "name": name})
            self._tell(201, self.server.tasks[-1])
        else:
            self.server.seen.append((self.path, body))
            status, answer = self.server.answer
            if url.path == "/api/v2/write" and parse_qs(url.query)["bucket"][0] not in self.server.buckets:
                status, answer = 404, b'{"code": "not found", "message": "bucket not found"}'
            self._send(status, answer, "text/csv" if status == 200 else "application/json")

    def _tell(self, status: int, content: dict[str, Any]) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(self, status: int, answer: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Keep the test output clean."""


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    server = Exchange()
    server.make({"name": "room", "retentionRules": []})
    server.tasks.append({"name": "watchroom room 1h", "flux": "", "id": "0c", "orgID": "0a"})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def store_at(port: int, folder: Path) -> InfluxStore:
    """Return an open store."""
    store = InfluxStore(
        f"influxdb://127.0.0.1:{port}/spruce/room",
        token="secret",
        site="spruce-court",
        position_file=folder / "position.json",
    )
    store.open()
    return store


def test_a_sample_is_one_line_and_bad_values_stand_apart() -> None:
    """Numbers are floats, a bad value is field raw, a missing one leaves the quality alone; tags are escaped."""
    lines = line_protocol(
        batch([(0, START, 1.0, 0), (1, START + 5, 72.5, 2), (0, START + 9, math.nan, 1)]), "spruce court, 1=2"
    )
    head = b"signal,equipment=WP-01,signal=outlet_pressure,site=spruce\\ court\\,\\ 1\\=2 "
    assert lines[0] == head + b"value=1.0,quality=0i 1763800000000"
    assert lines[1].endswith(b" raw=72.5,quality=2i 1763800000005")
    assert lines[2] == head + b"quality=1i 1763800000009"


def test_a_confirmed_write_moves_the_position(exchange: Exchange, tmp_path: Path) -> None:
    """The batch goes out as line protocol in milliseconds; only the server's 204 moves the position."""
    store = store_at(exchange.server_port, tmp_path)
    assert store.position() == 0
    store.write(batch([(0, START, 0.6, 0), (1, START, 72.5, 0)]), position=12)
    path, body = exchange.seen[0]
    assert path == "/api/v2/write?org=spruce&bucket=room&precision=ms"
    assert body.count(b"\n") == 1
    assert b"equipment=TK-01,signal=level,site=spruce-court value=72.5,quality=0i" in body
    store.close()
    assert store_at(exchange.server_port, tmp_path).position() == 12


def test_a_refused_write_keeps_the_position(exchange: Exchange, tmp_path: Path) -> None:
    """A server that refuses is a StoreError with its reason, and the batch will be repeated."""
    exchange.answer = (401, json.dumps({"code": "unauthorized", "message": "unauthorized access"}).encode())
    store = store_at(exchange.server_port, tmp_path)
    with pytest.raises(StoreError, match="401"):
        store.write(batch([(0, START, 0.6, 0)]), position=12)
    assert store.position() == 0


def test_a_server_that_is_away_is_a_store_error(tmp_path: Path) -> None:
    """Nobody listens: the error names the address."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(StoreError, match=str(port)):
        store_at(port, tmp_path)


def csv_of(name: str, rows: list[dict[str, Any]], kind: str = "double") -> bytes:
    """Return one result as annotated CSV, in the documented format."""
    kinds = {"_start": "dateTime:RFC3339", "_time": "dateTime:RFC3339", "_value": kind}
    columns = list(rows[0])
    lines = [
        ",".join(["#datatype", "string", "long", *(kinds.get(column, "string") for column in columns)]),
        ",".join(["#group", "false", "false", *("true" if column not in kinds else "false" for column in columns)]),
        ",".join(["#default", name, "", *("" for _ in columns)]),
        ",".join(["", "result", "table", *columns]),
        *(",".join(["", "", "0", *(str(value) for value in row.values())]) for row in rows),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def at(ms: int) -> str:
    """Return a time as InfluxDB writes it."""
    return datetime.fromtimestamp((START + ms) / 1000, UTC).isoformat().replace("+00:00", "Z")


PUMP = {"equipment": "WP-01", "signal": "outlet_pressure"}


def test_a_range_is_read_by_windows(exchange: Exchange, tmp_path: Path) -> None:
    """Six results of the server become the buckets; t is the time of the last usable sample in each."""
    figures = {"min": (0.5, 0.2), "max": (0.6, 0.4), "mean": (0.55, 0.3), "last": (0.6, 0.2), "count": (2, 3)}
    text = b""
    for name, values in {**figures, "all": (3, 3)}.items():
        rows: list[dict[str, Any]] = []
        for number, value in enumerate(values):
            row = {"_start": at(number * 10_000), "_time": at(number * 10_000 + 7_250), "_value": value, **PUMP}
            if name in {"mean", "count", "all"}:
                del row["_time"]
            rows.append(row)
        text += csv_of(name, rows)
    exchange.answer = (200, text)
    store = store_at(exchange.server_port, tmp_path)
    series = store.range(KEYS, start_ms=START, end_ms=START + 20_000, buckets=2)
    path, body = exchange.seen[0]
    assert path.startswith("/api/v2/query?org=spruce")
    assert "window(every: 10000ms, offset: 0ms)" in json.loads(body)["query"]
    found = series["WP-01/outlet_pressure"]
    assert found.t == [START + 7_250, START + 17_250]
    assert (found.min, found.max, found.mean) == ([0.5, 0.2], [0.6, 0.4], [0.55, 0.3])
    assert (found.last, found.count, found.bad) == ([0.6, 0.2], [2, 3], [1, 0])
    assert series["TK-01/level"].t == []


def field(name: str, values: dict[int, float]) -> list[dict[str, Any]]:
    """Return the rows of one field."""
    return [{"_time": at(ms), "_value": value, "_field": name, **PUMP} for ms, value in values.items()]


def test_samples_and_neighbours_are_put_together_from_their_fields(exchange: Exchange, tmp_path: Path) -> None:
    """Good, bad and missing values come back as they were; a page ends at its limit and says where to go on."""
    exchange.answer = (
        200,
        csv_of("_result", field("quality", {0: 0, 5: 2, 9: 1, 12: 0}), "long")
        + csv_of("_result", field("value", {0: 0.5, 12: 0.75}))
        + csv_of("_result", field("raw", {5: 72.5})),
    )
    store = store_at(exchange.server_port, tmp_path)
    page = store.samples(KEYS[0], start_ms=START, end_ms=START + 100, limit=3)
    assert "limit(n: 4)" in json.loads(exchange.seen[0][1])["query"]
    assert page.time_ms.tolist() == [START, START + 5, START + 9]
    np.testing.assert_array_equal(page.value, [0.5, 72.5, math.nan])
    assert page.quality.tolist() == [0, 2, 1]
    assert page.next_ms == START + 10
    whole = store.samples(KEYS[0], start_ms=START, end_ms=START + 100, limit=4)
    assert (len(whole), whole.next_ms) == (4, None)
    # last() answers for each field by itself: the newest quality decides, an older value is not its own
    exchange.answer = (
        200,
        csv_of("_result", field("quality", {9: 1}), "long") + csv_of("_result", field("value", {0: 0.5})),
    )
    newest = store.last(KEYS, before_ms=START + 10)
    assert (newest[KEYS[0]].time_ms, newest[KEYS[0]].quality) == (START + 9, 1)
    assert math.isnan(newest[KEYS[0]].value)
    assert KEYS[1] not in newest
    exchange.answer = (
        200,
        csv_of("_result", field("quality", {0: 0}), "long") + csv_of("_result", field("value", {0: 0.5})),
    )
    assert store.first(KEYS, from_ms=START)[KEYS[0]].value == 0.5
    assert store.keys() == [KEYS[0]]
    exchange.answer = (200, csv_of("_result", [{"_value": 41, **PUMP}], "long"))
    assert store.count(KEYS, start_ms=START, end_ms=START + 100) == {KEYS[0]: 41, KEYS[1]: 0}


def test_the_first_start_makes_buckets_retention_and_task(exchange: Exchange, tmp_path: Path) -> None:
    """An empty server gets the bucket with its retention, one for roll-ups, and the task; the next start finds them."""
    exchange.buckets.clear()
    exchange.tasks.clear()
    store_at(exchange.server_port, tmp_path).close()
    assert exchange.buckets["room"]["retentionRules"][0]["everySeconds"] == 90 * 86_400
    assert exchange.buckets["room_1h"]["retentionRules"][0]["everySeconds"] == 3650 * 86_400
    [task] = exchange.tasks
    assert (task["name"], task["status"], task["orgID"]) == ("watchroom room 1h", "active", "0a")
    assert 'to(bucket: "room_1h", org: "spruce")' in task["flux"]
    store_at(exchange.server_port, tmp_path).close()
    assert (exchange.made, len(exchange.tasks)) == (3, 1)


def test_a_token_that_may_only_write_is_enough(exchange: Exchange, tmp_path: Path) -> None:
    """The bucket is there, the task may not be made: history is written all the same."""
    exchange.tasks.clear()
    exchange.may_make = False
    store = store_at(exchange.server_port, tmp_path)
    store.write(batch([(0, START, 0.6, 0)]), position=3)
    assert store.position() == 3


def test_a_new_bucket_is_filled_from_the_beginning(exchange: Exchange, tmp_path: Path) -> None:
    """Wiped while it is being filled, or while the engine was off: the position goes back, and says so."""
    store = store_at(exchange.server_port, tmp_path)
    store.write(batch([(0, START, 0.6, 0)]), position=7)
    exchange.buckets.clear()
    with pytest.raises(StoreError, match="404"):
        store.write(batch([(0, START + 1, 0.6, 0)]), position=8)
    with pytest.raises(RewoundError) as caught:
        store.write(batch([(0, START + 1, 0.6, 0)]), position=8)
    assert caught.value.position == 0
    store.write(batch([(0, START, 0.6, 0)]), position=8)
    store.close()
    assert store_at(exchange.server_port, tmp_path).position() == 8
    exchange.buckets.clear()
    assert store_at(exchange.server_port, tmp_path).position() == 0


def test_samples_older_than_the_bucket_keeps_hold_up_nothing(exchange: Exchange, tmp_path: Path) -> None:
    """The server would refuse the whole batch for ever: they are left out and counted, and an import is told."""
    exchange.buckets.clear()
    store = store_at(exchange.server_port, tmp_path)
    now = int(time.time() * 1000)
    store.write(batch([(0, now - 91 * 86_400_000, 1.0, 0), (0, now, 2.0, 0)]), position=5)
    assert (store.refused, store.position()) == (1, 5)
    assert exchange.seen[-1][1].count(b"value=") == 1
    with pytest.raises(StoreError, match="older than the bucket room keeps"):
        store.write(batch([(0, now - 91 * 86_400_000, 1.0, 0)]), position=None)


def test_flux_text_cannot_be_broken_out_of() -> None:
    """Quotes and interpolation in names stay text."""
    script = range_query('a"b', "s${x}", ["WP-01/flow"], start_ms=5, end_ms=105, every_ms=10)
    assert 'from(bucket: "a\\"b")' in script
    assert '"s\\${x}"' in script
    assert "start: time(v: 5000000), stop: time(v: 105000000)" in script
    assert "offset: 5ms" in script
    assert 'name: "a\\"b"' in rollup_task("b", "b_1h", "o", name='a"b')


@pytest.mark.parametrize("url", ["influxdb://host/onlyorg", "influxdb:///o/b", "http://h:1/o/b"])
def test_incomplete_url_says_what_is_expected(url: str, tmp_path: Path) -> None:
    """A wrong WATCHROOM_STORE shows the right form."""
    with pytest.raises(ConfigError, match="influxdb://HOST:PORT/ORG/BUCKET"):
        InfluxStore(url, token="", site="s", position_file=tmp_path / "p")


def test_every_line_is_taken_by_a_real_server(tmp_path: Path) -> None:
    """victoria-metrics speaks the same line protocol: what is written is there with value and time."""
    server = VictoriaServer(tmp_path)
    server.start()
    try:
        rows = [(n % 2, START + n * 10, n / 4, 0) for n in range(12_000)]
        body = b"\n".join(line_protocol(batch(rows), "spruce-court"))
        assert server.post("/api/v2/write?org=o&bucket=b&precision=ms", body) == 204
        server.flush()
        query = "match[]=signal_value&start=1763799999&end=1763900000"
        series = [json.loads(line) for line in server.get(f"/api/v1/export?{query}").splitlines()]
    finally:
        server.kill()
    found = {
        (part["metric"]["equipment"], time_ms): value
        for part in series
        for time_ms, value in zip(part["timestamps"], part["values"], strict=True)
    }
    assert found == {(KEYS[s].split("/")[0], t): v for s, t, v, _ in rows}

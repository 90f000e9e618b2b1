"""The InfluxDB store: line protocol, exchanges in the server's documented format, and a real victoria-metrics server.

No InfluxDB 2 server is started here: none can be installed from the package registries. The answers below are written
to InfluxDB's documentation of annotated CSV; the write path is also checked against victoria-metrics, which takes the
same endpoint and counts what arrived.
"""

from __future__ import annotations

import gzip
import json
import math
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from ingest.influx_store import InfluxStore, flux_range, line_protocol
from ingest.store import SampleBatch
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
    """A server that remembers requests and gives prepared answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, bytes]] = []
        self.answer: tuple[int, bytes] = (204, b"")


class _Handler(BaseHTTPRequestHandler):
    server: Exchange

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        assert self.headers["Authorization"] == "Token secret"
        self.server.seen.append((self.path, body))
        status, answer = self.server.answer
        self.send_response(status)
        self.send_header("Content-Type", "text/csv" if status == 200 else "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Keep the test output clean."""


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    server = Exchange()
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
    store = store_at(port, tmp_path)
    with pytest.raises(StoreError, match=str(port)):
        store.write(batch([(0, START, 0.6, 0)]), position=1)


def answer_csv() -> bytes:
    """Return an annotated CSV answer with five results, two windows, in the documented format."""
    head = (
        "#datatype,string,long,dateTime:RFC3339,double,string,string\r\n"
        "#group,false,false,false,false,true,true\r\n"
        "#default,{name},,,,,\r\n"
        ",result,table,_time,_value,equipment,signal\r\n"
    )
    text = ""
    for name, values in {
        "min": (0.5, 0.2),
        "max": (0.6, 0.4),
        "mean": (0.55, 0.3),
        "last": (0.6, 0.2),
        "count": (2, 3),
    }.items():
        text += head.format(name=name)
        for second, value in zip((10, 20), values, strict=True):
            text += f",,0,2025-11-22T08:26:{second + 40 - 30}Z,{value},WP-01,outlet_pressure\r\n"
        text += "\r\n"
    return text.encode()


def test_a_range_is_read_by_windows(exchange: Exchange, tmp_path: Path) -> None:
    """Five results of the server become min, max, mean, last and count of each window."""
    exchange.answer = (200, answer_csv())
    store = store_at(exchange.server_port, tmp_path)
    series = store.range(KEYS, start_ms=START, end_ms=START + 20_000, buckets=2)
    path, body = exchange.seen[0]
    assert path.startswith("/api/v2/query?org=spruce")
    assert "every: 10000ms" in json.loads(body)["query"]
    found = series["WP-01/outlet_pressure"]
    assert found.t == [1_763_799_980_000, 1_763_799_990_000]
    assert (found.min, found.max, found.mean) == ([0.5, 0.2], [0.6, 0.4], [0.55, 0.3])
    assert (found.last, found.count) == ([0.6, 0.2], [2, 3])
    assert series["TK-01/level"].t == []


def test_flux_text_cannot_be_broken_out_of() -> None:
    """Quotes and interpolation in names stay text."""
    script = flux_range('a"b', "s${x}", ["WP-01/flow"], start_ms=5, end_ms=105, every_ms=10)
    assert 'from(bucket: "a\\"b")' in script
    assert '"s\\${x}"' in script
    assert "start: time(v: 5000000), stop: time(v: 105000000)" in script
    assert "offset: 5ms" in script


@pytest.mark.parametrize("url", ["influxdb://host/onlyorg", "influxdb:///o/b", "http://h:1/o/b"])
def test_incomplete_url_says_what_is_expected(url: str, tmp_path: Path) -> None:
    """A wrong WATCHROOM_STORE shows the right form."""
    with pytest.raises(ConfigError, match="influxdb://HOST:PORT/ORG/BUCKET"):
        InfluxStore(url, token="", site="s", position_file=tmp_path / "p")


@pytest.fixture
def victoria(tmp_path: Path) -> Iterator[int]:
    """Run a victoria-metrics server on a free port."""
    program = shutil.which("victoria-metrics")
    if program is None:
        pytest.skip("needs the victoria-metrics server (Debian package victoria-metrics)")
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    arguments = [f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={tmp_path / 'vm'}", "-retentionPeriod=100y"]
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert time.monotonic() < deadline, "victoria-metrics did not start"
            threading.Event().wait(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_every_sample_arrives_in_victoria_metrics(victoria: int, tmp_path: Path) -> None:
    """What is written is there with value and time; a repeated batch is de-duplicated by name and time on export."""
    store = store_at(victoria, tmp_path)
    rows = [(n % 2, START + n * 10, n / 4, 0) for n in range(12_000)]
    store.write(batch(rows), position=1)
    store.close()
    with urllib.request.urlopen(f"http://127.0.0.1:{victoria}/internal/force_flush", timeout=5) as answer:
        answer.read()
    query = "match[]=signal_value&start=1763799999&end=1763900000"
    with urllib.request.urlopen(f"http://127.0.0.1:{victoria}/api/v1/export?{query}", timeout=10) as answer:
        series = [json.loads(line) for line in answer.read().splitlines()]
    found = {
        (part["metric"]["equipment"], time_ms): value
        for part in series
        for time_ms, value in zip(part["timestamps"], part["values"], strict=True)
    }
    assert found == {(KEYS[s].split("/")[0], t): v for s, t, v, _ in rows}

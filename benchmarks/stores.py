"""The whole chain with history in VictoriaMetrics: samples a second, and where the time of its writer goes.

As ``benchmarks.ingest`` with ``WATCHROOM_STORE=victoria://``: the engine as it is shipped, mosquitto, a load generator
and the ``victoria-metrics`` server (Debian package) as processes on this machine. Counted is from the first frame until
the last is acknowledged, judged and stored; then the server's samples are counted, signal by signal. After that the
store's writer alone, stage by stage, on the same kind of batches.

``python -m benchmarks.stores [--seconds 60] [--frame 250]``
"""

from __future__ import annotations

import argparse
import gzip
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np

from benchmarks.figures import Figure, report
from benchmarks.history import VICTORIA
from benchmarks.ingest import cpu_s, result_of, rss_mb, run_load, status, write_site
from benchmarks.load import SITE, key_of
from ingest.store import SampleBatch
from ingest.victoria_lines import encode
from ingest.victoria_link import VictoriaLink
from ingest.victoria_reads import VictoriaReads
from ingest.victoria_store import MOST_LINES
from tests.system.room import Process, free_port, mosquitto
from watchroom.errors import LinkError

BATCH = 200_000
YEAR_MS = 366 * 86_400_000


def start_server(folder: Path, stack: ExitStack) -> tuple[int, subprocess.Popen[bytes]]:
    """Run a server until the stack is closed; return its port.

    Raises:
        LinkError: If it is not installed or does not start.
    """
    if VICTORIA is None:
        raise LinkError("the program victoria-metrics is not installed (Debian package victoria-metrics)")
    port = free_port()
    flags = ["-retentionPeriod=100y", "-dedup.minScrapeInterval=1ms", f"-storageDataPath={folder}"]
    command = [VICTORIA, f"-httpListenAddr=127.0.0.1:{port}", *flags]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(server.wait)
    stack.callback(server.kill)
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                return port, server
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def whole(options: argparse.Namespace) -> list[Figure]:
    """Return the figures of the chain.

    Raises:
        LinkError: If a sample is missing at the end.
    """
    with tempfile.TemporaryDirectory(dir=options.folder) as name, ExitStack() as stack:
        folder = Path(name)
        port, broker = stack.enter_context(mosquitto(folder / "broker"))
        database, server = start_server(folder / "victoria", stack)
        environment = {
            "WATCHROOM_MQTT__PORT": str(port),
            "WATCHROOM_LOG": "warning",
            "WATCHROOM_STORE": f"victoria://127.0.0.1:{database}",
            "WATCHROOM_INGEST__MESSAGES_PER_S": "1000000",
            "WATCHROOM_INGEST__KBYTES_PER_S": "100000000",
        }
        data, site = folder / "data", write_site(folder / "site", options.signals)
        engine = Process(["engine", str(site), "--data", str(data)], environment=environment, output=folder / "log")
        stack.callback(engine.close)
        load = run_load(port, options.frame, options)
        stack.callback(load.kill)
        pids = {"mosquitto": broker.pid, "engine": engine.pid, "load": load.pid, "victoria-metrics": server.pid}
        before, begun = {who: cpu_s(pid) for who, pid in pids.items()}, time.monotonic()
        used: dict[str, float] = {}
        while load.poll() is None and time.monotonic() - begun < options.seconds:
            time.sleep(0.5)
            used = {who: cpu_s(pid) - before[who] for who, pid in pids.items()}
        used_s, told = time.monotonic() - begun, result_of(load)
        _until_stored(data / "engine.sock")
        total_s = time.monotonic() - begun
        memory = rss_mb(engine.pid)
        _check(database, told["samples"], options.signals)
    return [
        Figure(name="acknowledged, judged and stored", value=round(told["samples"] / total_s), unit="samples/s"),
        Figure(name="acknowledged", value=round(told["samples"] / told["acked_s"]), unit="samples/s"),
        Figure(name="stored after the last was acknowledged", value=round(total_s - told["acked_s"], 1), unit="s"),
        Figure(name="memory of the engine at the end", value=round(memory), unit="MB"),
        *(
            Figure(name=f"CPU of {who} while it was sent", value=round(seconds / used_s, 2), unit="cores")
            for who, seconds in used.items()
        ),
    ]


def _until_stored(socket: Path, within_s: float = 900) -> None:
    deadline = time.monotonic() + within_s
    while True:
        facts = status(socket)
        # a tick each second keeps a record or two behind
        if max(int(facts["alarms"]["lag"]), int(facts["history"]["lag"])) <= 8:
            return
        if time.monotonic() > deadline:
            raise LinkError("the readers do not follow")
        time.sleep(0.1)


def _check(port: int, sent: int, signals: int) -> None:
    link = VictoriaLink(f"victoria://127.0.0.1:{port}")
    link.flush()
    now_ms = int(time.time() * 1000)
    keys = [key_of(number) for number in range(signals)]
    found = VictoriaReads(link, SITE).count(keys, start_ms=now_ms - YEAR_MS, end_ms=now_ms + YEAR_MS)
    if sum(found.values()) != sent:
        raise LinkError(f"the store holds {sum(found.values())} of {sent} samples")


def stages(options: argparse.Namespace) -> list[Figure]:
    """Return how long each stage of writing takes for a million samples."""
    spent = dict.fromkeys(("line protocol", "gzip", "HTTP and server"), 0.0)
    random, rounds, sent = np.random.default_rng(7), max(1, int(options.million * 1e6) // BATCH), 0
    keys, now_ms = tuple(key_of(number) for number in range(options.signals)), int(time.time() * 1000)
    with tempfile.TemporaryDirectory(dir=options.folder) as name, ExitStack() as stack:
        port, _ = start_server(Path(name), stack)
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}"))
        for number in range(rounds):
            batch = SampleBatch(
                keys=keys,
                series=np.arange(BATCH, dtype=np.uint32) % options.signals,
                time_ms=now_ms - 10**8 + number * 1000 + np.arange(BATCH) // options.signals,
                value=np.round(np.cumsum(random.normal(0, 0.02, BATCH)) + 50, 3),
                quality=np.where(random.random(BATCH) < 0.01, 2, 0).astype(np.uint8),
            )
            at = time.perf_counter()
            parts = list(encode(batch, SITE, most=MOST_LINES))
            spent["line protocol"] += time.perf_counter() - at
            at = time.perf_counter()
            packed = [gzip.compress(part.body, compresslevel=1) for part in parts]
            spent["gzip"] += time.perf_counter() - at
            at = time.perf_counter()
            for body in packed:
                headers = {"Content-Encoding": "gzip"}
                client.post("/write?precision=ms", content=body, headers=headers).raise_for_status()
            spent["HTTP and server"] += time.perf_counter() - at
            sent += len(batch)
    whole_s = sum(spent.values())
    return [
        *(
            Figure(name=f"a million samples: {stage}", value=round(seconds / sent * 1e6, 3), unit="s")
            for stage, seconds in spent.items()
        ),
        Figure(name="writer alone", value=round(sent / whole_s), unit="samples/s"),
    ]


def main() -> None:
    """Measure; ``--seconds`` shortens a trial."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--signals", type=int, default=10_000)
    parser.add_argument("--gateways", type=int, default=8)
    parser.add_argument("--frame", type=int, default=250)
    parser.add_argument("--rate", type=float, default=0.0, help="samples a second, 0 for as many as possible")
    parser.add_argument("--million", type=float, default=2.0, help="million samples for the writer alone")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    options = parser.parse_args()
    report("stores", [*whole(options), *stages(options)])


if __name__ == "__main__":
    main()

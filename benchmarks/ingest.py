"""Sustained samples a second from MQTT to acknowledged, judged (four limits a signal) and stored in DuckDB.

The engine as it is shipped, mosquitto and a load generator (`benchmarks.load`) as processes on this machine: 10,000
signals, random walks, 0.25 % of the signals out of band, 1 % bad quality. Counted is what was acknowledged, from the
first frame until the last frame is acknowledged, judged and stored; then the journal's samples are counted and summed
bit by bit, and the store's are counted. In the same run: a bare chain without any of our guarantees
(`benchmarks.bare_chain`), and the usual way with one JSON message a sample (`benchmarks.json_chain`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, report
from benchmarks.load import PER_MACHINE, SITE, checksum
from ingest.duckdb_store import DuckStore
from tests.system.room import Process, mosquitto
from watchroom.errors import LinkError
from watchroom.frames import SampleFrame, decode
from watchroom.journal import FileJournal
from watchroom.local import LocalClient

GOALS = {250: 1_200_000, 1000: 2_500_000}
SHARE_OF_BARE = 60
OWN_SAMPLES = 1000
"""What the centre has stored about itself meanwhile."""
TICKS_S = os.sysconf("SC_CLK_TCK")


def write_site(folder: Path, signals: int) -> Path:
    """Write a site with four limits for each signal."""
    machines = range(-(-signals // PER_MACHINE))
    names = "".join(f"v{n}: {{name: {{zh: 值, en: Value {n}}}}}, " for n in range(1, PER_MACHINE + 1))
    equipment = "".join(
        f"M-{n:03d}: {{type: machine, place: YARD, name: {{zh: 机器, en: Machine}}, signals: {{{names}}}}}\n"
        for n in machines
    )
    rules = "".join(
        f"  v{n}.range: {{equipment: {{type: machine}}, limit: {{signal: v{n}, LL: -80, L: -50, H: 50, HH: 80}}, "
        "deadband: 1, class: equipment, priority: 3}\n"
        for n in range(1, PER_MACHINE + 1)
    )
    folder.mkdir(parents=True)
    place = "YARD: {kind: area, name: {zh: 场地, en: Yard}}"
    site = f"site: {{id: {SITE}, name: {{zh: 测试, en: Bench}}}}\nplaces:\n  {place}\n"
    for name, text in (("site", site), ("equipment", equipment), ("rules", f"rules:\n{rules}")):
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def status(socket: Path) -> dict[str, Any]:
    """Return what the engine says about itself.

    Raises:
        LinkError: If it does not answer.
    """

    async def ask() -> Any:
        connected = asyncio.Event()
        client = LocalClient(socket, on_wake=lambda _: connected.set())
        running = asyncio.create_task(client.run())
        try:
            async with asyncio.timeout(60):
                await connected.wait()
            return await client.ask("status", timeout_s=30)
        finally:
            running.cancel()

    found: dict[str, Any] = asyncio.run(ask())
    return found


def cpu_s(pid: int) -> float:
    """Return the CPU time a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_S


def rss_mb(pid: int) -> float:
    """Return the memory of a process in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def run_load(port: int, frame: int, options: argparse.Namespace) -> subprocess.Popen[str]:
    """Start the load generator; returns when its births are acknowledged.

    Raises:
        LinkError: If they are not.
    """
    words = ["--port", port, "--frame", frame, "--signals", options.signals, "--gateways", options.gateways]
    words += ["--seconds", options.seconds, "--rate", options.rate]
    command = [sys.executable, "-m", "benchmarks.load", *map(str, words)]
    load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert load.stdout is not None
    if load.stdout.readline().strip() != "started":
        raise LinkError("the load did not start")
    return load


def result_of(load: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what the load generator has sent."""
    assert load.stdout is not None
    told: dict[str, Any] = json.loads(load.stdout.readline())
    load.wait(60)
    return told


def whole(frame: int, options: argparse.Namespace) -> tuple[float, list[Figure]]:
    """Return (samples a second, figures) of the engine."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name, ExitStack() as stack:
        folder = Path(name)
        port, broker = stack.enter_context(mosquitto(folder / "broker"))
        site = write_site(folder / "site", options.signals)
        environment = {
            "WATCHROOM_MQTT__PORT": str(port),
            "WATCHROOM_LOG": "warning",
            "WATCHROOM_INGEST__MESSAGES_PER_S": "1000000",
            "WATCHROOM_INGEST__KBYTES_PER_S": "100000000",
        }
        data = folder / "data"
        engine = Process(["engine", str(site), "--data", str(data)], environment=environment, output=folder / "log")
        stack.callback(engine.close)
        load = run_load(port, frame, options)
        stack.callback(load.kill)
        pids = {"mosquitto": broker.pid, "engine": engine.pid, "load": load.pid}
        before, begun = {who: cpu_s(pid) for who, pid in pids.items()}, time.monotonic()
        lags, memory = [], []
        used: dict[str, float] = {}
        while load.poll() is None and time.monotonic() - begun < options.seconds:
            time.sleep(0.5)
            facts = status(data / "engine.sock")
            lags.append(max(int(facts["alarms"]["lag"]), int(facts["history"]["lag"])))
            memory.append(rss_mb(engine.pid))
            used = {who: cpu_s(pid) - before[who] for who, pid in pids.items()}
        used_s = time.monotonic() - begun
        told = result_of(load)
        _until_level(data / "engine.sock")
        total_s = time.monotonic() - begun
        engine.close()
        _check(told, data, options)
    title = f"frames of {frame}"
    rate = told["samples"] / max(told["acked_s"], total_s)
    return rate, [
        Figure(
            name=f"acknowledged, judged and stored, {title}", value=round(rate), unit="samples/s",
            goal=f">= {GOALS[frame]}" if frame in GOALS else "",
        ),
        Figure(name=f"acknowledged, {title}", value=round(told["samples"] / told["acked_s"]), unit="samples/s"),
        Figure(name=f"most records behind, {title}", value=max(lags, default=0), unit="records"),
        Figure(name=f"memory of the engine at the end, {title}", value=round(memory[-1]), unit="MB"),
        *(
            Figure(name=f"CPU of {who}, {title}", value=round(seconds / used_s, 2), unit="cores")
            for who, seconds in used.items()
        ),
    ]  # fmt: skip


def _until_level(socket: Path, within_s: float = 300) -> None:
    deadline = time.monotonic() + within_s
    while True:
        facts = status(socket)
        # a tick each second keeps a record or two behind
        if max(int(facts["alarms"]["lag"]), int(facts["history"]["lag"])) <= 8:
            return
        if time.monotonic() > deadline:
            raise LinkError("the readers do not follow")
        time.sleep(0.1)


def _check(told: dict[str, Any], data: Path, options: argparse.Namespace) -> None:
    """Compare what was sent with journal and store.

    Raises:
        LinkError: If anything is missing or too much.
    """
    journal, samples, total = FileJournal(data / "journal", read_only=True), 0, 0
    offset = journal.begin(SITE)
    while records := journal.read(SITE, offset):
        for record in records:
            frame = decode(record.payload) if record.gateway.startswith("load-") else None
            if isinstance(frame, SampleFrame):
                samples += frame.header.n
                total = (total + checksum(frame.value)) % (1 << 64)
        offset = records[-1].offset + 1
    if (samples, total) != (told["samples"], told["checksum"]):
        raise LinkError(f"the journal holds {samples} of {told['samples']} samples")
    stored = _stored(data / "history.duckdb")
    if stored < told["samples"] or stored > told["samples"] + OWN_SAMPLES:
        raise LinkError(f"the store holds {stored} of {told['samples']} samples")


def _stored(path: Path) -> int:
    """Return how many samples the store holds; counted table by table, which is quicker than by signals."""
    store = DuckStore(path)
    store.open()
    cursor = store.cursor()
    tables = cursor.execute("select table_name from duckdb_columns() where column_name = 'quality'").fetchall()
    count = sum(cursor.execute(f'select count(*) from "{name}"').fetchone()[0] for (name,) in tables)
    store.close()
    return int(count)


def bare(frame: int, options: argparse.Namespace) -> float:
    """Return the samples a second of the bare chain."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name, ExitStack() as stack:
        folder = Path(name)
        port, _ = stack.enter_context(mosquitto(folder / "broker"))
        command = [sys.executable, "-m", "benchmarks.bare_chain", str(port), str(folder)]
        chain = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(chain.kill)
        load = run_load(port, frame, options)
        stack.callback(load.kill)
        told = result_of(load)
        out, _ = chain.communicate(timeout=120)
        stored = json.loads(out)
        if (stored["samples"], stored["checksum"]) != (told["samples"], told["checksum"]):
            raise LinkError(f"the bare chain holds {stored['samples']} of {told['samples']} samples")
        return float(told["samples"] / max(told["acked_s"], stored["seconds"]))


def usual(options: argparse.Namespace) -> float:
    """Return the samples a second of one JSON message a sample."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name, ExitStack() as stack:
        port, _ = stack.enter_context(mosquitto(Path(name) / "broker"))
        command = [sys.executable, "-m", "benchmarks.json_chain", str(port), name, str(min(options.seconds, 10.0))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return float(json.loads(done.stdout.strip().splitlines()[-1])["samples_per_s"])


def main() -> None:
    """Measure; ``--seconds`` shortens a trial."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--signals", type=int, default=10_000)
    parser.add_argument("--gateways", type=int, default=8)
    parser.add_argument("--frames", type=int, nargs="+", default=[250, 1000])
    parser.add_argument("--rate", type=float, default=0.0, help="samples a second, 0 for as many as possible")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    options = parser.parse_args()
    figures, first = [], 0.0
    for frame in options.frames:
        rate, found = whole(frame, options)
        first = first or rate
        reference = bare(frame, options)
        figures += found
        figures.append(Figure(name=f"bare chain, frames of {frame}", value=round(reference), unit="samples/s"))
        figures.append(
            Figure(
                name=f"share of the bare chain, frames of {frame}", value=round(100 * rate / reference), unit="%",
                goal=f">= {SHARE_OF_BARE}",
            )
        )  # fmt: skip
    slow = usual(options)
    figures.append(Figure(name="one JSON message a sample", value=round(slow), unit="samples/s"))
    figures.append(Figure(name="times as fast as one JSON message a sample", value=round(first / slow, 1), unit="x"))
    report("ingest", figures)


if __name__ == "__main__":
    main()

"""Reading devices: requests, CPU, age of values, and what comes of liars; beside a plain poller in the same run.

The plain poller reads one register a request with pymodbus, as gateways do that ask once a tag. The devices run in a
process of their own; each reader too, so that its CPU and memory are its own.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.figures import Figure, quantile, report
from benchmarks.modbus_farm import truth

LINKS, DEVICES, REGISTERS, BUS = 8, 130, 20, 32
PERIOD_S, BUS_PERIOD_S = 1.0, 5.0
MODEL = """\
model: farm
base: 0
groups: {{all: {period}ms}}
signals: {{"r{{i}}": {{repeat: {{i: 1..20}}, at: "holding:{{i-1}}", group: all}}}}
"""


@contextmanager
def farm(plan: list[dict[str, Any]]) -> Iterator[list[int]]:
    """Run the devices; yields their ports."""
    command = [sys.executable, "-m", "benchmarks.modbus_farm", json.dumps(plan)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


class Notes:
    """A sink that only notes when which device was read, and which values were wrong."""

    is_full = False

    def __init__(self, owners: dict[int, tuple[str, int, int, int]]) -> None:
        self.names = {alias: owner[0] for alias, owner in owners.items()}
        # worked out before the clock starts: proving the values is no part of reading them
        self.truth = np.array([truth(link, unit, 3, address) for _, link, unit, address in owners.values()])
        self.stamps: dict[str, list[float]] = {}
        self.ages_ms: list[float] = []
        self.values = self.wrong = 0

    def report(self, aliases: Any, time_ms: int, values: Any, quality: Any) -> None:
        """Take one block."""
        good = quality == 0
        if not good.any():
            return
        name = self.names[int(aliases[0])]
        stamps = self.stamps.setdefault(name, [])
        if stamps:
            self.ages_ms.append(time.time() * 1000 - stamps[-1])
        stamps.append(time_ms)
        self.values += int(good.sum())
        self.wrong += int((values[good] != self.truth[aliases[good]]).sum())

    async def durable(self) -> None:
        """Nothing is kept."""

    async def event(self, event: Any) -> None:
        """Nothing is kept."""


async def ours(folder: Path, links: list[dict[str, Any]], seconds: float, period_s: float) -> dict[str, Any]:
    """Poll with the gateway's field side; returns figures."""
    from gateway.config import load_gateway, signals_of
    from gateway.field import FieldSide
    from gateway.model import ModelLibrary

    (folder / "farm.yaml").write_text(MODEL.format(period=int(period_s * 1000)))
    lines, devices = [], []
    for number, link in enumerate(links):
        more = ", ".join(f"{key}: {value}" for key, value in link.get("options", {}).items())
        lines.append(f"  l{number}: {{tcp: '127.0.0.1:{link['port']}'{', ' + more if more else ''}}}\n")
        for unit in link["units"]:
            devices.append(
                f"  d{number}-{unit}: {{model: farm, link: l{number}, unit: {unit}, equipment: X-{number}-{unit}}}\n"
            )
    path = folder / "gateway.yaml"
    path.write_text(f"gateway: {{id: bench, site: bench}}\nlinks:\n{''.join(lines)}devices:\n{''.join(devices)}")
    config = load_gateway(path, models=ModelLibrary(folder))
    owners: dict[int, tuple[str, int, int, int]] = {}
    for spec in signals_of(config):
        equipment, _, signal = spec.key.partition("/")
        _, on_link, of_unit = equipment.split("-")
        owners[spec.alias] = (equipment, int(on_link), int(of_unit), int(signal[1:]) - 1)
    notes = Notes(owners)
    side = FieldSide(config, notes, now_ms=lambda: time.time_ns() // 1_000_000, key=b"0" * 16, folder=folder)
    task = asyncio.create_task(side.run())
    await asyncio.sleep(2 * min(period_s, 2.0))
    notes.values, notes.ages_ms = 0, []
    before_s, asked = cpu_s(), _requests(side)
    started_s = time.monotonic()
    await asyncio.sleep(seconds)
    took_s = time.monotonic() - started_s
    result = {
        "cpu_s": cpu_s() - before_s,
        "values": notes.values,
        "requests_per_cycle": (_requests(side) - asked) * period_s / took_s,
        "cycle_s": period_s * took_s / period_s / max(1.0, notes.values / len(owners)),
        "age_p99_ms": quantile(notes.ages_ms, 0.99) if notes.ages_ms else 0.0,
        "wrong": notes.wrong,
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "stamps": notes.stamps,
    }
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return result


def figure(name: str, value: float, unit: str = "", goal: str = "") -> Figure:
    """Return one figure."""
    return Figure(name=name, value=value, unit=unit, goal=goal)


def _requests(side: Any) -> int:
    return sum(device["requests"] for link in side.status().values() for device in link["devices"].values())


async def plain(links: list[dict[str, Any]], seconds: float, period_s: float) -> dict[str, Any]:
    """Poll one register a request with pymodbus, a connection a link; returns figures."""
    from pymodbus import FramerType
    from pymodbus.client import AsyncModbusTcpClient

    cycles: list[float] = []
    values = requests = 0

    async def link_loop(link: dict[str, Any]) -> None:
        nonlocal values, requests
        framer = FramerType.RTU if link.get("options", {}).get("framing") == "rtu" else FramerType.SOCKET
        client = AsyncModbusTcpClient("127.0.0.1", port=link["port"], framer=framer, timeout=3, retries=0)
        await client.connect()
        # pymodbus may swallow a cancellation (asyncio.wait_for of Python 3.11), so that a clock ends it
        while time.monotonic() < end_s:
            began_s = time.monotonic()
            for unit in link["units"]:
                for address in range(REGISTERS):
                    if time.monotonic() >= end_s:
                        return
                    answer = await client.read_holding_registers(address, count=1, device_id=unit)
                    requests += 1
                    values += len(answer.registers)
            cycles.append(time.monotonic() - began_s)
            await asyncio.sleep(max(0.0, period_s - cycles[-1]))

    before_s, end_s = cpu_s(), time.monotonic() + seconds
    await asyncio.gather(*(link_loop(link) for link in links))
    per_cycle = sum(len(link["units"]) for link in links) * REGISTERS
    return {
        "cpu_s": cpu_s() - before_s,
        "values": values,
        "requests_per_cycle": float(per_cycle),
        "cycle_s": max(cycles, default=seconds * per_cycle / max(values, 1)),
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def cpu_s() -> float:
    """Return the CPU time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run_reader(kind: str, links: list[dict[str, Any]], seconds: float, period_s: float) -> dict[str, Any]:
    """Run one reader in a process of its own and return its figures."""
    job = json.dumps({"links": links, "seconds": seconds, "period_s": period_s})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.polling", "--reader", kind, "--job", job],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def wide(seconds: float) -> list[Figure]:
    """130 devices of 20 registers on 8 links, once a second."""
    units = [[d // LINKS + 1 for d in range(DEVICES) if d % LINKS == link] for link in range(LINKS)]
    with farm([{} for _ in range(LINKS)]) as ports:
        links = [{"port": port, "units": own} for port, own in zip(ports, units, strict=True)]
        mine = run_reader("ours", links, seconds, PERIOD_S)
        other = run_reader("plain", links, seconds, PERIOD_S)
    each = [1e6 * figures["cpu_s"] / max(figures["values"], 1) for figures in (mine, other)]
    return [
        figure(
            "8 links, 130 devices: requests a cycle (fewest: 130)", round(mine["requests_per_cycle"], 1), "", "<= 131.5"
        ),
        figure("  plain poller", other["requests_per_cycle"], ""),
        figure("  CPU a value", round(each[0], 1), "us"),
        figure("  CPU a value, plain poller", round(each[1], 1), "us"),
        figure("  times less CPU a value", round(each[1] / each[0], 1), "x", ">= 5"),
        figure("  p99 age of a value / period", round(mine["age_p99_ms"] / 1000 / PERIOD_S, 3), "", "<= 1.2"),
        figure("  longest cycle of the plain poller", round(other["cycle_s"], 2), "s"),
        figure("  RSS", round(mine["rss_mib"]), "MiB"),
        figure("  RSS, plain poller", round(other["rss_mib"]), "MiB"),
        figure("  wrong values", mine["wrong"], "", "<= 0"),
    ]


def bus(seconds: float) -> list[Figure]:
    """32 RTU units on one bus with the timing of 9,600 baud."""
    with farm([{"is_rtu": True, "baud": 9600}]) as ports:
        links = [
            {"port": ports[0], "units": list(range(1, BUS + 1)), "options": {"framing": "rtu", "timeout": "400ms"}}
        ]
        mine = run_reader("ours", links, seconds, BUS_PERIOD_S)
        other = run_reader("plain", links, seconds, BUS_PERIOD_S)
    return [
        figure(
            "bus of 32 at 9600 baud: requests a cycle (fewest: 32)", round(mine["requests_per_cycle"], 1), "", "<= 33"
        ),
        figure(
            "  p99 age of a value / period of 5 s", round(mine["age_p99_ms"] / 1000 / BUS_PERIOD_S, 3), "", "<= 1.2"
        ),
        figure("  cycle of the plain poller", round(other["cycle_s"], 2), "s"),
        figure("  wrong values", mine["wrong"], "", "<= 0"),
    ]


def neighbours(seconds: float) -> list[Figure]:
    """Six good units beside a dead, a late, a lying and a dropping one: the good ones' period."""
    modes = {7: "dead", 8: "late", 9: "rubbish", 10: "drop"}
    plan: list[dict[str, Any]] = [{}, {"modes": modes, "late_s": 0.3}]
    plan += [{"is_rtu": True}, {"is_rtu": True, "modes": modes, "late_s": 0.3}]
    with farm(plan) as ports:
        links = [
            {"port": port, "units": list(range(1, 11)), "options": {"timeout": "200ms"} | more}
            for port, more in zip(ports, [{}, {}, {"framing": "rtu"}, {"framing": "rtu"}], strict=True)
        ]
        mine = run_reader("ours", links, seconds, PERIOD_S)
    figures = []
    for number, name in enumerate(["TCP, all good", "TCP, four faulty", "RTU, all good", "RTU, four faulty"]):
        gaps = [(b - a) / 1000 for unit in range(1, 7) for a, b in _pairs(mine["stamps"].get(f"X-{number}-{unit}", []))]
        figures.append(
            Figure(
                name=f"neighbours' period, {name}: mean",
                value=round(sum(gaps) / len(gaps), 4),
                unit="s",
                goal="<= 1.01",
            )
        )
        figures.append(figure(f"neighbours' period, {name}: p99", round(quantile(gaps, 0.99), 3), "s"))
    return [*figures, figure("wrong values beside the faulty", mine["wrong"], "", "<= 0")]


def recovery() -> list[Figure]:
    """A unit that is off for twelve seconds, with a back-off of 2 s: how long until its next value."""
    now_s = time.monotonic()
    off_s, on_s = now_s + 5.0, now_s + 17.0
    plan = [{"is_rtu": is_rtu, "cycled": [2], "dead_from_s": off_s, "dead_until_s": on_s} for is_rtu in (False, True)]
    with farm(plan) as ports:
        options = {"timeout": "300ms", "back_off": "2s"}
        links = [
            {"port": ports[0], "units": [1, 2], "options": options},
            {"port": ports[1], "units": [1, 2], "options": options | {"framing": "rtu"}},
        ]
        wall_ms = time.time() * 1000 + (on_s - time.monotonic()) * 1000
        mine = run_reader("ours", links, on_s - time.monotonic() + 6.0, PERIOD_S)
    figures = []
    for number, name in enumerate(("TCP", "RTU")):
        after = [stamp for stamp in mine["stamps"][f"X-{number}-2"] if stamp >= wall_ms]
        figures.append(
            figure(
                f"recovery after 12 s without power, back-off 2 s, {name}",
                round((after[0] - wall_ms) / 1000, 2),
                "s",
                "<= 4",
            )
        )
    return figures


async def lies(reads: int) -> list[Figure]:
    """Single reads of ten units, four of them faulty: how many come out wrong."""
    modes = {7: "dead", 8: "late", 9: "rubbish", 10: "drop"}
    figures = []
    for framing in ("rtu", "tcp"):
        with farm([{"is_rtu": framing == "rtu", "modes": modes, "late_s": 0.05, "share": 0.2}]) as ports:
            good, wrong = await _lies(ports[0], framing, reads // 2)
        figures.append(figure(f"{framing}: values right of {reads // 2} reads", good, ""))
        figures.append(figure(f"{framing}: values wrong", wrong, "", "<= 0"))
    return figures


async def _lies(port: int, framing: Any, reads: int) -> tuple[int, int]:
    from gateway.addresses import Table
    from gateway.config import LinkConfig
    from gateway.modbus import ModbusLink, RefusedError
    from watchroom.errors import LinkError

    link = LinkConfig(
        name="lies", kind="tcp", host="127.0.0.1", port=port, framing=framing, timeout_s=0.04, settle_s=0.01
    )
    line, choice = ModbusLink(link), random.Random(5)
    good = wrong = 0
    for _ in range(reads):
        unit = choice.choices(range(1, 11), [15] * 6 + [0.2, 4, 4, 2])[0]
        start, count = choice.randrange(1000), choice.choice([1, 2, 4, 10])
        with suppress(LinkError, RefusedError):
            if not line.is_open:
                await line.open()
            words = await line.read(Table.HOLDING, unit=unit, start=start, count=count)
            is_right = words.tolist() == [truth(0, unit, 3, start + i) for i in range(count)]
            good, wrong = good + is_right, wrong + (not is_right)
    line.close()
    return good, wrong


def _pairs(stamps: list[float]) -> Iterator[tuple[float, float]]:
    return itertools.pairwise(stamps)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="benchmarks.polling")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each part")
    parser.add_argument("--reads", type=int, default=100_000, help="reads among liars")
    parser.add_argument("--reader", choices=["ours", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:
        job = options.job
        with TemporaryDirectory() as folder:
            measured = (
                ours(Path(folder), job["links"], job["seconds"], job["period_s"])
                if options.reader == "ours"
                else plain(job["links"], job["seconds"], job["period_s"])
            )
            print(json.dumps(asyncio.run(measured)))
        return
    figures = wide(options.seconds) + bus(max(options.seconds, 12.0)) + neighbours(options.seconds) + recovery()
    report("polling", figures + asyncio.run(lies(options.reads)))


if __name__ == "__main__":
    main()

"""From an event published to a reader of the journal that sees it durable, with samples in the background.

Real parts on this machine: mosquitto, a load generator and the centre's receiver as processes of their own; every batch
is synced to the disk before a reader sees it. An event is published each 20 ms on the urgent topic and carries the
monotonic clock; a thread beside the receiver waits for it as the alarm engine does, and this process follows the files
as the dashboard does (it looks every 10 ms). The last figures are those of the lowest rate beside one gateway in a
loop, which the receiver holds back.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from benchmarks.figures import Figure, report, spread
from benchmarks.load import SITE, Gateway
from ingest.receive import Receiver
from tests.system.room import mosquitto
from watchroom.births import BirthStore, format_epoch
from watchroom.clock import utc_ms
from watchroom.disk import RealDisk
from watchroom.errors import LinkError
from watchroom.frames import Event, EventFrame, Header, decode, encode_birth, encode_events
from watchroom.journal import FileJournal
from watchroom.logs import configure_logs
from watchroom.mqtt import MqttLink
from watchroom.settings import MqttSettings

PROBE = "probe"
EPOCH = 0x9120BE
EVERY_S = 0.02
GOALS = {200_000: "<= 10", 750_000: "<= 25"}


class Reader:
    """Notes how old each event of the probe is when it can be read.

    Args:
        journal: The journal.
    """

    def __init__(self, journal: FileJournal) -> None:
        self._journal, self._stop = journal, threading.Event()
        self.ages_ms: dict[int, float] = {}
        self._thread = threading.Thread(target=self._run, name="reader")

    def start(self) -> None:
        """Read from now on."""
        self._thread.start()

    def stop(self) -> list[float]:
        """Stop and return the ages."""
        self._stop.set()
        self._thread.join()
        return list(self.ages_ms.values())

    def _run(self) -> None:
        offset = self._journal.end(SITE)
        while not self._stop.is_set():
            if not self._journal.wait(SITE, offset, 0.2):
                continue
            records = self._journal.read(SITE, offset)
            now_ns = time.monotonic_ns()
            for record in records:
                if record.gateway != PROBE:
                    continue
                frame = decode(record.payload)
                if isinstance(frame, EventFrame):
                    sent_ns = frame.events[0].fields["sent_ns"]
                    self.ages_ms.setdefault(frame.header.seq, (now_ns - sent_ns) / 1e6)
            if records:
                offset = records[-1].offset + 1


def centre(port: int, folder: Path) -> None:
    """Receive until standard input ends; print the ages as one JSON line."""
    configure_logs("warning")
    sys.setswitchinterval(0.0002)  # as the engine does
    journal = FileJournal(folder / "journal", durable_readers=("ingest",))
    receiver = Receiver(
        SITE,
        journal,
        births=BirthStore(folder / "births"),
        settings=MqttSettings(port=port),
        folder=folder / "ingest",
        disk=RealDisk(),
        now_ms=utc_ms,
        registry=CollectorRegistry(),
    )
    stop, reader = threading.Event(), Reader(journal)
    thread = threading.Thread(target=receiver.run, args=(stop,), name="ingest")
    thread.start()
    reader.start()
    sys.stdin.read()
    ages = reader.stop()
    stop.set()
    thread.join()
    journal.close()
    print(json.dumps(ages))


class Probe:
    """A gateway that publishes one urgent event at a time.

    Args:
        port: Of the broker.
    """

    def __init__(self, port: int) -> None:
        self._link = MqttLink(MqttSettings(port=port), PROBE)
        self._seq = 1
        self.sent = 0

    def start(self) -> None:
        """Connect and announce."""
        self._link.start()
        deadline = time.monotonic() + 20
        while not self._link.is_up:
            if time.monotonic() > deadline:
                raise LinkError("the broker does not answer")
            time.sleep(0.01)
        content = {
            "format": "WR1",
            "epoch": format_epoch(EPOCH),
            "schema": 1,
            "time_ms": utc_ms(),
            "gateway": {"id": PROBE, "version": "bench", "heartbeat_s": 1},
            "signals": [],
        }
        self._publish(encode_birth(self._header("B"), content))

    def run(self, seconds: float) -> None:
        """Publish for a while."""
        until = time.monotonic() + seconds
        due_s = time.monotonic()
        while (now_s := time.monotonic()) < until:
            if now_s < due_s:
                time.sleep(due_s - now_s)
            due_s += EVERY_S
            self._seq += 1
            self.sent += 1
            now_ms = utc_ms()
            fields = {"sent_ns": time.monotonic_ns()}
            event = Event(
                id=f"p{self._seq}", kind="probe", equipment=None, time_ms=now_ms, seen_ms=now_ms, fields=fields
            )
            self._publish(encode_events(self._header("E"), [event]))

    def stop(self) -> None:
        """Disconnect."""
        self._link.stop()

    def _publish(self, payload: bytes) -> None:
        self._link.publish(f"wr1/{SITE}/{PROBE}/u", payload, qos=1)

    def _header(self, kind: Any) -> Header:
        now_ms = utc_ms()
        return Header(
            kind=kind, lane=0, flags=0, epoch=EPOCH, seq=self._seq, prev=self._seq - 1, base_ms=now_ms,
            complete_ms=now_ms, schema=1, clock_gen=1,
        )  # fmt: skip


def rogue(port: int, rate: float) -> None:
    """Publish frames of one gateway without a window, so many a second, until killed."""
    gateway, link = Gateway(99, 0, signals=10, frame=10), MqttLink(MqttSettings(port=port), "rogue")
    link.start()
    _, frame = gateway.birth()
    begun, sent = time.monotonic(), 0
    while True:
        now_s = time.monotonic()
        with suppress(LinkError):  # not connected yet, or more than the link can queue
            while sent < (now_s - begun) * rate:
                payload = gateway.next_frame(now_s) if sent % 100 else frame
                link.publish(f"wr1/{SITE}/{gateway.id}/d", payload, qos=sent % 2)
                sent += 1
        time.sleep(0.002)


def measure(rate: int, options: argparse.Namespace, *, rogue_rate: float = 0.0) -> list[Figure]:
    """Return the figures with one background rate, and a gateway in a loop if asked for."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name, ExitStack() as stack:
        folder = Path(name)
        port, _ = stack.enter_context(mosquitto(folder / "broker"))
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.latency", "--centre", str(port), "--folder", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(child.kill)
        words = ["--port", str(port), "--rate", str(rate), "--frame", str(options.frame)]
        words += ["--seconds", str(options.seconds + 3)]
        load = subprocess.Popen([sys.executable, "-m", "benchmarks.load", *words], stdout=subprocess.PIPE, text=True)
        stack.callback(load.kill)
        assert load.stdout is not None
        if load.stdout.readline().strip() != "started":
            raise LinkError("the load did not start")
        if rogue_rate:
            command = [
                sys.executable,
                "-m",
                "benchmarks.latency",
                "--rogue",
                str(port),
                "--rogue-rate",
                str(rogue_rate),
            ]
            mad = subprocess.Popen(command)
            stack.callback(mad.kill)
        probe, follower = Probe(port), Reader(FileJournal(folder / "journal", read_only=True))
        probe.start()
        follower.start()
        time.sleep(1.5)
        probe.run(options.seconds)
        told = json.loads(load.stdout.readline())
        time.sleep(0.5)
        probe.stop()
        elsewhere = follower.stop()
        out, _ = child.communicate(timeout=60)
        ages = json.loads(out.strip().splitlines()[-1])
        if len(ages) != probe.sent:
            raise LinkError(f"{len(ages)} of {probe.sent} events arrived")
        title = f"at {rate:,} samples/s" + (f" and {rogue_rate:,.0f} messages/s of one gateway" if rogue_rate else "")
        return [
            *spread(f"event published to journal reader, {title}", ages, goal_p99=GOALS.get(rate, "")),
            *spread(f"event published to another process, {title}", elsewhere),
            Figure(
                name=f"background reached, {title}", value=round(told["samples"] / told["sending_s"]), unit="samples/s"
            ),
        ]


def main() -> None:
    """Measure; ``--seconds`` and ``--rates`` shorten a trial."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rates", type=int, nargs="+", default=[10_000, 200_000, 750_000])
    parser.add_argument("--frame", type=int, default=250)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    parser.add_argument("--rogue-rate", type=float, default=10_000.0, help="messages a second of a gateway in a loop")
    parser.add_argument("--rogue", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--centre", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.centre:
        centre(options.centre, options.folder)
        return
    if options.rogue:
        rogue(options.rogue, options.rogue_rate)
        return
    figures = [figure for rate in options.rates for figure in measure(rate, options)]
    if options.rogue_rate:
        figures += measure(options.rates[0], options, rogue_rate=options.rogue_rate)
    report("latency", figures)


if __name__ == "__main__":
    main()

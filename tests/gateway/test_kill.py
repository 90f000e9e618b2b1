"""kill -9 of gateway and broker under load: everything committed arrives."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.centre import Centre
from tests.gateway.mosquitto import Mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def gateway(tmp_path: Path, broker: Mosquitto) -> Iterator[Loaded]:
    gateway = Loaded(tmp_path, broker.port)
    yield gateway
    if gateway.process is not None:
        gateway.process.kill()
        gateway.process.wait()


class Loaded:
    """The gateway process under load and the ledger of what it committed."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port, self._ledger = folder, port, folder / "ledger"
        self._ledger.touch()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.gateway.loaded", str(self._folder), str(self._port), str(self._ledger)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def committed(self) -> dict[tuple[int, int], int]:
        """Return (epoch, seq) -> checksum of what was durable; a kill may have torn the last line."""
        rows = [line.split() for line in self._ledger.read_text().splitlines()]
        return {(int(row[0], 16), int(row[1])): int(row[2]) for row in rows if len(row) == 3}

    def wait_for(self, frames: int) -> None:
        """Block until so many more frames are committed."""
        target, deadline = len(self.committed()) + frames, time.monotonic() + 20
        assert self.process is not None
        while len(self.committed()) < target:
            assert time.monotonic() < deadline, "the gateway commits nothing"
            try:
                self.process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail("the gateway has ended by itself")


def check(centre: Centre, committed: dict[tuple[int, int], int]) -> None:
    """Everything committed was received, once, with one content."""
    assert not centre.conflicts
    assert not centre.events("loss")
    assert len({epoch for epoch, _ in committed}) == 1
    missing = committed.keys() - centre.contents.keys()
    assert not missing
    assert all(zlib.adler32(centre.contents[key]) == crc for key, crc in committed.items())


def test_gateway_killed_under_load(gateway: Loaded, broker: Mosquitto) -> None:
    """Ten times kill -9 of the gateway under load, with a centre that forgets half of its acknowledgements."""
    rng = random.Random(7)
    with Centre(broker.port, ack_share=0.5) as centre:
        for _ in range(10):
            gateway.start()
            gateway.wait_for(rng.randint(5, 120))
            assert gateway.end(signal.SIGKILL) == -signal.SIGKILL
        gateway.start()
        gateway.wait_for(5)
        assert gateway.end(signal.SIGTERM) == 0
        gateway.start()
        committed = gateway.committed()
        centre.wait(lambda: committed.keys() <= centre.contents.keys(), what="everything committed")
        gateway.end(signal.SIGKILL)
        check(centre, committed)
        # the last word of a killed gateway is its will
        centre.wait(lambda: centre.status[-1]["online"] is False, what="the will")


def test_broker_killed_under_load(gateway: Loaded, broker: Mosquitto) -> None:
    """Five times kill -9 of a broker that keeps nothing, under load: everything committed arrives."""
    with Centre(broker.port, ack_share=0.5, seed=2) as centre:
        gateway.start()
        for _ in range(5):
            gateway.wait_for(60)
            broker.kill()
            gateway.wait_for(20)
            broker.start()
        gateway.wait_for(20)
        committed = gateway.committed()
        centre.wait(lambda: committed.keys() <= centre.contents.keys(), what="everything committed")
        assert gateway.end(signal.SIGTERM) == 0
        check(centre, committed)

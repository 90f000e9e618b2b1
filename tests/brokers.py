"""Real brokers for tests: mosquitto that can be killed and wiped, and the embedded amqtt."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from amqtt.broker import Broker

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


def until(claim: Callable[[], object], what: str, timeout_s: float = 15.0) -> None:
    """Return when claim becomes true; fail when it does not in time."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not claim():
        assert time.monotonic() < deadline, f"in {timeout_s:g} s not: {what}"
        pause.wait(0.005)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """One mosquitto; port and stored sessions stay over restarts, unless wiped.

    Args:
        folder: For its configuration and its stored sessions.
        more: Lines of its configuration that belong to the listener, such as certificates.
    """

    protocol = "auto"

    def __init__(self, folder: Path, *, more: str = "") -> None:
        if not Path(MOSQUITTO).exists():
            pytest.skip("needs the mosquitto program")
        self.port, self._more = free_port(), more
        self._folder = folder / "broker"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it listens."""
        self._folder.mkdir(exist_ok=True)
        config = self._folder / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} 127.0.0.1\n{self._more}allow_anonymous true\npersistence true\n"
            f"persistence_location {self._folder}/\nautosave_interval 1\nautosave_on_changes true\n"
            "max_queued_messages 0\nmax_inflight_messages 1000\nset_tcp_nodelay true\nlog_type error\nuser root\n"
        )
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(config)])
        until(self._listens, "mosquitto listens")

    def kill(self, *, wipe: bool = False) -> None:
        """End it at once; with wipe it loses its disk too."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if wipe:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "mosquitto ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Embedded:
    """The broker of `watchroom up`, in a thread of its own; MQTT 3.1.1 only."""

    protocol = "3.1.1"

    def __init__(self) -> None:
        self.port = free_port()
        self._ending: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start, and return when it listens."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), name="amqtt")
        self._thread.start()
        assert ready.wait(15), "amqtt does not start"

    def kill(self) -> None:
        """End it."""
        if self._ending is not None and self._thread is not None:
            loop, ending = self._ending
            loop.call_soon_threadsafe(ending.set)
            self._thread.join(15)
            assert not self._thread.is_alive()

    async def _run(self, ready: threading.Event) -> None:
        loop, ending = asyncio.get_running_loop(), asyncio.Event()
        self._ending = (loop, ending)
        broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        await broker.start()
        ready.set()
        await ending.wait()
        await broker.shutdown()


@contextmanager
def mosquitto(folder: Path) -> Iterator[Mosquitto]:
    """Run a mosquitto for one test."""
    broker = Mosquitto(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


@contextmanager
def embedded() -> Iterator[Embedded]:
    """Run an embedded broker for one test."""
    broker = Embedded()
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()

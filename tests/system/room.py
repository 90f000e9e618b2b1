"""A running Watchroom for system tests and benchmarks: real processes, real broker, real pages."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery staple"
T = TypeVar("T")


def free_port() -> int:
    """Return a TCP port nobody uses now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(
    what: str,
    condition: Callable[[], T],
    *,
    within_s: float = 30.0,
    every_s: float = 0.02,
    facts: Callable[[], object] | None = None,
) -> T:
    """Return the condition's first true result.

    Raises:
        AssertionError: If it does not come in time; says what was waited for, and the facts if any are asked for.
    """
    deadline = time.monotonic() + within_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            told = "" if facts is None else f"; {facts()}"
            raise AssertionError(f"waited {within_s:g} s in vain for: {what}{told}")
        time.sleep(every_s)


class Process:
    """One ``watchroom`` command under test.

    Args:
        arguments: What follows ``watchroom``.
        environment: Variables on top of ours.
        output: File that collects what it prints.
        cwd: Folder it runs in.
    """

    def __init__(
        self, arguments: Sequence[str], *, environment: dict[str, str], output: Path, cwd: Path = ROOT
    ) -> None:
        self._output = output
        self._file = output.open("ab")
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "watchroom", *arguments],
            cwd=cwd,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._popen.pid

    @property
    def printed(self) -> str:
        """Everything printed so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def is_running(self) -> bool:
        """Return whether the process lives."""
        return self._popen.poll() is None

    def kill(self) -> None:
        """Kill -9 this process alone, and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._popen.wait(10)

    def interrupt(self, *, within_s: float = 30.0) -> int:
        """Press Ctrl-C and return the exit code."""
        self._popen.send_signal(signal.SIGINT)
        return self._popen.wait(within_s)

    def close(self) -> None:
        """End it, gently if possible."""
        if self.is_running():
            self._popen.terminate()
            try:
                self._popen.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        self._file.close()

    def wait(self, within_s: float) -> int:
        """Wait for the end and return the exit code."""
        return self._popen.wait(within_s)


class Room:
    """One data folder and the page's address.

    Args:
        folder: Data folder.
        port: Port of the pages.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.data, self.port = folder, port
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=self.url, timeout=10)

    def sign_in(self, username: str = "admin", password: str = PASSWORD) -> str:
        """Sign in and return the token; later requests use it."""
        answer = self.http.post("/api/v1/session", json={"username": username, "password": password})
        answer.raise_for_status()
        token = str(answer.json()["token"])
        self.http.headers["Authorization"] = f"Bearer {token}"
        self.http.cookies.clear()
        return token

    def wait_ready(self, *, within_s: float = 30.0) -> None:
        """Wait until the page answers, then sign in."""
        until("the page answers", self.answers, within_s=within_s)
        self.sign_in()

    def answers(self) -> bool:
        """Return whether the page is served."""
        try:
            return self.http.get("/health").status_code in {200, 503}
        except httpx.TransportError:
            return False

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the JSON of a GET under /api/v1."""
        answer = self.http.get(f"/api/v1{path}", params=parameters)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """Send a POST under /api/v1."""
        return self.http.post(f"/api/v1{path}", json=body or {})

    def items(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        """Return all items of a list, page after page."""
        found: list[dict[str, Any]] = []
        cursor: Any = None
        while True:
            page = self.get(path, **parameters, **({"cursor": cursor} if cursor is not None else {}))
            found += page["items"]
            cursor = page.get("next")
            if cursor is None:
                return found

    def values(self) -> dict[str, dict[str, Any]]:
        """Return the newest sample of each signal by key."""
        return {item["key"]: item for item in self.items("/signals")}

    def is_whole(self) -> bool:
        """Return whether every gateway is online and the simulated doors have reported: scenarios may be played."""
        gateways = self.items("/gateways")
        is_up = bool(gateways) and all(gateway["is_online"] for gateway in gateways)
        return is_up and self.values()["DR-7-1/contact"]["value"] is not None

    def close(self) -> None:
        """Close the connection."""
        self.http.close()


@contextmanager
def running_up(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None
) -> Iterator[tuple[Room, Process]]:
    """Run ``watchroom up`` on a fresh data folder and a free port, signed in as admin."""
    port = free_port()
    room = Room(folder, port)
    process = Process(
        ["up", "--data", str(folder), "--port", str(port), *arguments],
        environment={"WATCHROOM_ADMIN_PASSWORD": PASSWORD} | (environment or {}),
        output=folder.with_suffix(".log"),
    )
    try:
        room.wait_ready()
        yield room, process
    finally:
        room.close()
        process.close()


@contextmanager
def mosquitto(folder: Path, port: int | None = None) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run a mosquitto broker on a free port, anonymous, this machine only."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 256\n"
        "set_tcp_nodelay true\n"
    )
    process = subprocess.Popen(["mosquitto", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until("mosquitto listens", lambda: listens(port), within_s=10)
        yield port, process
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    """Return whether a server accepts connections on this port."""
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def children_of(pid: int) -> dict[str, int]:
    """Return the child processes of a supervisor: command name -> pid."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            text = path.read_text()
            if int(text.rpartition(")")[2].split()[1]) == pid:
                words = (path.parent / "cmdline").read_bytes().split(b"\0")
                found[words[3].decode()] = int(path.parent.name)
    return found


def memory_mb(pid: int) -> float:
    """Return the proportional set size of a process: shared pages count for their share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def load_json(path: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))

"""A real victoria-metrics server on a free port, that a test may kill, wipe and start again."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest


class VictoriaServer:
    """One server with one data folder; the port stays the same over restarts.

    Args:
        folder: Where its data folder is made.
        flags: Command line, beside address and folder.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        program = shutil.which("victoria-metrics")
        if program is None:
            pytest.skip("needs the victoria-metrics server (Debian package victoria-metrics)")
        self._program, self._flags = program, flags or ("-retentionPeriod=100y", "-dedup.minScrapeInterval=1ms")
        self.folder = folder / "victoria"
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What WATCHROOM_STORE would say."""
        return f"victoria://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it answers."""
        arguments = [
            f"-httpListenAddr=127.0.0.1:{self.port}",
            f"-storageDataPath={self.folder}",
            "-memory.allowedBytes=64MB",
            *self._flags,
        ]
        self._process = subprocess.Popen(
            [self._program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < deadline, "victoria-metrics did not start"
            threading.Event().wait(0.05)

    def kill(self) -> None:
        """Kill it at once, as a power cut of its machine would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        """Remove everything it stored; it must not run."""
        assert self._process is None
        shutil.rmtree(self.folder, ignore_errors=True)

    def get(self, path: str) -> bytes:
        """Return an answer of the server."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            content: bytes = answer.read()
        return content

    def post(self, path: str, body: bytes) -> int:
        """Return the status of a request."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            status: int = answer.status
        return status

    def flush(self) -> None:
        """Make what was written visible."""
        self.get("/internal/force_flush")

    def _answers(self) -> bool:
        try:
            return self.get("/health") == b"OK"
        except OSError:
            return False

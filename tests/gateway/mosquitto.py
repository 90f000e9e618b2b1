"""A real mosquitto on a free port that a test may kill, wipe and start again."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

BINARY = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


class Mosquitto:
    """One broker; the port stays the same over restarts, the memory does not.

    Args:
        folder: For its configuration.
    """

    def __init__(self, folder: Path) -> None:
        if not Path(BINARY).exists():
            pytest.skip("needs the mosquitto program")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            "max_queued_messages 0\nlog_type error\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it listens."""
        self._process = subprocess.Popen([BINARY, "-c", str(self._config)])
        deadline = time.monotonic() + 10
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < deadline, "mosquitto does not listen"
            assert self._process.poll() is None, "mosquitto ended"
            self._process.poll()

    def kill(self) -> None:
        """End it as a power cut would; without persistence it forgets everything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

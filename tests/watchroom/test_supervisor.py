"""The supervisor: nothing it started outlives it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from watchroom.serve.ports import free_port, is_free

PROGRAM = """
import asyncio, sys
from watchroom.serve.supervisor import Child, supervise
asyncio.run(supervise([Child(name="broker", arguments=["broker", "--port", sys.argv[1]])]))
"""


def until_port(port: int, *, is_taken: bool, deadline_s: float = 20.0) -> None:
    """Wait until a server listens there, or no longer does."""
    end = time.monotonic() + deadline_s
    while is_free("127.0.0.1", port) is is_taken:
        assert time.monotonic() < end, "taken" if is_taken else "free"
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
@pytest.mark.parametrize("end", [signal.SIGHUP, signal.SIGKILL, signal.SIGTERM], ids=lambda end: end.name)
def test_children_end_with_the_supervisor(end: signal.Signals) -> None:
    """A closed terminal, the kernel's lack of memory or a plain stop: ports and data folder are free again."""
    port = free_port("127.0.0.1", 0)
    supervisor = subprocess.Popen([sys.executable, "-c", PROGRAM, str(port)], stdout=subprocess.DEVNULL)
    try:
        until_port(port, is_taken=True)
        supervisor.send_signal(end)
        supervisor.wait(15)
        until_port(port, is_taken=False)
    finally:
        supervisor.kill()
        supervisor.wait()

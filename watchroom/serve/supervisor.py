"""Keep child processes running: start, watch, restart with back-off, stop together."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger(__name__)

BACKOFF_S = (0.2, 1.0, 2.0, 5.0, 10.0)
CALM_S = 30.0
STOP_S = 10.0
CONFIG_EXIT = 2


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """Ask the kernel to end this child in good order should the supervisor be killed.

    Otherwise it would go on unseen, holding ports and data folder, and the next start would be refused.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One process to keep running.

    Attributes:
        name: For logs: ``engine``, ``dashboard`` ...
        arguments: What follows ``python -m watchroom``.
        environment: Variables on top of our own.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


async def supervise(children: Sequence[Child]) -> int:
    """Run all children until SIGINT, SIGTERM or the terminal is closed, or until one reports a wrong configuration.

    A child that ends by itself is restarted after a pause that grows while it keeps failing.

    Returns:
        Exit code: 0 after a signal, 2 when a child found its configuration wrong.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    codes: list[int] = []
    async with asyncio.TaskGroup() as group:
        for child in children:
            group.create_task(_keep(child, stop, codes), name=f"child-{child.name}")
    return max(codes, default=0)


async def _keep(child: Child, stop: asyncio.Event, codes: list[int]) -> None:
    failures, starts = 0, 0
    while not stop.is_set():
        starts += 1
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "watchroom",
            *child.arguments,
            env=os.environ | dict(child.environment),
            # a Ctrl-C of the terminal reaches only us: we stop the children in good order
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        log.info("started", child=child.name, pid=process.pid)
        code = await _ended(process, stop)
        if stop.is_set():
            return
        # a wrong file found later, at a restart, must not take the other processes along
        if code == CONFIG_EXIT and starts == 1:
            codes.append(CONFIG_EXIT)
            stop.set()
            return
        failures = 0 if time.monotonic() - started > CALM_S else failures + 1
        pause = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] if failures else BACKOFF_S[0]
        log.warning("child ended, starting it again", child=child.name, code=code, pause_s=pause)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)


async def _ended(process: asyncio.subprocess.Process, stop: asyncio.Event) -> int:
    """Wait for the end of a process; on stop ask it to end, and insist after a while."""
    waiting = asyncio.create_task(process.wait())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            done, _ = await asyncio.wait({waiting}, timeout=STOP_S)
            if not done:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        return await waiting
    finally:
        stopping.cancel()

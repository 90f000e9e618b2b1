"""How long ``watchroom up`` needs to the first live value at a signed-in page, and how much memory everything takes.

The time runs from the start of the process to the first binary signal frame with a good value at a WebSocket client
that has signed in. Memory is the proportional set size (shared pages counted once) after a minute of normal day.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import tempfile
import time
from pathlib import Path

import websockets

from benchmarks.figures import Figure, report
from tests.system.room import PASSWORD, Process, Room, children_of, free_port, memory_mb, until

IDLE_S = 60.0


async def first_value(room: Room, token: str, count: int) -> None:
    """Return when a good value has arrived over the WebSocket."""
    async with websockets.connect(f"ws://127.0.0.1:{room.port}/api/v1/live", max_size=None) as socket:
        await socket.send(json.dumps({"op": "auth", "token": token}))
        await socket.send(json.dumps({"op": "sub", "topic": "signals", "view": list(range(count)), "hz": 10}))
        async for message in socket:
            if isinstance(message, bytes):
                _, _, n, _ = struct.unpack_from("<IIII", message)
                if 0 in message[len(message) - n :]:
                    return


def measure(folder: Path, idle_s: float) -> list[Figure]:
    """Start a fresh compound and return the figures."""
    port = free_port()
    room = Room(folder, port)
    start = time.monotonic()
    process = Process(
        ["up", "--data", str(folder), "--port", str(port)],
        environment={"WATCHROOM_ADMIN_PASSWORD": PASSWORD},
        output=folder.with_suffix(".log"),
    )
    try:
        until("the page answers", room.answers, within_s=30)
        page_s = time.monotonic() - start
        token = room.sign_in()
        count = len(until("signals are known", lambda: room.get("/live/index")["keys"], within_s=30))
        asyncio.run(asyncio.wait_for(first_value(room, token, count), 30))
        live_s = time.monotonic() - start
        time.sleep(idle_s)
        parts = {"supervisor": memory_mb(process.pid)} | {
            name: memory_mb(pid) for name, pid in children_of(process.pid).items()
        }
    finally:
        room.close()
        process.close()
    figures = [
        Figure(name="process start to page", value=round(page_s, 2), unit="s"),
        Figure(name="process start to first live value", value=round(live_s, 2), unit="s", goal="<= 5"),
        Figure(name="memory of everything, idle", value=round(sum(parts.values()), 1), unit="MB", goal="<= 450"),
    ]
    return figures + [Figure(name=f"memory of {name}", value=round(mb, 1), unit="MB") for name, mb in parts.items()]


def main() -> None:
    """Measure on a temporary data folder."""
    idle_s = float(sys.argv[1]) if len(sys.argv) > 1 else IDLE_S
    with tempfile.TemporaryDirectory() as name:
        report("start_up", measure(Path(name) / "data", idle_s))


if __name__ == "__main__":
    main()

"""A single device on the bench: what a trainer starts from the command line ends with everything answered."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from gateway.config import load_gateway
from gateway.field import FieldSide
from gateway.model import ModelLibrary
from simulators.bench import parse, run
from tests.gateway.recorder import recorder_for, until

GATEWAY = """\
gateway: {{id: gate, site: here}}
links:
  push: {{listen: '127.0.0.1:{push}', speaks: http}}
  panel: {{listen: '127.0.0.1:{panel}', speaks: gbt26875}}
devices:
  faces: {{link: push, http: {{protocol: isapi, readers: {{"66666": DR-S1}}}}}}
  cards: {{link: push, http: {{protocol: zkteco, readers: {{E7: DR-E1}}}}}}
  panel: {{link: panel, equipment: FP-01, transmitter: {{zones: 4}}}}
"""


async def test_three_devices_of_the_bench_against_one_gateway(tmp_path: Path) -> None:
    """Terminal, reader and transmitter tell five events each, and end when the gateway has answered them all."""
    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        push, panel = int(a.getsockname()[1]), int(b.getsockname()[1])
    path = tmp_path / "gate.yaml"
    path.write_text(GATEWAY.format(push=push, panel=panel))
    config = load_gateway(path, models=ModelLibrary())
    seen = recorder_for(config)
    side = FieldSide(config, seen, now_ms=lambda: time.time_ns() // 1_000_000, key=b"0" * 16, folder=tmp_path / "data")
    task = asyncio.create_task(side.run())
    few = ["--count", "5", "--every", "0.01"]
    try:
        await until(lambda: side.links_down <= 1, "the ports are open")
        async with asyncio.timeout(60):
            counts = await asyncio.gather(
                run(parse(["isapi", f"127.0.0.1:{push}", *few])),
                run(parse(["zkteco", f"127.0.0.1:{push}", "--id", "E7", *few])),
                run(parse(["transmitter", f"127.0.0.1:{panel}", *few])),
            )
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert set(counts) == {5}
    doors = [event.equipment for event in seen.events if event.kind == "access"]
    assert sorted(map(str, doors)) == ["DR-E1"] * 5 + ["DR-S1"] * 5
    assert sum("part" in event.fields for event in seen.events) == 5


async def test_a_printer_shows_its_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """The trainer is told which serial device to write into the gateway's file."""
    assert await run(parse(["printer", "--count", "1", "--every", "0"])) == 1
    assert "printing on /dev/" in capsys.readouterr().out

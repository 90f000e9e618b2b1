"""Fire transmitters on real TCP connections: nothing answered before it is durable, nothing lost, nothing invented."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.commands import Commander, targets_of
from gateway.config import GatewayConfig, load_gateway
from gateway.field import FieldSide
from gateway.model import ModelLibrary
from gateway.notebook import Notebook
from gateway.outbox import Outbox
from simulators.transmitter import FAULT, FIRE, NORMAL, SHIELDED, Transmitter
from tests.gateway.memory_disk import MemoryDisk
from tests.gateway.recorder import Recorder, recorder_for, until
from watchroom.errors import ConfigError, LinkError, StateError
from watchroom.signals import Quality

SHANGHAI = ZoneInfo("Asia/Shanghai")
GATEWAY = """\
gateway: {{id: fire-room, site: here}}
links: {{panel: {{{way}: '127.0.0.1:{port}', speaks: gbt26875}}}}
devices:
  panel:
    link: panel
    equipment: FP-01
    transmitter:
      zones: 2
      systems: ["1.0"]
      answer: 2s
      analogs: {{hydrant_pressure: {{part: 1-5, type: 4, range: [0, 2.5]}}}}
"""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def configured(folder: Path, *, way: str = "listen", port: int, text: str = GATEWAY) -> GatewayConfig:
    path = folder / "fire.yaml"
    path.write_text(text.format(way=way, port=port))
    return load_gateway(path, models=ModelLibrary())


@asynccontextmanager
async def field_side(
    config: GatewayConfig, folder: Path, recorder: Recorder | None = None
) -> AsyncIterator[tuple[Recorder, FieldSide]]:
    seen = recorder or recorder_for(config)
    side = FieldSide(config, seen, now_ms=now_ms, key=b"0" * 16, folder=folder / "data")
    task = asyncio.create_task(side.run())
    try:
        yield seen, side
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@asynccontextmanager
async def dialling(transmitter: Transmitter, port: int) -> AsyncIterator[None]:
    """A transmitter that dials the gateway."""
    task = asyncio.create_task(transmitter.connect("127.0.0.1", port))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def device(*, answer_s: float = 5.0, mode: str = "healthy", seed: int = 1) -> Transmitter:
    return Transmitter(zone=SHANGHAI, now_ms=now_ms, mode=mode, answer_s=answer_s, seed=seed)  # type: ignore[arg-type]


async def test_a_fire_reaches_the_screen_and_is_answered(tmp_path: Path) -> None:
    """A smoke detector's alarm: signals, an event with the place in Chinese, and the answer to the transmitter."""
    port = free_port()
    transmitter = device()
    async with field_side(configured(tmp_path, port=port), tmp_path) as (seen, side), dialling(transmitter, port):
        await until(lambda: seen.value("FP-01/online") == 1, "the transmitter is heard")
        await until(lambda: seen.quality("FP-01/fire") == Quality.GOOD, "asked for its state, it has told it")
        transmitter.part(1, 12, state=FIRE, text="3号楼2单元5层烟感")
        await until(lambda: transmitter.answered, "answered")
        assert seen.value("FP-01/fire") == 1
        assert seen.value("FP-01/zone1_state") == 1
        assert seen.value("FP-01/zone2_state") == 0
        transmitter.analog(1, 5, kind=4, raw=7)
        transmitter.part(1, 12, state=NORMAL)
        await until(lambda: len(transmitter.answered) == 3, "all answered")
        assert seen.value("FP-01/hydrant_pressure") == pytest.approx(0.7)
        assert seen.value("FP-01/fire") == 0
        assert side.links_down == 0
    (event,) = [event for event in seen.events if event.fields.get("state") == ["fire"]]
    assert (event.kind, event.equipment) == ("panel_text", "FP-01")
    assert event.fields["text"] == "火警 点型光电感烟火灾探测器 1-12 3号楼2单元5层烟感"
    assert abs(event.time_ms - event.seen_ms) < 60_000
    assert seen.value("FP-01/online") == 0
    assert seen.quality("FP-01/fire") == Quality.NO_COMMUNICATION


async def test_the_gateway_dials_too(tmp_path: Path) -> None:
    """A transmitter that waits for the centre is dialled, again after it hung up."""
    port = free_port()
    transmitter = device()
    server = await asyncio.start_server(transmitter.talk, "127.0.0.1", port)
    try:
        async with field_side(configured(tmp_path, way="tcp", port=port), tmp_path) as (seen, _):
            await until(lambda: seen.value("FP-01/online") == 1, "connected")
            transmitter.part(2, 1, state=FAULT)
            await until(lambda: transmitter.answered, "answered")
            assert seen.value("FP-01/zone2_state") == 4
    finally:
        server.close()


async def test_nothing_is_answered_before_it_is_on_the_disk(tmp_path: Path) -> None:
    """While the disk is busy or full the transmitter keeps its record; then it is answered once."""
    port = free_port()
    transmitter = device(answer_s=0.3)
    config = configured(tmp_path, port=port)
    recorder = recorder_for(config)
    async with field_side(config, tmp_path, recorder) as (seen, _), dialling(transmitter, port):
        await until(lambda: seen.quality("FP-01/fire") == Quality.GOOD, "heard")
        await until(lambda: transmitter.clock_set_ms is not None, "all questions answered")
        seen.gate.clear()
        asked = seen.asked
        transmitter.part(1, 1, state=FIRE)
        await until(lambda: seen.asked > asked, "the event on its way to the disk")
        sent = transmitter.sent
        await until(lambda: transmitter.sent > sent + 1, "the transmitter asks again")
        assert not transmitter.answered
        seen.is_full = True
        seen.gate.set()
        await until(lambda: transmitter.answered, "answered after the commit")
        transmitter.part(1, 1, state=NORMAL)
        sent = transmitter.sent
        await until(lambda: transmitter.sent > sent + 1, "the transmitter asks again while the reserve is full")
        assert len(transmitter.answered) == 1
        seen.is_full = False
        await until(lambda: len(transmitter.answered) == 2, "answered when there is room")


async def test_the_clock_is_set_and_the_guard_is_asked(tmp_path: Path) -> None:
    """The centre sets the transmitter's clock, asks whether somebody is on duty, and sees the answer."""
    port = free_port()
    transmitter = device()
    async with field_side(configured(tmp_path, port=port), tmp_path) as (seen, side), dialling(transmitter, port):
        await until(lambda: transmitter.clock_set_ms is not None, "clock set")
        assert transmitter.clock_set_ms is not None
        assert abs(transmitter.clock_set_ms - now_ms()) < 60_000
        assert await side.command("FP-01/duty_check", 10) == "asked"
        await until(lambda: seen.value("FP-01/duty_check") == 2, "the button was pressed")
        assert transmitter.duty_limits == [10]
        answers = [event for event in seen.events if event.fields.get("operation") == "duty_answer"]
        assert len(answers) == 1
        transmitter.is_guarded = False
        await side.command("FP-01/duty_check", 10)
        await until(lambda: seen.value("FP-01/duty_check") == 1, "nobody has pressed yet")


async def test_a_duty_check_from_above_is_answered_at_the_screen(tmp_path: Path) -> None:
    """A higher centre asks: the screen shows it, the guard's answer goes back as an operation record."""
    port = free_port()
    transmitter = device()
    heard: list[bytes] = []
    obey = transmitter._obey

    def listening(serial: int, command: int, data: bytes):  # type: ignore[no-untyped-def]
        heard.append(bytes((command,)) + data)
        return obey(serial, command, data)

    transmitter._obey = listening  # type: ignore[method-assign]
    async with field_side(configured(tmp_path, port=port), tmp_path) as (seen, side), dialling(transmitter, port):
        await until(lambda: seen.value("FP-01/online") == 1, "heard")
        with pytest.raises(StateError, match="no duty check"):
            await side.command("FP-01/duty_check", "answer")
        transmitter.duty_from_above(5)
        await until(lambda: seen.value("FP-01/duty_check") == 1, "the screen shows it")
        assert await side.command("FP-01/duty_check", "answer") == "answered"
        assert seen.value("FP-01/duty_check") == 2
    assert [item[:4] for item in heard if item[0] == 2] == [bytes((2, 24, 1, 32))]


async def test_a_duty_check_is_a_command_of_the_centre(tmp_path: Path) -> None:
    """``cmd`` for the panel's duty_check goes down to the transmitter once, and its outcome is told."""
    port = free_port()
    transmitter = device()
    config = configured(tmp_path, port=port)
    assert [target["key"] for target in targets_of(config)] == ["FP-01/duty_check"]
    async with field_side(config, tmp_path) as (seen, side), dialling(transmitter, port):
        await until(lambda: seen.value("FP-01/online") == 1, "heard")
        notebook = Notebook(Outbox(Path("/outbox"), disk=MemoryDisk()), now_ms)
        commander = Commander(config, seen, write=never, now_ms=now_ms, journal=notebook, order=side.command)
        task = asyncio.create_task(commander.run())
        try:
            for number, value in enumerate((10, 10, 999)):
                commander.receive(order(f"c{min(number, 1)}" if value == 10 else "c9", value))
            commander.receive(order("c0", 10))
            commander.receive(order("cx", 1, target="FP-01/fire"))
            await until(lambda: len(outcomes(seen)) == 4, "all told")
            assert outcomes(seen) == {"c0": "done", "c1": "done", "c9": "refused", "cx": "refused"}
            assert transmitter.duty_limits == [10, 10]
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


def order(id_: str, value: float, *, target: str = "FP-01/duty_check") -> dict[str, object]:
    return {"id": id_, "expires_at": now_ms() + 30_000, "user": "li.wg", "target": target, "value": value}


def outcomes(seen: Recorder) -> dict[str, str]:
    """Command id -> its outcome."""
    told = [event.fields for event in seen.events if event.kind == "command"]
    return {fields["id"]: fields["outcome"] for fields in told if fields["outcome"] != "accepted"}


async def never(*_: object) -> float:
    """Nothing is written to a register here."""
    raise AssertionError("a register was written")


@pytest.mark.parametrize("value", [True, 0, 256, "unlock", None])
async def test_nothing_else_can_be_written(tmp_path: Path, value: object) -> None:
    """A fire panel takes no command but the duty check, and that only with minutes."""
    port = free_port()
    transmitter = device()
    async with field_side(configured(tmp_path, port=port), tmp_path) as (seen, side), dialling(transmitter, port):
        with suppress(LinkError):
            await side.command("FP-01/duty_check", 5)
        await until(lambda: seen.value("FP-01/online") == 1, "heard")
        with pytest.raises(StateError):
            await side.command("FP-01/duty_check", value)
        with pytest.raises(StateError):
            await side.command("FP-01/fire", 0)


@pytest.mark.parametrize("mode", ["failing", "lying"])
async def test_a_bad_line_loses_and_invents_nothing(tmp_path: Path, mode: str) -> None:
    """Spoiled, cut, glued frames, rubbish and a clock that is hours off: every record arrives, none that was not."""
    port = free_port()
    transmitter = device(mode=mode, answer_s=0.5, seed=5)
    states = [FIRE, FAULT, NORMAL, SHIELDED]
    async with field_side(configured(tmp_path, port=port), tmp_path) as (seen, side), dialling(transmitter, port):
        for number in range(1, 41):
            transmitter.part(1, number, state=states[number % 4], text=f"探测器{number}")
        await until(lambda: not transmitter.waiting, "everything answered", within_s=120)
        thrown = side.status()["panel"]["thrown_away"]
    texts = [event.fields["description"] for event in seen.events if event.fields.get("part")]
    assert set(texts) == {f"探测器{number}" for number in range(1, 41)}
    by_id = {event.id: event for event in seen.events if event.fields.get("part")}
    assert len(by_id) == 40
    names: dict[int, list[str]] = {FIRE: ["fire"], FAULT: ["fault"], NORMAL: [], SHIELDED: ["disabled"]}
    wanted = {f"1-{number}": names[states[number % 4]] for number in range(1, 41)}
    assert {event.fields["part"]: event.fields["state"] for event in by_id.values()} == wanted
    assert thrown
    if mode == "lying":
        assert all(event.time_ms - event.seen_ms > 4 * 3_600_000 for event in by_id.values())


async def test_a_restarted_gateway_still_knows_the_fire(tmp_path: Path) -> None:
    """A panel does not repeat its alarms: the gateway's memory outlives a restart."""
    port = free_port()
    transmitter = device()
    async with field_side(configured(tmp_path, port=port), tmp_path), dialling(transmitter, port):
        transmitter.part(1, 3, state=FIRE)
        transmitter.part(2, 3, state=SHIELDED)
        await until(lambda: len(transmitter.answered) == 2, "answered")
    async with field_side(configured(tmp_path, port=port), tmp_path) as (seen, _), dialling(transmitter, port):
        await until(lambda: seen.value("FP-01/online") == 1, "heard again")
        assert seen.value("FP-01/fire") == 1
        transmitter.operate(1)
        await until(lambda: len(transmitter.answered) == 3, "reset")
        assert (seen.value("FP-01/fire"), seen.value("FP-01/disabled")) == (0, 1)


async def test_what_nobody_understands_is_kept_and_counted(tmp_path: Path) -> None:
    """A vendor's own type is answered, so that the transmitter goes on, and kept for the integrator."""
    port = free_port()
    transmitter = device()
    async with field_side(configured(tmp_path, port=port), tmp_path) as (_, side), dialling(transmitter, port):
        transmitter.raw(b"\xc8\x01vendor")
        transmitter.raw(b"\x02\x03too short")
        await until(lambda: len(transmitter.answered) == 2, "answered")
        assert side.status()["panel"]["unmatched"] == {"type": 1, "objects": 1}
    kept = (tmp_path / "data" / "unmatched" / "panel" / "unmatched.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in kept] == ["type", "objects"]


TWO = """\
gateway: {{id: fire-room, site: here}}
links: {{panel: {{{way}: '127.0.0.1:{port}', speaks: gbt26875}}}}
devices:
  north: {{link: panel, equipment: FP-01, transmitter: {{address: "010101010101"}}}}
  south: {{link: panel, equipment: FP-02, transmitter: {{address: "020202020202"}}}}
"""


async def test_several_transmitters_and_a_stranger_dial_into_one_port(tmp_path: Path) -> None:
    """Each is known by its address; one that is not in the file is heard, counted and never answered."""
    port = free_port()
    north, south, stranger = (
        Transmitter(address=bytes([number] * 6), zone=SHANGHAI, now_ms=now_ms, answer_s=0.3) for number in (1, 2, 3)
    )
    async with (
        field_side(configured(tmp_path, port=port, text=TWO), tmp_path) as (seen, side),
        dialling(north, port),
        dialling(south, port),
        dialling(stranger, port),
    ):
        south.part(1, 1, state=FIRE)
        north.part(1, 1, state=NORMAL)
        stranger.part(1, 1, state=FIRE)
        await until(lambda: south.answered and north.answered, "both answered")
        await until(lambda: stranger.sent > 1, "the stranger asks again")
        assert (seen.value("FP-01/fire"), seen.value("FP-02/fire")) == (0, 1)
        assert not stranger.answered
        assert side.status()["panel"]["heard"] == ["north", "south"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TWO.replace('address: "020202020202"', ""), "cannot be told from 'north'"),
        (TWO.replace("020202020202", "0202"), "12 hex digits"),
        (GATEWAY.replace("transmitter:", "unit: 1\n    transmitter:"), "unit: this key is for other devices"),
        (GATEWAY.replace("equipment: FP-01\n    ", ""), "equipment: this key is missing"),
        (GATEWAY.replace("zones: 2", "zones: 2\n      tz: Nowhere"), "IANA"),
        (GATEWAY.replace("zones: 2", "zones: 2\n      silence: 3s"), "two polls"),
        (GATEWAY.replace('"1.0"', "one"), "type.address"),
        (GATEWAY.replace("hydrant_pressure:", "fire:"), "already a signal of the panel"),
        (GATEWAY.replace("part: 1-5", "part: five"), "not a part"),
        (GATEWAY.replace("speaks: gbt26875", "speaks: modbus"), "carries Modbus"),
        (GATEWAY.replace("{way}: '127.0.0.1:{port}'", "serial: /dev/ttyUSB0"), "does not go over serial"),
    ],
)
def test_mistakes_are_named_with_file_line_and_key(tmp_path: Path, text: str, problem: str) -> None:
    """What an integrator gets wrong is told where it stands."""
    with pytest.raises(ConfigError, match=problem) as caught:
        configured(tmp_path, port=5200, text=text)
    assert caught.value.line > 0
    assert caught.value.key

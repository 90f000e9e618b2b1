"""Commands from the centre down to the register: once, in time, by whom it may be, and told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.addresses import Table
from gateway.commands import MAX_AHEAD_MS, Commander, parse_command, targets_of
from gateway.config import GatewayConfig, load_gateway
from gateway.field import FieldSide
from gateway.model import ModelLibrary
from gateway.notebook import Notebook
from gateway.outbox import Outbox
from tests.gateway.devices import Registers, ScriptedDevice, Written
from tests.gateway.memory_disk import MemoryDisk
from tests.gateway.recorder import Recorder, recorder_for, until
from watchroom.errors import ConfigError
from watchroom.signals import Lane

MODEL = """\
model: pump
base: 0
groups: {slow: 5s}
signals:
  setpoint:
    {at: "holding:1", scale: 0.001, unit: MPa, range: [0, 1.6], write: true, confirm: true, roles: [technician]}
  target:   {at: "holding:4", type: f32, order: CDAB, write: true}
  mode:     {at: "holding:7", type: u16, enum: {0: 手动, 1: {zh: 自动, en: automatic}}, write: true}
  speed3:   {at: "holding:9.4-6", type: u3, write: true}
  lamp:     {at: "coil:2", type: bit, write: true}
  reset:    {at: "coil:5", type: bit, write: pulse 50ms}
  level:    {at: "input:0", type: u16}
"""
FIRE = """\
model: panel
base: 0
purpose: fire
signals: {alarm: {at: "holding:0", class: alarm}}
"""


def configured(folder: Path, port: int, *, multiple: bool = False) -> GatewayConfig:
    workarounds = "workarounds: {write_multiple: true}\n" if multiple else ""
    (folder / "pump.yaml").write_text(MODEL + workarounds)
    (folder / "panel.yaml").write_text(FIRE)
    path = folder / "gateway.yaml"
    path.write_text(
        "gateway: {id: test, site: here}\n"
        f"links:\n  plc: {{tcp: '127.0.0.1:{port}', timeout: 200ms}}\n"
        "devices:\n"
        "  pump: {model: pump, link: plc, unit: 1, equipment: WP-01}\n"
        "  panel: {model: panel, link: plc, unit: 2, equipment: FP-01}\n"
        "  panel-pump: {model: pump, link: plc, unit: 3, equipment: FP-01, prefix: x_}\n"
    )
    return load_gateway(path, models=ModelLibrary(folder))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Desk:
    """The centre's side of the test: sends commands and reads outcomes."""

    def __init__(self, commander: Commander, seen: Recorder, outbox: Outbox) -> None:
        self.commander, self.seen, self.outbox, self.sent = commander, seen, outbox, 0

    async def ask(self, target: str, value: float | str | None, **more: Any) -> tuple[str, str]:
        """Send a command and return (outcome, detail)."""
        self.sent += 1
        content = {
            "id": f"c{self.sent}", "expires_at": now_ms() + 5000, "user": "li.wg", "target": target, "value": value,
            **more,
        }  # fmt: skip
        self.commander.receive(content)
        return await self.outcome(content["id"])

    async def outcome(self, id_: str) -> tuple[str, str]:
        def found() -> list[dict[str, Any]]:
            fields = [event.fields for event in self.seen.events if event.kind == "command"]
            return [item for item in fields if item["id"] == id_ and item["outcome"] != "accepted"]

        await until(found, f"an outcome of {id_}")
        (item,) = found()
        return str(item["outcome"]), str(item["detail"])


@asynccontextmanager
async def working(
    folder: Path, plc: ScriptedDevice, *, multiple: bool = False, disk: MemoryDisk | None = None
) -> AsyncIterator[Desk]:
    config = configured(folder, plc.port, multiple=multiple)
    seen = recorder_for(config)
    outbox = Outbox(Path("/outbox"), disk=disk or MemoryDisk())
    side = FieldSide(config, seen, now_ms=now_ms, key=b"0" * 16, folder=folder / "data")
    commander = Commander(config, seen, write=side.write, now_ms=now_ms, journal=Notebook(outbox, now_ms))
    tasks = [asyncio.create_task(side.run()), asyncio.create_task(commander.run())]
    try:
        yield Desk(commander, seen, outbox)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@asynccontextmanager
async def plc_of(registers: Registers) -> AsyncIterator[ScriptedDevice]:
    plc = ScriptedDevice(registers.answer, on_write=registers.write)
    await plc.start()
    try:
        yield plc
    finally:
        await plc.stop()


@pytest.mark.parametrize(
    ("target", "value", "multiple", "function", "start", "words"),
    [
        ("lamp", 1, False, 5, 2, [1]),
        ("lamp", 0, True, 15, 2, [0]),
        ("mode", 1, False, 6, 7, [1]),
        ("mode", "自动", False, 6, 7, [1]),
        ("mode", "automatic", True, 16, 7, [1]),
        ("target", 0.545, False, 16, 4, [0x851F, 0x3F0B]),
        ("speed3", 5, False, 6, 9, [0xFF5F & ~0x70 | 0x50]),
    ],
)
async def test_the_functions_that_write(
    tmp_path: Path, target: str, value: float | str, multiple: bool, function: int, start: int, words: list[int]
) -> None:
    """Coils and registers, single and multiple, numbers and words; a bit range leaves the bits beside it alone."""
    registers = Registers(holding={9: 0xFF5F}, coils={2: 1})
    async with plc_of(registers) as plc, working(tmp_path, plc, multiple=multiple) as desk:
        assert await desk.ask(f"WP-01/{target}", value) == ("done", "")
    (written,) = plc.writes
    assert (written.unit, written.function, written.start, written.words) == (1, function, start, words)


async def test_role_and_confirmation(tmp_path: Path) -> None:
    """What only a technician may do, confirmed, is refused to everybody else before anything is sent."""
    registers = Registers()
    async with plc_of(registers) as plc, working(tmp_path, plc) as desk:
        refused = [
            await desk.ask("WP-01/setpoint", 0.4, confirm=True),
            await desk.ask("WP-01/setpoint", 0.4, confirm=True, role="guard"),
            await desk.ask("WP-01/setpoint", 0.4, role="technician"),
            await desk.ask("WP-01/setpoint", 1.7, confirm=True, role="technician"),
            await desk.ask("WP-01/setpoint", None, confirm=True, role="technician"),
            await desk.ask("WP-01/mode", "sideways"),
            await desk.ask("WP-01/level", 1),
            await desk.ask("WP-01/nothing", 1),
        ]
        assert {outcome for outcome, _ in refused} == {"refused"}
        assert [detail for _, detail in refused] == [
            "for technician only",
            "for technician only",
            "needs a confirmation",
            "1.7 is outside 0 to 1.6",
            "a value is needed",
            "'sideways' is not a text of this signal",
            "no such target",
            "no such target",
        ]
        assert not plc.writes
        assert await desk.ask("WP-01/setpoint", 0.4, confirm=True, role="technician") == ("done", "")
        assert registers.holding[1] == 400


async def test_fire_protection_is_never_written(tmp_path: Path) -> None:
    """Whatever stands at the equipment of a fire panel is refused, also another device of the same equipment."""
    async with plc_of(Registers()) as plc, working(tmp_path, plc) as desk:
        for target in ("FP-01/alarm", "FP-01/x_lamp", "FP-01/x_reset"):
            assert await desk.ask(target, 1) == ("refused", "equipment of fire protection is never written")
        assert not plc.writes
        assert not [target for target in targets_of(configured(tmp_path, plc.port)) if "FP-01" in target["key"]]


def test_a_fire_model_with_a_write_is_a_mistake(tmp_path: Path) -> None:
    """It is told when the file is read, not when somebody presses the button."""
    (tmp_path / "bad.yaml").write_text(
        "model: bad\nbase: 0\npurpose: fire\nsignals: {siren: {at: 'coil:0', write: true}}\n"
    )
    with pytest.raises(ConfigError, match="equipment of fire protection is never written"):
        ModelLibrary(tmp_path).model("bad")


async def test_a_pulse_ends(tmp_path: Path) -> None:
    """A reset coil is set, and reset again after its time."""
    registers = Registers()
    async with plc_of(registers) as plc, working(tmp_path, plc) as desk:
        assert await desk.ask("WP-01/reset", None) == ("done", "")
        assert [(written.start, written.words) for written in plc.writes] == [(5, [1]), (5, [0])]


async def test_a_command_goes_before_all_reads(tmp_path: Path) -> None:
    """On a slow device with much to read the command is the next request."""
    registers = Registers()
    async with plc_of(registers) as plc:
        plc.delay_s = lambda _: 0.05
        async with working(tmp_path, plc) as desk:
            await until(lambda: plc.requests, "polling has begun")
            before = len(plc.requests)
            await desk.ask("WP-01/lamp", 1)
        assert len(plc.requests) - before <= 3


async def test_an_old_command_is_not_carried_out(tmp_path: Path) -> None:
    """What comes too late, or could not be sent in time, is told as expired and never sent afterwards."""
    registers = Registers()
    async with plc_of(registers) as plc, working(tmp_path, plc) as desk:
        outcome, _ = await desk.ask("WP-01/lamp", 1, expires_at=now_ms() - 10)
        assert outcome == "expired"
        assert (await desk.ask("WP-01/lamp", 1, expires_at=now_ms() + MAX_AHEAD_MS + 60_000))[0] == "refused"
        await plc.stop()
        outcome, _ = await desk.ask("WP-01/lamp", 1, expires_at=now_ms() + 700)
        assert outcome in {"expired", "unknown"}
        await plc.start()
        assert await desk.ask("WP-01/mode", 1, expires_at=now_ms() + 9000) == ("done", "")
        assert [written.start for written in plc.writes] == [7], "the old command was not sent when the line came back"


async def test_the_same_command_twice_is_carried_out_once(tmp_path: Path) -> None:
    """QoS 1 repeats messages: the second one writes nothing and says nothing."""
    async with plc_of(Registers()) as plc, working(tmp_path, plc) as desk:
        content = {"id": "same", "expires_at": now_ms() + 5000, "target": "WP-01/lamp", "value": 1}
        for _ in range(5):
            desk.commander.receive(content)
        assert await desk.outcome("same") == ("done", "")
        desk.commander.receive(content)
        await desk.ask("WP-01/mode", 1)
        assert [written.start for written in plc.writes] == [2, 7]
        outcomes = [event.fields["outcome"] for event in desk.seen.events if event.fields["id"] == "same"]
        assert outcomes == ["accepted", "done"]


@pytest.mark.parametrize("keeps", [True, False])
async def test_no_answer_to_a_write(tmp_path: Path, keeps: bool) -> None:
    """A write without an answer is never sent again: it is read back, and otherwise unknown."""
    registers = Registers()

    def silent(written: Written) -> None:
        if keeps:
            registers.write(written)

    async with plc_of(registers) as plc:
        plc.on_write = silent
        async with working(tmp_path, plc) as desk:
            outcome, _ = await desk.ask("WP-01/lamp", 1)
    assert outcome == ("done" if keeps else "unknown")
    assert len(plc.writes) == 1


async def test_the_device_refuses_or_forgets(tmp_path: Path) -> None:
    """An exception, and a value that does not read back, are failures."""
    registers = Registers()
    async with plc_of(registers) as plc, working(tmp_path, plc) as desk:
        plc.on_write = lambda _: 3
        assert await desk.ask("WP-01/lamp", 1) == ("failed", "exception 3: illegal data value")
        plc.on_write = lambda written: written.words
        assert await desk.ask("WP-01/mode", 1) == ("failed", "reads back 0")


async def test_after_a_crash_a_command_is_not_carried_out_again(tmp_path: Path) -> None:
    """The gateway dies between the write and its outcome: the id is known, the outcome unknown, the pulse ended."""
    disk = MemoryDisk()
    registers = Registers(coils={5: 1})
    outbox = Outbox(Path("/outbox"), disk=disk)
    Notebook(outbox, now_ms).begin("dead", now_ms() + 60_000, "WP-01/reset")
    outbox.append(Lane.URGENT, 1, lambda _: b"accepted")
    outbox.commit()
    async with plc_of(registers) as plc, working(tmp_path, plc, disk=disk) as desk:
        assert await desk.outcome("dead") == ("unknown", "the gateway was restarted meanwhile")
        await until(lambda: registers.coils[5] == 0, "the pulse ended")
        content = {"id": "dead", "expires_at": now_ms() + 60_000, "target": "WP-01/reset", "value": None}
        desk.commander.receive(content)
        await desk.ask("WP-01/lamp", 1)
        assert [(written.start, written.words) for written in plc.writes] == [(5, [0]), (2, [1])]


async def test_nothing_is_sent_before_it_is_durable(tmp_path: Path) -> None:
    """While the disk cannot keep "begun", the device is not touched."""
    async with plc_of(Registers()) as plc, working(tmp_path, plc) as desk:
        desk.seen.gate.clear()
        asked = asyncio.create_task(desk.ask("WP-01/lamp", 1))
        await until(lambda: desk.seen.asked, "the commit was asked for")
        await until(lambda: len([r for r in plc.requests if r.table is Table.INPUT]) >= 1, "reads go on")
        assert not plc.writes
        assert "c1" in desk.outbox.notes["commands"]
        desk.seen.gate.set()
        assert await asked == ("done", "")


_ANYTHING = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=80))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(id_=_ANYTHING, expires_at=_ANYTHING, target=_ANYTHING, value=_ANYTHING, confirm=_ANYTHING)
def test_no_message_breaks_the_parser(id_: Any, expires_at: Any, target: Any, value: Any, confirm: Any) -> None:
    """Whatever arrives is a command or a sentence about what is wrong."""
    content = {"id": id_, "expires_at": expires_at, "target": target, "value": value, "confirm": confirm}
    with contextlib.suppress(ValueError):
        command = parse_command(content)
        assert command.id == id_
        assert command.is_confirmed is (confirm is True)

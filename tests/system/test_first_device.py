"""The README's section "Your first real Modbus device", done to the letter against devices that are not ours."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.foreign_servers import libmodbus, modbus_serial
from tests.system.readme import section
from tests.system.room import PASSWORD, ROOT, Process, Room, free_port, mosquitto, until

ENGLISH = section("README.md", "Your first real Modbus device")
CHINESE = section("README.zh-CN.md", "第一台真实的 Modbus 设备")
EXPECTED = {"voltage_a": 231.5, "current_a": 12.34, "power": -3.217, "energy": 123_456.78}
BIG_ENDIAN = [2315, 1234, 0xFFFF, 0xF36F, 0x00BC, 0x614E]
SWAPPED = [2315, 1234, 0xF36F, 0xFFFF, 0x614E, 0x00BC]


def test_both_languages_tell_the_same_commands() -> None:
    """Whoever reads Chinese types exactly what an English reader types."""
    assert CHINESE.commands == ENGLISH.commands
    assert [command[:2] for command in ENGLISH.commands] == [
        ["watchroom", name] for name in ("init", "check", "plan", "probe", "serve", "gateway")
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A person who follows the README in a folder.

    Attributes:
        folder: Where the commands are typed.
        device: host:port of the real device.
        environment: Variables that are set in each terminal.
    """

    folder: Path
    device: str
    environment: dict[str, str]

    def type(self, command: list[str]) -> str:
        """Run a command to its good end and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "watchroom", *command[1:]],
            cwd=self.folder,
            env={**self.environment, "PYTHONPATH": str(ROOT)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def put_address(self) -> None:
        """Open FILE and put the device's address in place of HOST:PORT."""
        file, placeholder = ENGLISH.found(r"Open `(\S+)` and put the device's address in place of `(\S+)`")
        assert CHINESE.found(r"打开 `(\S+)`，把 `(\S+)` 换成设备地址") == (file, placeholder)
        self._replace(file, placeholder, self.device)

    def change_order(self, order: str) -> None:
        """Change ``order:`` in FILE."""
        pattern = r"only in another byte order, change `order:` in `(\S+)`"
        (file,) = ENGLISH.found(pattern)
        assert CHINESE.found(r"就改 `(\S+)` 里的 `order:`") == (file,)
        self._replace(file, "order: ABCD", f"order: {order}")

    def _replace(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new), encoding="utf-8")


def _right_order(probed: str) -> str:
    """Return the byte order in which both long values look sensible, as a person sees it in the table."""
    orders = [
        set(re.findall(rf"\b([A-D]{{4}})\*? {re.escape(text)}(?:\s|$)", line))
        for name, text in (("power", "-3.217"), ("energy", "123456.8"))
        for line in probed.splitlines()
        if line.startswith(f"{name} ")
    ]
    assert len(orders) == 2, probed
    (order,) = set.intersection(*orders)
    return str(order)


@pytest.fixture(params=["modbus-serial", "libmodbus"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A device of the two makes: its port, and the byte order it really has."""
    servers: dict[str, tuple[AbstractContextManager[int], str]] = {
        "modbus-serial": (modbus_serial(SWAPPED), "CDAB"),
        "libmodbus": (libmodbus(BIG_ENDIAN, tmp_path), "ABCD"),
    }
    server, order = servers[request.param]
    with server as port:
        yield port, order


@pytest.mark.slow
def test_the_readme_leads_to_values_on_the_page(device: tuple[int, str], tmp_path: Path) -> None:
    """Typing what the README says, and nothing else, shows the device's values in the API."""
    port, order = device
    init, check, plan, probe, *services = ENGLISH.commands
    assert [command[1] for command in services] == ["serve", "gateway"]
    with ExitStack() as stack:
        broker_port, _ = stack.enter_context(mosquitto(tmp_path / "broker"))
        room = Room(tmp_path / "watchroom-data", free_port())
        stack.callback(room.close)
        environment = {
            "WATCHROOM_MQTT__HOST": "127.0.0.1",
            "WATCHROOM_MQTT__PORT": str(broker_port),
            "WATCHROOM_HTTP__PORT": str(room.port),
            "WATCHROOM_ADMIN_PASSWORD": PASSWORD,
        }
        reader = Reader(folder=tmp_path, device=f"127.0.0.1:{port}", environment=environment)
        assert "Wrote maple-garden" in reader.type(init)
        reader.put_address()
        assert "1 Modbus devices, 0 reader mappings, 8 signals" in reader.type(check)  # its own four beside ours
        planned = reader.type(plan)
        assert f"link lan (127.0.0.1:{port})" in planned
        assert "unit 1 FC3 0..3, 4 regs, every 1s" in planned
        found = _right_order(reader.type(probe))
        assert found == order
        if found != "ABCD":
            reader.change_order(found)
        for command in services:
            terminal = {**environment, "PYTHONPATH": str(ROOT)}
            output = tmp_path / f"{command[1]}.log"
            process = Process(command[1:], environment=terminal, output=output, cwd=tmp_path)
            stack.callback(process.close)
            room.wait_ready(within_s=60)  # a person starts the gateway when the centre has said that it is there
        assert until("all values are good", lambda: _values(room), within_s=60) == pytest.approx(EXPECTED)


def _values(room: Room) -> dict[str, float] | None:
    """Return the meter's values when all of them are good, None until then."""
    found = {
        key.removeprefix("PM-01/"): item["value"]
        for key, item in room.values().items()
        if key.startswith("PM-01/") and item["quality"] == 0 and not item["is_stale"]
    }
    return {name: found[name] for name in EXPECTED} if set(EXPECTED) <= set(found) else None

"""Modbus TCP servers whose protocol is not our work: npm modbus-serial and libmodbus."""

from __future__ import annotations

import ctypes.util
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.node import node_or_skip
from tests.system.room import ROOT, free_port, listens, until

SOURCES = Path(__file__).with_name("foreign")


@contextmanager
def modbus_serial(registers: Sequence[int]) -> Iterator[int]:
    """Serve holding registers of unit 1 with modbus-serial; yields the port."""
    node = node_or_skip()
    folder = ROOT / "build" / "foreign-modbus"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", "server.js"):
        (folder / name).write_bytes((SOURCES / name).read_bytes())
    node.install(folder, "--omit=optional")
    with _serving([str(node.node), str(folder / "server.js")], registers) as port:
        yield port


@contextmanager
def libmodbus(registers: Sequence[int], folder: Path) -> Iterator[int]:
    """Serve holding registers of unit 1 with libmodbus; yields the port."""
    with _serving([str(_built(folder))], registers) as port:
        yield port


@contextmanager
def libmodbus_rtu(registers: Sequence[int], folder: Path, line: str) -> Iterator[None]:
    """Serve holding registers of unit 1 with libmodbus on a serial line, 19,200 baud."""
    process = subprocess.Popen([str(_built(folder)), line, "1", *(f"{word:04X}" for word in registers)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _built(folder: Path) -> Path:
    header = Path("/usr/include/modbus/modbus.h")
    if shutil.which("cc") is None or not header.exists() or ctypes.util.find_library("modbus") is None:
        pytest.skip("needs a C compiler and libmodbus-dev")
    program = folder / "libmodbus-server"
    build = ["cc", f"-I{header.parent}", "-o", str(program), str(SOURCES / "server.c"), "-lmodbus"]
    subprocess.run(build, check=True)
    return program


@contextmanager
def _serving(command: Sequence[str], registers: Sequence[int]) -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen([*command, str(port), "1", *(f"{word:04X}" for word in registers)])
    try:
        until("the foreign server listens", lambda: listens(port), within_s=10)
        yield port
    finally:
        process.kill()
        process.wait()

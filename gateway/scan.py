"""Looks who is there: the units on a line or behind a converter, and the open ports of a converter. Bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.addresses import Table
from gateway.config import LinkConfig
from gateway.modbus import NO_TARGET, ModbusLink, RefusedError
from watchroom.errors import ConfigError, LinkError

MAX_PORTS = 64


def parse_numbers(text: str, *, low: int, high: int, most: int) -> list[int]:
    """Return the numbers of ``1-32`` or ``502,4001-4008``.

    Raises:
        ConfigError: If it is no such list, or longer than allowed.
    """
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or not (last if dash else first).isdigit():
            raise ConfigError(f"{text!r} is not a list such as {low}-{min(high, low + 31)}")
        numbers += range(int(first), int(last or first) + 1)
        if len(numbers) > most:
            raise ConfigError(f"{text!r} is more than {most} numbers")
    if not numbers or min(numbers) < low or max(numbers) > high:
        raise ConfigError(f"{text!r} is not within {low} to {high}")
    return numbers


async def scan_ports(host: str, ports: Sequence[int], *, timeout_s: float) -> list[int]:
    """Return which ports accept a connection, eight at a time."""
    gate = asyncio.Semaphore(8)

    async def is_open(port: int) -> bool:
        async with gate:
            try:
                async with asyncio.timeout(timeout_s):
                    _, writer = await asyncio.open_connection(host, port)
            except (OSError, TimeoutError):
                return False
            writer.close()
            return True

    found = await asyncio.gather(*(is_open(port) for port in ports))
    return [port for port, is_found in zip(ports, found, strict=True) if is_found]


async def scan_units(link: LinkConfig, units: Sequence[int], *, say: Callable[[str], None]) -> list[int]:
    """Ask each unit for one register and return those that answer; an exception is an answer too.

    One question a unit, and a second one for input registers if the first is not answered: a scan of 32 silent
    units takes 64 timeouts.

    Args:
        link: Where; its timeout is the wait for each answer.
        units: Unit ids.
        say: Told of each unit that is there.

    Raises:
        LinkError: If there is no connection.
    """
    line = ModbusLink(replace(link, settle_s=0.0))
    await line.open()
    found: list[int] = []
    try:
        for unit in units:
            answer = await _ask(line, unit)
            if answer:
                found.append(unit)
                say(f"unit {unit}: {answer}")
    finally:
        line.close()
    return found


async def _ask(line: ModbusLink, unit: int) -> str:
    for table in (Table.HOLDING, Table.INPUT):
        try:
            if not line.is_open:
                await line.open()
            (word,) = await line.read(table, unit=unit, start=0, count=1)
        except RefusedError as exc:
            if exc.code not in NO_TARGET:
                return f"is there ({table}:0 gives {exc})"
        except LinkError:
            continue
        else:
            return f"is there ({table}:0 = {int(word)})"
    return ""

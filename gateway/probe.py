"""Reads one device once and shows raw words beside every way to read them, so that the order is chosen by looking."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gateway.config import GatewayConfig, ModbusDevice
from gateway.decoder import BlockDecoder
from gateway.modbus import ModbusLink, RefusedError
from gateway.model import ModelSignal
from gateway.planner import Block, plan_reads
from gateway.registers import Words, decode, orders_of
from watchroom.errors import ConfigError, LinkError
from watchroom.signals import Quality


async def probe(config: GatewayConfig, device: str) -> str:
    """Return a table of one device's signals: address, raw words, value, and the value in every byte order.

    Args:
        config: The gateway.
        device: Name of the device in the gateway file, or the equipment id if only one device has it.

    Raises:
        ConfigError: If there is no such Modbus device.
        LinkError: If there is no connection.
    """
    found = _find(config, device)
    link = config.links[found.link]
    head = f"{found.name}: unit {found.unit} on {link}, model {found.model.name}, equipment {found.equipment}"
    line = ModbusLink(link)
    rows: list[tuple[str, ...]] = [("signal", "at", "raw", "value", "in other byte orders")]
    notes: list[str] = []
    await line.open()
    try:
        for block in plan_reads(found.model, link_kind=link.kind):
            try:
                if not line.is_open:
                    await line.open()
                words = await line.read(block.table, unit=found.unit, start=block.start, count=block.count)
            except RefusedError as exc:
                notes.append(f"{block}: {exc}")
            except LinkError:
                notes.append(
                    f"{block}: no answer within {link.timeout_s:g} s "
                    f"(is unit {found.unit} right? wiring, baud rate, parity?)"
                )
            else:
                rows += _rows(block, words)
    finally:
        line.close()
    return "\n".join([head, *_aligned(rows if len(rows) > 1 else []), *notes])


def _find(config: GatewayConfig, name: str) -> ModbusDevice:
    if name in config.devices:
        return config.devices[name]
    of_equipment = [device for device in config.devices.values() if device.equipment == name]
    if len(of_equipment) == 1:
        return of_equipment[0]
    known = [*config.devices]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"devices: {', '.join(known) or 'none'}"
    raise ConfigError(f"there is no Modbus device {name!r}", path=config.path, hint=hint)


def _rows(block: Block, words: Words) -> list[tuple[str, ...]]:
    values, quality = BlockDecoder(block.signals, block.start).decode(words)
    rows: list[tuple[str, ...]] = []
    for signal, value, code in zip(block.signals, values.tolist(), quality.tolist(), strict=True):
        at = signal.offset - block.start
        raw = words[at : at + signal.encoding.registers]
        rows.append(
            (
                signal.name,
                signal.at,
                _raw(signal, raw),
                _value(signal, value, Quality(code)),
                _other_orders(signal, raw),
            )
        )
    return rows


def _raw(signal: ModelSignal, raw: Words) -> str:
    if signal.table is not None and signal.table.is_bits:
        return str(int(raw[0]))
    return " ".join(f"{int(word):04X}" for word in raw)


def _value(signal: ModelSignal, value: float, quality: Quality) -> str:
    if math.isnan(value):
        return quality.name.lower().replace("_", " ")
    text = f"{_number(value)} {signal.unit}".rstrip()
    word = signal.texts.get(str(int(value)), {}).get("en") if value.is_integer() else None
    out = "" if quality is Quality.GOOD else f" ({quality.name.lower().replace('_', ' ')})"
    return text + (f" = {word}" if word else "") + out


def _other_orders(signal: ModelSignal, raw: Words) -> str:
    """The value in every order of its width; the one in use has a star."""
    if signal.encoding.is_narrow:
        return ""
    parts = []
    for order in orders_of(signal.encoding.registers):
        value = decode(np.asarray(raw), replace(signal.encoding, order=order))
        star = "*" if order == signal.encoding.order else ""
        parts.append(f"{order}{star} {_number(value)}")
    return "  ".join(parts)


def _number(value: float) -> str:
    return f"{value:.7g}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

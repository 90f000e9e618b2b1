"""A point list from elsewhere as our files: one model a kind of device, one gateway file. Pure but for ``write``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from watchroom.errors import ConfigError

_TYPES = {
    "int16": "i16", "short": "i16", "16int": "i16", "i16": "i16", "有符号16位": "i16", "有符号整型": "i16",
    "uint16": "u16", "word": "u16", "16uint": "u16", "u16": "u16", "ushort": "u16", "无符号16位": "u16", "整型": "u16",
    "int32": "i32", "dint": "i32", "long": "i32", "32int": "i32", "i32": "i32", "有符号32位": "i32",
    "uint32": "u32", "dword": "u32", "32uint": "u32", "u32": "u32", "ulong": "u32", "无符号32位": "u32",
    "int64": "i64", "64int": "i64", "i64": "i64", "uint64": "u64", "64uint": "u64", "u64": "u64",
    "float32": "f32", "float": "f32", "real": "f32", "32float": "f32", "f32": "f32", "单精度": "f32", "浮点": "f32",
    "浮点数": "f32", "float64": "f64", "double": "f64", "64float": "f64", "f64": "f64", "双精度": "f64",
    "float16": "f16", "16float": "f16", "f16": "f16", "bool": "bit", "bit": "bit", "boolean": "bit",
    "开关量": "bit", "布尔": "bit", "bcd": "bcd16", "bcd16": "bcd16", "bcd32": "bcd32",
}  # fmt: skip


def type_of(text: str) -> str | None:
    """Return our type for one of another program; None if it is unknown."""
    return _TYPES.get(text.strip().lower().replace(" ", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One signal of a foreign list.

    Attributes:
        name: As written there, any language.
        table: holding, input, coil or discrete.
        offset: On the wire, from 0.
        bit: Bit of a register, None for none.
    """

    name: str
    table: str
    offset: int
    type: str = "u16"
    bit: int | None = None
    order: str = ""
    scale: float = 1.0
    add: float = 0.0
    unit: str = ""
    is_alarm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignDevice:
    """One device of a foreign list.

    Attributes:
        link: Our link entry: ``{"tcp": "10.0.0.1:502"}`` and so on.
        period_s: How often it was read there.
        notes: What a person must check, because the other program leaves it open.
    """

    name: str
    link: tuple[tuple[str, Any], ...]
    unit: int
    points: tuple[Point, ...]
    period_s: float = 1.0
    equipment: str = ""
    notes: tuple[str, ...] = field(default_factory=tuple)


def write(devices: Sequence[ForeignDevice], folder: Path, *, gateway: str, site: str) -> list[Path]:
    """Write ``models/`` and ``gateways/`` below a folder and return the files.

    Raises:
        ConfigError: If there is nothing to write, or a file is there already.
    """
    if not devices or not any(device.points for device in devices):
        raise ConfigError("there is no point in it")
    texts = render(devices, gateway=gateway, site=site)
    for name in texts:
        if (folder / name).exists():
            raise ConfigError("this file is there already", path=folder / name, hint="choose another --folder")
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def render(devices: Sequence[ForeignDevice], *, gateway: str, site: str) -> dict[str, str]:
    """Return relative file name -> text."""
    files: dict[str, str] = {}
    models: dict[tuple[Any, ...], str] = {}
    links: dict[tuple[tuple[str, Any], ...], str] = {}
    entries: dict[str, dict[str, Any]] = {}
    equipment_ids: set[str] = set()
    for number, device in enumerate(devices, 1):
        if not device.points:
            continue
        link = links.setdefault(device.link, f"link-{len(links) + 1}")
        known = models.get((device.points, device.period_s))
        if known is None:
            known = _unique(_identifier(device.name, f"device_{number}"), models.values())
            models[device.points, device.period_s] = known
            files[f"models/{known}.yaml"] = _model(known, device)
        equipment = _equipment(device, number, equipment_ids)
        name = _unique(re.sub(r"_", "-", _identifier(device.name, f"device_{number}")), entries)
        entries[name] = {"model": known, "link": link, "unit": device.unit, "equipment": equipment}
    content = {
        "gateway": {"id": gateway, "site": site},
        "links": {name: dict(link) for link, name in links.items()},
        "devices": entries,
    }
    notes = sorted({note for device in devices for note in device.notes})
    head = "".join(f"# {note}\n" for note in ["Imported. Compare each value with watchroom probe.", *notes])
    files[f"gateways/{gateway}.yaml"] = head + _yaml(content)
    return files


def _model(name: str, device: ForeignDevice) -> str:
    signals: dict[str, Any] = {}
    for point in device.points:
        fallback = f"{point.table}_{point.offset}" + ("" if point.bit is None else f"_{point.bit}")
        signal = _unique(_identifier(point.name, fallback), signals)
        entry: dict[str, Any] = {"at": f"{point.table}:{point.offset}" + ("" if point.bit is None else f".{point.bit}")}
        if point.table in {"holding", "input"} and point.bit is None:
            entry["type"] = point.type
        for key, value, plain in (
            ("order", point.order, ""), ("scale", point.scale, 1.0), ("offset", point.add, 0.0),
            ("unit", point.unit, ""),
        ):  # fmt: skip
            if value != plain:
                entry[key] = value
        if point.is_alarm:
            entry["class"] = "alarm"
        if signal != point.name:
            entry["name"] = {"zh": point.name, "en": point.name}
        signals[signal] = entry
    content = {
        "model": name,
        "name": {"zh": device.name, "en": device.name},
        "source": "imported point list",
        "trust": "as good as the list it came from; not compared with the device",
        "base": 0,
        "groups": {"all": f"{max(device.period_s, 0.02):g}s"},
        "signals": signals,
    }
    return _yaml(content)


def _yaml(content: Any) -> str:
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=120, default_flow_style=None)


def _identifier(text: str, fallback: str) -> str:
    """A signal or model name out of a text of any language."""
    word = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text.strip())
    word = re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")[:50]
    letters = sum(character.isascii() and character.isalnum() for character in text)
    if not re.match(r"[a-z]", word) or letters < len(text.strip()) / 2:
        return fallback
    return word


def _unique(name: str, taken: Iterable[str]) -> str:
    known = set(taken)
    if name not in known:
        return name
    number = 2
    while f"{name}_{number}" in known:
        number += 1
    return f"{name}_{number}"


def _equipment(device: ForeignDevice, number: int, taken: set[str]) -> str:
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", device.equipment or device.name).strip("-._")[:50]
    is_id = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text) and (device.equipment or len(text) > 1)
    base = text.upper() if is_id else f"DEV-{number:02}"
    chosen, more = base, 2
    while chosen in taken:
        chosen, more = f"{base}-{more}", more + 1
    taken.add(chosen)
    return chosen

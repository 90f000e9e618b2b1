"""Reads what other programs know of devices: ThingsBoard gateway, Telegraf, point lists as CSV or xlsx."""

from __future__ import annotations

import csv
import io
import json
import re
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

from gateway.points import ForeignDevice, Point, type_of
from watchroom.durations import seconds
from watchroom.errors import ConfigError

MAX_BYTES = 20 << 20
_TABLES = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
_WORDS = {
    "name": (
        "name",
        "tag",
        "point",
        "signal",
        "点名",
        "名称",
        "点位名称",
        "测点名称",
        "变量名",
        "信号名称",
        "参数名称",
    ),
    "device": ("device", "device name", "equipment name", "设备", "设备名称", "装置"),
    "equipment": ("equipment", "equipment id", "asset", "设备编号", "设备编码", "资产编号"),
    "host": ("host", "ip", "ip address", "address ip", "主机", "ip地址", "网关ip"),
    "port": ("port", "tcp port", "端口", "端口号"),
    "unit_id": ("unit id", "unitid", "slave", "slave id", "station", "站号", "从站", "从站号", "从站地址", "设备地址"),
    "address": (
        "address",
        "register",
        "register address",
        "offset address",
        "地址",
        "寄存器地址",
        "寄存器",
        "点位地址",
    ),
    "function": ("function", "fc", "function code", "功能码"),
    "table": ("table", "area", "register type", "区", "寄存器类型", "数据区", "寄存器区"),
    "type": ("type", "data type", "datatype", "类型", "数据类型"),
    "order": ("order", "byte order", "word order", "字节序", "字节顺序"),
    "scale": ("scale", "factor", "multiplier", "倍率", "系数", "比例", "缩放"),
    "add": ("offset", "bias", "偏移", "偏移量", "基值"),
    "unit": ("unit", "units", "单位", "工程单位"),
    "bit": ("bit", "位", "位号"),
    "alarm": ("alarm", "is alarm", "报警", "告警", "是否报警"),
}
_TABLE_WORDS = {
    "holding": "holding", "holding register": "holding", "保持寄存器": "holding", "4x": "holding", "hr": "holding",
    "input": "input", "input register": "input", "输入寄存器": "input", "3x": "input", "ir": "input",
    "coil": "coil", "线圈": "coil", "0x": "coil", "discrete": "discrete", "discrete input": "discrete",
    "离散输入": "discrete", "离散量输入": "discrete", "1x": "discrete", "di": "discrete", "do": "coil",
}  # fmt: skip
_MODICON = {"0": "coil", "1": "discrete", "3": "input", "4": "holding"}


def read_devices(path: Path, *, host: str = "", base: int = 0) -> list[ForeignDevice]:
    """Return the devices of a foreign file; its kind is told by its name and content.

    Args:
        path: ``modbus.json`` of ThingsBoard, a Telegraf ``.conf`` or ``.toml``, a ``.csv`` or ``.xlsx`` point list.
        host: host[:port] for lists that name none.
        base: What the list's first register is called, 0 or 1; 40001 style always counts from 1.

    Raises:
        ConfigError: With file and row of what cannot be read.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"larger than {MAX_BYTES >> 20} MiB", path=path)
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"cannot read this file: {exc.strerror}", path=path) from exc
    try:
        if path.suffix == ".json":
            return thingsboard(json.loads(data), path)
        if path.suffix in {".toml", ".conf"}:
            return telegraf(tomllib.loads(data.decode()), path)
        rows = xlsx_rows(data) if path.suffix == ".xlsx" else csv_rows(data)
    except (ValueError, LookupError, TypeError, AttributeError, zipfile.BadZipFile, ElementTree.ParseError) as exc:
        raise ConfigError(f"not a file of its kind: {exc}", path=path) from exc
    return point_list(rows, path, host=host, base=base)


def thingsboard(content: Mapping[str, Any], path: Path) -> list[ForeignDevice]:
    """Return the devices of a ThingsBoard gateway's ``modbus.json``, old and new form."""
    master = content.get("master", content)
    slaves = master.get("slaves") or content.get("server", {}).get("slaves") or []
    devices = []
    for slave in slaves:
        points = []
        for entry in [*slave.get("timeseries", []), *slave.get("attributes", [])]:
            point = _tb_point(entry, _tb_order(slave), path)
            if point is not None and point not in points:
                points.append(point)
        devices.append(
            ForeignDevice(
                name=str(slave.get("deviceName", slave.get("name", "device"))),
                link=_tb_link(slave),
                unit=int(slave.get("unitId", 1)),
                points=tuple(points),
                period_s=float(slave.get("pollPeriod", 1000)) / 1000,
                notes=("ThingsBoard leaves byte orders open: LITTLE is taken where the file says nothing.",)
                if "byteOrder" not in slave
                else (),
            )
        )
    return devices


def _tb_order(slave: Mapping[str, Any]) -> str:
    byte, word = (str(slave.get(key, "LITTLE")).upper() for key in ("byteOrder", "wordOrder"))
    return {"BIG": {"BIG": "ABCD", "LITTLE": "CDAB"}, "LITTLE": {"BIG": "BADC", "LITTLE": "DCBA"}}[byte][word]


def _tb_link(slave: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    timeout = ("timeout", f"{min(float(slave.get('timeout', 1)), 60.0):g}s")
    if slave.get("type") == "serial":
        return (("serial", str(slave.get("serialPort", slave.get("port")))), ("baud", int(slave.get("baudrate", 9600))),
                ("parity", str(slave.get("parity", "N"))[:1]), timeout)  # fmt: skip
    link: tuple[tuple[str, Any], ...] = (("tcp", f"{slave.get('host', '127.0.0.1')}:{slave.get('port', 502)}"), timeout)
    return (*link, ("framing", "rtu")) if slave.get("method") == "rtu" else link


def _tb_point(entry: Mapping[str, Any], order: str, path: Path) -> Point | None:
    function, kind = int(entry.get("functionCode", 3)), str(entry.get("type", "16uint"))
    if function not in _TABLES or kind in {"string", "bytes"}:
        return None
    table, bit = _TABLES[function], None
    if kind == "bits":
        kind, bit = "bit", int(entry.get("bit", 0)) if function in {3, 4} else None
    type_ = (
        {1: "u16", 2: "u32", 4: "u64"}.get(int(entry.get("objectsCount", 1)), "u16") if kind == "int" else type_of(kind)
    )
    if type_ is None:
        raise ConfigError(f"type {kind!r} is unknown", path=path, key=str(entry.get("tag")))
    scale = float(entry.get("multiplier", 1)) / float(entry.get("divider", 1))
    return Point(
        name=str(entry["tag"]), table=table, offset=int(entry["address"]), type=type_, bit=bit,
        order=_order(order, type_), scale=scale,
    )  # fmt: skip


def telegraf(content: Mapping[str, Any], path: Path) -> list[ForeignDevice]:
    """Return the devices of the ``[[inputs.modbus]]`` sections of a Telegraf file, register and request style."""
    devices = []
    for section in content.get("inputs", {}).get("modbus", []):
        link = _telegraf_link(section, path)
        name, period_s = str(section.get("name", "device")), seconds(section.get("interval", "10s"))
        by_unit: dict[int, list[Point]] = {}
        own = by_unit.setdefault(int(section.get("slave_id", 1)), [])
        for key, table in (
            ("holding_registers", "holding"),
            ("input_registers", "input"),
            ("coils", "coil"),
            ("discrete_inputs", "discrete"),
        ):
            for entry in section.get(key, []):
                own.append(_telegraf_point(entry, table, entry.get("byte_order", ""), min(entry["address"]), path))
        for request in section.get("request", []):
            table = str(request.get("register", "holding"))
            points = by_unit.setdefault(int(request["slave_id"]), [])
            for entry in request.get("fields", []):
                if not entry.get("omit"):
                    order = request.get("byte_order", "ABCD")
                    points.append(_telegraf_point(entry, table, order, int(entry["address"]), path))
        devices += [
            ForeignDevice(
                name=f"{name}-{unit}" if len(by_unit) > 1 else name,
                link=link,
                unit=unit,
                points=tuple(points),
                period_s=period_s,
            )
            for unit, points in by_unit.items()
            if points
        ]
    return devices


def _telegraf_link(section: Mapping[str, Any], path: Path) -> tuple[tuple[str, Any], ...]:
    parts = urlsplit(str(section.get("controller", "")))
    timeout = ("timeout", str(section.get("timeout", "1s")))
    mode = str(section.get("transmission_mode", "")).lower()
    if parts.scheme == "tcp":
        framing = {"rtuovertcp": "rtu", "asciiovertcp": "ascii"}.get(mode)
        link: tuple[tuple[str, Any], ...] = (("tcp", parts.netloc), timeout)
        return (*link, ("framing", framing)) if framing else link
    if parts.scheme == "file":
        found = (
            ("serial", parts.path),
            ("baud", int(section.get("baud_rate", 9600))),
            ("parity", str(section.get("parity", "N"))[:1]),
            timeout,
        )
        return (*found, ("framing", "ascii")) if mode == "ascii" else found
    raise ConfigError("a controller is tcp://host:port or file:///dev/...", path=path, key="controller")


def _telegraf_point(entry: Mapping[str, Any], table: str, order: str, address: int, path: Path) -> Point:
    if table in {"coil", "discrete"}:
        return Point(name=str(entry["name"]), table=table, offset=address, type="bit")
    kind = str(entry.get("data_type", entry.get("type", "UINT16")))
    # FIXED and UFIXED are integers with a scale
    kind = {"FIXED": "INT", "UFIXED": "UINT"}.get(kind, kind)
    if kind in {"INT", "UINT"}:
        kind += str(16 * len(entry.get("address", [0]) if isinstance(entry.get("address"), list) else [0]))
    type_ = {"FLOAT32-IEEE": "f32", "FLOAT64-IEEE": "f64", "FLOAT16-IEEE": "f16"}.get(kind) or type_of(kind)
    if type_ is None:
        raise ConfigError(f"data type {kind!r} is unknown", path=path, key=str(entry["name"]))
    bit = int(entry.get("bit", 0)) if type_ == "bit" else None
    return Point(
        name=str(entry["name"]), table=table, offset=address, type=type_, bit=bit, order=_order(str(order), type_),
        scale=float(entry.get("scale") or 1.0),
    )  # fmt: skip


def csv_rows(data: bytes) -> list[list[str]]:
    """Return the rows of a CSV file in UTF-8 or GB18030, separated by comma, semicolon or tab."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("gb18030")
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    return [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=separator)]


def xlsx_rows(data: bytes) -> list[list[str]]:
    """Return the rows of the first sheet of an xlsx file; needs nothing but the standard library."""
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        if sum(info.file_size for info in book.infolist()) > 8 * MAX_BYTES:
            raise ValueError("the unpacked workbook is too large")
        shared: list[str] = []
        if "xl/sharedStrings.xml" in book.namelist():
            root = _xml(book.read("xl/sharedStrings.xml"))
            shared = ["".join(t.text or "" for t in item.iter(f"{space}t")) for item in root.iter(f"{space}si")]
        sheet = min(name for name in book.namelist() if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name))
        rows: list[list[str]] = []
        for row in _xml(book.read(sheet)).iter(f"{space}row"):
            cells: list[str] = []
            for cell in row.iter(f"{space}c"):
                column = _column(cell.get("r", ""), len(cells))
                cells += [""] * (column - len(cells))
                value = cell.find(f"{space}v")
                text = value.text or "" if value is not None else "".join(t.text or "" for t in cell.iter(f"{space}t"))
                cells.append(shared[int(text)].strip() if cell.get("t") == "s" else text.strip())
            rows.append(cells)
    return rows


def _xml(data: bytes) -> ElementTree.Element:
    if b"<!DOCTYPE" in data[:4096]:
        raise ValueError("a workbook has no document type")
    return ElementTree.fromstring(data)


def _column(reference: str, default: int) -> int:
    letters = re.match(r"[A-Z]{1,2}", reference)
    if letters is None:
        return default
    number = 0
    for letter in letters[0]:
        number = number * 26 + ord(letter) - 64
    return number - 1


def point_list(rows: Sequence[Sequence[str]], path: Path, *, host: str, base: int) -> list[ForeignDevice]:
    """Return the devices of a point list with Chinese or English headings.

    Raises:
        ConfigError: With the row of what cannot be read.
    """
    start, columns = _headings(rows, path)
    grouped: dict[tuple[str, str, int], list[Point]] = {}
    equipment: dict[tuple[str, str, int], str] = {}
    for number, row in enumerate(rows[start + 1 :], start + 2):
        cells = {key: row[at].strip() for key, at in columns.items() if at < len(row) and row[at].strip()}
        if "address" not in cells:
            continue
        try:
            where = _endpoint(cells, host)
            device = (cells.get("device", "device"), where, int(float(cells.get("unit_id", "1"))))
            grouped.setdefault(device, []).append(_list_point(cells, base))
        except (ValueError, OverflowError) as exc:
            raise ConfigError(str(exc), path=path, line=number) from exc
        equipment.setdefault(device, cells.get("equipment", ""))
    return [
        ForeignDevice(
            name=name, link=(("tcp", where),), unit=unit, points=tuple(points), equipment=equipment[name, where, unit]
        )
        for (name, where, unit), points in grouped.items()
    ]


def _headings(rows: Sequence[Sequence[str]], path: Path) -> tuple[int, dict[str, int]]:
    for at, row in enumerate(rows[:20]):
        columns: dict[str, int] = {}
        for i, cell in enumerate(row):
            word = re.sub(r"[\s_\-]+", " ", cell.strip().lower().split("(")[0].split("（")[0]).strip()
            key = next((key for key, words in _WORDS.items() if word in words), None)
            if key is not None:
                columns.setdefault(key, i)
        if {"name", "address"} <= columns.keys():
            return at, columns
    raise ConfigError("no row has the headings name and address (名称, 地址)", path=path)


def _endpoint(cells: Mapping[str, str], host: str) -> str:
    if "host" in cells:
        return f"{cells['host']}:{int(float(cells.get('port', '502')))}"
    if not host:
        raise ValueError("the list names no host: give --host 10.0.0.5:502")
    return host if ":" in host else f"{host}:502"


def _list_point(cells: Mapping[str, str], base: int) -> Point:
    text, dot, after = cells["address"].partition(".")
    bit = int(after) if dot and after and after != "0" else None
    if "bit" in cells:
        bit = int(float(cells["bit"]))
    match = re.fullmatch(r"([0134])(\d{4,5})", text)
    if match and "function" not in cells and "table" not in cells:
        table, offset = _MODICON[match[1]], int(match[2]) - 1
    else:
        table, offset = _table(cells), int(text, 0) - base
    if not 0 <= offset <= 65535:
        raise ValueError(f"address {cells['address']!r} is not between 0 and 65535")
    kind = type_of(cells["type"]) if "type" in cells else "bit" if table in {"coil", "discrete"} else "u16"
    if kind is None:
        raise ValueError(f"type {cells['type']!r} is unknown")
    if table in {"holding", "input"} and kind == "bit" and bit is None:
        bit = 0
    return Point(
        name=cells.get("name", f"{table} {offset}"), table=table, offset=offset, type=kind, bit=bit,
        order=_order(cells.get("order", ""), kind), scale=float(cells.get("scale", "1")),
        add=float(cells.get("add", "0")),
        unit=cells.get("unit", ""), is_alarm=cells.get("alarm", "").lower() in {"1", "y", "yes", "true", "是", "√"},
    )  # fmt: skip


def _table(cells: Mapping[str, str]) -> str:
    if "function" in cells:
        function = int(re.sub(r"\D", "", cells["function"].split("/")[0]) or "0")
        if function not in _TABLES:
            raise ValueError(f"function {cells['function']!r} does not read: 1, 2, 3 or 4")
        return _TABLES[function]
    word = cells.get("table", "holding").lower()
    if word not in _TABLE_WORDS:
        raise ValueError(f"table {cells['table']!r} is unknown: holding, input, coil or discrete")
    return _TABLE_WORDS[word]


def _order(order: str, type_: str) -> str:
    """A byte order for a type, empty where it is the plain one."""
    order = order.strip().upper()
    width = {"16": 2, "32": 4, "64": 8}.get(type_[-2:], 0)
    if not order or not width or type_ == "bit":
        return ""
    short = {"ABCD": "AB", "CDAB": "AB", "BADC": "BA", "DCBA": "BA"}
    long = {"ABCD": "ABCDEFGH", "CDAB": "GHEFCDAB", "BADC": "BADCFEHG", "DCBA": "HGFEDCBA", "AB": "", "BA": "BADCFEHG"}
    if width == 2:
        found = short.get(order, order)
    elif width == 8 and len(order) < 8:
        found = long.get(order, order)
    else:
        found = {"AB": "ABCD", "BA": "BADC"}.get(order, order) if width == 4 else order
    return "" if found in {"AB", "ABCD", "ABCDEFGH"} else found

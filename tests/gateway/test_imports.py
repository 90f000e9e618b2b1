"""Point lists of other programs become gateway files that read the right registers in the right order."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import GatewayConfig, load_gateway
from gateway.devicemodel import ModelSignal
from gateway.imports import csv_rows, point_list, read_devices, xlsx_rows
from gateway.model import ModelLibrary
from gateway.points import write
from watchroom.errors import ConfigError

THINGSBOARD = {
    "master": {
        "slaves": [
            {
                "host": "10.0.0.7", "port": 5021, "type": "tcp", "method": "socket", "timeout": 3, "byteOrder": "BIG",
                "wordOrder": "LITTLE", "unitId": 4, "deviceName": "Main Meter", "pollPeriod": 5000,
                "attributes": [{"tag": "serial", "type": "string", "functionCode": 3, "objectsCount": 8, "address": 0}],
                "timeseries": [
                    {"tag": "voltageA", "type": "32float", "functionCode": 4, "objectsCount": 2, "address": 10},
                    {"tag": "current", "type": "16uint", "functionCode": 3, "address": 20, "divider": 10},
                    {"tag": "total", "type": "64int", "functionCode": 3, "objectsCount": 4, "address": 30},
                    {"tag": "running", "type": "bits", "functionCode": 1, "objectsCount": 1, "address": 5},
                    {"tag": "fault", "type": "bits", "functionCode": 3, "objectsCount": 1, "address": 40, "bit": 6},
                ],
            },
            {
                "type": "serial", "port": "/dev/ttyUSB0", "baudrate": 19200, "parity": "E", "method": "rtu",
                "unitId": 9, "deviceName": "Pump",
                "timeseries": [{"tag": "speed", "type": "16int", "functionCode": 3, "address": 1}],
            },
        ]
    }
}  # fmt: skip
TELEGRAF = """\
[[inputs.modbus]]
  name = "boiler"
  slave_id = 3
  timeout = "2s"
  controller = "tcp://10.0.0.8:8899"
  transmission_mode = "RTUoverTCP"
  coils = [{ name = "burner", address = [7] }]
  holding_registers = [
    { name = "flow_temp", byte_order = "AB", data_type = "FIXED", scale = 0.1, address = [100] },
    { name = "gas", byte_order = "CDAB", data_type = "FLOAT32-IEEE", scale = 1.0, address = [102, 103] },
  ]
[[inputs.modbus]]
  name = "drives"
  controller = "file:///dev/ttyS1"
  baud_rate = 38400
  [[inputs.modbus.request]]
    slave_id = 1
    byte_order = "DCBA"
    register = "input"
    fields = [
      { address = 0, name = "speed", type = "INT16", scale = 0.1 },
      { address = 2, name = "work", type = "UINT32" },
    ]
"""
CHINESE = """\
小区点表,,,,,,,,,
设备名称,设备编号,IP地址,端口,站号,名称,功能码,寄存器地址,数据类型,倍率,单位,字节序,报警
生活水泵,WP-01,10.0.0.9,502,1,出水压力,03,100,uint16,0.001,MPa,,
生活水泵,WP-01,10.0.0.9,502,1,累计流量,03,102,float,1,m³,CDAB,
生活水泵,WP-01,10.0.0.9,502,1,故障,03,104.3,bool,,,,是
集水井,SP-01,10.0.0.9,502,2,高水位,02,0,开关量,,,,是
"""
ENGLISH = """\
Name;Address;Data Type;Scale;Unit
supply_pressure;40011;int16;0.01;bar
Run State;10003;;;
Energy;30021;uint32;0.1;kWh
"""


def imported(path: Path, folder: Path, *, host: str = "", base: int = 0) -> GatewayConfig:
    """The gateway that an import gives, read back from its files."""
    files = write(read_devices(path, host=host, base=base), folder, gateway="lan", site="here")
    return load_gateway(files[-1], models=ModelLibrary(folder / "models"))


def signals(config: GatewayConfig, device: str) -> dict[str, ModelSignal]:
    return dict(config.devices[device].model.signals)


def place(signal: ModelSignal) -> tuple[object, ...]:
    encoding = signal.encoding
    return (str(signal.table), signal.offset, encoding.type, encoding.order, encoding.bit, encoding.scale)


def test_a_gateway_of_thingsboard(tmp_path: Path) -> None:
    """Its modbus.json: addresses, types, both order flags, divider, bits, serial and TCP."""
    (tmp_path / "modbus.json").write_text(json.dumps(THINGSBOARD))
    config = imported(tmp_path / "modbus.json", tmp_path / "site")
    meter = signals(config, "main-meter")
    assert {name: place(signal) for name, signal in meter.items()} == {
        "voltage_a": ("input", 10, "f32", "CDAB", 0, 1.0),
        "current": ("holding", 20, "u16", "AB", 0, 0.1),
        "total": ("holding", 30, "i64", "GHEFCDAB", 0, 1.0),
        "running": ("coil", 5, "bit", "AB", 0, 1.0),
        "fault": ("holding", 40, "bit", "AB", 6, 1.0),
    }
    assert (config.devices["main-meter"].unit, config.devices["main-meter"].model.groups["all"]) == (4, 5.0)
    tcp, serial = config.links.values()
    assert (tcp.host, tcp.port, tcp.framing, tcp.timeout_s) == ("10.0.0.7", 5021, "tcp", 3.0)
    assert (serial.kind, serial.host, serial.baud, serial.parity) == ("serial", "/dev/ttyUSB0", 19200, "E")
    assert place(signals(config, "pump")["speed"]) == ("holding", 1, "i16", "BA", 0, 1.0)
    assert "LITTLE is taken" in config.path.read_text()


def test_a_section_of_telegraf(tmp_path: Path) -> None:
    """Register style and request style, RTU over TCP and serial."""
    (tmp_path / "telegraf.conf").write_text(TELEGRAF)
    config = imported(tmp_path / "telegraf.conf", tmp_path / "site")
    assert {name: place(signal) for name, signal in signals(config, "boiler").items()} == {
        "flow_temp": ("holding", 100, "i16", "AB", 0, 0.1),
        "gas": ("holding", 102, "f32", "CDAB", 0, 1.0),
        "burner": ("coil", 7, "bit", "AB", 0, 1.0),
    }
    assert {name: place(signal) for name, signal in signals(config, "drives").items()} == {
        "speed": ("input", 0, "i16", "BA", 0, 0.1),
        "work": ("input", 2, "u32", "DCBA", 0, 1.0),
    }
    boiler, drives = config.links.values()
    assert (boiler.host, boiler.port, boiler.framing, boiler.timeout_s) == ("10.0.0.8", 8899, "rtu", 2.0)
    assert (drives.host, drives.baud, drives.framing) == ("/dev/ttyS1", 38400, "rtu")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_a_chinese_point_list(tmp_path: Path, encoding: str) -> None:
    """Headings in Chinese, a title above them, any encoding; names stay readable."""
    (tmp_path / "点表.csv").write_bytes(CHINESE.encode(encoding))
    config = imported(tmp_path / "点表.csv", tmp_path / "site")
    pump, sump = config.devices.values()
    assert (pump.equipment, pump.unit, sump.equipment, sump.unit) == ("WP-01", 1, "SP-01", 2)
    found = {place(signal)[:2]: signal for signal in pump.model.signals.values()}
    assert place(found["holding", 100]) == ("holding", 100, "u16", "AB", 0, 0.001)
    assert place(found["holding", 102]) == ("holding", 102, "f32", "CDAB", 0, 1.0)
    assert place(found["holding", 104]) == ("holding", 104, "bit", "AB", 3, 1.0)
    assert found["holding", 104].urgency == 1
    assert place(next(iter(sump.model.signals.values()))) == ("discrete", 0, "bit", "AB", 0, 1.0)
    assert "出水压力" in (tmp_path / "site" / "models" / f"{pump.model.name}.yaml").read_text(encoding="utf-8")
    assert len(config.links) == 1


def test_an_english_point_list_with_old_addresses(tmp_path: Path) -> None:
    """40001 style counts from 1 and names the table; the host comes from the command line."""
    (tmp_path / "points.csv").write_text(ENGLISH)
    config = imported(tmp_path / "points.csv", tmp_path / "site", host="10.1.1.1")
    (device,) = config.devices.values()
    assert {name: place(signal) for name, signal in device.model.signals.items()} == {
        "supply_pressure": ("holding", 10, "i16", "AB", 0, 0.01),
        "run_state": ("discrete", 2, "bit", "AB", 0, 1.0),
        "energy": ("input", 20, "u32", "ABCD", 0, 0.1),
    }
    assert (config.links["link-1"].host, config.links["link-1"].port) == ("10.1.1.1", 502)


def workbook(rows: list[list[str]], *, shared: bool) -> bytes:
    """An xlsx file as spreadsheet programs write it, with shared or inline strings."""
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    strings: list[str] = []
    lines = []
    for y, row in enumerate(rows, 1):
        cells = []
        for x, text in enumerate(row):
            if not text:
                continue
            place = f"{chr(65 + x)}{y}"
            if text.replace(".", "").isdigit():
                cells.append(f'<c r="{place}"><v>{text}</v></c>')
            elif shared:
                strings.append(f"<si><t>{escape(text)}</t></si>")
                cells.append(f'<c r="{place}" t="s"><v>{len(strings) - 1}</v></c>')
            else:
                cells.append(f'<c r="{place}" t="inlineStr"><is><t>{escape(text)}</t></is></c>')
        lines.append(f'<row r="{y}">{"".join(cells)}</row>')
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as book:
        book.writestr(
            "xl/worksheets/sheet1.xml", f"<worksheet {space}><sheetData>{''.join(lines)}</sheetData></worksheet>"
        )
        if shared:
            book.writestr("xl/sharedStrings.xml", f"<sst {space}>{''.join(strings)}</sst>")
    return memory.getvalue()


@pytest.mark.parametrize("shared", [True, False])
def test_a_workbook_is_read_as_its_csv(tmp_path: Path, shared: bool) -> None:
    """The same list as xlsx gives the same devices."""
    rows = csv_rows(CHINESE.encode())
    (tmp_path / "points.csv").write_text(CHINESE, encoding="utf-8")
    (tmp_path / "points.xlsx").write_bytes(workbook(rows, shared=shared))
    assert read_devices(tmp_path / "points.xlsx") == read_devices(tmp_path / "points.csv")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a,b\n1,2\n", "no row has the headings"),
        ("name,address\nx,99999\n", "row|host"),
        ("name,address,ip\nx,99999,h\n", "points.csv:2: address '99999'"),
        ("name,address,ip\nx,12,h\ny,abc,h\n", "points.csv:3:"),
        ("name,address,ip,type\nx,12,h,quaternion\n", "type 'quaternion' is unknown"),
        ("name,address,ip,fc\nx,12,h,43\n", "function '43' does not read"),
        ("name,address\nx,12\n", "give --host"),
        ("name,address,ip\n,,\n", "there is no point in it"),
    ],
)
def test_mistakes_are_told_with_their_row(tmp_path: Path, text: str, problem: str) -> None:
    """A person finds the row; nothing is half written."""
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        imported(tmp_path / "points.csv", tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A second import does not take away what somebody has changed since."""
    (tmp_path / "points.csv").write_text(ENGLISH)
    imported(tmp_path / "points.csv", tmp_path / "site", host="h")
    with pytest.raises(ConfigError, match="is there already"):
        imported(tmp_path / "points.csv", tmp_path / "site", host="h")


@pytest.mark.parametrize(("name", "data"), [("a.xlsx", b"PK\x03\x04rubbish"), ("a.json", b"[1]"), ("a.toml", b"= 1")])
def test_files_of_another_kind(tmp_path: Path, name: str, data: bytes) -> None:
    """Rubbish gives a sentence, not a traceback."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError):
        imported(tmp_path / name, tmp_path / "site")


@settings(deadline=None)
@given(st.lists(st.lists(st.text(max_size=8), max_size=6), max_size=6))
def test_no_table_breaks_the_reader(rows: list[list[str]]) -> None:
    """Whatever stands in the cells: devices or a sentence."""
    with contextlib.suppress(ConfigError):
        found = point_list([["name", "address", "ip"], *rows], Path("x.csv"), host="h", base=0)
        assert all(0 <= point.offset <= 65535 for device in found for point in device.points)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_workbook_reader(data: bytes) -> None:
    """A workbook that is none is refused."""
    with pytest.raises((ValueError, KeyError, zipfile.BadZipFile)):
        xlsx_rows(data)

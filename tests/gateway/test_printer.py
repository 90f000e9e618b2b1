"""A fire panel that only prints: its Chinese lines become states and events, and nothing it says is thrown away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import GatewayConfig, load_gateway
from gateway.field import FieldSide
from gateway.model import ModelLibrary
from gateway.printer import MAX_LINE, LineSplitter, load_rules, read_line
from simulators.printer import Printer
from tests.gateway.recorder import Recorder, recorder_for, until
from watchroom.errors import ConfigError
from watchroom.signals import Quality

RULES = load_rules("gst9000")
GATEWAY = """\
gateway: {{id: fire-room, site: here}}
links: {{paper: {{{way}: '{where}', speaks: text}}}}
devices:
  panel: {{link: paper, equipment: FP-01, printer: {{rules: gst9000, zones: 2}}}}
"""


def configured(folder: Path, where: str, *, way: str = "serial", text: str = GATEWAY) -> GatewayConfig:
    (folder / "gateways").mkdir(exist_ok=True)
    path = folder / "gateways" / "fire.yaml"
    path.write_text(text.format(way=way, where=where))
    return load_gateway(path, models=ModelLibrary())


@asynccontextmanager
async def running(config: GatewayConfig, folder: Path) -> AsyncIterator[tuple[Recorder, FieldSide]]:
    seen = recorder_for(config)
    side = FieldSide(config, seen, now_ms=lambda: time.time_ns() // 1_000_000, key=b"0" * 16, folder=folder / "data")
    task = asyncio.create_task(side.run())
    try:
        await until(lambda: side.links_down == 0, "the line is open")
        yield seen, side
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("words", "what", "begins", "ends"),
    [
        ("火警", "state", ["fire"], []),
        ("首火警", "state", ["fire"], []),
        ("火警恢复", "state", [], ["fire"]),
        ("故障", "state", ["fault"], []),
        ("故障恢复", "state", [], ["fault"]),
        ("屏蔽", "state", ["disabled"], []),
        ("解除屏蔽", "state", [], ["disabled"]),
        ("主电故障", "state", ["mains_fault"], []),
        ("主电故障恢复", "state", [], ["mains_fault"]),
        ("备电欠压", "state", ["battery_fault"], []),
        ("系统复位", "reset", [], []),
        ("启动", "state", ["started"], []),
        ("反馈撤消", "state", [], ["feedback"]),
        ("消音", "note", [], []),
    ],
)
def test_the_words_of_the_panel(words: str, what: str, begins: list[str], ends: list[str]) -> None:
    """Each phrase means what it means; the end of a state is never read as its beginning."""
    rule = read_line(RULES, words.encode("gb18030")).rule
    assert rule is not None
    assert (rule.what, rule.begins, rule.ends) == (what, begins, ends)


def test_loop_and_number_stand_in_their_columns() -> None:
    """Bytes 21 to 23 and 25 to 27, whatever stands before and behind."""
    line = "火警".encode("gb18030").ljust(20) + b"003 127 " + "3号楼".encode("gb18030")
    printed = read_line(RULES, line)
    assert printed.part == 3 << 16 | 127
    assert printed.text.endswith("003 127 3号楼")
    assert read_line(RULES, line.replace(b"003", b" x ")).part is None
    assert read_line(RULES, "心情".encode("gb18030")).rule is None


@given(st.lists(st.text("火警故障复位屏蔽ab 01", min_size=1, max_size=30), max_size=6), st.data())
def test_lines_split_anyhow_come_out_whole(lines: list[str], data: st.DataObject) -> None:
    """However the bytes of the line arrive, between the halves of a character too, the lines are the same."""
    stream = b"".join(line.encode("gb18030") + b"\r\n" for line in lines)
    splitter, got = LineSplitter(), list[bytes]()
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += splitter.feed(stream[:size])
        stream = stream[size:]
    assert [line.decode("gb18030") for line in got] == [line for line in lines if line.strip()]


@given(st.binary(max_size=2000))
def test_any_bytes_are_lines_of_bounded_length(noise: bytes) -> None:
    """A line that never ends is cut; every line can be read, whatever is in it."""
    splitter = LineSplitter()
    for line in splitter.feed(noise) + splitter.feed(b"\n"):
        assert len(line) <= MAX_LINE
        assert read_line(RULES, line).text is not None


@pytest.mark.parametrize("mode", ["healthy", "failing", "lying"])
@pytest.mark.parametrize("way", ["serial", "tcp"])
async def test_a_printed_fire_is_a_fire(tmp_path: Path, mode: str, way: str) -> None:
    """Over a serial line and over TCP, whole and in pieces, with noise between: fire, its end, and a reset."""
    printer = Printer(mode=mode)  # type: ignore[arg-type]
    server = None
    if way == "serial":
        where = printer.open_terminal()
    else:
        server = await asyncio.start_server(printer.talk, "127.0.0.1", 0)
        where = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with running(configured(tmp_path, where, way=way), tmp_path) as (seen, side):
            await until(lambda: printer.is_heard and seen.value("FP-01/online") == 1, "heard")
            assert seen.quality("FP-01/fire") == Quality.UNCERTAIN
            printer.happen("火警", loop=1, number=12, place="3号楼5层烟感")
            await until(lambda: seen.value("FP-01/fire") == 1, "fire")
            printer.happen("故障", loop=2, number=7)
            printer.happen("火警恢复", loop=1, number=12)
            await until(lambda: seen.value("FP-01/zone2_state") == 4, "fault in zone 2")
            await until(lambda: seen.value("FP-01/fire") == 0, "fire is over")
            printer.say("主电故障")
            await until(lambda: seen.value("FP-01/mains_fault") == 1, "mains")
            printer.say("系统复位")
            await until(lambda: seen.quality("FP-01/fire") == Quality.GOOD, "known after the reset")
            assert seen.value("FP-01/zone2_state") == 0
            unmatched = side.status()["paper"]["unmatched"]
    finally:
        printer.close()
        if server is not None:
            server.close()
    (fire,) = [event for event in seen.events if event.fields.get("state") == ["fire"]]
    assert fire.fields["part"] == "1-12"
    assert "3号楼5层烟感" in fire.fields["text"]
    assert [event.kind for event in seen.events if event.fields.get("operation")] == ["operation"]
    assert bool(unmatched) == (mode == "lying")
    assert len({event.id for event in seen.events}) == len(seen.events)


async def test_a_fire_without_a_place_is_a_fire_all_the_same(tmp_path: Path) -> None:
    """A torn paper line that still says fire lights the panel, and only a reset ends it."""
    printer = Printer()
    async with running(configured(tmp_path, printer.open_terminal()), tmp_path) as (seen, _):
        printer.say("火警 ???")
        await until(lambda: seen.value("FP-01/fire") == 1, "fire")
        assert seen.value("FP-01/zone1_state") == 0
        printer.say("复位")
        await until(lambda: seen.value("FP-01/fire") == 0, "reset")
    printer.close()


async def test_a_site_brings_its_own_rules(tmp_path: Path) -> None:
    """Another maker's panel is one file in the site's printers folder."""
    (tmp_path / "printers").mkdir()
    (tmp_path / "printers" / "other.yaml").write_text(
        "printer: other\nname: {zh: 其他, en: other}\nsource: its manual\ntrust: tested\nencoding: utf-8\n"
        "rules:\n  - {find: 'ALARM L(?P<loop>[0-9]+)D(?P<number>[0-9]+)', begins: [fire]}\n"
    )
    printer = Printer()
    text = GATEWAY.replace("gst9000", "other")
    async with running(configured(tmp_path, printer.open_terminal(), text=text), tmp_path) as (seen, _):
        printer.line(b"ALARM L2D9")
        await until(lambda: seen.value("FP-01/zone2_state") == 1, "fire in zone 2")
    printer.close()


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ("  - {find: '(', begins: [fire]}", "not a regular expression"),
        ("  - {find: x, begins: [smoke]}", "'smoke' is not a state"),
        ("  - {find: x}", "begins: or ends:"),
        ("  - {find: x, what: reset, begins: [fire]}", "begins: or ends:"),
        ("  - {find: x, begin: [fire]}", "did you mean 'begins'"),
    ],
)
def test_wrong_rules_are_named(tmp_path: Path, rules: str, problem: str) -> None:
    """A mistake in the rules is told with file and line."""
    (tmp_path / "printers").mkdir()
    path = tmp_path / "printers" / "other.yaml"
    path.write_text(f"printer: other\nname: {{zh: a, en: a}}\nsource: x\ntrust: x\nrules:\n{rules}\n")
    with pytest.raises(ConfigError, match=problem) as caught:
        configured(tmp_path, "/dev/ttyUSB0", text=GATEWAY.replace("gst9000", "other"))
    assert caught.value.path == path
    assert caught.value.line == 6


def test_unknown_rules_and_two_panels_on_one_line(tmp_path: Path) -> None:
    """A misspelt name of rules, and two printers on one line, are refused before the start."""
    with pytest.raises(ConfigError, match="known: gst9000"):
        configured(tmp_path, "/dev/ttyUSB0", text=GATEWAY.replace("gst9000", "gst"))
    twice = GATEWAY + "  second: {{link: paper, equipment: FP-02, printer: {{rules: gst9000}}}}\n"
    with pytest.raises(ConfigError, match="'panel' prints on it already"):
        configured(tmp_path, "/dev/ttyUSB0", text=twice)

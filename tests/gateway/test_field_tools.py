"""The commands for whoever connects devices, typed as a person types them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gateway.config import LinkConfig, load_gateway
from gateway.mappingtry import try_mapping
from gateway.model import ModelLibrary
from gateway.scan import parse_numbers, scan_ports, scan_units
from simulators.fromconfig import Wander, limits, run_from_config
from tests.gateway.devices import SILENT, Answer, Request, device
from tests.gateway.recorder import until
from tests.gateway.test_poller import running
from watchroom.cli import run
from watchroom.errors import ConfigError
from watchroom.signals import Kind, Quality

READER = """\
gateway: {id: test, site: here}
links:
  broker: {mqtt: mqtt://127.0.0.1:1883}
devices:
  gate:
    link: broker
    mqtt:
      topic: "gate/{door}/card"
      format: json
      equipment: "{door}"
      only: [DR-S1]
      event: access
      id: "$.id"
      fields: {card: {path: "$.card", pii: hash}, result: {path: "$.ok", enum: {"1": granted}}}
      signals: {contact: {path: "$.contact", kind: state}}
"""
POINTS = "name,address,type,scale,unit,ip\npressure,100,uint16,0.001,MPa,127.0.0.1\n"


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Type a command; returns its exit code and what it prints."""
    code = run([*arguments, "--log", "error"])
    out, err = capsys.readouterr()
    return code, out + err


def test_models_are_listed_and_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """All models in one line each; one model with its signals, source, trust and requests; a wrong name is told."""
    code, text = typed(capsys, "models")
    assert code == 0
    assert {line.split()[0] for line in text.splitlines()} == set(ModelLibrary().names())
    code, text = typed(capsys, "models", "xintai_water_meter")
    assert code == 0
    assert "source: PouCon project" in text
    assert "flow                         holding:5 f32" in text
    assert "unit 1 FC3" in text
    code, text = typed(capsys, "models", "xintai_water_meta")
    assert code == 2
    assert "did you mean 'xintai_water_meter'?" in text
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.yaml").write_text("model: mine\nbase: 0\nsignals: {a: {at: 'holding:0'}}\n")
    assert "mine " in typed(capsys, "models", "--site", str(tmp_path))[1]


def test_check_echoes_addresses_as_on_the_wire(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Whoever counts from 1 or writes 40011 sees which register is really read; plain addresses are not repeated."""
    (tmp_path / "models").mkdir()
    (tmp_path / "gateways").mkdir()
    (tmp_path / "models" / "old.yaml").write_text(
        "model: old\nbase: 1\nsignals:\n  a: {at: 40011}\n  b: {at: 'input:5'}\n  c: {at: 'holding:3.4-6', type: u3}\n"
        "  d: {at: '10001'}\n"
    )
    (tmp_path / "models" / "plain.yaml").write_text(
        "model: plain\nbase: 0\nsignals: {a: {at: 'holding:3.0', type: bit}}\n"
    )
    file = tmp_path / "gateways" / "g.yaml"
    file.write_text(
        "gateway: {id: g, site: here}\nlinks: {l: {tcp: 10.0.0.1}}\ndevices:\n"
        "  x: {model: old, link: l, unit: 1, equipment: X-1}\n  y: {model: plain, link: l, unit: 2, equipment: X-2}\n"
    )
    code, text = typed(capsys, "check", str(file))
    assert code == 0
    assert text.splitlines()[1:] == [
        "x: a 40011 is holding:10 on the wire",
        "x: b input:5 is input:4 on the wire",
        "x: c holding:3.4-6 is holding:2.4-6 on the wire",
        "x: d 10001 is discrete:0 on the wire",
    ]


def test_an_import_can_be_planned_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What import writes passes check, and plan shows its requests."""
    (tmp_path / "points.csv").write_text(POINTS)
    code, text = typed(
        capsys, "import", str(tmp_path / "points.csv"), "--folder", str(tmp_path / "s"), "--site", "here"
    )
    assert code == 0
    file = tmp_path / "s" / "gateways" / "imported.yaml"
    assert f"wrote {file}" in text
    assert "unit 1 FC3 100..100, 1 regs" in typed(capsys, "plan", str(file))[1]


async def test_a_scan_finds_who_is_there() -> None:
    """Units that answer, also those that refuse the question, and nobody else."""

    def answer(request: Request) -> Answer:
        if request.unit == 3:
            return [77]
        return 2 if request.unit == 7 else SILENT

    said: list[str] = []
    for is_rtu in (False, True):
        async with device(answer, is_rtu=is_rtu) as bus:
            framing = "rtu" if is_rtu else "tcp"
            link = LinkConfig(name="s", kind="tcp", host="127.0.0.1", port=bus.port, framing=framing, timeout_s=0.05)  # type: ignore[arg-type]
            assert await scan_units(link, range(1, 10), say=said.append) == [3, 7]
            assert await scan_ports("127.0.0.1", [bus.port], timeout_s=5.0) == [bus.port]
    assert said[:2] == [
        "unit 3: is there (holding:0 = 77)",
        "unit 7: is there (holding:0 gives exception 2: illegal data address)",
    ]


@pytest.mark.parametrize("text", ["", "a", "5-", "0-300", "1-9999", "70000", "-4"])
def test_a_scan_is_bounded(text: str) -> None:
    """A slip of the finger does not ask sixty thousand ports."""
    with pytest.raises(ConfigError):
        parse_numbers(text, low=0, high=255, most=64)
    assert parse_numbers("1-3,9", low=0, high=255, most=64) == [1, 2, 3, 9]


def test_a_scan_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Ports of a converter; mistakes in words."""
    code, text = typed(capsys, "scan", "127.0.0.1", "--ports", "1-3")
    assert (code, text) == (0, "open: none of 3 ports\n")
    assert typed(capsys, "scan", "127.0.0.1", "--units", "0-900")[0] == 2
    assert typed(capsys, "scan", "127.0.0.1:1", "--units", "1")[0] == 1
    assert typed(capsys, "scan", "/dev/null", "--framing", "tcp")[0] == 2


def test_a_mapping_is_tried_on_a_sample(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Events and signals as they would be reported, cards hashed; a wrong topic shows what is subscribed to."""
    file, sample = tmp_path / "g.yaml", tmp_path / "sample.json"
    file.write_text(READER)
    sample.write_text(json.dumps({"id": 5, "card": "12345678", "ok": "1", "contact": 1}))
    code, text = typed(capsys, "test-mapping", str(file), str(sample), "--topic", "gate/DR-S1/card")
    assert code == 0
    assert "gate: takes this topic (door = DR-S1)" in text
    assert "signal DR-S1/contact = 1 (good)" in text
    assert "event access of DR-S1" in text
    assert '"result": "granted"' in text
    assert "12345678" not in text
    _, text = typed(capsys, "test-mapping", str(file), str(sample), "--topic", "gate/card")
    assert "no reader takes the topic" in text
    assert "gate: gate/DR-S1/card" in text
    config = load_gateway(file, models=ModelLibrary())
    assert "would be put aside" in "".join(try_mapping(config, "gate/DR-S1/card", b"no json", arrived_ms=0))


async def test_a_device_out_of_the_same_file(tmp_path: Path) -> None:
    """What simulate --from-config serves is what the gateway reads, TCP and RTU over TCP, every model we have."""
    names = [name for name in ModelLibrary().names() if name != "fire_panel_loops"]
    devices = "".join(
        f"  d{i}: {{model: {name}, link: {'a' if i % 2 else 'b'}, unit: {i + 1}, equipment: X-{i}}}\n"
        for i, name in enumerate(names)
    )
    path = tmp_path / "g.yaml"
    head = "gateway: {id: test, site: here, simulated: true}\nlinks:\n"
    path.write_text(
        f"{head}  a: {{tcp: '127.0.0.1:1'}}\n  b: {{tcp: '127.0.0.1:2', framing: rtu}}\ndevices:\n{devices}"
    )
    library = ModelLibrary()
    to_free = {"127.0.0.1:1": f"127.0.0.1:{_free()}", "127.0.0.1:2": f"127.0.0.1:{_free()}"}
    config = load_gateway(path, models=library, addresses=to_free)
    ready = asyncio.Event()
    serving = asyncio.create_task(run_from_config(config, on_ready=lambda _: ready.set()))
    await ready.wait()
    try:
        async with running(config, tmp_path) as (seen, _):
            keys = [device.key(s.name) for device in config.devices.values() for s in device.model.polled]
            await until(lambda: all(seen.last(key) for key in keys), "every signal", within_s=60)
            bad = {key for key in keys if (last := seen.last(key)) and last.quality != Quality.GOOD}
    finally:
        serving.cancel()
        await asyncio.wait([serving])
    assert not bad


def test_simulated_values_stay_in_their_range() -> None:
    """An hour of wandering: within the range, counters only grow, states are states the device knows."""
    from gateway.config import GatewayConfig, ModbusDevice

    devices = {
        name: ModbusDevice(name=name, link="l", unit=1, model=ModelLibrary().model(name), equipment=name.upper())
        for name in ("booster_plc", "elevator_gbt24476_b", "siemens_pac2200")
    }
    wander = Wander(GatewayConfig(id="g", site="s", path=Path("g.yaml"), devices=devices), seed=3)
    before = dict(wander.values)
    for _ in range(3600):
        wander.step()
    moved = 0
    for device_ in devices.values():
        for signal in device_.model.polled:
            key = device_.key(signal.name)
            low, high = limits(signal)
            moved += wander.values[key] != before[key]
            if signal.kind is Kind.COUNTER:
                assert wander.values[key] > before[key]
            elif signal.kind is Kind.MEASURE:
                assert low <= wander.values[key] <= high
            elif signal.texts:
                assert str(int(wander.values[key])) in signal.texts
    assert moved > len(wander.values) / 2


def test_simulate_wants_a_site_or_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither is a mistake that is told."""
    code, text = typed(capsys, "simulate")
    assert code == 2
    assert "give either a site folder or --from-config FILE" in text


def _free() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Gateway files, and the tools that check, plan and begin them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.check import check_gateway, check_gateways, library_for, plan_text, summary
from gateway.config import GatewayConfig, load_gateway, signals_of
from gateway.model import ModelLibrary
from gateway.scaffold import init_site
from watchroom.errors import ConfigError
from watchroom.signals import Kind, Lane
from watchroom.site import load_site

MODEL = """\
model: vfd
base: 0
groups: {fast: 500ms, slow: 30s}
signals:
  state:     {at: "holding:0.0", class: state, true: running, false: stopped}
  fault:     {at: "holding:8", class: alarm}
  frequency: {at: "holding:1", scale: 0.1, unit: Hz, deadband: 0.2}
  energy:    {at: "holding:40", type: u32, counter: true, group: slow, unit: kWh, max_silence: 5m}
"""
GATEWAY = """\
gateway: {id: pump-house, site: here, self: GW-03, simulated: true}
links:
  drives:  {tcp: 127.0.0.1:15021, timeout: 500ms}
  bus:     {serial: /dev/ttyUSB0, baud: 9600, parity: E, timeout: 400ms, gap: 30ms}
  readers: {mqtt: mqtt://reader@10.0.3.5, password_env: READERS_PASSWORD}
devices:
  drive-1: {model: vfd, link: drives, unit: 1, equipment: WP-01, prefix: p1_}
  drive-2: {model: vfd, link: drives, unit: 2, equipment: WP-01, prefix: p2_, set: {groups.fast: 100ms}}
  sump:    {model: vfd, link: bus, unit: 1, equipment: SP-01, place: under the stairs}
  door-io:
    link: readers
    mqtt: {topic: "door/{door}/io", equipment: "{door}", only: [DR-S1], signals: {contact: {kind: state}}}
"""


def load(folder: Path, text: str = GATEWAY, **addresses: str) -> GatewayConfig:
    (folder / "vfd.yaml").write_text(MODEL)
    path = folder / "pump-house.yaml"
    path.write_text(text)
    return load_gateway(path, models=ModelLibrary(folder), addresses=addresses)


def test_the_signals_of_a_birth(tmp_path: Path) -> None:
    """Aliases count from 0 in the order of the file; the gateway's own signals come last."""
    specs = signals_of(load(tmp_path))
    assert [spec.alias for spec in specs] == list(range(len(specs)))
    assert [spec.key for spec in specs][:5] == [
        "WP-01/p1_state",
        "WP-01/p1_fault",
        "WP-01/p1_frequency",
        "WP-01/p1_energy",
        "WP-01/p2_state",
    ]
    by_key = {spec.key: spec for spec in specs}
    assert [*by_key][-4:] == ["GW-03/outbox_frames", "GW-03/outbox_bytes", "GW-03/links_down", "GW-03/loss_count"]
    assert by_key["WP-01/p1_state"].lane == by_key["WP-01/p1_fault"].lane == by_key["DR-S1/contact"].lane == Lane.URGENT
    frequency, energy = by_key["WP-01/p1_frequency"], by_key["WP-01/p1_energy"]
    assert (frequency.kind, frequency.unit, frequency.deadband, frequency.lane) == (
        Kind.MEASURE,
        "Hz",
        0.2,
        Lane.TELEMETRY,
    )
    assert (energy.kind, energy.modulus, energy.max_silence_s) == (Kind.COUNTER, 2.0**32, 300.0)


def test_links_as_written(tmp_path: Path) -> None:
    """TCP, a serial line and a broker, each with its own defaults."""
    config = load(tmp_path)
    drives, bus, readers = (config.links[name] for name in ("drives", "bus", "readers"))
    assert (drives.kind, drives.host, drives.port, drives.timeout_s, drives.framing) == (
        "tcp",
        "127.0.0.1",
        15021,
        0.5,
        "tcp",
    )
    assert (bus.kind, bus.host, bus.framing, bus.baud, bus.parity, bus.settle_s) == (
        "serial",
        "/dev/ttyUSB0",
        "rtu",
        9600,
        "E",
        0.8,
    )
    assert (readers.host, readers.port, readers.username, readers.password_env) == (
        "10.0.3.5",
        1883,
        "reader",
        "READERS_PASSWORD",
    )
    assert config.is_simulated


def test_addresses_can_be_moved(tmp_path: Path) -> None:
    """When a port of the demo is taken, the whole file stays as it is and only the address changes."""
    config = load(tmp_path, **{"127.0.0.1:15021": "127.0.0.1:40000", "10.0.3.5": "127.0.0.1:40001"})
    assert (config.links["drives"].port, config.links["readers"].port) == (40000, 40001)


def changed(old: str, new: str) -> str:
    assert old in GATEWAY
    return GATEWAY.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            changed("timeout: 500ms", "timeuot: 500ms"),
            "pump-house.yaml:3: links.drives.timeuot: unknown key (did you mean 'timeout'?)",
        ),
        (changed("timeout: 500ms", "timeout: soon"), "links.drives.timeout: expected a duration such as 500ms"),
        (changed("127.0.0.1:15021", "127.0.0.1:99999"), "links.drives.tcp: '127.0.0.1:99999' is not host:port"),
        (
            changed("mqtt://reader@10.0.3.5", "http://10.0.3.5"),
            "links.readers.mqtt: 'http://10.0.3.5' is not mqtt://host:port",
        ),
        (changed("reader@", "reader:secret@"), "links.readers.mqtt: no passwords in this file (password_env:"),
        (
            changed("serial: /dev/ttyUSB0", "tcp: 127.0.0.1:15021"),
            "127.0.0.1:15021 is already the link 'drives' (one link for one wire",
        ),
        (
            changed("serial: /dev/ttyUSB0", "serial: /dev/ttyUSB0, tcp: 'a:1'"),
            "links.bus: a link is one of tcp:, serial:, listen: or mqtt: (found tcp and serial)",
        ),
        (
            changed("model: vfd, link: drives, unit: 1", "model: vdf, link: drives, unit: 1"),
            "pump-house.yaml:7: devices.drive-1.model: there is no model 'vdf' (did you mean 'vfd'?)",
        ),
        (
            changed("link: drives, unit: 1", "link: drive, unit: 1"),
            "devices.drive-1.link: there is no link 'drive' (did you mean 'drives'?)",
        ),
        (changed("unit: 2", "unit: 1"), "devices.drive-2.unit: unit 1 on link 'drives' is already 'drive-1'"),
        (
            changed("unit: 2, ", ""),
            "devices.drive-2.unit: this key is missing (a Modbus device has model, unit and equipment)",
        ),
        (changed("unit: 2", "unit: 300"), "devices.drive-2.unit: "),
        (
            changed("prefix: p2_", "prefix: p1_"),
            "signal WP-01/p1_state is already in 'drive-1' (give the device a prefix:",
        ),
        (changed("prefix: p2_", "prefix: P2"), "devices.drive-2.prefix: "),
        (
            changed("groups.fast", "groups.fats"),
            "devices.drive-2.set: model vfd has no group 'fats' (did you mean 'fast'?)",
        ),
        (changed("equipment: SP-01", "equipment: SP 01"), "devices.sump.equipment: 'SP 01' is not an equipment id"),
        (changed("  sump:", "  drive-1:"), "pump-house.yaml:9: devices.drive-1: this key stands here twice"),
        (
            changed("    link: readers\n", "    link: readers\n    unit: 1\n"),
            "devices.door-io.unit: this key is for other devices",
        ),
        (changed("link: readers", "link: drives"), "devices.door-io.mqtt: link 'drives' carries Modbus, not messages"),
        (changed("id: pump-house", "id: Pump House"), "gateway.id: "),
        ("gateway: {id: a, site: b\n", "not valid YAML"),
    ],
)
def test_at_two_in_the_morning(tmp_path: Path, text: str, says: str) -> None:
    """Every slip in a gateway file gives file, line, key, and what was expected."""
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        load(tmp_path, text)
    assert "pump-house.yaml:" in str(caught.value)


def test_an_error_in_a_model_points_at_the_model(tmp_path: Path) -> None:
    """A slip in the register map is shown in the register map, not in the gateway file that uses it."""
    (tmp_path / "vfd.yaml").write_text(MODEL.replace("scale: 0.1", "scael: 0.1"))
    path = tmp_path / "pump-house.yaml"
    path.write_text(GATEWAY)
    (problem,) = check_gateway(path, models=ModelLibrary(tmp_path))
    assert problem.endswith("vfd.yaml:7: signals.frequency.scael: unknown key (did you mean 'scale'?)")


def test_the_plan_names_every_request(tmp_path: Path) -> None:
    """What will be sent is known before anything is sent."""
    text = plan_text(load(tmp_path))
    assert "link drives (127.0.0.1:15021)" in text
    assert "  drive-1 (vfd, WP-01): 2 requests, 2.03333/s" in text
    assert "    unit 1 FC3 0..8, 9 regs, 6 unused, every 500ms, 3 signals" in text
    assert "    unit 2 FC3 0..8, 9 regs, 6 unused, every 100ms, 3 signals" in text
    assert "  door-io: subscribes to door/DR-S1/io" in text


def test_a_serial_line_with_too_much_to_do(tmp_path: Path) -> None:
    """The check calculates what a slow line cannot carry before somebody waits for values in vain."""
    load(tmp_path)
    text = GATEWAY.replace("place: under the stairs", "set: {groups.fast: 20ms}")
    (tmp_path / "pump-house.yaml").write_text(text)
    (problem,) = check_gateway(tmp_path / "pump-house.yaml", models=ModelLibrary(tmp_path))
    assert "links.bus: at 9600 baud the requests take" in problem


def test_a_new_site_is_right_from_the_start(tmp_path: Path) -> None:
    """`init`, then `check`: nothing to complain about, and one device to point at a real one."""
    folder = tmp_path / "court"
    files = init_site("my-court", folder)
    assert {path.relative_to(folder).as_posix() for path in files} >= {"site.yaml", "gateways/first.yaml", "rules.yaml"}
    site = load_site(folder)
    assert check_gateways(site.gateway_files, models=library_for(folder), site=site) == []
    config = load_gateway(folder / "gateways" / "first.yaml", models=library_for(folder))
    assert summary(config).startswith("first.yaml: gateway first, 1 links, 1 Modbus devices")
    assert "unit 1 FC3" in plan_text(config)


def test_init_touches_nothing_that_exists(tmp_path: Path) -> None:
    """A second `init` in the same folder refuses, and leaves the edited files alone."""
    init_site("my-court", tmp_path)
    (tmp_path / "site.yaml").write_text("edited")
    with pytest.raises(ConfigError, match=r"site.yaml: this file exists already"):
        init_site("my-court", tmp_path)
    assert (tmp_path / "site.yaml").read_text() == "edited"
    with pytest.raises(ConfigError, match="'My Court' is not a site id"):
        init_site("My Court", tmp_path / "other")


def test_check_compares_with_the_site(tmp_path: Path) -> None:
    """Equipment that the site does not know, and signals that two gateways report, are found."""
    init_site("my-court", tmp_path)
    site = load_site(tmp_path)
    first = tmp_path / "gateways" / "first.yaml"
    text = first.read_text()
    first.write_text(text.replace("PM-01", "PM-O1"))
    (problem,) = check_gateways([first], models=library_for(tmp_path), site=site)
    assert problem.endswith("equipment 'PM-O1' is not in equipment.yaml (did you mean 'PM-01'?)")
    first.write_text(text)
    second = tmp_path / "gateways" / "second.yaml"
    second.write_text(text.replace("id: first", "id: second").replace(", self: GW-01", ""))
    problems = check_gateways([first, second], models=library_for(tmp_path), site=site)
    assert any("signal PM-01/power is already reported by gateway 'first'" in line for line in problems)


def test_the_example_compound_is_right() -> None:
    """Spruce Court, as it is shipped, has nothing to complain about."""
    folder = Path(__file__).parents[2] / "sites" / "spruce-court"
    site = load_site(folder)
    assert site.gateway_files
    assert check_gateways(site.gateway_files, models=library_for(folder), site=site) == []

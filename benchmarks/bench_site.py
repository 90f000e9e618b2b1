"""The compound that ``first_light`` measures: one sump with a float, 1,000 other signals, one door over MQTT."""

from __future__ import annotations

from pathlib import Path

MACHINES = 20
SIGNALS_EACH = 50
FLOAT = "SP-01/float_high"
CONTACT_ROW = "door.tamper|DR-01|"

_SITE = """\
site: {id: bench, name: {zh: 测试, en: Bench}}
places:
  YARD: {kind: area, name: {zh: 场地, en: Yard}, outline: [[0, 0], [50, 0], [50, 50], [0, 50]]}
"""
_RULES = """\
overrides:
  SP-01: {float.high: {on_delay: 0s, off_delay: 0s}}
"""
_TRIGGER = """\
model: bench_trigger
name: {zh: 浮球, en: Float}
source: made for the benchmark
trust: simulated only
base: 0
groups: {fast: 100ms}
signals:
  float_high: {at: "discrete:0", type: bit, class: alarm, group: fast}
"""
_BLOCK = """\
model: bench_block
name: {zh: 数据块, en: Block}
source: made for the benchmark
trust: simulated only
base: 0
order: ABCD
groups: {slow: 1s}
signals:
  "v{n}":
    repeat: {n: 1..50}
    at: "holding:{(n-1)*2}"
    type: f32
    group: slow
"""


def write_site(folder: Path, *, modbus_port: int, mqtt_port: int) -> Path:
    """Write the site and return its gateway file."""
    equipment = [
        "SP-01: {type: sump, place: YARD, name: {zh: 集水井, en: Sump}, rated: {pumps: 0}}",
        "DR-01: {type: door, place: YARD, name: {zh: 门, en: Door}}",
        "GW-01: {type: gateway, place: YARD, name: {zh: 网关, en: Gateway}, gateway: bench}",
    ]
    devices = ["  trigger: {model: bench_trigger, link: plc, unit: 1, equipment: SP-01}"]
    for number in range(1, MACHINES + 1):
        name = f"M-{number:02d}"
        equipment.append(f"{name}: {{type: machine, place: YARD, name: {{zh: 机器, en: Machine}}}}")
        devices.append(f"  block-{number}: {{model: bench_block, link: plc, unit: {number + 1}, equipment: {name}}}")
    gateway = [
        "gateway: {id: bench, site: bench, self: GW-01, simulated: true}",
        "links:",
        f"  plc: {{tcp: 127.0.0.1:{modbus_port}, timeout: 1s}}",
        f"  readers: {{mqtt: mqtt://127.0.0.1:{mqtt_port}}}",
        "devices:",
        *devices,
        "  door-io:",
        "    link: readers",
        '    mqtt: {topic: "door/{door}/io", format: json, equipment: "{door}", only: [DR-01], '
        'signals: {tamper: {path: "$.tamper", kind: state, class: alarm}}}',
    ]
    files = {
        "site.yaml": _SITE,
        "equipment.yaml": "\n".join(equipment) + "\n",
        "rules.yaml": _RULES,
        "models/bench_trigger.yaml": _TRIGGER,
        "models/bench_block.yaml": _BLOCK,
        "gateways/bench.yaml": "\n".join(gateway) + "\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "gateways" / "bench.yaml"

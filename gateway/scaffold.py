"""A new site to start from: six small files with comments, and a first Modbus device to point at a real one."""

from __future__ import annotations

import re
from pathlib import Path

from watchroom.errors import ConfigError

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")

_FILES = {
    "site.yaml": """\
# The compound: its clock, and its tree of places.
site:
  id: {id}                       # in topics and file names; never change it once data has been recorded
  name: {{zh: {id}, en: {id}}}
  zone: Asia/Shanghai            # IANA zone of shift rules and reports
  city_rescue_min: 30            # minutes allowed to reach a trapped passenger
places:
  PLANT: {{kind: plant_room, name: {{zh: 配电间, en: Electrical room}}}}
  # B1:    {{kind: building, name: {{zh: 1号楼, en: Building 1}}, floors: {{below: 1, above: 18}}}}
  # B1-U1: {{kind: unit, in: B1}}
""",
    "equipment.yaml": """\
# Every piece of equipment: id as maintenance writes it, type (it decides signals, alarms and tickets), place.
PM-01: {{type: meter, place: PLANT, name: {{zh: 总电表, en: Main meter}}}}
GW-01: {{type: gateway, place: PLANT, name: {{zh: 网关 1, en: Gateway 1}}, gateway: first}}
""",
    "gateways/first.yaml": """\
# The first gateway. Edit the host and the unit, then:
#   watchroom check {folder}                             says what is wrong, with file, line and nearest key
#   watchroom plan {folder}/gateways/first.yaml          shows the exact requests
#   watchroom probe {folder}/gateways/first.yaml meter   reads the device once, in every byte order
gateway: {{id: first, site: {id}, self: GW-01}}
links:
  lan: {{tcp: 192.0.2.10:502, timeout: 1s}}            # <- host:port of your device or converter
  # rtu telegrams over TCP:  {{tcp: 192.0.2.11:8899, framing: rtu, timeout: 800ms}}
  # a serial line:           {{serial: /dev/ttyUSB0, baud: 9600, parity: N, timeout: 400ms, gap: 30ms}}
devices:
  meter: {{model: first_device, link: lan, unit: 1, equipment: PM-01}}
""",
    "models/first_device.yaml": """\
# Register map of one kind of device; signals are table:offset. Replace the numbers by those of your manual.
model: first_device
source: written by watchroom init
trust: none, a pattern to edit
base: 0                  # 0: offsets as on the wire; 1: the manual counts from 1 (40001 style also works: at: 40001)
order: ABCD              # of 32-bit values; watchroom probe shows which one is right
groups: {{fast: 1s, slow: 10s}}
signals:
  voltage_a: {{at: "holding:0", type: u16, scale: 0.1, unit: V, deadband: 0.5, range: [0, 500]}}
  current_a: {{at: "holding:1", type: u16, scale: 0.01, unit: A, deadband: 0.05}}
  power:     {{at: "holding:2", type: i32, scale: 0.001, unit: kW, deadband: 0.05}}
  energy:    {{at: "holding:4", type: u32, scale: 0.01, unit: kWh, group: slow, counter: true}}
""",
    "rules.yaml": """\
# Changes to the rules that come with each type of equipment, and rules of your own.
overrides: {{}}
#  PM-01: {{transformer_load.high: {{limit: {{H: 80, HH: 95}}}}}}
rules: {{}}
""",
    "people.yaml": """\
# Who works here; no passwords, accounts live in the database (watchroom user).
zhang.wg: {{name: {{zh: 张工, en: Zhang}}, role: technician}}
li.jk:    {{name: {{zh: 李师傅, en: Li}}, role: guard}}
""",
    "channels.yaml": """\
# Where messages go. Addresses are secrets: they stand in environment variables that are named here.
# duty: {{url_env: WATCHROOM_DUTY_URL, ticket_types: [patrol, repair], priority: 2, lang: zh}}
{{}}
""",
}


def init_site(name: str, folder: Path) -> list[Path]:
    """Write a minimal site and return its files.

    Args:
        name: Id of the site: lower case letters, digits, -.
        folder: Made if it does not exist; files that exist are never touched.

    Raises:
        ConfigError: If the name is no id, or one of the files exists already.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not a site id", hint="lower case letters, digits and -, for example my-court")
    paths = {folder / relative: text.format(id=name, folder=folder) for relative, text in _FILES.items()}
    for path in paths:
        if path.exists():
            raise ConfigError("this file exists already", path=path, hint="give another folder")
    for path, text in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(paths)

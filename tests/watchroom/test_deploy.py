"""The container files: valid compose, no passwords, least privilege."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from watchroom.cli import _parser

ROOT = Path(__file__).parents[2]


def test_compose_file_is_valid() -> None:
    """docker-compose.yml follows the Compose specification's JSON schema."""
    arguments = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(ROOT / "docker-compose.yml")]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_has_the_parts_and_profiles() -> None:
    """The centre starts alone; gateway and simulators only in profile demo."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert set(services) == {"mosquitto", "influxdb", "watchroom", "gateway", "simulators"}
    demo = {name for name, service in services.items() if service.get("profiles") == ["demo"]}
    assert demo == {"gateway", "simulators"}


def test_no_password_has_a_default() -> None:
    """Every secret must be set by the operator: the variable form refuses to start without it."""
    for service in yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values():
        for key, value in service.get("environment", {}).items():
            if key.endswith(("PASSWORD", "TOKEN")):
                assert str(value).endswith(":?set it in .env}"), key


@pytest.mark.parametrize("user", ["pump-house", "readers"])
def test_only_the_centre_acknowledges(user: str) -> None:
    """A gateway that could write `ack` could make the outbox of another forget its records."""
    text = (ROOT / "deploy" / "mosquitto.acl").read_text()
    rights = next(part for part in text.split("user ")[1:] if part.startswith(user + "\n"))
    writes = [line.split()[2] for line in rights.splitlines() if line.startswith("topic write")]
    assert writes
    assert not any(topic.endswith(("/ack", "/want", "/cmd", "#")) and topic.startswith("wr1") for topic in writes)


def test_demo_containers_find_each_other() -> None:
    """Every address in the demo's gateway file is mapped for the gateway and for the simulators that listen there."""
    gateway = json.loads((ROOT / "deploy" / "addresses.gateway.json").read_text())
    simulators = json.loads((ROOT / "deploy" / "addresses.simulators.json").read_text())
    text = "".join(path.read_text() for path in (ROOT / "sites" / "spruce-court" / "gateways").glob("*.yaml"))
    modbus = set(re.findall(r"tcp: ([0-9.]+:\d+)", text))
    assert modbus == set(simulators) == set(gateway) - {"127.0.0.1:1883"}
    assert all(value.startswith("simulators:") for key, value in gateway.items() if key in modbus)


@pytest.mark.parametrize("unit", sorted((ROOT / "deploy" / "systemd").iterdir()), ids=lambda path: path.name)
def test_systemd_units_restart_and_keep_secrets_in_files(unit: Path) -> None:
    """A service comes back by itself, has no rights it does not need, and shows no secret on the process list."""
    keys = [line.partition("=") for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#")]
    values = {key: value for key, _, value in keys}
    assert values["Restart"] == "always"
    assert (values["NoNewPrivileges"], values["ProtectSystem"], values["DynamicUser"]) == ("yes", "strict", "yes")
    named = [item for key, _, value in keys if key == "Environment" for item in value.split()]
    assert named
    assert all(item.partition("=")[0].endswith("_FILE") and "=%d/" in item for item in named)
    command = values["ExecStart"].split()
    assert _parser().parse_args(command[1:]).handler is not None

"""The reference pages say what the code accepts, and every setting a document names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from watchroom.serve.reference import DOCS, settings_page, site_files_page, write
from watchroom.settings import HttpSettings, IngestSettings, KeepSettings, MqttSettings, Settings, WatchSettings

ROOT = Path(__file__).parents[2]
BUILD = {"WATCHROOM_SKIP_WEB", "WATCHROOM_NODE"}
VARIABLES = set(re.findall(r"^\| `(WATCHROOM_\w+)` \|", settings_page(), re.MULTILINE))


@pytest.mark.parametrize("name", ["settings.md", "site-files.md"])
def test_the_pages_are_up_to_date(name: str, tmp_path: Path) -> None:
    """Whoever changes a key or setting makes the page again: python -m watchroom.serve.reference."""
    write(tmp_path)
    stale = (DOCS / name).read_text(encoding="utf-8") != (tmp_path / name).read_text(encoding="utf-8")
    assert not stale, f"docs/{name} is stale; run  python -m watchroom.serve.reference"


@pytest.mark.parametrize("model", [Settings, MqttSettings, HttpSettings, IngestSettings, KeepSettings])
def test_every_setting_is_explained(model: type[BaseModel]) -> None:
    """Each setting has a sentence about what it does."""
    silent = [
        name
        for name, field in model.model_fields.items()
        if not field.description and not isinstance(field.default, BaseModel)
    ]
    assert silent == []


def test_the_page_of_settings_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the page, put into the environment, changes the setting."""
    models = (Settings, MqttSettings, HttpSettings, IngestSettings, KeepSettings, WatchSettings)
    assert len(VARIABLES) == sum(len(model.model_fields) for model in models) - 5
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WATCHROOM_MQTT__CA_FILE", "/etc/ca.pem")
    monkeypatch.setenv("WATCHROOM_STORE_TOKEN", "a secret")
    settings = Settings()
    assert settings.mqtt.ca_file == Path("/etc/ca.pem")
    assert settings.store_token is not None
    assert {"WATCHROOM_MQTT__CA_FILE", "WATCHROOM_STORE_TOKEN"} <= VARIABLES
    assert "| `WATCHROOM_STORE_TOKEN` | secret text |" in settings_page()


@pytest.mark.parametrize("file", ["README.md", "README.zh-CN.md"])
def test_documents_name_only_settings_that_exist(file: str) -> None:
    """No document tells of a variable that nothing reads."""
    text = (ROOT / file).read_text(encoding="utf-8")
    named = set(re.findall(r"\bWATCHROOM_[A-Z][A-Z_]*[A-Z]\b", text))
    assert named - VARIABLES - BUILD == set()
    for suffix in re.findall(r"`(?:\.\.\.)?(_{1,2}[A-Z_]+)`", text):
        assert any(variable.endswith(suffix) for variable in VARIABLES), suffix


def test_containers_get_only_settings_that_exist() -> None:
    """A misspelt variable in docker-compose.yml would be silently ignored by the service."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    given = {name for service in services.values() for name in service.get("environment", {})}
    ours = {name for name in given if name.startswith("WATCHROOM_")}
    assert len(ours) > 5
    assert ours <= VARIABLES


def test_the_page_of_site_files_has_what_an_integrator_asks() -> None:
    """Names as they are written in YAML (class, in, self), ranges, durations and choices."""
    page = site_files_page()
    for line in (
        "| `in` | text |  | Id of the parent place |",
        "| `self` | text |  | Equipment id of the gateway's own signals |",
        "| `unit` | whole number, 0 to 255 |  | Modbus unit id |",
        "| `heartbeat` | duration, 0.2 to 60 | `1.0` | Time between heartbeat frames |",
        "| `base` | `0`, `1` | required | 0: offsets as on the wire; 1: the maker counts from 1 |",
    ):
        assert line in page
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    assert len(headings) == len(set(headings)), "a heading stands twice: links to it are ambiguous"


def test_every_link_of_the_page_of_site_files_leads_somewhere() -> None:
    """Each type named in a table has a section of its own."""
    page = site_files_page()
    sections = {heading.lower() for heading in re.findall(r"^### (\w+)$", page, re.MULTILINE)}
    linked = set(re.findall(r"\]\(#(\w+)\)", page))
    assert len(linked) > 10
    assert linked <= sections

"""Secrets from files, as containers and systemd hand them over."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchroom.errors import ConfigError
from watchroom.settings import SECRETS, Settings


def secret_of(settings: Settings, name: str) -> str:
    found: object = settings
    for part in name.lower().split("__"):
        found = getattr(found, part)
    return found.get_secret_value()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_stand_in_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every secret can be kept off the process list; the line end of the file is not part of it."""
    (tmp_path / "secret").write_text("s3cret of the box\n")
    monkeypatch.setenv(f"WATCHROOM_{name}_FILE", str(tmp_path / "secret"))
    assert secret_of(Settings(), name) == "s3cret of the box"


def test_the_variable_itself_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment over file, and one does not hide its neighbours."""
    (tmp_path / "secret").write_text("from the file")
    monkeypatch.setenv("WATCHROOM_MQTT__PASSWORD_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("WATCHROOM_MQTT__HOST", "broker.example")
    settings = Settings()
    assert (settings.mqtt.host, secret_of(settings, "MQTT__PASSWORD")) == ("broker.example", "from the file")
    monkeypatch.setenv("WATCHROOM_MQTT__PASSWORD", "from the variable")
    assert secret_of(Settings(), "MQTT__PASSWORD") == "from the variable"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No service starts without the secret it was told to use."""
    monkeypatch.setenv("WATCHROOM_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="nowhere: WATCHROOM_KEY_FILE: cannot read the secret"):
        Settings()
    (tmp_path / "nowhere").write_text("\n")
    with pytest.raises(ConfigError, match="the file is empty"):
        Settings()

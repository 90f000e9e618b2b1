"""Settings of a process: command line, then environment ``WATCHROOM_...``, then the default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from watchroom.errors import ConfigError

PREFIX = "WATCHROOM_"
SECRETS = ("KEY", "STORE_TOKEN", "ADMIN_PASSWORD", "MQTT__PASSWORD", "WATCH__BEACON_URL", "WATCH__DEADMAN_URL")
"""Each of these may stand in a file instead: WATCHROOM_KEY_FILE=/run/secrets/key."""


class MqttSettings(BaseModel):
    """How to reach the backbone broker."""

    host: str = Field(default="127.0.0.1", description="Broker host")
    port: int = Field(default=1883, ge=1, le=65535, description="Broker port")
    username: str | None = Field(default=None, description="User name at the broker")
    password: SecretStr | None = Field(default=None, description="Password at the broker")
    protocol: Literal["auto", "5", "3.1.1"] = Field(
        default="auto", description="MQTT version; auto tries 5 first and costs seconds where a broker knows only 3.1.1"
    )
    tls: bool = Field(default=False, description="Speak TLS to the broker")
    ca_file: Path | None = Field(default=None, description="CA certificate for TLS; the system's store if empty")
    cert_file: Path | None = Field(default=None, description="Certificate by which the broker knows us (PEM)")
    cert_key_file: Path | None = Field(
        default=None, description="Private key of that certificate (PEM); empty if the same file holds it"
    )


class HttpSettings(BaseModel):
    """Where the pages are served."""

    host: str = Field(default="127.0.0.1", description="Address the dashboard listens on")
    port: int = Field(default=8080, ge=1, le=65535, description="Port of the dashboard")
    public_url: str | None = Field(default=None, description="URL that people use, for links in messages")
    tls_cert: Path | None = Field(default=None, description="Certificate chain (PEM); with tls_key turns on HTTPS")
    tls_key: Path | None = Field(default=None, description="Private key (PEM)")


class WatchSettings(BaseModel):
    """What watches without a browser, and who watches Watchroom."""

    beacon_url: SecretStr | None = Field(
        default=None, description="Gets POST {site, on, alarms, time_ms} while a priority 1 waits: a beacon or siren"
    )
    deadman_url: SecretStr | None = Field(
        default=None, description="Called by GET every 30 s while all is well; its silence is an alarm for others"
    )
    heartbeat_file: Path | None = Field(
        default=None, description="Written every 5 s while all is well; file heartbeat in the data folder if empty"
    )


class IngestSettings(BaseModel):
    """How much one gateway may send; what is more is left out until it sends it again. Urgent frames always pass."""

    messages_per_s: float = Field(
        default=1000.0, gt=0, description="Messages a second one gateway may send; ten seconds' worth at once"
    )
    kbytes_per_s: float = Field(
        default=8192.0, gt=0, description="KiB a second one gateway may send; ten seconds' worth at once"
    )


class KeepSettings(BaseModel):
    """How long data is kept, in days; 0 keeps it for ever. Alarms and tickets are always kept."""

    raw_days: float = Field(
        default=90.0, ge=0, description="Days samples are kept; VictoriaMetrics has its own -retentionPeriod"
    )
    minute_days: float = Field(default=730.0, ge=0, description="Days the roll-ups of a minute are kept (DuckDB)")
    hour_days: float = Field(default=3650.0, ge=0, description="Days the roll-ups of an hour are kept")
    access_days: float = Field(default=180.0, ge=0, description="Days the access log is kept: who, which door, when")
    event_days: float = Field(default=730.0, ge=0, description="Days other events are kept: panel texts, operations")
    command_days: float = Field(default=730.0, ge=0, description="Days it is kept who asked for what, once applied")
    message_days: float = Field(default=180.0, ge=0, description="Days sent messages are kept")
    audit_days: float = Field(default=1095.0, ge=0, description="Days sign-ins and account changes are kept")


class Settings(BaseSettings):
    """Settings shared by the services of one box."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True, extra="ignore"
    )

    data: Path = Field(default=Path("watchroom-data"), description="Folder for journal, databases and outboxes")
    database: str | None = Field(
        default=None, description="SQLAlchemy URL of alarms and tickets; SQLite in the data folder if empty"
    )
    store: str = Field(
        default="duckdb",
        description="History store: duckdb, victoria://HOST:PORT (VictoriaMetrics started with "
        "-dedup.minScrapeInterval=1ms), or influxdb://HOST:PORT/ORG/BUCKET; victorias:// and influxdbs:// for HTTPS",
    )
    store_token: SecretStr | None = Field(default=None, description="Token of the history store, if it wants one")
    admin_password: SecretStr | None = Field(
        default=None, description="Password of the first account 'admin'; without it a one-time link is printed"
    )
    key: SecretStr | None = Field(
        default=None, description="Key for hashing card numbers and persons; made and kept in the data folder if empty"
    )
    log: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least severe level logged")
    demo: bool = Field(default=False, description="Offer the scenario buttons; set by 'watchroom up'")
    watch: WatchSettings = WatchSettings()
    mqtt: MqttSettings = MqttSettings()
    http: HttpSettings = HttpSettings()
    keep: KeepSettings = KeepSettings()
    ingest: IngestSettings = IngestSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then files the environment names."""
        return init_settings, env_settings, SecretFiles(settings_cls)

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the SQL database."""
        return self.database or f"sqlite:///{self.data / 'watchroom.sqlite'}"

    @property
    def public_url(self) -> str:
        """URL of the pages, without a slash at its end."""
        scheme = "https" if self.http.tls_cert else "http"
        host = "127.0.0.1" if self.http.host in {"0.0.0.0", "::"} else self.http.host
        return (self.http.public_url or f"{scheme}://{host}:{self.http.port}").rstrip("/")


class SecretFiles(PydanticBaseSettingsSource):
    """Secrets in files, as containers and systemd hand them over: they show on no process list."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Not used: all secrets are read at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the secrets whose files the environment names.

        Raises:
            ConfigError: If a file cannot be read or is empty.
        """
        found: dict[str, Any] = {}
        for name in SECRETS:
            variable = f"{PREFIX}{name}_FILE"
            if not os.environ.get(variable):
                continue
            place = found
            *outer, last = name.lower().split("__")
            for key in outer:
                place = place.setdefault(key, {})
            place[last] = _secret(variable, Path(os.environ[variable]))
        return found


def _secret(variable: str, path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise ConfigError(f"cannot read the secret: {reason}", path=path, key=variable) from exc
    if not text:
        raise ConfigError("the file is empty", path=path, key=variable, hint="one line with the secret")
    return text

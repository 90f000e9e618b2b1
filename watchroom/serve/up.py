"""``watchroom up``: a whole simulated compound on one machine, with nothing but Python."""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gateway.check import library_for
from gateway.config import load_gateway
from watchroom.errors import ConfigError
from watchroom.serve.broker import PASSWORD_VARIABLE, USER
from watchroom.serve.ports import free_port, require_free
from watchroom.serve.supervisor import Child, supervise
from watchroom.settings import Settings
from watchroom.site import Site, load_site

MQTT_PORT = 1883


def lock_data(folder: Path) -> IO[str]:
    """Take the data folder for this process alone; the lock ends with the process.

    Raises:
        ConfigError: If another Watchroom uses the folder, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as exc:
        raise ConfigError(f"cannot use the data folder: {exc}", path=folder, hint="choose another with --data") from exc
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        file.close()
        raise ConfigError(
            "another Watchroom is running on this data folder",
            path=folder,
            hint="stop it, or choose another with --data",
        ) from exc
    return file


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What the simulated equipment does.

    Attributes:
        speed: Simulated seconds a second.
        day_from_s: Where the simulated day begins, seconds since midnight.
    """

    scenario: str
    seed: int
    speed: float
    day_from_s: float

    def arguments(self) -> list[str]:
        """Return the options of ``watchroom simulate``."""
        hours, minutes = divmod(int(self.day_from_s) // 60, 60)
        options = {
            "scenario": self.scenario,
            "seed": self.seed,
            "speed": self.speed,
            "day-from": f"{hours}:{minutes:02d}",
        }
        return [word for name, value in options.items() for word in (f"--{name}", str(value))]


async def run_up(folder: Path, settings: Settings, play: Play) -> int:
    """Start broker, engine, dashboard, simulators and gateways of a simulated site; return the exit code.

    Raises:
        ConfigError: If a file, port or folder is not usable.
    """
    site = load_site(folder)
    require_free(settings.http.host, settings.http.port, option="--port")
    with lock_data(settings.data):
        mqtt_port = free_port("127.0.0.1", MQTT_PORT)
        addresses = _addresses(site, mqtt_port)
        addresses_file = settings.data / "addresses.json"
        addresses_file.write_text(json.dumps(addresses, indent=1))
        environment = _environment(settings, mqtt_port)
        shared = ["--data", str(settings.data)]
        simulate = ["simulate", str(folder), *play.arguments()]
        children = [
            Child(name="broker", arguments=["broker", "--port", str(mqtt_port)], environment=environment),
            *serve_children(folder, settings, environment=environment),
            Child(
                name="simulators",
                arguments=[*simulate, "--addresses", str(addresses_file), *shared],
                environment=environment,
            ),
            Child(
                name="gateways",
                arguments=["gateway", *map(str, site.gateway_files), "--addresses", str(addresses_file), *shared],
                environment=environment,
            ),
        ]
        return await supervise(children)


async def run_serve(folder: Path, settings: Settings) -> int:
    """Run engine and dashboard of one site against a broker that is there; return the exit code."""
    load_site(folder)
    require_free(settings.http.host, settings.http.port, option="--port")
    with lock_data(settings.data):
        return await supervise(serve_children(folder, settings, environment={}))


def serve_children(folder: Path, settings: Settings, *, environment: dict[str, str]) -> Sequence[Child]:
    """Return the two processes of the centre; a page can never stop an alarm."""
    place = ["--data", str(settings.data)]
    listen = ["--host", settings.http.host, "--port", str(settings.http.port)]
    return [
        Child(name="engine", arguments=["engine", str(folder), *place], environment=environment),
        Child(name="dashboard", arguments=["dashboard", str(folder), *place, *listen], environment=environment),
    ]


def _environment(settings: Settings, mqtt_port: int) -> dict[str, str]:
    return {
        "WATCHROOM_MQTT__HOST": "127.0.0.1",
        "WATCHROOM_MQTT__PORT": str(mqtt_port),
        "WATCHROOM_MQTT__PROTOCOL": "3.1.1",  # all that the embedded broker speaks; trying 5 first takes seconds
        "WATCHROOM_MQTT__USERNAME": USER,
        PASSWORD_VARIABLE: secrets.token_urlsafe(24),
        "WATCHROOM_DEMO": "true",
        "WATCHROOM_LOG": settings.log,
    }


def _addresses(site: Site, mqtt_port: int) -> dict[str, str]:
    """Map each address of simulated equipment to one that is free now.

    The files keep the well-known ports, so a Modbus client can usually be pointed at them.
    """
    models = library_for(site.folder)
    result: dict[str, str] = {}
    taken = {mqtt_port}
    for path in site.gateway_files:
        config = load_gateway(path, models=models)
        for link in config.links.values() if config.is_simulated else ():
            address = f"{link.host}:{link.port}"
            if link.kind == "mqtt":
                result[address] = f"127.0.0.1:{mqtt_port}"
            elif link.kind == "tcp" and address not in result:
                port = free_port(link.host, link.port)
                while port in taken:
                    port = free_port(link.host, 0)
                taken.add(port)
                result[address] = f"{link.host}:{port}"
    return result

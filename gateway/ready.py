"""Ready mappings of common readers and cameras by name: a site says which, and where they hang."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from gateway.modelfile import named_booleans
from watchroom.errors import ConfigError
from watchroom.yamlfile import Path_, Strict, Text, YamlFile, load_yaml

PACKAGE_MAPPINGS = Path(__file__).parent / "mappings"
_JOINED = frozenset({"fields", "signals", "time", "online"})
"""Keys whose content is joined; another key of the site replaces the ready one."""


class ReadyMapping(Strict):
    """One ready mapping."""

    mapping: str
    name: Text
    source: str = Field(description="Where the shape of the messages comes from")
    trust: str = Field(description="How far that source can be trusted")
    message: dict[str, Any] = Field(description="Keys of mqtt:, as a gateway file has them")


def ready_names(folder: Path = PACKAGE_MAPPINGS) -> tuple[str, ...]:
    """Return the names of all ready mappings."""
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def load_ready(name: str, *, own: Path | None = None) -> ReadyMapping:
    """Return a ready mapping; one in the site's own ``mappings/`` wins.

    Raises:
        ConfigError: If there is none of that name, or its file is wrong.
    """
    folders = [folder for folder in (own, PACKAGE_MAPPINGS) if folder is not None]
    if "/" not in name and not name.startswith("."):
        for folder in folders:
            path = folder / f"{name}.yaml"
            if path.is_file():
                found: ReadyMapping = named_booleans(load_yaml(path)).parse(ReadyMapping)
                return found
    names = [name for folder in folders for name in ready_names(folder)]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    raise ConfigError(
        f"there is no ready mapping {name!r}", hint=f"did you mean {near[0]!r}?" if near else ", ".join(names)
    )


def joined(ready: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ready mapping with a site's own keys over it."""
    result = copy.deepcopy(dict(ready))
    for key, value in own.items():
        if key in _JOINED and isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = result[key] | value
        else:
            result[key] = value
    return result


def with_ready(file: YamlFile) -> YamlFile:
    """Return a gateway file in which every ``mqtt: {like: NAME}`` holds the keys of that mapping.

    Raises:
        ConfigError: If there is no such mapping.
    """
    data = file.data
    devices = data.get("devices") if isinstance(data, dict) else None
    if not isinstance(devices, dict):
        return file
    changed = dict(devices)
    for name, device in devices.items():
        mqtt = device.get("mqtt") if isinstance(device, dict) else None
        if isinstance(mqtt, dict) and isinstance(mqtt.get("like"), str):
            where = ("devices", name, "mqtt", "like")
            changed[name] = device | {"mqtt": _joined_at(file, where, mqtt["like"], mqtt)}
    return YamlFile(file.path, data | {"devices": changed}, file.lines)


def _joined_at(file: YamlFile, where: Path_, name: str, own: Mapping[str, Any]) -> dict[str, Any]:
    try:
        ready = load_ready(name, own=file.path.parent.parent / "mappings")
    except ConfigError as exc:
        if exc.path is not None:
            raise
        raise file.error(where, exc.problem, hint=exc.hint) from exc
    return joined(ready.message, own)

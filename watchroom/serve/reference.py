"""The reference pages ``docs/settings.md`` and ``docs/site-files.md``, made from the models that check the input.

``python -m watchroom.serve.reference`` writes them into the checkout; a test fails while they are stale.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from alarms.rules import OwnRule, RulesFile
from gateway.configfile import GatewayFile
from gateway.modelfile import ModelFile
from gateway.printer import PrinterFile
from gateway.ready import ReadyMapping, ready_names
from watchroom.settings import Settings
from watchroom.site import Channel, Equipment, Person, SiteFile

Schema = Mapping[str, Any]

DOCS = Path(__file__).parents[2] / "docs"
PREFIX = "WATCHROOM_"
_MADE = "<!-- made by python -m watchroom.serve.reference from the models in the code; do not edit -->\n"
_SETTINGS_HEAD = """\
# Settings

Command line over environment over default. Each setting is one environment variable; `watchroom COMMAND --help` lists
what the command line can say. A secret stands in its variable or, better, in a file that the variable with `_FILE` at
its end names (`WATCHROOM_KEY_FILE=/run/secrets/key`); it is never logged.
"""
_FILES_HEAD = """\
# Site files

A site is a folder of YAML files; `watchroom init NAME` writes one to start from, and `watchroom check FOLDER` names
file, line and key of every mistake. A key that is not listed here is a mistake too, except in `equipment.yaml`, where
the type's template may know more. Durations are written `500ms`, `10s`, `5m`, `2h`, `3d`, or as a number of seconds.
*Map* means: names of your own choice, each followed by what the map holds.
"""
_RULES = """\
Name of the rule to the rule, with exactly one of `limit`, `state`, `sequence`, `health`. An override has the same keys,
but only those that change. Limits, deadbands and delays are numbers, durations where they are times, or terms over the
rated values of the equipment, such as `rated.pressure_mpa + 0.05`.
"""
_FILES: tuple[tuple[str, str, Any], ...] = (
    ("site.yaml", "The compound: its clock, its tree of places, its plan.", SiteFile),
    ("equipment.yaml", "Equipment id, as maintenance writes it, to what it is.", dict[str, Equipment]),
    ("people.yaml", "Login name to person.", dict[str, Person]),
    ("channels.yaml", "Name of the channel to where its messages go.", dict[str, Channel]),
    ("gateways/NAME.yaml", "One gateway: links, and the devices on them.", GatewayFile),
    ("models/NAME.yaml", "Register map of one kind of device, without any address of a site.", ModelFile),
    (
        "mappings/NAME.yaml",
        "A mapping of the site's own for `mqtt: {like: NAME}`. Ready ones: "
        + ", ".join(f"`{n}`" for n in ready_names())
        + ".",
        ReadyMapping,
    ),
    ("printers/NAME.yaml", "What a fire panel's printed lines mean. Ready: `gst9000`.", PrinterFile),
    ("rules.yaml", "Changes to the rules of the templates, and rules of the site's own.", RulesFile),
    ("rules.yaml: rules", _RULES, dict[str, OwnRule]),
)


def settings_page() -> str:
    """Return the page about the environment variables, as Markdown."""
    rows = [[f"`{name}`", *cells] for name, cells in _variables(Settings.model_json_schema(), PREFIX)]
    return f"{_SETTINGS_HEAD}\n{_MADE}\n" + _table(("variable", "value", "default", "meaning"), rows)


def site_files_page() -> str:
    """Return the page about the keys of all site files, as Markdown."""
    parts = [f"{_FILES_HEAD}\n{_MADE}"]
    told: set[str] = set()
    for name, about, kind in _FILES:
        schema = TypeAdapter(kind).json_schema()
        parts.append(f"## `{name}`\n\n{about.strip()}")
        inner = schema.get("$defs", {})
        if "properties" in schema:
            parts.append(_keys(schema))
        elif isinstance(schema.get("additionalProperties"), dict):
            own = schema["additionalProperties"]["$ref"].rpartition("/")[2]
            told.add(own)
            parts.append(_keys(inner[own]))
        for title in sorted(set(inner) - told):
            told.add(title)
            parts.append(f"### {title}\n\n{_first(inner[title])}")
            parts.append(_keys(inner[title]))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def write(folder: Path) -> list[Path]:
    """Write both pages and return their paths."""
    pages = {"settings.md": settings_page(), "site-files.md": site_files_page()}
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in pages]


def _variables(schema: Schema, prefix: str, defs: Schema | None = None) -> Iterator[tuple[str, list[str]]]:
    defs = schema.get("$defs", {}) if defs is None else defs
    for name, entry in schema["properties"].items():
        if "$ref" in entry:
            yield from _variables(defs[entry["$ref"].rpartition("/")[2]], f"{prefix}{name.upper()}__", defs)
        else:
            yield f"{prefix}{name.upper()}", [_kind(entry), _default(entry), entry.get("description", "")]


def _keys(schema: Schema) -> str:
    required = set(schema.get("required", ()))
    rows = [
        [f"`{name}`", _kind(entry), "required" if name in required else _default(entry), entry.get("description", "")]
        for name, entry in schema["properties"].items()
    ]
    return _table(("key", "value", "default", "meaning"), rows)


def _first(schema: Schema) -> str:
    """The first paragraph of a model's docstring, in Markdown."""
    return str(schema.get("description", "")).partition("\n\n")[0].replace("\n", " ").replace("``", "`")


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _default(entry: Schema) -> str:
    value = entry.get("default")
    if value is None or value in ("", [], {}) or isinstance(value, dict):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"


def _kind(entry: Schema) -> str:
    """Return in words what may be written."""
    if "$ref" in entry:
        name = entry["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in entry:
        kinds = dict.fromkeys(_kind(option) for option in entry["anyOf"] if option.get("type") != "null")
        return " or ".join(kinds)
    if "enum" in entry or "const" in entry:
        return ", ".join(f"`{value}`" for value in entry.get("enum", [entry.get("const")]))
    if entry.get("type") == "array":
        if "prefixItems" in entry:
            return f"list [{', '.join(map(_kind, entry['prefixItems']))}]"
        return f"list of {_kind(entry.get('items', {}))}"
    if entry.get("type") == "object":
        holds = entry.get("additionalProperties")
        return f"map of {_kind(holds)}" if isinstance(holds, dict) else "map"
    return _simple(entry)


def _simple(entry: Schema) -> str:
    named = {"duration": "duration", "path": "path", "password": "secret text"}.get(entry.get("format", ""))
    words = {"boolean": "`true` or `false`", "integer": "whole number", "number": "number", "string": "text"}
    word = named or words.get(entry.get("type", ""), "anything")
    low = entry.get("minimum", entry.get("exclusiveMinimum", entry.get("ge")))
    high = entry.get("maximum", entry.get("le"))
    if low is not None and high is not None:
        return f"{word}, {low} to {high}"
    if low is not None:
        return f"{word}, {'above' if 'exclusiveMinimum' in entry else 'at least'} {low}"
    return word


if __name__ == "__main__":
    for path in write(DOCS):
        print(path)

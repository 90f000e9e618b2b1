"""``watchroom explain`` and ``watchroom rules``: why something is in alarm, and whether rules are right."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from alarms.explain import lines
from alarms.rules import OwnRule, RulesFile, compile_rules
from alarms.templates import RuleSpec, load_templates
from watchroom.errors import ConfigError
from watchroom.local import LocalClient
from watchroom.serve.history import with_engine
from watchroom.settings import Settings
from watchroom.site import load_site


def run_explain(options: argparse.Namespace, settings: Settings) -> int:
    """Print why a signal is, or is not, in alarm; 1 if nothing knows the signal.

    Raises:
        ConfigError: If the key is none.
        LinkError: If the engine does not run.
    """
    if options.signal.count("/") != 1:
        raise ConfigError(f"{options.signal!r} is no signal", hint="expected EQUIPMENT/SIGNAL, for example WP-01/flow")

    async def work(engine: LocalClient) -> Any:
        return await engine.ask("alarms.explain", key=options.signal)

    found = with_engine(settings, work)
    if options.json:
        print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        print("\n".join(lines(found, lang=options.lang)))
    return 0 if found["signal"]["is_known"] else 1


def run_reload(settings: Settings) -> int:
    """Have the running engine read its rules again.

    Raises:
        LinkError: If the engine does not run.
        StateError: If the rules are wrong; the engine goes on with the old ones.
    """

    async def work(engine: LocalClient) -> Any:
        return await engine.ask("rules.reload")

    told = with_engine(settings, work)
    print(f"The engine judges by version {told['version']} now: {told['rules']} alarm rows")
    return 0


def rules_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``rules.yaml``, for editors that complete and check while one types."""
    rule = _plain(OwnRule.model_json_schema(by_alias=True))
    defs = rule.pop("$defs", {}) | {"OwnRule": rule}
    # an override gives any part of a rule of a template; what is missing stays as it was
    change = _plain(RuleSpec.model_json_schema(by_alias=True))
    parts = change.pop("$defs", {}) | {"Override": change}
    for name, part in parts.items():
        defs[name if name == "Override" else f"{name}Change"] = _loosened(part)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": RulesFile.__doc__,
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "overrides": {
                "description": "equipment id -> rule of its template -> what is different",
                "type": "object",
                "additionalProperties": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Override"}},
            },
            "rules": {
                "description": "rules of the site's own by name",
                "type": "object",
                "additionalProperties": {"$ref": "#/$defs/OwnRule"},
            },
        },
        "$defs": defs,
    }


def _plain(schema: Any) -> Any:
    """Return a schema in which durations may be written as people do: 90, 10s, 5m."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "duration":
        about = {key: schema[key] for key in ("default", "description", "title") if key in schema}
        return {"type": ["number", "string"], "examples": [90, "10s", "5m", "2h"], **about}
    return {key: _plain(item) for key, item in schema.items()}


def _loosened(schema: Any) -> Any:
    """Return a schema without required keys, whose parts are the loosened ones."""
    if isinstance(schema, list):
        return [_loosened(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _loosened(item) for key, item in schema.items() if key != "required"}
    if isinstance(result.get("$ref"), str):
        result["$ref"] += "Change"
    return result


def run_schema() -> int:
    """Print the JSON Schema."""
    print(json.dumps(rules_schema(), ensure_ascii=False, indent=1))
    return 0


def run_rules_check(folder: Path) -> int:
    """Compile the rules of a site and print how many rows of each kind they make.

    Raises:
        ConfigError: With file, line, key and the nearest known name of the first mistake.
    """
    site = load_site(folder)
    ruleset = compile_rules(site, load_templates())
    kinds = Counter(row.kind for row in ruleset.rows)
    priorities = Counter(min(row.priorities.values()) for row in ruleset.rows)
    print(f"{site.id}: {len(ruleset.rows)} alarm rows, version {ruleset.version}")
    print("  kinds: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))
    print("  priorities: " + ", ".join(f"{count} of priority {p}" for p, count in sorted(priorities.items())))
    return 0

"""Tools for rules: the schema for editors, the check, and the explanation on the command line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from watchroom.cli import run
from watchroom.local import LocalServer
from watchroom.serve.rule_tools import rules_schema

DEMO = Path(__file__).parents[2] / "sites" / "spruce-court"
OWN: dict[str, Any] = {
    "equipment": {"type": "sump"},
    "state": {"signal": "float_high", "in": [1]},
    "on_delay": "3s",
    "class": "equipment",
    "priority": 1,
    "ticket": {"type": "repair", "sla": {"accept": "5m"}},
}


def problems(content: object) -> list[str]:
    return [error.message for error in Draft202012Validator(rules_schema()).iter_errors(content)]


def test_schema_is_a_schema_and_takes_the_demo() -> None:
    """Editors can use it, and the rules of the demonstration compound are right by it."""
    Draft202012Validator.check_schema(rules_schema())
    assert problems(yaml.safe_load((DEMO / "rules.yaml").read_text(encoding="utf-8"))) == []
    assert problems({"rules": {"own": OWN}}) == []


@pytest.mark.parametrize("change", [{"on_dealy": "3s"}, {"priority": 7}, {"state": {"in": [1]}}, {"class": "pump"}])
def test_schema_marks_mistakes(change: dict[str, Any]) -> None:
    """A misspelt key, a priority 7, a test without a signal, a class that does not exist are underlined."""
    assert problems({"rules": {"own": {**OWN, **change}}}) != []


def test_schema_lets_an_override_name_only_what_changes() -> None:
    """An override may give one limit of a rule and nothing else, but no key that does not exist."""
    assert problems({"overrides": {"WP-01": {"outlet_pressure.low": {"limit": {"L": 0.5}, "on_delay": "10s"}}}}) == []
    assert problems({"overrides": {"WP-01": {"outlet_pressure.low": {"limits": {"L": 0.5}}}}}) != []


def test_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`rules schema` prints JSON; `rules check` counts the rows, or names file, line and nearest key."""
    assert run(["rules", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$defs"]["OwnRule"]
    assert run(["rules", "check", str(DEMO)]) == 0
    assert "alarm rows" in capsys.readouterr().out
    broken = tmp_path / "site"
    for path in DEMO.rglob("*.yaml"):
        target = broken / path.relative_to(DEMO)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (broken / "rules.yaml").write_text("overrides:\n  SP-03:\n    float.hihg: {priority: 1}\n", encoding="utf-8")
    assert run(["rules", "check", str(broken)]) == 2
    told = capsys.readouterr().err
    assert "rules.yaml:3" in told
    assert "did you mean 'float.high'?" in told


async def test_explain_asks_the_engine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`watchroom explain` prints the engine's answer; an unknown signal ends with 1, a word that is no key with 2."""
    asked = []

    async def explain(args: dict[str, Any]) -> Any:
        asked.append(args)
        return {"signal": {"key": args["key"], "is_known": False}, "offset": 1, "rules": []}

    started = asyncio.Event()
    server = asyncio.create_task(LocalServer(tmp_path / "engine.sock", {"alarms.explain": explain}).run(started))
    await started.wait()
    data = ["--data", str(tmp_path)]
    assert await asyncio.to_thread(run, ["explain", "WP-01/flow", *data]) == 1
    assert asked == [{"key": "WP-01/flow"}]
    assert "no rule and no gateway knows" in capsys.readouterr().out
    assert await asyncio.to_thread(run, ["explain", "flow", *data]) == 2
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)

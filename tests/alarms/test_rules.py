"""rules.yaml: changing the templates' rules, adding others, and messages that help when something is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from alarms.rows import Op
from alarms.rules import RuleSet, compile_rules
from alarms.templates import load_templates
from watchroom.errors import ConfigError

from .bench import small_site

PLANT: dict[str, dict[str, Any]] = {
    "WP-01": {"type": "booster_set", "rated": {"pressure_mpa": 0.6, "pumps": 2}},
    "SP-01": {"type": "sump"},
    "FP-01": {"type": "fire_panel", "zones": 4},
    "GW-01": {"type": "gateway", "gateway": "pump-house"},
}


def compiled(text: str | None = None, equipment: dict[str, dict[str, Any]] | None = None) -> RuleSet:
    return compile_rules(small_site(equipment or PLANT, rules=text), load_templates())


def own(equipment: str, condition: str, *, priority: int = 1) -> str:
    """Return a rules.yaml with one rule of the site's own: equipment in line 3, condition 4, priority 6."""
    return (
        f"rules:\n  own:\n    equipment: {equipment}\n    {condition}\n    class: equipment\n    priority: {priority}\n"
    )


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        compiled(text)
    return caught.value


def test_rows_follow_the_equipment() -> None:
    """Two pumps give two rows a pump rule, four zones four rows a zone rule; limits follow the rated pressure."""
    rules = compiled()
    assert [row.instance for row in rules.rows if row.rule == "pump.fault" and row.equipment == "WP-01"] == ["1", "2"]
    assert [row.signal for row in rules.rows if row.rule == "zone.fire"] == [
        f"FP-01/zone{n}_state" for n in (1, 2, 3, 4)
    ]
    low = rules.row("outlet_pressure.low|WP-01|")
    assert low is not None
    assert low.limits == {"L": 0.55, "LL": 0.5}
    assert low.priority("LL") == 2
    assert low.priority() == 3
    assert rules.gateways == {"pump-house": "GW-01"}


def test_override_changes_only_what_it_names() -> None:
    """The site's own limits replace the template's; guidance, class and priority stay; the version tells."""
    before = compiled().row("outlet_pressure.low|WP-01|")
    after = compiled(
        """
        overrides:
          WP-01: {outlet_pressure.low: {limit: {LL: 0.45, L: 0.50}, deadband: 0.02, on_delay: 20s}}
        """
    ).row("outlet_pressure.low|WP-01|")
    assert before is not None
    assert after is not None
    assert after.limits == {"L": 0.5, "LL": 0.45}
    assert (after.deadband, after.on_delay_ms) == (0.02, 20_000)
    assert after.guidance == before.guidance
    assert after.priorities == before.priorities
    assert after.version != before.version


def test_version_is_the_content() -> None:
    """The same rules have the same version at every start, and one change changes one row's version."""
    first, second = compiled(), compiled()
    assert first.version == second.version
    changed = compiled("overrides: {WP-01: {flow.high: {on_delay: 90s}}}")
    different = [a.key for a, b in zip(first.rows, changed.rows, strict=True) if a.version != b.version]
    assert different == ["flow.high|WP-01|"]


def test_rule_can_be_switched_off() -> None:
    """A rule that does not fit this pump set is switched off and leaves no row."""
    rules = compiled("overrides: {WP-01: {mode.manual: {enabled: false}}}")
    assert rules.row("mode.manual|WP-01|") is None


def test_own_rule_of_the_handbook() -> None:
    """A site adds the rule that the handbook shows: water in a pump room."""
    rules = compiled(
        """
        rules:
          pump_room_flood:
            equipment: {type: sump}
            state: {signal: float_high, in: [1]}
            on_delay: 3s
            class: equipment
            priority: 1
            ticket: {type: repair, also: patrol, sla: {accept: 5m, arrive: 15m, restore: 2h}}
            guidance: {zh: {cause: 潜污泵故障, do: 断开电源后查看}, en: {cause: pump failed, do: switch off first}}
        """
    )
    row = rules.row("pump_room_flood|SP-01|")
    assert row is not None
    assert row.state is not None
    assert (row.state.op, row.state.values, row.on_delay_ms, row.priority()) == (Op.IN, (1.0,), 3000, 1)
    assert row.ticket is not None
    assert row.ticket.also == "patrol"
    assert row.ticket.sla.arrive == 900
    assert row.guidance.en.do == ["switch off first"]


def test_signals_of_a_site() -> None:
    """Equipment may bring signals that its template does not know, and rules may use them."""
    equipment = {
        "M-1": {
            "type": "machine",
            "signals": {"vibration": {"name": {"zh": "振动", "en": "Vibration"}, "unit": "mm/s"}},
        }
    }
    text = own("{id: [M-1]}", "limit: {signal: vibration, H: 7.1}")
    row = compiled(text, equipment).row("own|M-1|")
    assert row is not None
    assert (row.unit, row.name.en) == ("mm/s", "Vibration")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("overrides:\n  WP-1: {flow.high: {on_delay: 3s}}\n", 2, ["WP-1", "did you mean 'WP-01'?"]),
        ("overrides:\n  WP-01:\n    flow.hihg: {on_delay: 3s}\n", 3, ["flow.hihg", "did you mean 'flow.high'?"]),
        ("overrides:\n  WP-01:\n    flow.high: {ondelay: 3s}\n", 3, ["ondelay", "did you mean 'on_delay'?"]),
        ("overrides:\n  WP-01:\n    flow.high:\n      on_delay: soon\n", 4, ["on_delay", "expected a duration"]),
        ("overrides:\n  WP-01:\n    flow.high:\n      limit: {H: rated.flow}\n", 3, ["rated.flow", "WP-01"]),
        (
            "overrides:\n  WP-01:\n    outlet_pressure.low:\n      limit: {L: 0.4}\n",
            3,
            ["limits must rise", "WP-01"],
        ),
        (
            own("{type: sump}", "state: {signal: float_hi, in: [1]}"),
            4,
            ["float_hi", "did you mean 'float_high'?"],
        ),
        (
            own("{type: sumps}", "state: {signal: float_high, in: [1]}"),
            3,
            ["no equipment of this type", "did you mean 'sump'?"],
        ),
        (
            own("{id: [SP-02]}", "state: {signal: float_high, in: [1]}"),
            3,
            ["SP-02", "did you mean 'SP-01'?"],
        ),
        (
            "rules:\n  own:\n    equipment: {type: sump}\n    class: equipment\n    priority: 1\n",
            2,
            ["exactly one of limit, state, count, logic, sequence, access, health"],
        ),
        (
            own("{type: sump}", "state: {signal: float_high}"),
            4,
            ["exactly one of in:"],
        ),
        (
            own("{type: sump}", "state: {signal: float_high, in: [1]}", priority=7),
            6,
            ["priority"],
        ),
        ("overides: {}\n", 1, ["overides", "did you mean 'overrides'?"]),
    ],
)
def test_mistakes_name_the_place(text: str, line: int, words: list[str]) -> None:
    """A misspelt key, equipment, rule or signal is refused with file, line, key and the nearest known name."""
    error = refusal(text)
    assert str(error.path) == "site/rules.yaml"
    assert error.line == line, str(error)
    for word in words:
        assert word in str(error)


def test_unknown_type_names_the_nearest() -> None:
    """Equipment of a type without template stops the start and names the nearest type."""
    with pytest.raises(ConfigError, match=r"X-1\.type.*'elevater'.*did you mean 'elevator'"):
        compiled(equipment={"X-1": {"type": "elevater"}})

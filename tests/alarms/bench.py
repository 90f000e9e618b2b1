"""The rules of real templates on a small site, with a plant that feeds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alarms.evaluator import Evaluator
from alarms.judged import Transition
from alarms.rules import RuleSet, compile_rules
from alarms.templates import load_templates
from watchroom.journal import Record
from watchroom.signals import Kind, Lane, SignalSpec
from watchroom.site import Equipment, Place, Plan, Site, SiteInfo
from watchroom.yamlfile import Text, parse_yaml

from .plant import SITE, T0, Plant

Brief = tuple[str, str, int]
"""(rule|equipment|instance, kind, time after T0)"""


def small_site(equipment: dict[str, dict[str, Any]], *, rules: str | None = None) -> Site:
    """Return a site whose equipment is given as {id: {type, ...}}."""
    items = {
        key: Equipment(name=Text(zh=key, en=key), **{"type": "", "place": "P", **fields})
        for key, fields in equipment.items()
    }
    return Site(
        folder=Path("site"),
        info=SiteInfo(id=SITE, name=Text(zh="测试", en="Test")),
        places={
            "P": Place(kind="area", name=Text(zh="处", en="Place"), at=(0, 0)),
            "Q": Place(kind="area", name=Text(zh="远处", en="Far place"), at=(200, 0)),
        },
        plan=Plan(),
        equipment=items,
        rules_file=None if rules is None else parse_yaml(rules, Path("site/rules.yaml")),
    )


def specs(site: Site, equipment: str) -> list[SignalSpec]:
    """Return the signals of a piece of equipment as a gateway would announce them; states are urgent."""
    templates = load_templates()
    item = site.equipment[equipment]
    return [
        SignalSpec(
            alias=0,
            key=f"{equipment}/{name}",
            kind=info.kind,
            lane=Lane.URGENT if info.kind is Kind.STATE else Lane.TELEMETRY,
        )
        for name, info in templates[item.type].signals_of(item).items()
    ]


class Bench:
    """A site, its rules, a plant with one gateway for each named group of equipment, and one judge.

    Args:
        folder: For the births.
        equipment: Id -> its entry in the site file.
        gateways: Name -> equipment it reads.
        rules: Text of ``rules.yaml``.
        only: Type of equipment -> the signals its gateway announces; all of the template's if not named.
    """

    def __init__(
        self,
        folder: Path,
        equipment: dict[str, dict[str, Any]],
        gateways: dict[str, Sequence[str]],
        *,
        rules: str | None = None,
        only: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.site = small_site(equipment, rules=rules)
        self.rules: RuleSet = compile_rules(self.site, load_templates())
        self.plant = Plant(
            folder, {name: [s for key in keys for s in self._specs(key, only)] for name, keys in gateways.items()}
        )
        self.evaluator = self.new_evaluator()
        self._judged = 0
        self.told: list[Transition] = []

    def _specs(self, key: str, only: Mapping[str, Sequence[str]] | None) -> list[SignalSpec]:
        found = specs(self.site, key)
        names = (only or {}).get(self.site.equipment[key].type)
        return found if names is None else [spec for spec in found if spec.key.partition("/")[2] in names]

    def new_evaluator(self) -> Evaluator:
        return Evaluator(self.rules, self.plant.births, SITE, site=self.site)

    def judge(self) -> list[Brief]:
        """Judge what was written since the last call; return (row, kind, time after T0)."""
        new: list[Record] = self.plant.records[self._judged :]
        self._judged = len(self.plant.records)
        for record in new:
            self.evaluator.feed(record)
        transitions = self.evaluator.evaluate().transitions
        self.told += transitions
        return [brief(t) for t in transitions]

    def rows(self, name: str) -> list[Transition]:
        """Return what was told about one rule."""
        return [t for t in self.told if t.row.rule == name]


def brief(transition: Transition) -> Brief:
    return transition.row.key, str(transition.kind), transition.event_ms - T0

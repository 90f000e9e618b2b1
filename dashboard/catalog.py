"""What the pages must know of the site before anything is live: names, places, signals, guidance. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from alarms.rules import RuleRow, RuleSet
from alarms.templates import SignalInfo, Template
from watchroom.births import Birth
from watchroom.signals import split_key
from watchroom.site import Equipment, Place, Site
from watchroom.yamlfile import Text

Words = dict[str, str]
_UNIT = re.compile(r"[UN](\d+)$", re.IGNORECASE)


class Catalog:
    """Names and descriptions by id; answers are ready for JSON.

    Args:
        site: The site files.
        templates: Equipment types by name.
        ruleset: The site's compiled rules.
    """

    def __init__(self, site: Site, templates: Mapping[str, Template], *, ruleset: RuleSet) -> None:
        self.site = site
        self._templates = templates
        self._rules: dict[str, RuleRow] = {row.key: row for row in ruleset.rows}
        self._guidance: dict[str, Any] = {}
        self._limits = _limits(ruleset)
        self._place_names = {place: _place_name(site, place) for place in site.places}
        self._signals = {name: self._described(item) for name, item in site.equipment.items()}
        self._units = {
            f"{name}/{signal}": str(info["unit"])
            for name, signals in self._signals.items()
            for signal, info in signals.items()
        }
        self.gateway_of_signal: dict[str, str] = {}
        self.gateways = _gateways(site)

    @property
    def signal_keys(self) -> list[str]:
        """Keys of all signals that the templates describe, sorted."""
        return sorted(self._units)

    def learn(self, birth: Birth) -> list[str]:
        """Take in which signals a gateway sends; return the keys that no template describes."""
        unknown = []
        for spec in birth.signals:
            equipment, signal = split_key(spec.key)
            self.gateway_of_signal[spec.key] = birth.gateway
            signals = self._signals.setdefault(equipment, {})
            if signal not in signals:
                unknown.append(spec.key)
                signals[signal] = {
                    "name": {"zh": signal, "en": signal},
                    "unit": spec.unit,
                    "kind": str(spec.kind),
                    "texts": spec.texts,
                    "normal": None,
                }
                self._units[spec.key] = spec.unit
        return unknown

    def site_json(self, *, demo: Any, version: str, build: str) -> dict[str, Any]:
        """Return what `GET /site` tells."""
        info, plan = self.site.info, self.site.plan
        return {
            "id": info.id,
            "name": _words(info.name),
            "zone": info.zone,
            "city_rescue_min": info.city_rescue_min,
            "homes": info.homes,
            "is_simulated": info.simulated,
            "demo": demo,
            "places": {key: self._place_json(key, place) for key, place in self.site.places.items()},
            "plan": plan.model_dump(mode="json"),
            "version": version,
            "build": build,
        }

    def equipment_json(self, equipment: str, index: Mapping[str, int]) -> dict[str, Any]:
        """Return one piece of equipment with its signals.

        Raises:
            KeyError: If the site has none of that id.
        """
        item = self.site.equipment[equipment]
        signals = self._signals[equipment]
        gateways = {self.gateway_of_signal.get(f"{equipment}/{signal}") for signal in signals}
        # templates know more signals than most makes have: once a gateway has told, only its signals are shown
        if gateways != {None}:
            signals = {name: info for name, info in signals.items() if f"{equipment}/{name}" in self.gateway_of_signal}
        return {
            "id": equipment,
            "type": item.type,
            "name": _words(item.name),
            "place": item.place,
            "place_name": self._place_names[item.place],
            "gateway": next((name for name in sorted(gateways - {None}, key=str)), None),
            "rated": item.rated,
            "contractor": item.contractor,
            "extra": {key: value for key, value in (item.model_extra or {}).items() if key != "signals"},
            "signals": [
                {"key": key, **info, "limits": self._limits.get(key, {}), "index": index[key]}
                for key, info in ((f"{equipment}/{signal}", info) for signal, info in signals.items())
                if key in index
            ],
        }

    def equipment_name(self, equipment: str | None) -> Words | None:
        """Return the name of a piece of equipment; an id that the site no longer has stands for itself."""
        if equipment is None:
            return None
        item = self.site.equipment.get(equipment)
        return _words(item.name) if item is not None else {"zh": equipment, "en": equipment}

    def place_of(self, equipment: str | None) -> str | None:
        """Return the place of a piece of equipment."""
        item = self.site.equipment.get(equipment or "")
        return item.place if item is not None else None

    def place_name(self, place: str | None) -> Words | None:
        """Return the name of a place, units as "Building 3, unit 1"."""
        return None if place is None else self._place_names.get(place, {"zh": place, "en": place})

    def unit_of(self, signal: str | None) -> str | None:
        """Return the unit of a signal, None when it has none or is not known."""
        return self._units.get(signal or "") or None

    def guidance_of(self, row: str) -> Any:
        """Return the guidance of an alarm row in both languages, None when its rule gives none."""
        if row not in self._guidance:
            rule = self._rules.get(row)
            told = rule.guidance.model_dump(mode="json") if rule is not None else {}
            self._guidance[row] = told if any(any(guide.values()) for guide in told.values()) else None
        return self._guidance[row]

    def _described(self, item: Equipment) -> dict[str, dict[str, Any]]:
        template = self._templates.get(item.type)
        if template is None:
            return {}
        return {key: _signal_json(template, item, info) for key, info in template.signals_of(item).items()}

    def _place_json(self, key: str, place: Place) -> dict[str, Any]:
        return {
            "kind": place.kind,
            "name": self._place_names[key],
            "in": place.within,
            "floors": place.floors.model_dump() if place.floors else None,
            "outline": place.outline,
            "at": place.at,
        }


def _signal_json(template: Template, item: Equipment, info: SignalInfo) -> dict[str, Any]:
    return {
        "name": _words(info.name),
        "unit": info.unit,
        "kind": str(info.kind),
        "texts": {str(value): _words(text) for value, text in info.texts.items()},
        "normal": template.normal_of(item, info),
    }


def _place_name(site: Site, key: str) -> Words:
    place = site.places[key]
    if place.name is not None:
        return _words(place.name)
    number = _UNIT.search(key)
    if place.kind == "unit" and place.within is not None and number:
        parent = _place_name(site, place.within)
        return {"zh": f"{parent['zh']}{number[1]}单元", "en": f"{parent['en']}, unit {number[1]}"}
    return {"zh": key, "en": key}


def _limits(ruleset: RuleSet) -> dict[str, dict[str, float]]:
    """Return the limits of each signal by level; where two rules give one level the first stands."""
    limits: dict[str, dict[str, float]] = {}
    # a guarded rule's limit counts only sometimes: it gives way to one that always does
    for row in sorted(ruleset.rows, key=lambda row: row.guard is not None):
        if row.signal is not None and row.limits:
            limits[row.signal] = {**row.limits, **limits.get(row.signal, {})}
    return limits


def _gateways(site: Site) -> dict[str, tuple[str, Words]]:
    """Return gateway id -> (equipment id, name)."""
    return {
        str(item.model_extra["gateway"]): (key, _words(item.name))
        for key, item in site.equipment.items()
        if item.type == "gateway" and item.model_extra and "gateway" in item.model_extra
    }


def _words(text: Text) -> Words:
    return {"zh": text.zh, "en": text.en}

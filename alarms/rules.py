"""Rules of one site: templates and ``rules.yaml`` compiled into rows, one for each (rule, equipment, instance)."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from alarms.rows import AccessTest, Derived, Expected, Op, RuleRow, SequenceTest, StateTest
from alarms.templates import (
    ENTRY_KINDS,
    KINDS,
    OTHER,
    Explanation,
    Kinds,
    Level,
    RuleSpec,
    Selector,
    SignalInfo,
    StateIs,
    Template,
    amount,
    expand,
    span_ms,
    template_of,
)
from watchroom.errors import ConfigError
from watchroom.site import Equipment, Site
from watchroom.yamlfile import Strict, YamlFile

__all__ = ["Expected", "RuleRow", "RuleSet", "compile_rules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """All rules of a site.

    Attributes:
        rows: In a fixed order: by equipment as in the file, then by rule, then by instance.
        expected: Equipment id -> the signals its template names.
        gateways: Gateway id -> id of the equipment that stands for it.
        version: 16 hex digits over the versions of all rows.
    """

    rows: tuple[RuleRow, ...]
    expected: Mapping[str, Expected] = field(default_factory=dict)
    gateways: Mapping[str, str] = field(default_factory=dict)
    version: str = ""

    def row(self, key: str) -> RuleRow | None:
        """Return a row by its key, None if no rule makes it any more."""
        return next((row for row in self.rows if row.key == key), None)


class OwnRule(RuleSpec):
    """A rule that a site adds."""

    equipment: Selector


class RulesFile(Strict):
    """Content of ``rules.yaml``; the parts are checked one by one so that each error names its line."""

    overrides: dict[str, dict[str, dict[str, Any]]] = {}
    rules: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a rule was written, for error messages."""

    file: YamlFile | None
    where: tuple[str, ...]

    def error(self, problem: str, *, hint: str = "") -> ConfigError:
        if self.file is None:
            return ConfigError(problem, key=".".join(self.where), hint=hint)
        return self.file.error(self.where, problem, hint=hint)


def compile_rules(site: Site, templates: Mapping[str, Template]) -> RuleSet:
    """Return the rows of every rule of a site.

    Args:
        site: The site; ``rules.yaml`` may change the templates' rules and add others.
        templates: By equipment type.

    Raises:
        ConfigError: With file, line, key and the nearest known name of the first thing that is wrong.
    """
    file = site.rules_file
    changes: RulesFile = RulesFile() if file is None else file.parse(RulesFile)
    own = {} if file is None else {name: _own_rule(file, site, name) for name in changes.rules}
    if file is not None:
        _check_overrides(file, site, templates, changes)
    rows: list[RuleRow] = []
    expected: dict[str, Expected] = {}
    gateways: dict[str, str] = {}
    for equipment_id, equipment in site.equipment.items():
        scope = _Scope.of(site, templates, equipment_id)
        expected[equipment_id] = Expected(signals=tuple(f"{equipment_id}/{name}" for name in scope.signals))
        gateway = (equipment.model_extra or {}).get("gateway")
        if isinstance(gateway, str):
            gateways[gateway] = equipment_id
        for name, spec, source in _rules_of(scope, changes, own, file):
            if spec.enabled:
                rows.extend(scope.rows(name, spec, source))
    version = _digest("".join(row.key + row.version for row in rows))
    return RuleSet(rows=tuple(rows), expected=expected, gateways=gateways, version=version)


def _rules_of(
    scope: _Scope, changes: RulesFile, own: Mapping[str, OwnRule], file: YamlFile | None
) -> Iterator[tuple[str, RuleSpec, _Source]]:
    overrides = changes.overrides.get(scope.equipment_id, {})
    for name, spec in scope.template.rules.items():
        if name in overrides and file is not None:
            where = ("overrides", scope.equipment_id, name)
            yield name, _merged(file, where, spec, overrides[name]), _Source(file, where)
        else:
            yield name, spec, _Source(None, (scope.equipment.type, "rules", name))
    for name, rule in own.items():
        if scope.equipment.type == rule.equipment.type or scope.equipment_id in (rule.equipment.id or ()):
            yield name, rule, _Source(file, ("rules", name))


def _own_rule(file: YamlFile, site: Site, name: str) -> OwnRule:
    where = ("rules", name)
    rule: OwnRule = file.parse(OwnRule, where)
    kinds = {item.type for item in site.equipment.values()}
    if rule.equipment.type is not None and rule.equipment.type not in kinds:
        raise file.error(
            (*where, "equipment", "type"),
            "the site has no equipment of this type",
            hint=_near(rule.equipment.type, kinds),
        )
    for item in rule.equipment.id or ():
        if item not in site.equipment:
            raise file.error((*where, "equipment", "id"), f"no equipment {item!r}", hint=_near(item, site.equipment))
    return rule


def _check_overrides(file: YamlFile, site: Site, templates: Mapping[str, Template], changes: RulesFile) -> None:
    for equipment_id, rules in changes.overrides.items():
        if equipment_id not in site.equipment:
            raise file.error(("overrides", equipment_id), "no such equipment", hint=_near(equipment_id, site.equipment))
        known = template_of(templates, site.equipment[equipment_id]).rules
        for name in rules:
            if name not in known:
                raise file.error(
                    ("overrides", equipment_id, name), "its template has no such rule", hint=_near(name, known)
                )


def _merged(file: YamlFile, where: tuple[str, str, str], spec: RuleSpec, change: Mapping[str, Any]) -> RuleSpec:
    base = spec.model_dump(by_alias=True, exclude_unset=True)
    top, equipment_id, name = where
    data = {top: {equipment_id: {name: _merge(base, change)}}}
    result: RuleSpec = YamlFile(file.path, data, file.lines).parse(RuleSpec, where)
    return result


def _merge(base: Any, change: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(change, Mapping):
        return change
    return {**base, **{key: _merge(base.get(key), value) for key, value in change.items()}}


def _priorities(given: int | Mapping[Level, int]) -> dict[str, int]:
    if isinstance(given, int):
        return {"": given}
    return {**{str(level): priority for level, priority in given.items()}, "": max(given.values())}


def _kind(spec: RuleSpec) -> Kinds:
    return next(name for name in KINDS if getattr(spec, name) is not None)


def _inputs(derived: Derived | None) -> tuple[str, ...]:
    return () if derived is None else derived.signals


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _near(word: str | None, known: Any) -> str:
    found = difflib.get_close_matches(str(word), [str(item) for item in known], n=1, cutoff=0.4)
    return f"did you mean {found[0]!r}?" if found else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """One piece of equipment while its rules are compiled."""

    site: Site
    equipment_id: str
    equipment: Equipment
    template: Template
    signals: Mapping[str, SignalInfo]
    numbers: Mapping[str, float]

    @classmethod
    def of(cls, site: Site, templates: Mapping[str, Template], equipment_id: str) -> _Scope:
        equipment = site.equipment[equipment_id]
        try:
            template = template_of(templates, equipment)
            signals = template.signals_of(equipment)
        except (ConfigError, ValueError) as exc:
            problem = exc.problem if isinstance(exc, ConfigError) else str(exc)
            raise ConfigError(
                problem,
                path=site.folder / "equipment.yaml",
                key=f"{equipment_id}.type",
                hint=_near(equipment.type, templates),
            ) from exc
        return cls(
            site=site,
            equipment_id=equipment_id,
            equipment=equipment,
            template=template,
            signals=signals,
            numbers=template.numbers(equipment),
        )

    def rows(self, name: str, spec: RuleSpec, source: _Source) -> Iterator[RuleRow]:
        """Yield the rows of one rule, one for each repetition."""
        if spec.access is not None and spec.access.of == "release_failed" and not self._extra("release_on"):
            return
        try:
            if spec.state is not None and spec.state.group is not None and not self._codes(spec.state):
                return
            for _, number in expand(name, spec.repeat, self.numbers):
                yield self._row(name, spec, number, source)
        except ValueError as exc:
            raise source.error(f"{self.equipment_id}: {exc}") from exc

    def _row(self, name: str, spec: RuleSpec, number: int, source: _Source) -> RuleRow:
        state = self._state(spec.state, number, source)
        sequence = self._sequence(spec, number, source)
        access = self._access(spec, number, source)
        derived = self._derived(spec, number, source)
        if derived is not None and spec.limit is None:
            least = spec.count.times if spec.count else spec.logic.count if spec.logic else 1
            state = StateTest(signal=derived.key, op=Op.ABOVE, limit=least - 0.5)
        limits: dict[str, float] = {}
        main = ""
        if spec.limit is not None:
            main = self._signal(spec.limit.signal, number, source, "limit")
            limits = {level: amount(value, self.numbers) for level, value in spec.limit.levels.items()}
            self._check_levels(limits, source)
        elif derived is not None:
            main = derived.signals[0] if derived.signals else ""
        elif state is not None:
            main = state.signal
        elif sequence is not None:
            main = sequence.signal
        elif access is not None:
            main = access.trues[0].signal if access.trues else self._key("contact")
        guard = self._state(spec.when, number, source, part="when")
        info = self.signals.get(main.partition("/")[2])
        row = RuleRow(
            key=f"{name}|{self.equipment_id}|{number or ''}",
            rule=name,
            version="",
            equipment=self.equipment_id,
            instance=str(number or ""),
            kind=_kind(spec),
            class_=spec.class_,
            priorities=_priorities(spec.priority),
            latching=spec.latching,
            ticket=spec.ticket,
            guidance=spec.guidance,
            signal=main or None,
            signals=tuple(dict.fromkeys(k for k in (main, *_inputs(derived), guard.signal if guard else "") if k)),
            unit=info.unit if info else "",
            name=info.name if info else self.equipment.name,
            texts=info.texts if info else {},
            title=spec.title,
            detail=spec.detail,
            limits=limits,
            deadband=amount(spec.deadband, self.numbers),
            on_delay_ms=access.delay_ms if access else span_ms(spec.on_delay, self.numbers),
            off_delay_ms=span_ms(spec.off_delay, self.numbers),
            minimum_on_ms=span_ms(spec.minimum_on, self.numbers),
            derived=derived,
            state=state,
            guard=guard,
            sequence=sequence,
            access=access,
            health=spec.health.of if spec.health else "",
            family=None if spec.family is None else spec.family.replace("{n}", str(number)),
            after_ms=round(spec.health.after * 1000) if spec.health else 0,
        )
        return replace(row, version=_digest(repr(row)))

    def _derived(self, spec: RuleSpec, number: int, source: _Source) -> Derived | None:
        limit, count, logic = spec.limit, spec.count, spec.logic
        if limit is not None and limit.transform != "raw":
            names = [limit.signal] if limit.minus is None else [limit.signal, limit.minus]
            return Derived(
                how=limit.transform,
                signals=tuple(self._signal(name, number, source, "limit") for name in names),
                window_ms=round((limit.window or 0) * 1000),
                skew_ms=-1 if limit.minus is None else round(limit.skew * 1000),
            )
        if logic is not None:
            tests = [self._state(one, number, source, part="logic") for one in logic.inputs]
            known = tuple(test for test in tests if test is not None)
            keys = tuple(test.signal for test in known)
            return Derived(how="logic", signals=keys, tests=known, skew_ms=round(logic.skew * 1000))
        if count is None:
            return None
        window_ms, skew_ms = span_ms(count.within, self.numbers), round(count.skew * 1000)
        if count.event is not None and count.field is not None:
            event = (count.event, count.field, self.equipment_id, tuple(count.values))
            return Derived(how="count", event=event, by=count.by or "", window_ms=window_ms, skew_ms=skew_ms)
        key = self._signal(str(count.signal), number, source, "count")
        values = tuple(float(value) for value in count.values)
        test = StateTest(signal=key, op=Op.IN, values=values)
        return Derived(how="count", signals=(key,), tests=(test,), window_ms=window_ms, skew_ms=skew_ms)

    def _check_levels(self, limits: Mapping[str, float], source: _Source) -> None:
        order = [limits[level] for level in ("LL", "L", "H", "HH") if level in limits]
        if any(a >= b for a, b in pairwise(order)):
            raise source.error(
                f"{self.equipment_id}: limits must rise: LL < L < H < HH", hint=f"they are {dict(limits)}"
            )

    def _extra(self, name: str) -> Any:
        return (self.equipment.model_extra or {}).get(name)

    def _fires(self, source: _Source) -> Iterator[StateTest]:
        """Yield the states of fire panels at which the door must release: ``release_on: {PANEL: [zones]}``."""
        given = self._extra("release_on")
        panels = given if isinstance(given, dict) else {}
        for panel, zones in panels.items():
            if panel not in self.site.equipment or not isinstance(zones, list):
                raise source.error(
                    f"{self.equipment_id}: release_on: expected {{PANEL: [zones]}}",
                    hint=_near(panel, self.site.equipment),
                )
            if not zones:
                yield StateTest(signal=f"{panel}/fire", op=Op.IN, values=(1.0,))
            for zone in zones:
                yield StateTest(signal=f"{panel}/zone{zone}_state", op=Op.BITS, mask=1)

    def _key(self, name: str) -> str:
        return f"{self.equipment_id}/{name}" if name in self.signals else ""

    def _signal(self, name: str, number: int, source: _Source, part: str) -> str:
        name = name.replace("{n}", str(number))
        if name not in self.signals:
            place = _Source(source.file, (*source.where, part, "signal"))
            raise place.error(f"{self.equipment_id} has no signal {name!r}", hint=_near(name, self.signals))
        return f"{self.equipment_id}/{name}"

    def _state(self, test: StateIs | None, number: int, source: _Source, *, part: str = "state") -> StateTest | None:
        if test is None:
            return None
        key = self._signal(test.signal, number, source, part)
        if test.group is not None:
            op = Op.NOT_IN if test.group == OTHER else Op.IN
            return StateTest(signal=key, op=op, values=tuple(self._codes(test)))
        if test.bits is not None:
            return StateTest(signal=key, op=Op.BITS, mask=test.bits)
        if test.above is not None:
            return StateTest(signal=key, op=Op.ABOVE, limit=amount(test.above, self.numbers))
        if test.below is not None:
            return StateTest(signal=key, op=Op.BELOW, limit=amount(test.below, self.numbers))
        if test.not_in is not None:
            return StateTest(signal=key, op=Op.NOT_IN, values=tuple(test.not_in))
        return StateTest(signal=key, op=Op.IN, values=tuple(test.values or ()))

    def _codes(self, test: StateIs) -> list[float]:
        """Return the codes of a test's group in the table that the equipment names; none where the make has none."""
        key = self.template.signals[test.signal].codes if test.signal in self.template.signals else None
        if key is None or test.group is None:
            raise ValueError(f"{test.signal} has no code table, so it has no group {test.group!r}")
        return self.template.code_table(key, self.equipment).values(test.group)

    def _sequence(self, spec: RuleSpec, number: int, source: _Source) -> SequenceTest | None:
        if spec.sequence is None:
            return None
        inputs = [item for one in spec.sequence.unless for item in self._explanations(one, number, source)]
        return SequenceTest(
            signal=self._signal(spec.sequence.signal, number, source, "sequence"),
            values=tuple(spec.sequence.values),
            events=tuple(item for item in inputs if isinstance(item, tuple)),
            states=tuple(item for item in inputs if isinstance(item, StateTest)),
            within_ms=span_ms(spec.sequence.within, self.numbers),
            skew_ms=round(spec.sequence.skew * 1000),
        )

    def _access(self, spec: RuleSpec, number: int, source: _Source) -> AccessTest | None:
        given = spec.access
        if given is None:
            return None
        right = [item for one in given.unless for item in self._explanations(one, number, source)]
        wrong = [item for one in given.while_ for item in self._explanations(one, number, source)]
        if given.of in ENTRY_KINDS and not wrong:
            wrong = [StateTest(signal=self._signal("contact", number, source, "access"), op=Op.IN, values=(1.0,))]
        if given.of == "release_failed":
            wrong = [*self._fires(source)]
        own = self._extra("hours") or given.hours
        return AccessTest(
            of=given.of,
            trues=tuple(item for item in wrong if isinstance(item, StateTest)),
            events=tuple(item for item in right if isinstance(item, tuple)),
            states=tuple(item for item in right if isinstance(item, StateTest)),
            warn_ms=None if given.warn is None else span_ms(given.warn, self.numbers),
            after_ms=span_ms(given.after, self.numbers),
            within_ms=span_ms(given.within, self.numbers),
            skew_ms=round(given.skew * 1000),
            count=given.count,
            per=given.per,
            speed_mps=given.speed,
            hours=str(own) if given.of == "unlocked" else "",
        )

    def _explanations(
        self, one: Explanation, number: int, source: _Source
    ) -> Iterator[StateTest | tuple[str, str, str, tuple[str | float, ...]]]:
        others = [self.equipment_id]
        if one.equipment is not None:
            others = [
                key
                for key, item in self.site.equipment.items()
                if item.type == one.equipment.type or key in (one.equipment.id or ())
            ]
        for other in others:
            if one.event is not None and one.field is not None:
                yield (one.event, one.field, other, tuple(one.values))
            elif other == self.equipment_id:
                key = self._signal(str(one.signal), number, source, "sequence")
                yield StateTest(signal=key, op=Op.IN, values=tuple(float(v) for v in one.values))
            else:
                yield StateTest(signal=f"{other}/{one.signal}", op=Op.IN, values=tuple(float(v) for v in one.values))

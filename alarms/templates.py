"""Templates: what the equipment of one type reports, and the rules that come with it.

``templates/TYPE.yaml`` holds one type; ``templates/every.yaml`` the rules that each type gets.
A signal or rule with ``repeat`` stands for several: ``p{n}_state`` with ``repeat: pumps`` is ``p1_state`` to
``p3_state``, the count taken from the equipment's own keys, its ``rated`` values or the template's ``rated``.
Amounts may refer to rated values: ``rated.pressure_mpa + 0.05``, ``rated.speed_mps * 1.15``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from alarms.doors.hours import parse_hours
from watchroom.durations import Seconds, seconds
from watchroom.errors import ConfigError
from watchroom.signals import Kind
from watchroom.site import Equipment
from watchroom.yamlfile import Strict, Text, YamlFile, load_yaml

FOLDER = Path(__file__).parent / "templates"
EVERY = "every"

AlarmClass = Literal["fire", "life_safety", "security", "equipment", "communication"]
AccessKind = Literal[
    "forced", "tailgating", "held", "release_failed", "unlocked", "denials", "unknown", "liveness", "antipassback",
    "travel", "blacklisted", "lost", "expired", "duress",
]  # fmt: skip
OTHER = "other"
ENTRY_KINDS = ("forced", "tailgating")
SPAN_KINDS = ("held", "release_failed", "unlocked")
Level = Literal["HH", "H", "L", "LL"]
Amount = float | str
Priority = Annotated[int, Field(ge=1, le=4)]
_AMOUNT = re.compile(
    r"rated\.(?P<name>\w+)(?:\s*\*\s*(?P<factor>-?\d+(?:\.\d+)?))?(?:\s*(?P<sign>[+-])\s*(?P<plus>\d+(?:\.\d+)?))?"
)


def _check_amount(value: object) -> object:
    if isinstance(value, str) and _AMOUNT.fullmatch(value) is None:
        raise ValueError("expected a number or an expression such as rated.pressure_mpa + 0.05")
    return value


def _check_span(value: object) -> object:
    if value is None:
        return None
    return value if isinstance(value, str) and _AMOUNT.fullmatch(value) else seconds(value)


class _Checked(Strict):
    """Base of parts whose amounts are numbers or expressions over ``rated``."""

    @field_validator("HH", "H", "L", "LL", "deadband", "above", "below", mode="before", check_fields=False)
    @classmethod
    def _amount(cls, value: object) -> object:
        return _check_amount(value)

    @field_validator(
        "on_delay", "off_delay", "minimum_on", "within", "after", "warn", mode="before", check_fields=False
    )
    @classmethod
    def _span(cls, value: object) -> object:
        return _check_span(value)


class SignalInfo(Strict):
    """One signal as people know it."""

    name: Text
    unit: str = ""
    kind: Kind = Kind.MEASURE
    texts: dict[int, Text] = Field(default={}, description="Meaning of each value of a state")
    normal: tuple[Amount, Amount] | None = Field(default=None, description="Normal range for faceplates and trends")
    repeat: str | None = None
    codes: str | None = Field(default=None, description="Its texts come from the code table the equipment names")

    @field_validator("normal", mode="before")
    @classmethod
    def _amounts(cls, value: object) -> object:
        return [_check_amount(item) for item in value] if isinstance(value, list) else value


Kinds = Literal["limit", "state", "count", "logic", "sequence", "access", "health"]
Transform = Literal["raw", "rate", "delta", "mean", "min", "max", "duty", "starts", "difference"]


class Limit(_Checked):
    """Levels of one measured signal, or of what is computed from it; H and HH are exceeded above, L and LL below.

    Windows end at each sample; nothing is judged before one is covered whole.
    """

    signal: str
    transform: Transform = Field(
        default="raw",
        description="rate: change per minute over the window; delta: change over it; mean, min, max; duty: share of it "
        "with a value other than 0; starts: how often the value became other than 0; difference: signal - minus",
    )
    window: Seconds | None = Field(default=None, gt=0, le=7 * 86_400)
    minus: str | None = Field(default=None, description="The other signal of a difference")
    skew: Seconds = Field(default=1.0, description="difference: waits this long for the later one of the two")
    HH: Amount | None = None
    H: Amount | None = None
    L: Amount | None = None
    LL: Amount | None = None

    @model_validator(mode="after")
    def _some_level(self) -> Limit:
        if not self.levels:
            raise ValueError("give at least one of HH, H, L, LL")
        if (self.window is not None) == (self.transform in ("raw", "difference")):
            raise ValueError(f"transform {self.transform} " + ("takes no window" if self.window else "needs a window"))
        if (self.minus is not None) != (self.transform == "difference"):
            raise ValueError("difference, and nothing else, needs minus: SIGNAL")
        return self

    @property
    def levels(self) -> dict[Level, Amount]:
        """The levels that are given, in the order HH, H, L, LL."""
        pairs: tuple[tuple[Level, Amount | None], ...] = (
            ("HH", self.HH),
            ("H", self.H),
            ("L", self.L),
            ("LL", self.LL),
        )
        return {level: amount for level, amount in pairs if amount is not None}


class StateIs(_Checked):
    """A test of one signal's value: one of a set, none of a set, a bit of a mask, above or below an amount."""

    signal: str
    values: list[float] | None = Field(default=None, alias="in")
    not_in: list[float] | None = None
    bits: int | None = Field(default=None, ge=1)
    above: Amount | None = None
    below: Amount | None = None
    group: str | None = Field(default=None, description="Group of the equipment's code table; other: codes it lacks")

    @model_validator(mode="after")
    def _one_test(self) -> StateIs:
        given = (self.values, self.not_in, self.bits, self.above, self.below, self.group)
        if sum(item is not None for item in given) != 1:
            raise ValueError(
                "give exactly one of in: [values], not_in: [values], bits: mask, above:, below: and group:"
            )
        return self


class Selector(Strict):
    """Which equipment: all of a type, or some by id."""

    type: str | None = None
    id: list[str] | None = None

    @model_validator(mode="after")
    def _one(self) -> Selector:
        if (self.type is None) == (self.id is None):
            raise ValueError("give either type: TYPE or id: [EQUIPMENT, ...]")
        return self


class Explanation(Strict):
    """Something that explains the first part of a sequence: an event with a field, or a signal's state."""

    event: str | None = None
    field: str | None = None
    signal: str | None = None
    values: list[str | float] = Field(alias="in")
    equipment: Selector | None = Field(default=None, description="Of other equipment; default the rule's own")

    @model_validator(mode="after")
    def _one_source(self) -> Explanation:
        if (self.event is None) == (self.signal is None) or (self.event is None) != (self.field is None):
            raise ValueError("give either event: KIND with field: NAME, or signal: NAME")
        return self


class Sequence(_Checked):
    """A change to a state that nothing explains within ``[t - within, t + skew]``."""

    signal: str
    values: list[float] = Field(alias="in")
    unless: list[Explanation] = Field(min_length=1)
    within: Amount
    skew: Seconds = 1.0


class Access(_Checked):
    """A rule of access control; what each kind means is told in ``alarms/doors``."""

    of: AccessKind
    while_: list[Explanation] = Field(default=[], alias="while", description="States that make it true")
    unless: list[Explanation] = Field(default=[], description="Grants and states that make it right")
    warn: Amount | None = Field(default=None, description="held: seconds before a warning, level H; the alarm is HH")
    after: Amount = Field(default=0.0, description="Seconds the state must last")
    within: Amount = Field(default=0.0, description="Seconds in which things belong together")
    skew: Seconds = Field(default=1.0, description="Difference of clocks of devices that is allowed for")
    count: Annotated[int, Field(ge=1, le=20)] = 1
    per: Literal["card", "door"] = "door"
    speed: Annotated[float, Field(gt=0)] = Field(default=7.0, description="travel: fastest a person moves, m/s")
    hours: str = Field(default="", description="unlocked: when the door may be, such as Mo-Fr 07:00-19:00")

    @field_validator("hours")
    @classmethod
    def _known_hours(cls, value: str) -> str:
        if value and not value.startswith("rated."):
            parse_hours(value)
        return value

    @model_validator(mode="after")
    def _complete(self) -> Access:
        if self.of in SPAN_KINDS and self.of != "release_failed" and not self.while_:
            raise ValueError(f"{self.of} needs while: [states]")
        if self.of in ENTRY_KINDS and not self.unless:
            raise ValueError(f"{self.of} needs unless: [grants and states]")
        return self


class Count(_Checked):
    """How often something happened within a time: a signal became one of some values, or events with a field came."""

    signal: str | None = None
    event: str | None = None
    field: str | None = None
    values: list[str | float] = Field(alias="in", min_length=1)
    by: str | None = Field(default=None, description="Count each value of this event field on its own, e.g. card")
    times: int = Field(ge=1, le=1000)
    within: Amount
    skew: Seconds = Field(default=1.0, description="Waits this long for what comes late")

    @model_validator(mode="after")
    def _one_source(self) -> Count:
        if (self.event is None) == (self.signal is None) or (self.event is None) != (self.field is None):
            raise ValueError("give either event: KIND with field: NAME, or signal: NAME")
        if self.by is not None and self.event is None:
            raise ValueError("by: belongs to events")
        if self.signal is not None and not all(isinstance(value, int | float) for value in self.values):
            raise ValueError("in: values of a signal are numbers")
        return self


class Logic(Strict):
    """Several states of one piece of equipment at one time."""

    inputs: list[StateIs] = Field(min_length=2, max_length=64)
    need: Literal["all", "any"] | Annotated[int, Field(ge=1)] = Field(
        default="all", description="How many of them must hold"
    )
    skew: Seconds = Field(default=1.0, description="Waits this long for the latest of the inputs")

    @model_validator(mode="after")
    def _reachable(self) -> Logic:
        if self.count > len(self.inputs):
            raise ValueError(f"need: {self.need} of {len(self.inputs)} inputs can never hold")
        return self

    @property
    def count(self) -> int:
        """How many inputs must hold."""
        return len(self.inputs) if self.need == "all" else 1 if self.need == "any" else self.need


class Health(Strict):
    """The equipment's data themselves are in doubt."""

    of: Literal["stale", "bad", "never_seen", "gateway_silent"]
    after: Seconds = Field(default=0.0, description="never_seen and gateway_silent: this long without a word")


class Sla(Strict):
    """Times a ticket has, in seconds; None: no clock."""

    accept: Seconds | None = None
    arrive: Seconds | None = None
    restore: Seconds | None = None


class TicketPolicy(Strict):
    """Which ticket an alarm opens."""

    type: Literal["patrol", "repair"]
    also: Literal["patrol", "repair"] | None = None
    sla: Sla = Sla()


class Guide(Strict):
    """What the person at the console should know and do, in one language."""

    cause: str = ""
    consequence: str = ""
    do: list[str] = []
    respond_min: float | None = None

    @field_validator("do", mode="before")
    @classmethod
    def _one_step(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


class Guidance(Strict):
    """Guidance in both languages."""

    zh: Guide = Guide()
    en: Guide = Guide()


KINDS: tuple[Kinds, ...] = ("limit", "state", "count", "logic", "sequence", "access", "health")


class RuleSpec(_Checked):
    """One rule as it stands in a file; exactly one of the kinds."""

    title: Text | None = None
    detail: Text | None = None
    limit: Limit | None = None
    state: StateIs | None = None
    count: Count | None = None
    logic: Logic | None = None
    sequence: Sequence | None = None
    access: Access | None = None
    health: Health | None = None
    when: StateIs | None = Field(default=None, description="Guard: judged only while this state holds")
    deadband: Amount = 0.0
    on_delay: Amount = 0.0
    off_delay: Amount = 0.0
    minimum_on: Amount = Field(default=0.0, description="Once raised, not cleared before this time has passed")
    class_: AlarmClass = Field(alias="class")
    priority: Priority | dict[Level, Priority]
    latching: bool = False
    family: str | None = Field(default=None, description="Alarms of one family and equipment share a ticket")
    ticket: TicketPolicy | None = None
    guidance: Guidance = Guidance()
    repeat: str | None = None
    enabled: bool = True

    @model_validator(mode="after")
    def _one_condition(self) -> RuleSpec:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}")
        if given[0] in ("sequence", "access", "health"):
            if self.when is not None:
                raise ValueError(f"when: does not guard {given[0]} rules")
            if self.minimum_on != 0.0:
                raise ValueError(f"minimum_on: does not hold {given[0]} rules")
        levels = set(self.limit.levels) if self.limit else {"H", "HH"} if self.access and self.access.warn else set()
        if isinstance(self.priority, dict) and set(self.priority) != levels:
            raise ValueError("a priority for each level needs the same levels as limit")
        return self


class CodeTable(Strict):
    """What the fault codes of one make mean; makes use the same numbers for different faults."""

    texts: dict[int, Text]
    groups: dict[str, list[int]] = Field(default={}, description="Codes that one rule is about")

    @model_validator(mode="after")
    def _known(self) -> CodeTable:
        for name, codes in self.groups.items():
            missing = [code for code in codes if code not in self.texts]
            if missing or name == OTHER:
                raise ValueError(f"group {name}: {missing} are not among the texts, and 'other' is no name")
        return self

    def values(self, group: str) -> list[float]:
        """Return the codes of a group; for ``other`` those that the table does have."""
        return [float(code) for code in (self.texts if group == OTHER else self.groups.get(group, []))]


class Template(Strict):
    """Everything a type of equipment brings along."""

    name: Text
    rated: dict[str, float] = Field(default={}, description="Values used when the equipment gives none")
    codes: dict[str, dict[str, CodeTable]] = Field(
        default={}, description="Key of the equipment -> its value -> the table; the first is the default"
    )
    signals: dict[str, SignalInfo] = {}
    rules: dict[str, RuleSpec] = {}

    def signals_of(self, equipment: Equipment) -> dict[str, SignalInfo]:
        """Return the signals one piece of equipment has, repeats written out, its own ``signals:`` added."""
        result: dict[str, SignalInfo] = {}
        for key, info in self.signals.items():
            for name, number in expand(key, info.repeat, self.numbers(equipment)):
                result[name] = _numbered(info, number)
                if info.codes is not None:
                    texts = self.code_table(info.codes, equipment).texts
                    result[name] = result[name].model_copy(update={"texts": texts})
        for key, raw in (equipment.model_extra or {}).get("signals", {}).items():
            result[key] = SignalInfo.model_validate(raw)
        return result

    def code_table(self, key: str, equipment: Equipment) -> CodeTable:
        """Return the code table that a piece of equipment names under a key.

        Raises:
            ValueError: If it names one that the template does not have.
        """
        tables = self.codes[key]
        name = (equipment.model_extra or {}).get(key, next(iter(tables)))
        if name not in tables:
            raise ValueError(f"{key}: {name!r} is no table of this type; known are {', '.join(tables)}")
        return tables[name]

    def normal_of(self, equipment: Equipment, info: SignalInfo) -> tuple[float, float] | None:
        """Return the normal range of a signal in its own unit."""
        if info.normal is None:
            return None
        numbers = self.numbers(equipment)
        return amount(info.normal[0], numbers), amount(info.normal[1], numbers)

    def numbers(self, equipment: Equipment) -> dict[str, float]:
        """Return what repeats and amounts may name: rated values over the equipment's keys over defaults."""
        extra = {k: float(v) for k, v in (equipment.model_extra or {}).items() if isinstance(v, int | float)}
        return {**self.rated, **extra, **equipment.rated}


def _numbered(info: SignalInfo, number: int) -> SignalInfo:
    if not number:
        return info
    name = Text(zh=info.name.zh.replace("{n}", str(number)), en=info.name.en.replace("{n}", str(number)))
    return info.model_copy(update={"name": name})


def expand(key: str, repeat: str | None, numbers: Mapping[str, float]) -> list[tuple[str, int]]:
    """Return (name, number) for each repetition of a key; number 0 when it stands for itself.

    Raises:
        ValueError: If the count is not among the numbers.
    """
    if repeat is None:
        return [(key, 0)]
    if repeat not in numbers:
        raise ValueError(f"repeat: {repeat} is neither a key of the equipment nor a rated value")
    return [(key.replace("{n}", str(i)), i) for i in range(1, int(numbers[repeat]) + 1)]


def amount(value: Amount, numbers: Mapping[str, float]) -> float:
    """Return an amount as a number.

    Raises:
        ValueError: If it names a rated value that the equipment does not have.
    """
    if not isinstance(value, str):
        return float(value)
    match = _AMOUNT.fullmatch(value)
    if match is None or match["name"] not in numbers:
        raise ValueError(f"{value!r} needs a rated value that the equipment does not give")
    plus = float(match["plus"] or 0.0) * (-1.0 if match["sign"] == "-" else 1.0)
    return round(numbers[match["name"]] * float(match["factor"] or 1.0) + plus, 9)


def span_ms(value: Amount, numbers: Mapping[str, float]) -> int:
    """Return a duration in milliseconds; amounts are in seconds.

    Raises:
        ValueError: As `amount`.
    """
    return round(amount(value, numbers) * 1000)


@cache
def _load(folder: Path) -> dict[str, tuple[Template, YamlFile]]:
    result = {}
    for path in sorted(folder.glob("*.yaml")):
        file = load_yaml(path)
        template: Template = file.parse(Template)
        result[path.stem] = (template, file)
    return result


def load_templates(folder: Path = FOLDER) -> dict[str, Template]:
    """Return the templates by type; the rules of ``every.yaml`` are in each of them.

    Raises:
        ConfigError: With file, line and key of the first thing that is wrong.
    """
    loaded = _load(folder)
    every = loaded[EVERY][0].rules if EVERY in loaded else {}
    result = {}
    for kind, (template, file) in loaded.items():
        if kind == EVERY:
            continue
        both = sorted(set(every) & set(template.rules))
        if both:
            raise file.error(("rules", both[0]), "every.yaml has a rule of this name")
        result[kind] = template.model_copy(update={"rules": {**template.rules, **every}})
    return result


def template_of(templates: Mapping[str, Template], equipment: Equipment) -> Template:
    """Return the template of a piece of equipment.

    Raises:
        ConfigError: If no template has its type.
    """
    if equipment.type not in templates:
        raise ConfigError(f"type {equipment.type!r} has no template", hint=f"known are {', '.join(sorted(templates))}")
    return templates[equipment.type]

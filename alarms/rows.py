"""One row = (rule, equipment, instance), with everything that judging and telling need."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

from alarms.templates import Guidance, TicketPolicy
from watchroom.yamlfile import Text

if TYPE_CHECKING:
    from alarms.judged import Transition

LEVEL_WORDS = {
    "zh": {"HH": "过高", "H": "偏高", "L": "偏低", "LL": "过低", "": "异常"},
    "en": {"HH": "very high", "H": "high", "L": "low", "LL": "very low", "": "abnormal"},
}
SIDE_WORDS = {
    "zh": {"HH": "高于", "H": "高于", "L": "低于", "LL": "低于"},
    "en": {"HH": "above", "H": "above", "L": "below", "LL": "below"},
}
HEALTH_WORDS: dict[str, dict[str, str]] = {
    "stale": {"zh": "数据停止更新", "en": "Data stopped"},
    "bad": {"zh": "数据无效", "en": "Data invalid"},
    "never_seen": {"zh": "从未收到数据", "en": "Data never received"},
    "gateway_silent": {"zh": "网关离线", "en": "Gateway offline"},
}

Both = dict[str, str]
"""A text as {"zh": ..., "en": ...}."""


class Op(IntEnum):
    """How a value is compared."""

    ABOVE = 0
    BELOW = 1
    BITS = 2
    IN = 3
    NOT_IN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTest:
    """A test of one signal.

    Attributes:
        op: ABOVE and BELOW compare with ``limit``, BITS with ``mask``, IN and NOT_IN with ``values``.
        deadband: Distance back inside before ABOVE and BELOW let go, in the signal's unit.
    """

    signal: str
    op: Op
    values: tuple[float, ...] = ()
    mask: int = 0
    limit: float = 0.0
    deadband: float = 0.0

    def verdict(self, value: float) -> int:
        """Return 1 when a value passes, -1 when it fails, 0 when it lies in the deadband or is NaN."""
        if math.isnan(value):
            return 0
        if self.op is Op.ABOVE:
            return 1 if value > self.limit else -1 if value <= self.limit - self.deadband else 0
        if self.op is Op.BELOW:
            return 1 if value < self.limit else -1 if value >= self.limit + self.deadband else 0
        if self.op is Op.BITS:
            return 1 if math.isfinite(value) and int(value) & self.mask else -1
        return 1 if (value in self.values) == (self.op is Op.IN) else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceTest:
    """A change of ``signal`` into ``values`` that nothing explains.

    Attributes:
        events: (event kind, field, equipment, values) that explain it.
        states: States of signals that explain it.
        within_ms: How long before the change an explanation counts.
        skew_ms: How long after it one still counts; the judgement waits for it.
    """

    signal: str
    values: tuple[float, ...]
    events: tuple[tuple[str, str, str, tuple[str | float, ...]], ...]
    states: tuple[StateTest, ...]
    within_ms: int
    skew_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTest:
    """A rule of access control, judged by ``alarms.doors``; times in ms.

    Attributes:
        of: Kind; see `alarms.templates.AccessKind`.
        trues: States any of which makes a lasting condition true; for entries the door's contact.
        events: (event kind, field, equipment, values) that make an entry right.
        states: States that make it right.
        warn_ms: Before a lasting condition warns; None for no warning.
        after_ms: Before it is an alarm.
        within_ms: In which things belong together.
        skew_ms: Difference of clocks that is allowed for; the judgement waits for it.
    """

    of: str
    trues: tuple[StateTest, ...] = ()
    events: tuple[tuple[str, str, str, tuple[str | float, ...]], ...] = ()
    states: tuple[StateTest, ...] = ()
    warn_ms: int | None = None
    after_ms: int = 0
    within_ms: int = 0
    skew_ms: int = 1000
    count: int = 1
    per: str = "door"
    speed_mps: float = 7.0
    hours: str = ""

    @property
    def delay_ms(self) -> int:
        """How long a lasting condition goes on before it is told first."""
        return self.after_ms if self.warn_ms is None else self.warn_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """A value computed from signals or events, judged like a signal of its own.

    Attributes:
        how: A transform of templates.Limit, or ``logic`` (how many tests hold), or ``count`` (how often lately).
        signals: Keys of the signals it is computed from; for difference the minuend and the subtrahend.
        window_ms: Length of the window; 0 without one.
        skew_ms: How long it waits for inputs of other lanes; computed at once when negative.
        tests: For logic: the states; for count: the one whose beginning is counted.
        event: For count of events: (kind, field, equipment, values); None else.
        by: For count of events: field whose values are counted apart, empty for none.
    """

    how: str
    signals: tuple[str, ...] = ()
    window_ms: int = 0
    skew_ms: int = -1
    tests: tuple[StateTest, ...] = ()
    event: tuple[str, str, str, tuple[str | float, ...]] | None = None
    by: str = ""

    @property
    def key(self) -> str:
        """Name of the value; no equipment has it, so that no page shows it."""
        parts = (self.how, *self.signals, self.window_ms, self.skew_ms, self.tests, self.event, self.by)
        return f"~{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Keys of the signals that a piece of equipment should have by its template."""

    signals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RuleRow:
    """One row of the alarm table.

    Attributes:
        key: ``rule|equipment|instance``.
        rule: For example ``outlet_pressure.low``.
        version: 16 hex digits over the rule's content, so that an alarm tells which rule raised it.
        instance: Number of the pump or zone; empty when the equipment has one of it.
        kind: Kind of condition.
        priorities: Level -> priority 1..4; "" for rules without levels.
        latching: Stays until a person has acknowledged and reset it.
        signal: Key of the main signal; None for health rules.
        signals: Main signal and guard.
        limits: Level -> limit in the signal's unit.
        guard: Judged only while this state holds.
        health: For health rules what is watched.
        family: Shared by rules whose alarms are one fault; see `fault`.
        after_ms: For never_seen and gateway_silent: the silence that counts.
        derived: What is judged instead of the signal's own value.
    """

    key: str
    rule: str
    version: str
    equipment: str
    instance: str = ""
    kind: Literal["limit", "state", "count", "logic", "sequence", "access", "health"]
    class_: str
    priorities: Mapping[str, int]
    latching: bool = False
    ticket: TicketPolicy | None = None
    guidance: Guidance = field(default_factory=Guidance)
    signal: str | None = None
    signals: tuple[str, ...] = ()
    unit: str = ""
    name: Text = field(default_factory=lambda: Text(zh="", en=""))
    texts: Mapping[int, Text] = field(default_factory=dict)
    title: Text | None = None
    detail: Text | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    deadband: float = 0.0
    on_delay_ms: int = 0
    off_delay_ms: int = 0
    state: StateTest | None = None
    guard: StateTest | None = None
    sequence: SequenceTest | None = None
    access: AccessTest | None = None
    health: str = ""
    after_ms: int = 0
    family: str | None = None
    minimum_on_ms: int = 0
    derived: Derived | None = None

    def priority(self, level: str = "") -> int:
        """Return the priority at a level; without one the mildest."""
        return self.priorities.get(level, self.priorities.get("", 4))

    @property
    def fault(self) -> str:
        """Fault family: alarms of one family on one piece of equipment share a ticket."""
        if self.family is not None:
            return self.family
        return self.rule if not self.instance else f"{self.rule}.{self.instance}"

    def describe(self, transition: Transition) -> tuple[Both, Both]:
        """Return title and detail of a transition in both languages.

        The title names what is wrong, without the equipment's name; the detail gives value, limit and delay.
        """
        title: Both = {}
        detail: Both = {}
        for lang in ("zh", "en"):
            words = self._words(lang, transition)
            first = getattr(self.title, lang) if self.title is not None else self._default_title(lang, transition)
            second = getattr(self.detail, lang) if self.detail is not None else self._default_detail(lang, transition)
            title[lang], detail[lang] = _fill(first, words), _fill(second, words)
        return title, detail

    def _words(self, lang: str, transition: Transition) -> dict[str, str]:
        value = transition.value
        text = self.texts.get(int(value)) if math.isfinite(value) and value == int(value) else None
        return {
            "n": self.instance,
            "name": str(getattr(self.name, lang)),
            "value": _number(value),
            "limit": _number(transition.limit),
            "unit": self.unit,
            "level": LEVEL_WORDS[lang].get(transition.level, ""),
            "side": SIDE_WORDS[lang].get(transition.level, ""),
            "text": str(getattr(text, lang)) if text is not None else _number(value),
            "delay": _span(self.on_delay_ms, lang),
            "signals": ("、" if lang == "zh" else ", ").join(transition.cause),
        }

    def _default_title(self, lang: str, transition: Transition) -> str:
        if self.kind == "limit":
            return "{name}{level}" if lang == "zh" else "{name} {level}"
        if self.kind == "health":
            return HEALTH_WORDS[self.health][lang]
        return "{name}：{text}" if lang == "zh" else "{name}: {text}"

    def _default_detail(self, lang: str, transition: Transition) -> str:
        zh = lang == "zh"
        if self.kind == "health":
            return "{signals}"
        if self.kind == "limit" and math.isfinite(transition.limit):
            text = (
                "{name} {value} {unit}，{side} {limit} {unit}" if zh else "{name} {value} {unit}, {side} {limit} {unit}"
            )
        else:
            text = "{name}：{text}" if zh else "{name}: {text}"
        if self.on_delay_ms:
            text += "，持续 {delay}" if zh else ", for {delay}"
        return text


def _fill(template: str, words: Mapping[str, str]) -> str:
    for key, word in words.items() if "{" in template else ():
        if not word:
            template = template.replace(" {" + key + "}", "")  # a signal without a unit leaves no gap behind
        template = template.replace("{" + key + "}", word)
    return " ".join(template.split())


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "—"
    return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 1e6 else f"{value:.6g}"


def _span(delay_ms: int, lang: str) -> str:
    if delay_ms >= 120_000:
        return f"{delay_ms // 60_000} 分钟" if lang == "zh" else f"{delay_ms // 60_000} min"
    return f"{delay_ms / 1000:g} 秒" if lang == "zh" else f"{delay_ms / 1000:g} s"

"""A small subset of JSONPath, compiled once: ``$.a.b[0]``, ``$.list[*]``, ``??``, and conditions on such paths. Pure.

``$`` is the record (an item of ``each``, or the whole message), ``$$`` always the whole message.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

MISSING: Any = object()
"""What a path gives that leads nowhere; JSON null is something else."""

Step = str | int | None
_STEP = re.compile(r"\.([^\s.\[\]()'\"=!<>,?*]+)|\[(-?\d+)\]|\[(\*)\]|\['([^']*)'\]")
_PATH_TOKEN = r"\$\$?(?:\.[^\s.\[\]()'\"=!<>,?*]+|\[-?\d+\]|\[\*\]|\['[^']*'\])*"
_TOKEN = re.compile(
    rf"\s*(?:(?P<path>{_PATH_TOKEN})|(?P<text>'[^']*'|\"[^\"]*\")|(?P<number>-?\d+(?:\.\d+)?)"
    r"|(?P<sign>==|!=|<=|>=|<|>|\?\?|[()\[\],])|(?P<word>[A-Za-z]+))"
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS = {"true": True, "false": False, "null": None}
Evaluate = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A compiled path with its alternatives.

    Attributes:
        text: As written.
        alternatives: (whether it starts at the whole message, steps); a step None means every item.
    """

    text: str
    alternatives: tuple[tuple[bool, tuple[Step, ...]], ...]

    def first(self, record: Any, message: Any) -> Any:
        """Return the first thing found, or MISSING; null counts as missing while an alternative is left."""
        found: Any = MISSING
        for from_message, steps in self.alternatives:
            for value in _walk(message if from_message else record, steps):
                if value is not None:
                    return value
                found = None
                break
        return found

    def every(self, record: Any, message: Any) -> list[Any]:
        """Return everything the first alternative that leads somewhere finds."""
        for from_message, steps in self.alternatives:
            values = list(_walk(message if from_message else record, steps))
            if values:
                return values
        return []

    def remove(self, message: Any) -> None:
        """Delete what the path finds from a message, in place."""
        for _, steps in self.alternatives:
            if not steps:
                continue
            for holder in _walk(message, steps[:-1]):
                if isinstance(steps[-1], str) and isinstance(holder, dict):
                    holder.pop(steps[-1], None)

    @property
    def keys(self) -> frozenset[str]:
        """Last names of the alternatives, to see whether two paths mean the same thing."""
        return frozenset(steps[-1] for _, steps in self.alternatives if steps and isinstance(steps[-1], str))


def compile_path(text: str) -> JsonPath:
    """Return a path; a bare name means a field of the record (or a CSV column).

    Raises:
        ValueError: With a sentence for people.
    """
    alternatives = []
    for part in text.split("??"):
        path = part.strip()
        if not path.startswith("$"):
            if not re.fullmatch(r"[^\s.\[\]()'\"=!<>,?*$]+", path):
                raise ValueError(f"{text!r} is not a path such as $.info.id, $.list[0] or $.a ?? $.b")
            path = f"$.{path}"
        alternatives.append(_alternative(path, text))
    return JsonPath(text, tuple(alternatives))


def compile_condition(text: str) -> Callable[[Any, Any], bool]:
    """Return a condition on (record, message), such as ``$.operator == 'RecPush' and $.score > 0.5``.

    A path alone is true where it leads to something that is neither null, false, 0 nor empty. Comparing
    something missing, or things that have no order, is false.

    Raises:
        ValueError: With a sentence for people.
    """
    parser = _Parser(text)
    evaluate = parser.any_of()
    parser.end()
    return lambda record, message: bool(evaluate(record, message))


def _alternative(path: str, text: str) -> tuple[bool, tuple[Step, ...]]:
    from_message = path.startswith("$$")
    rest = path[2:] if from_message else path[1:]
    steps: list[Step] = []
    at = 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None:
            raise ValueError(f"{text!r} is not a path such as $.info.id, $.list[0] or $.a ?? $.b (at {rest[at:]!r})")
        name, index, star, quoted = match.groups()
        steps.append(int(index) if index is not None else None if star else name if name is not None else quoted)
        at = match.end()
    return from_message, tuple(steps)


def _walk(value: Any, steps: tuple[Step, ...]) -> Iterator[Any]:
    if not steps:
        yield value
        return
    step, rest = steps[0], steps[1:]
    if step is None:
        for item in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
            yield from _walk(item, rest)
    elif isinstance(step, int):
        if isinstance(value, list) and -len(value) <= step < len(value):
            yield from _walk(value[step], rest)
    elif isinstance(value, dict) and step in value:
        yield from _walk(value[step], rest)


class _Parser:
    """Recursive descent over the tokens of one condition."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        at = 0
        stripped = text.strip()
        while at < len(stripped):
            match = _TOKEN.match(stripped, at)
            if match is None:
                raise self._error(f"at {stripped[at:]!r}")
            self._tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            at = match.end()
        self._at = 0

    def any_of(self) -> Evaluate:
        parts = [self._all_of()]
        while self._take("or"):
            parts.append(self._all_of())
        return parts[0] if len(parts) == 1 else lambda r, m: any(part(r, m) for part in parts)

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise self._error(f"at {self._tokens[self._at][1]!r}")

    def _all_of(self) -> Evaluate:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda r, m: all(part(r, m) for part in parts)

    def _one(self) -> Evaluate:
        if self._take("not"):
            inner = self._one()
            return lambda r, m: not inner(r, m)
        if self._take("("):
            inner = self.any_of()
            self._expect(")")
            return inner
        left = self._operand()
        if self._take("in"):
            choices = self._choices()
            return lambda r, m: any(_compare(operator.eq, left(r, m), choice) for choice in choices)
        for sign, function in _COMPARE.items():
            if self._take(sign):
                right = self._operand()
                return _comparison(function, left, right)
        return lambda r, m: (value := left(r, m)) is not MISSING and bool(value)

    def _choices(self) -> list[Any]:
        self._expect("[")
        choices = [self._literal()]
        while self._take(","):
            choices.append(self._literal())
        self._expect("]")
        return choices

    def _operand(self) -> Evaluate:
        if self._at < len(self._tokens) and self._tokens[self._at][0] == "path":
            texts = [self._tokens[self._at][1]]
            self._at += 1
            while self._take("??"):
                texts.append(self._tokens[self._at][1] if self._at < len(self._tokens) else "")
                self._at += 1
            path = compile_path(" ?? ".join(texts))
            return path.first
        value = self._literal()
        return lambda _r, _m: value

    def _literal(self) -> Any:
        if self._at >= len(self._tokens):
            raise self._error("it ends too early")
        kind, text = self._tokens[self._at]
        self._at += 1
        if kind == "text":
            return text[1:-1]
        if kind == "number":
            return float(text) if "." in text else int(text)
        if kind == "word" and text in _WORDS:
            return _WORDS[text]
        raise self._error(f"at {text!r}; texts stand in quotes")

    def _take(self, text: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at] in {("sign", text), ("word", text)}:
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._error(f"{text!r} is missing")

    def _error(self, detail: str) -> ValueError:
        return ValueError(f"{self._text!r} is not a condition such as $.operator == 'RecPush' ({detail})")


def _comparison(function: Callable[[Any, Any], bool], left: Evaluate, right: Evaluate) -> Evaluate:
    return lambda r, m: _compare(function, left(r, m), right(r, m))


def _compare(function: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    if left is MISSING or right is MISSING:
        return False
    try:
        return function(left, right)
    except TypeError:
        return False

"""Small arithmetic expressions of device models, compiled once; there is no ``eval`` behind them."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Number = float | int | bool
Evaluate = Callable[[Mapping[str, float]], Any]

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: lambda a, b: int(a) & int(b),
    ast.BitOr: lambda a, b: int(a) | int(b),
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"abs": abs, "min": min, "max": max, "round": round, "sqrt": math.sqrt}
_MAX_CHARACTERS = 500
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression.

    Attributes:
        text: As written.
        names: Signals and parameters it needs.
    """

    text: str
    names: frozenset[str]
    _evaluate: Evaluate = field(compare=False)

    def __call__(self, values: Mapping[str, float]) -> float:
        """Return the result; NaN where an input is NaN or the arithmetic has no answer (1/0)."""
        if any(math.isnan(values[name]) for name in self.names):
            return math.nan
        try:
            return float(self._evaluate(values))
        except (ArithmeticError, ValueError):
            return math.nan


def compile_expression(text: str, words: Mapping[str, Mapping[str, float]] | None = None) -> Expression:
    """Return an expression ready to be evaluated.

    Args:
        text: Numbers, names, + - * / // % & |, comparisons, and/or/not, ``a if b else c``, and abs, min, max,
            round, sqrt.
        words: Per name the numbers behind its texts, so that ``mode == 'normal'`` can be written.

    Raises:
        ValueError: With a sentence for people.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"an expression has at most {_MAX_CHARACTERS} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as exc:
        raise ValueError(f"{text!r} is not an expression: {exc.msg}") from exc
    names: set[str] = set()
    evaluate = _compile(tree.body, names, words or {})
    return Expression(text, frozenset(names), evaluate)


def fill(template: str, values: Mapping[str, float]) -> str:
    """Return a text with every ``{expression}`` replaced by its whole number.

    Raises:
        ValueError: If an expression is wrong or uses a name that ``values`` lacks.
    """

    def replace(match: re.Match[str]) -> str:
        expression = compile_expression(match[1])
        unknown = expression.names - values.keys()
        if unknown:
            raise ValueError(f"{{{match[1]}}} uses {sorted(unknown)[0]!r}, which repeat: does not define")
        result = expression(values)
        if not result.is_integer():
            raise ValueError(f"{{{match[1]}}} gives {result}, which is not a whole number")
        return str(int(result))

    return _PLACEHOLDER.sub(replace, template)


def _compile(node: ast.expr, names: set[str], words: Mapping[str, Mapping[str, float]]) -> Evaluate:
    def sub(child: ast.expr) -> Evaluate:
        return _compile(child, names, words)

    match node:
        case ast.Constant(value=bool() | int() | float() as number):
            return lambda _: number
        case ast.Name(id=name):
            names.add(name)
            return lambda values: values[name]
        case ast.UnaryOp(op=ast.USub(), operand=child):
            inner = sub(child)
            return lambda values: -inner(values)
        case ast.UnaryOp(op=ast.Not(), operand=child):
            inner = sub(child)
            return lambda values: not inner(values)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            function, a, b = _BINARY[type(op)], sub(left), sub(right)
            return lambda values: function(a(values), b(values))
        case ast.BoolOp(op=op, values=children):
            parts, combine = [sub(child) for child in children], any if isinstance(op, ast.Or) else all
            return lambda values: combine(part(values) for part in parts)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            condition, yes, no = sub(test), sub(body), sub(orelse)
            return lambda values: yes(values) if condition(values) else no(values)
        case ast.Compare():
            return _comparison(node, names, words)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            call, inputs = _FUNCTIONS[name], [sub(argument) for argument in arguments]
            return lambda values: call(*(part(values) for part in inputs))
    raise ValueError(f"{ast.unparse(node)!r} is not allowed in an expression")


def _comparison(node: ast.Compare, names: set[str], words: Mapping[str, Mapping[str, float]]) -> Evaluate:
    if len(node.ops) != 1 or type(node.ops[0]) not in _COMPARE:
        raise ValueError(f"{ast.unparse(node)!r}: write comparisons of two sides, joined by 'and'")
    left, right = node.left, node.comparators[0]
    function = _COMPARE[type(node.ops[0])]
    a = _side(left, right, names, words)
    b = _side(right, left, names, words)
    return lambda values: function(a(values), b(values))


def _side(node: ast.expr, other: ast.expr, names: set[str], words: Mapping[str, Mapping[str, float]]) -> Evaluate:
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return _compile(node, names, words)
    texts = words.get(other.id, {}) if isinstance(other, ast.Name) else {}
    if node.value not in texts:
        known = ", ".join(sorted(texts)) or "none: it has no enum"
        raise ValueError(f"{node.value!r} is not a text of {ast.unparse(other)} (known: {known})")
    number = texts[node.value]
    return lambda _: number

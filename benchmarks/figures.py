"""How a benchmark reports: figures with goals, one JSON line last."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number.

    Attributes:
        goal: ``<= 5`` or ``>= 100``; empty for a number without a goal.
    """

    name: str
    value: float
    unit: str
    goal: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None without a goal."""
        if not self.goal:
            return None
        relation, _, limit = self.goal.partition(" ")
        return self.value <= float(limit) if relation == "<=" else self.value >= float(limit)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(name: str, values_ms: Sequence[float], *, goal_p99: str = "") -> list[Figure]:
    """Return p50, p99 and maximum of latencies in milliseconds."""
    return [
        Figure(name=f"{name} p50", value=round(quantile(values_ms, 0.5), 2), unit="ms"),
        Figure(name=f"{name} p99", value=round(quantile(values_ms, 0.99), 2), unit="ms", goal=goal_p99),
        Figure(name=f"{name} max", value=round(max(values_ms), 2), unit="ms"),
    ]


def report(benchmark: str, figures: Sequence[Figure]) -> None:
    """Print the figures for people, then the JSON line."""
    for figure in figures:
        verdict = "" if figure.met is None else f"   goal {figure.goal}: {'met' if figure.met else 'NOT met'}"
        print(f"{figure.name:<60} {figure.value:>12g} {figure.unit}{verdict}")
    rows = [asdict(figure) | {"met": figure.met} for figure in figures]
    print(json.dumps({"benchmark": benchmark, "figures": rows}, ensure_ascii=False), flush=True)

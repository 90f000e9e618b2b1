"""Swipes: what one event of a reader tells by itself - a listed credential, duress, a face that does not live. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from alarms.doors.registry import Registry

ACCESS: Final = "access"
GRANTED: Final = "granted"
_SPOOFS: Final = frozenset({"liveness", "spoof", "liveness_failed"})
_LISTED: Final = ("blacklisted", "lost", "expired", "unknown")
_REFUSED: Final = frozenset({"denied", "no_right", "timeout", *_LISTED, *_SPOOFS})
_TRUE: Final = frozenset({True, "1", "true", "yes", "failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Swipe:
    """One card, face or code at a reader.

    Attributes:
        key: What is the same for one credential: the card's or person's keyed hash; empty when not told.
        direction: 1 in, 2 out, 0 not told.
        reasons: Kinds of rules it is about.
    """

    door: str
    key: str
    time_ms: int
    direction: int
    is_granted: bool
    reasons: tuple[str, ...]


def swipe_of(door: str, fields: dict[str, Any], *, time_ms: int, registry: Registry) -> Swipe:
    """Return what an event of kind ``access`` tells."""
    card, person, result = fields.get("card"), fields.get("person"), fields.get("result")
    direction = {"in": 1, "out": 2}.get(_text(fields.get("direction")), 0)
    reasons = dict.fromkeys(_reasons(fields, registry, time_ms))
    return Swipe(
        door=door,
        key=_text(card) or _text(person),
        time_ms=time_ms,
        direction=direction,
        is_granted=result == GRANTED,
        reasons=tuple(reasons),
    )


def _text(value: object) -> str:
    return value[:64] if isinstance(value, str) else ""


def _is_true(value: object) -> bool:
    return isinstance(value, str | int) and value in _TRUE


def _reasons(fields: dict[str, Any], registry: Registry, time_ms: int) -> Iterator[str]:
    result = _text(fields.get("result"))
    if result == "duress" or _is_true(fields.get("duress")):
        yield "duress"
    if result in _SPOOFS or fields.get("liveness") in (False, 0, "failed"):
        yield "liveness"
    if result in _LISTED:
        yield result
    for name in ("card", "person"):
        reason = registry.reason(fields.get(name), time_ms)
        if reason is not None:
            yield reason
    if result in _REFUSED:
        yield "denials"

"""Overlays put on rows and taken away, by people, timers and parents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from alarms.lifecycle import State
from alarms.memory import Overlay
from alarms.overlays import Cover, Shelf, advance
from watchroom.errors import StateError

if TYPE_CHECKING:
    from alarms.store import AlarmRows

SYSTEM: Final = "system"
_PUTTING: Final = frozenset({Cover.SHELVE_TIMED, Cover.SHELVE_ONCE, Cover.SUPPRESS, Cover.OUT})
_PARTS: Final[Mapping[Cover, str]] = {
    Cover.SHELVE_TIMED: "shelf",
    Cover.SHELVE_ONCE: "shelf",
    Cover.UNSHELVE: "shelf",
    Cover.SHELF_EXPIRE: "shelf",
    Cover.SUPPRESS: "suppressed",
    Cover.UNSUPPRESS: "suppressed",
    Cover.OUT: "out",
    Cover.RETURN: "out",
}


class Covers:
    """The overlays of the rows of one turn.

    Args:
        rows: The live alarms while the turn changes them.
    """

    def __init__(self, rows: AlarmRows) -> None:
        self._rows = rows

    def cover(
        self,
        row: str,
        kind: Cover,
        *,
        user: str,
        at_ms: int,
        comment: str | None = None,
        note: Mapping[str, Any] | None = None,
        until_ms: int | None = None,
    ) -> str | None:
        """Put an overlay on a row or take one away; return why it was refused, None if done.

        Args:
            row: Key of the rule row; it may have no live alarm.
            kind: Which overlay comes or goes.
            user: Who does it, ``system`` for timers and parents.
            at_ms: When, UTC ms.
            comment: Said by the person.
            note: What the overlay keeps beside that: ``permit`` or ``parent``.
            until_ms: End of a timed shelf.
        """
        rows, given = self._rows, note or {}
        current = rows.live(row) or quiet_row(row)
        try:
            effect = advance(rows.standing(current), kind, is_latching=current["is_latching"])
        except StateError as exc:
            rows.event(current, kind, at_ms=at_ms, user=user, comment=comment, refusal=exc.code)
            return exc.code
        known, part = rows.memory.overlays.get(row), _PARTS[kind]
        detail = {key: value for key, value in (known.detail if known else {}).items() if key != part}
        if kind in _PUTTING:
            detail[part] = said(user, at_ms=at_ms, reason=comment, **given)
        kept_until = known.until_ms if known is not None and part != "shelf" else None
        overlay = Overlay(
            row=row,
            equipment=current["equipment"],
            standing=effect.standing,
            until_ms=until_ms if kind is Cover.SHELVE_TIMED else kept_until,
            detail=detail,
        )
        rows.memory.put(overlay)
        if effect.annunciate:
            current |= {"acked_ms": None, "acked_by": None, "realarms": 0}
        elif effect.standing.core is State.ACKED:
            current |= {"acked_ms": at_ms, "acked_by": user}
        rows.enter(current, effect)
        reason = given.get("permit") or given.get("parent")
        rows.event(current, kind, at_ms=at_ms, user=user, comment=comment, reason=reason)
        rule = rows.memory.rule(row)
        if effect.annunciate and rule is not None:
            rows.order(current, rule)
        return None

    def clear_all(self, row: str, *, at_ms: int) -> None:
        """The rule of a row is gone: nothing lies over it any more."""
        known = self._rows.memory.overlays.get(row)
        if known is None:
            return
        standing = known.standing
        for kind, lies in (
            (Cover.UNSHELVE, standing.shelf is not Shelf.NONE),
            (Cover.UNSUPPRESS, standing.is_suppressed),
            (Cover.RETURN, standing.is_out),
        ):
            if lies:
                self.cover(row, kind, user=SYSTEM, at_ms=at_ms, comment="retired")

    def suppress_children(self, parent: str, *, at_ms: int) -> None:
        """The alarm of a row has become active: the alarms it explains are suppressed."""
        memory = self._rows.memory
        children = memory.parents.children.get(parent)
        if children is None:
            return
        memory.active_parents.add(parent)
        for row in children:
            current = self._rows.live(row)
            if current is not None and not self._rows.standing(current).is_suppressed:
                self.cover(row, Cover.SUPPRESS, user=SYSTEM, at_ms=at_ms, note={"parent": parent})

    def release_children(self, parent: str, *, at_ms: int) -> None:
        """The alarm of a row is active no more: what no other parent explains comes back."""
        memory = self._rows.memory
        if parent not in memory.active_parents:
            return
        memory.active_parents.discard(parent)
        for row in memory.parents.children.get(parent, ()):
            overlay = memory.overlays.get(row)
            if overlay is not None and overlay.standing.is_suppressed and memory.active_parent(row) is None:
                self.cover(row, Cover.UNSUPPRESS, user=SYSTEM, at_ms=at_ms, note={"parent": parent})


def said(
    by: str, *, at_ms: int, reason: str | None = None, permit: str | None = None, parent: str | None = None
) -> dict[str, Any]:
    """Return who put an overlay on a row, when and why."""
    return {"by": by, "at_ms": at_ms, "reason": reason, "permit": permit, "parent": parent}


def quiet_row(row: str) -> dict[str, Any]:
    """Return what stands for a row that has no live alarm."""
    equipment = row.split("|")[1] if row.count("|") >= 2 else ""
    return {
        "id": "",
        "row": row,
        "equipment": equipment,
        "state": State.NORM.value,
        "is_active": False,
        "is_latching": False,
        "level": "",
        "rule_version": "",
        "group_": None,
    }

"""What the engine remembers of the alarm rows between its transactions, so that judging one costs no query.

All of it stands in SQL as well, or follows from what stands there: after a restart, and after a transaction that
failed, it is loaded anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection, delete, select

from alarms.first_up import FirstUp
from alarms.flood import TICKET_CAP, WINDOW_MS, Cap, Chatter, Flood
from alarms.overlays import Shelf, Standing
from alarms.parents import Parents
from alarms.rules import RuleRow, RuleSet
from watchroom.database.tables import alarm, alarm_event, alarm_overlay
from watchroom.site import Site

Feeds = Callable[[], Mapping[str, Iterable[str]]]
LOOKED_BACK: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """What lies over one row.

    Attributes:
        until_ms: End of a timed shelf.
        detail: For each of ``shelf``, ``suppressed``, ``out``: who, when, why.
    """

    row: str
    equipment: str
    standing: Standing
    until_ms: int | None = None
    detail: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """Return it as the screens get it."""
        return {
            "shelf": self.standing.shelf.value or None,
            "until_ms": self.until_ms,
            "is_suppressed": self.standing.is_suppressed,
            "is_out": self.standing.is_out,
            "detail": {key: dict(value) for key, value in self.detail.items()},
        }

    def columns(self, site: str) -> dict[str, Any]:
        """Return its row of table ``alarm_overlay``."""
        standing = self.standing
        return {
            "site": site,
            "row": self.row,
            "equipment": self.equipment,
            "shelf": standing.shelf.value,
            "until_ms": self.until_ms,
            "is_suppressed": standing.is_suppressed,
            "is_out": standing.is_out,
            "is_active": standing.is_active,
            "is_tripped": standing.is_tripped,
            "is_held": standing.is_held,
            "detail": {key: dict(value) for key, value in self.detail.items()},
        }


class Memory:
    """Overlays, parents, first-up groups, floods and caps of one site.

    Args:
        ruleset: The rules in force; without them there are no parents.
        feeds: Returns equipment id -> gateways that bring its signals.
        groups: Equipment id -> first-up group.
    """

    def __init__(
        self,
        ruleset: RuleSet | None = None,
        *,
        feeds: Feeds = dict,
        groups: Mapping[str, str] | None = None,
    ) -> None:
        self._ruleset, self._feeds = ruleset, feeds
        self._rules = {row.key: row for row in ruleset.rows} if ruleset is not None else {}
        self.groups = groups or {}
        self.overlays: dict[str, Overlay] = {}
        self.active_parents: set[str] = set()
        self.first_up, self.flood, self.chatter = FirstUp(), Flood(), Chatter()
        self.tickets = Cap(TICKET_CAP)
        self.messages: dict[str, Cap] = {}
        self.digest: tuple[str, int] | None = None
        self.parents = Parents(gateways={}, feeds={})
        self._changed: set[str] = set()
        self.look_at_feeds()

    @classmethod
    def load(
        cls,
        connection: Connection,
        site: str,
        *,
        ruleset: RuleSet | None,
        feeds: Feeds,
        groups: Mapping[str, str],
        now_ms: int,
    ) -> Memory:
        """Return the memory as SQL tells it."""
        memory = cls(ruleset, feeds=feeds, groups=groups)
        for row in connection.execute(select(alarm_overlay).where(alarm_overlay.c.site == site)).mappings():
            memory.overlays[row["row"]] = _overlay(dict(row))
        live = select(alarm.c.id, alarm.c.row, alarm.c.is_active, alarm.c.raised_ms, alarm.c.group_, alarm.c.cause)
        for item in connection.execute(live.where(alarm.c.site == site, alarm.c.is_live)):
            if item.is_active and item.row in memory.parents.children:
                memory.active_parents.add(item.row)
            if item.group_ is not None and item.cause is not None:
                memory.first_up.restore(item.group_, item.id, cause=item.cause, event_ms=item.raised_ms)
        sounded = select(alarm_event.c.arrived_ms).where(
            alarm_event.c.site == site, alarm_event.c.is_accepted, alarm_event.c.state == "UNACK"
        )
        sounded = sounded.where(alarm_event.c.kind.in_(("RAISE", "ESCALATE", "REALARM")))
        times = connection.execute(sounded.order_by(alarm_event.c.seq.desc()).limit(LOOKED_BACK)).scalars()
        for at_ms in sorted(at_ms for at_ms in times if at_ms > now_ms - WINDOW_MS):
            memory.flood.note(at_ms)
        return memory

    def look_at_feeds(self) -> None:
        """Ask anew which gateway brings which equipment."""
        if self._ruleset is not None and self._ruleset.gateways:
            self.parents = Parents(self._ruleset.rows, gateways=self._ruleset.gateways, feeds=self._feeds())

    def rule(self, row: str) -> RuleRow | None:
        """Return a rule row by its key, None when no rule makes it any more."""
        return self._rules.get(row)

    def rows_of(self, equipment: str) -> list[str]:
        """Return the keys of all rows of one piece of equipment."""
        return [row.key for row in self._rules.values() if row.equipment == equipment]

    def active_parent(self, row: str) -> str | None:
        """Return a parent of a row whose alarm is active."""
        return next((key for key in self.parents.parents.get(row, ()) if key in self.active_parents), None)

    def next_expiry_ms(self) -> int | None:
        """Return when the next timed shelf ends."""
        return min((item.until_ms for item in self.overlays.values() if item.until_ms is not None), default=None)

    def put(self, overlay: Overlay) -> None:
        """Remember what lies over a row; nothing when nothing does any more."""
        if overlay.standing.is_hidden:
            self.overlays[overlay.row] = overlay
        elif self.overlays.pop(overlay.row, None) is None:
            return
        self._changed.add(overlay.row)

    def track(self, row: str, standing: Standing) -> None:
        """Remember a standing that changed under the overlays that lie over a row."""
        known = self.overlays[row]
        until_ms = known.until_ms if standing.shelf is Shelf.TIMED else None
        self.put(replace(known, standing=standing, until_ms=until_ms))

    def save(self, connection: Connection, site: str) -> None:
        """Write the overlays that changed since the last time."""
        if not self._changed:
            return
        rows = sorted(self._changed)
        self._changed.clear()
        for start in range(0, len(rows), 500):
            part = rows[start : start + 500]
            connection.execute(delete(alarm_overlay).where(alarm_overlay.c.site == site, alarm_overlay.c.row.in_(part)))
        kept = [self.overlays[row].columns(site) for row in rows if row in self.overlays]
        if kept:
            connection.execute(alarm_overlay.insert(), kept)


def first_up_groups(site: Site) -> dict[str, str]:
    """Return equipment id -> first-up group: its own key ``first_up``, else the plant room it stands in."""
    groups: dict[str, str] = {}
    for key, item in site.equipment.items():
        own = (item.model_extra or {}).get("first_up")
        place = site.places.get(item.place)
        if isinstance(own, str):
            groups[key] = own
        elif place is not None and place.kind == "plant_room":
            groups[key] = item.place
    return groups


def _overlay(row: Mapping[str, Any]) -> Overlay:
    standing = Standing(
        is_active=row["is_active"],
        is_tripped=row["is_tripped"],
        is_held=row["is_held"],
        shelf=Shelf(row["shelf"]),
        is_suppressed=row["is_suppressed"],
        is_out=row["is_out"],
    )
    return Overlay(
        row=row["row"], equipment=row["equipment"], standing=standing, until_ms=row["until_ms"], detail=row["detail"]
    )

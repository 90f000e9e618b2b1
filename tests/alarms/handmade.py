"""A small plant for tests: a site, rule rows, and transitions written by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from alarms.judged import Change, JudgedEvent, Transition
from alarms.rows import RuleRow
from alarms.rules import RuleSet
from alarms.templates import Sla, TicketPolicy
from watchroom.frames import Event
from watchroom.site import Channel, Equipment, Place, Plan, Site, SiteInfo
from watchroom.yamlfile import Text

SITE = "spruce-court"
REPAIR = TicketPolicy(type="repair", sla=Sla(accept=300.0, arrive=900.0, restore=7200.0))
BOTH = TicketPolicy(type="repair", also="patrol", sla=Sla(accept=300.0))
VERSION = "0123456789abcdef"


def plant(equipment: Iterable[str] = ("WP-01", "DR-S1"), *, channels: dict[str, Channel] | None = None) -> Site:
    """Return a site with some equipment in the pump house."""
    place = Place(kind="plant_room", name=Text(zh="泵房", en="Pump house"))
    items = {
        key: Equipment(type="pump", place="PUMPS", name=Text(zh=f"设备 {key}", en=f"Equipment {key}"))
        for key in equipment
    }
    info = SiteInfo(id=SITE, name=Text(zh="云杉苑", en="Spruce Court"))
    return Site(
        folder=Path(), info=info, places={"PUMPS": place}, plan=Plan(), equipment=items, channels=channels or {}
    )


def rule(
    name: str = "outlet_pressure.low",
    equipment: str = "WP-01",
    *,
    instance: str = "",
    latching: bool = False,
    ticket: TicketPolicy | None = REPAIR,
    priorities: dict[str, int] | None = None,
    version: str = VERSION,
) -> RuleRow:
    """Return a rule row."""
    return RuleRow(
        key=f"{name}|{equipment}|{instance}",
        rule=name,
        version=version,
        equipment=equipment,
        instance=instance,
        kind="limit",
        class_="equipment",
        priorities=priorities or {"": 2},
        latching=latching,
        ticket=ticket,
        signal=f"{equipment}/outlet_pressure",
        unit="MPa",
        name=Text(zh="出口压力", en="Outlet pressure"),
    )


def change(
    row: RuleRow,
    kind: str = "RAISE",
    event_ms: int = 1000,
    *,
    offset: int = 0,
    level: str = "L",
    value: float = 0.3,
    is_late: bool = False,
    is_simulated: bool = False,
) -> Transition:
    """Return a transition."""
    return Transition(
        row=row,
        kind=Change(kind),
        event_ms=event_ms,
        arrived_ms=event_ms + 20,
        value=value,
        quality=0,
        level=level,
        limit=0.35 if level else math.nan,
        is_late=is_late,
        is_simulated=is_simulated,
        offset=offset,
    )


def swipe(event_id: str = "e1", *, kind: str = "access", offset: int = 0, **fields: object) -> JudgedEvent:
    """Return an event of a reader."""
    given = {"method": "card", "person": "k:1", "card": "k:2", "result": "granted", "direction": "in", **fields}
    event = Event(id=event_id, kind=kind, equipment="DR-S1", time_ms=1000, seen_ms=1010, fields=given)
    return JudgedEvent(
        gateway="gate-south", event=event, is_simulated=False, offset=offset, arrived_ms=1020, judged_ms=1000
    )


def rules(rows: Sequence[RuleRow]) -> RuleSet:
    """Return a rule set of these rows."""
    return RuleSet(rows=tuple(rows), version="f" * 16)

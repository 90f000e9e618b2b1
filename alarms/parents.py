"""Parents and children among alarm rows: one outage is one alarm. Pure.

A silent gateway stands for everything that arrives through it, a dead link for the data of the gateway's equipment.
While the alarm of a parent is active, its children's alarms are suppressed by design; the conditions of the
equipment itself (pressure, fire, doors) are never suppressed by a parent: they hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from alarms.rows import RuleRow

LINKS_DOWN = "links_down"
_ABOUT_DATA = frozenset({"stale", "bad", "never_seen"})


class Parents:
    """Which rows suppress which.

    Args:
        rows: All rows of the site.
        gateways: Gateway id -> id of the equipment that stands for it.
        feeds: Equipment id -> gateways that bring its signals.
    """

    def __init__(
        self, rows: Sequence[RuleRow] = (), *, gateways: Mapping[str, str], feeds: Mapping[str, Iterable[str]]
    ) -> None:
        fed: dict[str, set[str]] = {}
        for equipment, names in feeds.items():
            for name in names:
                fed.setdefault(gateways.get(name, ""), set()).add(equipment)
        self.children: dict[str, tuple[str, ...]] = {}
        self.parents: dict[str, list[str]] = {}
        for parent in rows:
            if not _is_parent(parent):
                continue
            mine = fed.get(parent.equipment, set()) - {parent.equipment}
            children = [row.key for row in rows if _is_child(row, parent, mine)]
            self.children[parent.key] = tuple(children)
            for child in children:
                self.parents.setdefault(child, []).append(parent.key)


def _is_parent(row: RuleRow) -> bool:
    return row.health == "gateway_silent" or (row.signal or "").endswith(f"/{LINKS_DOWN}")


def _is_child(row: RuleRow, parent: RuleRow, equipment: set[str]) -> bool:
    if row.equipment in equipment:
        return row.health in _ABOUT_DATA
    # while a gateway is silent, what it last said about itself is no news
    is_own = row.equipment == parent.equipment and row.key != parent.key
    return is_own and parent.health == "gateway_silent" and row.class_ == "communication"

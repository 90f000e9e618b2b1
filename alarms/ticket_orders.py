"""Which tickets an alarm asks for, and what a storm lets through.

Pure apart from the memory it is given. One ticket for an equipment and first-up group: later alarms of an episode
join the ticket of the first. Beyond the cap, priorities 3 and 4 share one ticket until the storm is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from alarms.flood import WINDOW_MS
from alarms.memory import Memory
from alarms.rows import RuleRow
from alarms.ticket_clock import ClockKind
from alarms.ticket_opening import TicketOrder

STORM: Final = "storm"
STORM_TITLE: Final = {"zh": "报警潮：其余报警汇总", "en": "Alarm storm: the other alarms"}
STORM_DETAIL: Final = {
    "zh": "10 分钟内工单过多，优先级 3、4 的报警合并到此工单",
    "en": "Too many tickets in 10 minutes; alarms of priority 3 and 4 are gathered here",
}


def orders_of(
    row: Mapping[str, Any], rule: RuleRow, *, place: str | None, memory: Memory, now_ms: int
) -> list[TicketOrder]:
    """Return the orders of an alarm that has just been annunciated.

    Args:
        row: The alarm's columns.
        rule: Its rule row.
        place: Where the equipment stands.
        memory: Knows the first-up episode and how many tickets the storm has opened.
        now_ms: UTC ms.
    """
    policy = rule.ticket
    if policy is None:
        return []
    spans: dict[ClockKind, float | None] = {
        "accept": policy.sla.accept,
        "arrive": policy.sla.arrive,
        "restore": policy.sla.restore,
    }
    allowed = {kind: round(span * 1000) for kind, span in spans.items() if span is not None}
    orders = []
    for type_ in filter(None, (policy.type, policy.also)):
        order = TicketOrder(
            alarm_id=row["id"],
            type=type_,
            priority=row["priority"],
            equipment=row["equipment"],
            place=place,
            fault=rule.fault,
            title=row["title"],
            detail=row["detail"],
            is_simulated=row["is_simulated"],
            allowed_ms=allowed,
        )
        orders.append(_capped(_grouped(order, row, memory), memory, now_ms))
    return orders


def _grouped(order: TicketOrder, row: Mapping[str, Any], memory: Memory) -> TicketOrder:
    if row["group_"] is None:
        return order
    fault = memory.first_up.fault(
        row["group_"], order.equipment, type_=order.type, fault=order.fault, event_ms=row["raised_ms"]
    )
    return order if fault == order.fault else replace(order, fault=fault)


def _capped(order: TicketOrder, memory: Memory, now_ms: int) -> TicketOrder:
    if order.priority <= 2 or memory.tickets.knows(order.key, now_ms) or memory.tickets.admits(order.key, now_ms):
        return order
    if memory.digest is None or now_ms - memory.digest[1] > WINDOW_MS:
        memory.digest = (order.equipment, now_ms)
    return replace(
        order, equipment=memory.digest[0], fault=STORM, type="repair", title=STORM_TITLE, detail=STORM_DETAIL
    )

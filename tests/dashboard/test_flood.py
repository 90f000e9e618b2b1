"""A flood on the pages: every alarm is listed, and the most urgent ones are never pushed out."""

from __future__ import annotations

from sqlalchemy import select

from dashboard import alarm_rows
from tests.dashboard.center import LOW, Center
from tests.dashboard.desk import Desk
from watchroom.database.connect import reading, writing
from watchroom.database.tables import alarm

FLOOD = alarm_rows.LIVE_LIMIT + 500


async def test_a_flood_is_listed_whole_and_hides_no_emergency(desk: Desk, center: Center) -> None:
    """2,500 alarms: the brief list has them all; the screens get the 2,000 most urgent, the emergency among them."""
    first = center.raise_()
    with reading(center.database) as conn:
        row = dict(conn.execute(select(alarm).where(alarm.c.id == first)).mappings().one())
    many = [row | {"id": f"a{n}", "row": f"{LOW}{n}", "raised_ms": row["raised_ms"] + 1 + n} for n in range(FLOOD)]
    # the emergency came before all others: a list of the newest would lose it
    many[0] |= {"priority": 1, "raised_ms": row["raised_ms"] - 60_000}
    with writing(center.database) as conn:
        conn.execute(alarm.insert(), many)
    async with desk.person("guard") as guard:
        brief = (await guard.get("/api/v1/alarms?view=brief")).json()["items"]
        live = (await guard.get("/api/v1/alarms")).json()["items"]
    assert len(brief) == FLOOD + 1
    assert len(live) == alarm_rows.LIVE_LIMIT
    assert [item["id"] for item in live if item["priority"] == 1] == ["a0"]
    assert [item["raised_ms"] for item in live] == sorted((item["raised_ms"] for item in live), reverse=True)

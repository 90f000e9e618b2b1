"""Performance measures through the API."""

from __future__ import annotations

import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from alarms.judged import Change
from dashboard import models
from tests.dashboard.center import LOW, Center
from tests.dashboard.desk import Desk

ZONE = ZoneInfo("Asia/Shanghai")


def now_ms() -> int:
    return round(time.time() * 1000)


async def test_the_last_day(desk: Desk, center: Center) -> None:
    """Chattering, standing alarms and bad actors of the last 24 hours, with names in both languages."""
    base = now_ms() - 3_600_000
    for n in range(3):
        center.judge((LOW, Change.RAISE), event_ms=base + n * 10_000)
        center.judge((LOW, Change.CLEAR), event_ms=base + n * 10_000 + 2_000)
    async with desk.person("manager") as manager:
        reply = await manager.get("/api/v1/alarms/measures")
    assert reply.status_code == 200
    told = models.Measures.model_validate_json(reply.content)
    assert (told.alarms, told.fleeting, told.never_acknowledged) == (3, 3, 3)
    assert [(row.equipment, row.bursts) for row in told.chattering] == [("WP-01", 1)]
    assert told.bad_actors[0].share == 1.0
    assert told.bad_actors[0].equipment_name.en
    assert told.standing == []


async def test_what_was_hidden_did_not_sound(desk: Desk, center: Center) -> None:
    """An alarm of equipment out of service is no load on the operator, but stands in the list of what is hidden."""
    async with desk.person("leader") as leader:
        await leader.post("/api/v1/equipment/WP-01/out", json={"permit": "P1", "reason": "overhaul"})
        center.raise_()
        told = (await leader.get("/api/v1/alarms/measures")).json()
    assert told["alarms"] == 0
    assert {row["equipment"] for row in told["covered"]} == {"WP-01"}


async def test_standing_alarms_are_told_whatever_the_period(desk: Desk, center: Center) -> None:
    """An alarm of last week that is still true is standing."""
    center.judge((LOW, Change.RAISE), event_ms=now_ms() - 7 * 86_400_000)
    async with desk.person("manager") as manager:
        told = (await manager.get("/api/v1/alarms/measures")).json()
    assert told["alarms"] == 0
    assert [row["equipment"] for row in told["standing"]] == ["WP-01"]


async def test_a_month_is_the_sites_month(desk: Desk, center: Center) -> None:
    """The month begins at midnight of the site, and one that is not over ends now."""
    async with desk.person("manager") as manager:
        past = (await manager.get("/api/v1/alarms/measures?month=2025-12")).json()
        running = (await manager.get(f"/api/v1/alarms/measures?month={datetime.now(ZONE):%Y-%m}")).json()
    assert past["start_ms"] == round(datetime(2025, 12, 1, tzinfo=ZONE).timestamp() * 1000)
    assert past["end_ms"] == round(datetime(2026, 1, 1, tzinfo=ZONE).timestamp() * 1000)
    assert abs(running["end_ms"] - now_ms()) < 60_000


@pytest.mark.parametrize(
    "query", ["month=2025-13", "month=x", "start=5&end=5", "start=9&end=5", "start=0&end=99999999999"]
)
async def test_a_period_must_make_sense(desk: Desk, query: str) -> None:
    """What is no period is refused, not answered with zeros."""
    async with desk.person("manager") as manager:
        assert (await manager.get(f"/api/v1/alarms/measures?{query}")).status_code == 422

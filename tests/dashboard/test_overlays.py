"""The shelf, out of service and acknowledging several at once, through the API."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import update

from alarms.judged import Change
from dashboard import models
from tests.dashboard.center import FORCED, LOW, ROLES, Center
from tests.dashboard.desk import Desk
from tests.dashboard.test_api import body
from watchroom.database.connect import writing
from watchroom.database.tables import alarm

SHELF = {"mode": "timed", "minutes": 30, "reason": "being repaired"}
PERMIT = {"permit": "PTW-17", "reason": "overhaul"}


async def test_shelving_tells_reason_and_end(desk: Desk, center: Center) -> None:
    """The answer is the alarm on the shelf, with who, why and until when; the list for the next shift has it too."""
    alarm_id = center.raise_()
    async with desk.person("guard") as guard:
        shelved = body(await guard.post(f"/api/v1/alarms/{alarm_id}/shelve", json=SHELF), models.Alarm)
        listed = body(await guard.get("/api/v1/alarms/covered"), models.Page[models.CoveredRow])["items"]
        live = (await guard.get("/api/v1/alarms")).json()["items"]
        back = body(await guard.post(f"/api/v1/alarms/{alarm_id}/unshelve"), models.Alarm)
        after = (await guard.get("/api/v1/alarms/covered")).json()["items"]
    assert shelved["state"] == "SHLVD"
    assert shelved["overlay"]["detail"]["shelf"]["by"] == "guard"
    assert shelved["overlay"]["until_ms"] > time.time() * 1000
    assert [(row["row"], row["shelf"]) for row in listed] == [(shelved["row"], "timed")]
    assert [row["state"] for row in live] == ["SHLVD"]
    assert (back["state"], back["overlay"], back["acked_by"]) == ("ACKED", None, "guard")
    assert after == []


async def test_once_needs_no_time(desk: Desk, center: Center) -> None:
    """Shelved until it clears."""
    alarm_id = center.raise_()
    async with desk.person("guard") as guard:
        reply = await guard.post(f"/api/v1/alarms/{alarm_id}/shelve", json={"mode": "once", "reason": "known"})
    assert reply.json()["overlay"]["shelf"] == "once"


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({"mode": "timed", "minutes": 30, "reason": ""}, 422, "request.invalid"),
        ({"mode": "timed", "minutes": 481, "reason": "long"}, 409, "alarm.shelf_too_long"),
        ({"mode": "timed", "reason": "no time"}, 409, "alarm.shelf_too_long"),
        ({"mode": "for ever", "reason": "long"}, 422, "request.invalid"),
    ],
)
async def test_a_shelf_without_reason_or_end_is_refused(
    desk: Desk, center: Center, given: dict[str, object], status: int, code: str
) -> None:
    """Nobody hides an alarm without saying why and for how long."""
    alarm_id = center.raise_()
    async with desk.person("guard") as guard:
        reply = await guard.post(f"/api/v1/alarms/{alarm_id}/shelve", json=given)
    assert (reply.status_code, reply.json()["code"]) == (status, code)


async def test_who_may_shelve_and_take_out(desk: Desk, center: Center) -> None:
    """Guards shelve; only the supervisor takes out of service."""
    shelves, takes_out = set(), set()
    for role in ROLES:
        alarm_id = center.raise_()
        async with desk.person(role) as person:
            shelved = await person.post(f"/api/v1/alarms/{alarm_id}/shelve", json=SHELF)
            taken = await person.post(f"/api/v1/alarms/{alarm_id}/out", json=PERMIT)
            shelves |= {role} if shelved.status_code == 200 else set()
            takes_out |= {role} if taken.status_code == 200 else set()
            assert {shelved.status_code, taken.status_code} <= {200, 403}
        async with desk.person("admin") as admin:
            await admin.post(f"/api/v1/alarms/{alarm_id}/unshelve")
            await admin.post(f"/api/v1/alarms/{alarm_id}/return")
            await admin.post(f"/api/v1/alarms/{alarm_id}/ack")
        center.clear()
    assert shelves == {"guard", "leader", "admin"}
    assert takes_out == {"leader", "manager", "admin"}


async def test_equipment_out_of_service(desk: Desk, center: Center) -> None:
    """The pump set under repair raises nothing until it is given back."""
    async with desk.person("leader") as leader:
        taken = body(await leader.post("/api/v1/equipment/WP-01/out", json=PERMIT), models.EquipmentOutcome)
        center.raise_()
        live = (await leader.get("/api/v1/alarms")).json()["items"]
        unknown = await leader.post("/api/v1/equipment/XX-99/out", json=PERMIT)
        again = await leader.post("/api/v1/equipment/WP-01/out", json=PERMIT)
        back = body(await leader.post("/api/v1/equipment/WP-01/return"), models.EquipmentOutcome)
    assert taken["outcome"] == "done"
    assert len(taken["items"]) > 5
    assert {row["detail"]["out"]["permit"] for row in taken["items"]} == {"PTW-17"}
    assert [row["state"] for row in live] == ["OOSRV"]
    assert (unknown.status_code, unknown.json()["code"]) == (404, "equipment.unknown")
    assert (again.status_code, again.json()["code"]) == (409, "alarm.already_out")
    assert back["items"] == []


async def test_several_at_once(desk: Desk, center: Center) -> None:
    """Bulk acknowledge answers for each alarm; what was already acknowledged does not stop the others."""
    first = center.raise_()
    second = center.judge((FORCED, Change.RAISE))[0]
    async with desk.person("guard") as guard:
        await guard.post(f"/api/v1/alarms/{first}/ack")
        reply = await guard.post("/api/v1/alarms/ack", json={"ids": [first, second], "comment": "seen"})
        told = body(reply, models.BulkOutcome)
    assert told["outcomes"] == {first: "alarm.already_acked", second: "done"}
    assert {row["id"]: row["state"] for row in told["items"]} == {first: "ACKED", second: "ACKED"}


async def test_bulk_has_its_limits(desk: Desk, center: Center) -> None:
    """At most 20, only what exists, and a technician not at all."""
    alarm_id = center.raise_()
    async with desk.person("guard") as guard:
        many = await guard.post("/api/v1/alarms/ack", json={"ids": [f"a{n}" for n in range(21)]})
        unknown = await guard.post("/api/v1/alarms/ack", json={"ids": [alarm_id, "nothing"]})
    async with desk.person("technician") as technician:
        refused = await technician.post("/api/v1/alarms/ack", json={"ids": [alarm_id]})
    assert (many.status_code, unknown.status_code, refused.status_code) == (422, 404, 403)
    assert center.rules.row(LOW) is not None


async def test_an_urgent_alarm_is_never_acknowledged_in_bulk(desk: Desk, center: Center) -> None:
    """Priority 1 is looked at one by one."""
    ids = [center.raise_(), center.judge((FORCED, Change.RAISE))[0]]
    with writing(center.database) as conn:
        conn.execute(update(alarm).where(alarm.c.id == ids[1]).values(priority=1))
    async with desk.person("guard") as guard:
        reply = await guard.post("/api/v1/alarms/ack", json={"ids": ids})
        live = (await guard.get("/api/v1/alarms")).json()["items"]
    assert (reply.status_code, reply.json()["code"]) == (409, "alarm.bulk_priority")
    assert {row["state"] for row in live} == {"UNACK"}


async def test_brief_is_the_same_list(desk: Desk, center: Center) -> None:
    """The brief list has every live alarm, without what only the detail shows."""
    center.raise_()
    async with desk.person("guard") as guard:
        live = body(await guard.get("/api/v1/alarms"), models.Page[models.Alarm])["items"]
        brief = body(await guard.get("/api/v1/alarms?view=brief"), models.Page[models.Alarm])["items"]
    assert [row["id"] for row in brief] == [row["id"] for row in live]
    assert brief[0]["title"] == live[0]["title"]
    assert (brief[0]["guidance"], brief[0]["tickets"]) == (None, [])

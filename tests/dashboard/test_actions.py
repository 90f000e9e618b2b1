"""Acknowledging, resetting, ticket steps and scenarios: who may, what happens, what is told when not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from dashboard import models
from tests.dashboard.center import FORCED, ROLES, Center
from tests.dashboard.desk import Desk, settings_for
from tests.dashboard.test_api import body
from watchroom.database.connect import reading
from watchroom.database.tables import alarm_event, audit
from watchroom.errors import StateError
from watchroom.local import LocalServer

MAY_ACK = {"guard", "leader", "admin"}


async def test_acknowledge_tells_the_new_state(desk: Desk, center: Center) -> None:
    """The answer to F2 is the alarm as it is afterwards, with name and time."""
    alarm_id = center.raise_()
    async with desk.person("guard") as guard:
        reply = await guard.post(f"/api/v1/alarms/{alarm_id}/ack", json={"comment": "on my way"})
        alarm = body(reply, models.Alarm)
        detail = body(await guard.get(f"/api/v1/alarms/{alarm_id}"), models.AlarmWithEvents)
    assert (alarm["state"], alarm["acked_by"]) == ("ACKED", "guard")
    event = detail["events"][-1]
    assert (event["kind"], event["user"], event["comment"], event["is_accepted"]) == ("ACK", "guard", "on my way", True)


async def test_acknowledge_needs_no_body(desk: Desk, center: Center) -> None:
    """One key press is enough."""
    alarm_id = center.raise_()
    async with desk.person("leader") as leader:
        reply = await leader.post(f"/api/v1/alarms/{alarm_id}/ack")
    assert reply.json()["state"] == "ACKED"


async def test_acknowledging_twice_is_refused_with_a_code(desk: Desk, center: Center) -> None:
    """Two guards press at the same time: the second is told why, not that something failed."""
    alarm_id = center.raise_()
    async with desk.person("guard") as guard:
        await guard.post(f"/api/v1/alarms/{alarm_id}/ack")
        again = await guard.post(f"/api/v1/alarms/{alarm_id}/ack")
        unknown = await guard.post("/api/v1/alarms/nothing/ack")
    assert again.status_code == 409
    assert again.json()["code"].startswith("alarm.")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "alarm.unknown")


async def test_an_older_occurrence_cannot_be_acknowledged(desk: Desk, center: Center) -> None:
    """An acknowledgement of the disconnect never hides the real alarm behind it."""
    alarm_id = center.raise_()
    async with desk.person("guard") as guard:
        await guard.post(f"/api/v1/alarms/{alarm_id}/ack")
        center.clear()
        newer = center.raise_()
        assert newer != alarm_id
        reply = await guard.post(f"/api/v1/alarms/{alarm_id}/ack")
        current = (await guard.get(f"/api/v1/alarms/{newer}")).json()
    assert (reply.status_code, reply.json()["code"]) == (409, "alarm.superseded")
    assert current["state"] == "UNACK"


async def test_the_same_key_acknowledges_once(desk: Desk, center: Center) -> None:
    """A repeated request after a lost answer gives the first answer again."""
    alarm_id = center.raise_()
    async with desk.person("guard") as guard:
        replies = [
            await guard.post(f"/api/v1/alarms/{alarm_id}/ack", headers={"Idempotency-Key": "k-1"}) for _ in range(2)
        ]
    assert [reply.status_code for reply in replies] == [200, 200]
    with reading(center.database) as conn:
        kinds = conn.execute(select(alarm_event.c.kind)).scalars().all()
    assert kinds.count("ACK") == 1


async def test_engine_that_does_not_answer_keeps_the_command(desk: Desk, center: Center) -> None:
    """202 says: written down, not yet done. Nothing is lost when the engine comes back."""
    alarm_id = center.raise_()
    center.is_judging = False
    async with desk.person("guard") as guard:
        reply = await guard.post(f"/api/v1/alarms/{alarm_id}/ack")
        assert (reply.status_code, reply.json()["state"]) == (202, "UNACK")
        center.is_judging = True
        await center._judge_commands({})
        assert (await guard.get(f"/api/v1/alarms/{alarm_id}")).json()["state"] == "ACKED"


async def test_latched_alarm_is_reset_after_it_cleared(desk: Desk, center: Center) -> None:
    """A forced door stays on the screen until somebody has seen it and reset it."""
    alarm_id = center.raise_(FORCED)
    async with desk.person("guard") as guard:
        early = await guard.post(f"/api/v1/alarms/{alarm_id}/reset")
        center.clear(FORCED)
        await guard.post(f"/api/v1/alarms/{alarm_id}/ack")
        done = await guard.post(f"/api/v1/alarms/{alarm_id}/reset")
    assert early.status_code == 409
    assert done.json()["state"] == "NORM"


@pytest.mark.parametrize("role", ROLES)
async def test_who_may_acknowledge(desk: Desk, center: Center, role: str) -> None:
    """Guard, leader and admin acknowledge; everybody else looks on."""
    alarm_id = center.raise_()
    async with desk.person(role) as person:
        reply = await person.post(f"/api/v1/alarms/{alarm_id}/ack")
        looks = await person.get("/api/v1/alarms")
    assert reply.status_code == (200 if role in MAY_ACK else 403)
    assert looks.status_code == 200
    if role not in MAY_ACK:
        assert reply.json()["code"] == "rights.role"


async def test_ticket_goes_through_its_steps(desk: Desk, center: Center) -> None:
    """New, dispatched, accepted, on site, done, closed: each by the right person, all in its history."""
    center.raise_()
    async with desk.person("leader") as leader, desk.person("technician") as technician:
        ticket = body(await leader.get("/api/v1/tickets"), models.Page[models.Ticket])["items"][0]
        url = f"/api/v1/tickets/{ticket['id']}"
        assert (ticket["state"], ticket["equipment_name"]["en"]) == ("NEW", "Booster set 1")
        assert "dispatch" in ticket["steps"]
        assert {clock["kind"] for clock in ticket["clocks"]} == {"accept", "arrive", "restore"}
        assert ticket["alarms"][0]["is_active"] is True
        sent = body(
            await leader.post(f"{url}/dispatch", json={"assignee": "technician", "version": ticket["version"]}),
            models.TicketWithEvents,
        )
        assert (sent["state"], sent["assignee"]) == ("DISPATCHED", "technician")
        for step, state in (("accept", "ACCEPTED"), ("arrive", "ARRIVED")):
            assert (await technician.post(f"{url}/{step}")).json()["state"] == state
        blocked = await technician.post(f"{url}/done", json={"result": "valve closed"})
        center.clear()
        done = (await technician.post(f"{url}/done", json={"result": "valve closed"})).json()
        own = await technician.post(f"{url}/close")
        closed = body(await leader.post(f"{url}/close"), models.TicketWithEvents)
        board = body(await leader.get("/api/v1/tickets?view=closed"), models.Page[models.Ticket])
    assert (blocked.status_code, blocked.json()["code"]) == (409, "ticket.alarm_active")
    assert (done["state"], done["worker"]) == ("DONE", "technician")
    assert own.status_code == 403
    assert (closed["state"], board["items"][0]["number"]) == ("CLOSED", closed["number"])
    steps = [event["step"] for event in closed["events"]]
    assert steps[-5:] == ["dispatch", "accept", "arrive", "done", "close"]


async def test_ticket_seen_in_an_old_version_is_refused(desk: Desk, center: Center) -> None:
    """Two dispatchers: the second one's picture is old, and he is told so."""
    center.raise_()
    async with desk.person("leader") as leader:
        ticket = (await leader.get("/api/v1/tickets")).json()["items"][0]
        url = f"/api/v1/tickets/{ticket['number']}"
        first = await leader.post(f"{url}/dispatch", json={"version": ticket["version"]})
        second = await leader.post(f"{url}/dispatch", json={"version": ticket["version"]})
        unknown = await leader.post("/api/v1/tickets/WX-9/dispatch")
        no_step = await leader.post(f"{url}/explode")
    assert first.status_code == 200
    assert (second.status_code, second.json()["code"]) == (409, "ticket.version")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "ticket.unknown")
    assert no_step.status_code == 422


@pytest.mark.parametrize("role", ["committee", "kiosk"])
async def test_read_only_roles_are_offered_nothing(desk: Desk, center: Center, role: str) -> None:
    """The owners' committee and the wall display see the board and cannot move anything."""
    center.raise_()
    async with desk.person(role) as person:
        ticket = (await person.get("/api/v1/tickets")).json()["items"][0]
        reply = await person.post(f"/api/v1/tickets/{ticket['id']}/dispatch")
    assert ticket["steps"] == []
    assert (reply.status_code, reply.json()["code"]) == (403, "rights.role")


async def test_actions_are_in_the_audit_log(desk: Desk, center: Center) -> None:
    """Who acknowledged what and who moved which ticket stays on record."""
    alarm_id = center.raise_()
    async with desk.person("leader") as leader:
        ticket = (await leader.get("/api/v1/tickets")).json()["items"][0]
        await leader.post(f"/api/v1/alarms/{alarm_id}/ack")
        await leader.post(f"/api/v1/tickets/{ticket['id']}/dispatch")
    with reading(center.database) as conn:
        query = select(audit.c.action, audit.c.user, audit.c.target).order_by(audit.c.seq)
        found = [tuple(row) for row in conn.execute(query)]
    assert found[1:] == [("ack", "leader", alarm_id), ("ticket_step", "leader", ticket["id"])]


async def test_demo_plays_a_scenario(center: Center) -> None:
    """In a demo the page offers what the simulators can play; kiosk and committee cannot start it."""
    played: list[str] = []

    async def play(args: dict[str, Any]) -> Any:
        if args["name"] != "fire":
            raise StateError("scenario.unknown", args["name"])
        played.append(args["name"])
        return True

    async def list_(_: dict[str, Any]) -> Any:
        return {"items": [{"name": "fire", "title": {"zh": "火警", "en": "Fire"}}], "playing": []}

    started = asyncio.Event()
    server = LocalServer(center.data / "simulate.sock", {"scenario.play": play, "scenario.list": list_})
    task = asyncio.create_task(server.run(started))
    await started.wait()
    async with (
        Desk(center, settings_for(center.data, demo=True)) as desk,
        desk.person("guard") as guard,
        desk.person("kiosk") as kiosk,
    ):
        site = body(await guard.get("/api/v1/site"), models.SiteInfo)
        good = await guard.post("/api/v1/demo/fire")
        unknown = await guard.post("/api/v1/demo/flood")
        refused = await kiosk.post("/api/v1/demo/fire")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert site["demo"] == {"scenarios": [{"name": "fire", "title": {"zh": "火警", "en": "Fire"}}]}
    assert (good.status_code, played) == (200, ["fire"])
    assert (unknown.status_code, unknown.json()["code"]) == (404, "scenario.unknown")
    assert refused.status_code == 403


async def test_no_demo_in_a_real_compound(desk: Desk) -> None:
    """Where the equipment is real nobody plays."""
    async with desk.person("admin") as admin:
        reply = await admin.post("/api/v1/demo/fire")
    assert (reply.status_code, reply.json()["code"]) == (404, "demo.off")

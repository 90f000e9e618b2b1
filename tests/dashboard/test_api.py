"""Every list and object of the API, over real HTTP, in the shape that the OpenAPI description promises."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from sqlalchemy import Engine, select

from alarms.judged import Change
from dashboard import models
from dashboard.alarm_rows import FEW
from tests.dashboard.center import LOW, PRESSURE, Center, until
from tests.dashboard.desk import Desk, settings_for
from watchroom.clock import utc_ms
from watchroom.database.connect import writing
from watchroom.database.tables import access_event, ticket_alarm
from watchroom.database.tables import alarm as alarm_table
from watchroom.database.tables import ticket as ticket_table


def body(reply: httpx.Response, model: Any, status: int = 200) -> Any:
    """Return the body of an answer after checking status and shape."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    checked: BaseModel = model.model_validate_json(reply.content)
    assert checked.model_dump(by_alias=True, mode="json") == reply.json()
    return reply.json()


async def test_site_tells_places_and_plan(desk: Desk) -> None:
    """The plan can be drawn from one answer; units without a name are called after their building."""
    async with desk.person("guard") as guard:
        told = body(await guard.get("/api/v1/site"), models.SiteInfo)
    assert told["name"] == {"zh": "小苑", "en": "Small Court"}
    assert told["places"]["B1-U1"]["name"] == {"zh": "1号楼1单元", "en": "Building 1, unit 1"}
    assert told["places"]["B1-U1"]["in"] == "B1"
    assert told["demo"] is None
    assert told["is_simulated"] is True


async def test_equipment_tells_signals_limits_and_extras(desk: Desk) -> None:
    """A faceplate knows names, units, normal range and limits without asking for the rules."""
    async with desk.person("technician") as technician:
        page = body(await technician.get("/api/v1/equipment"), models.Page[models.EquipmentInfo])
        assert [item["id"] for item in page["items"]] == ["WP-01", "DR-S1", "GW-01", "CENTRE"]
        pump = body(await technician.get("/api/v1/equipment/WP-01"), models.EquipmentInfo)
        only = body(await technician.get("/api/v1/equipment?type=door"), models.Page[models.EquipmentInfo])
        missing = await technician.get("/api/v1/equipment/WP-99")
    assert [item["id"] for item in only["items"]] == ["DR-S1"]
    assert pump["extra"] == {"serial": "A7"}
    assert pump["place_name"] == {"zh": "水泵房", "en": "Pump house"}
    signal = next(item for item in pump["signals"] if item["key"] == PRESSURE)
    assert (signal["unit"], signal["normal"]) == ("MPa", [0.58, 0.62])
    assert signal["limits"] == {"HH": 0.7, "H": 0.65, "L": 0.55, "LL": 0.5}
    assert (missing.status_code, missing.json()["code"]) == (404, "equipment.unknown")


async def test_lists_are_paged(desk: Desk) -> None:
    """A cursor leads through a list without missing or repeating anything, and ends with null."""
    async with desk.person("guard") as guard:
        everything = (await guard.get("/api/v1/signals?limit=5000")).json()["items"]
        collected: list[str] = []
        query = "limit=7"
        while True:
            page = body(await guard.get(f"/api/v1/signals?{query}"), models.Page[models.Sample])
            collected += [item["key"] for item in page["items"]]
            if page["next"] is None:
                break
            query = f"limit=7&cursor={page['next']}"
        wrong = await guard.get("/api/v1/signals?cursor=nonsense")
    assert collected == [item["key"] for item in everything]
    assert len(collected) > 14
    assert (wrong.status_code, wrong.json()["code"]) == (400, "request.cursor")


async def test_index_agrees_with_signals_and_equipment(desk: Desk) -> None:
    """One number means one signal everywhere."""
    async with desk.person("guard") as guard:
        index = body(await guard.get("/api/v1/live/index"), models.LiveIndex)
        samples = (await guard.get("/api/v1/signals?limit=5000")).json()["items"]
        pump = (await guard.get("/api/v1/equipment/WP-01")).json()
    assert [item["key"] for item in samples] == index["keys"]
    assert all(index["keys"][item["index"]] == item["key"] for item in pump["signals"])


async def test_newest_values_follow_the_journal(desk: Desk, center: Center) -> None:
    """A value is on the pages as soon as ingest has it in the journal, whatever the store does."""
    center.born()
    at = center.sends({0: 0.597})

    def told() -> Any:
        sample = desk.parts.projection.samples([PRESSURE])[0]
        return sample if sample["time_ms"] == at else None

    await until("the value", told)
    async with desk.person("guard") as guard:
        page = body(await guard.get("/api/v1/signals?equipment=WP-01"), models.Page[models.Sample])
        pump = body(await guard.get("/api/v1/equipment/WP-01"), models.EquipmentInfo)
    sample = next(item for item in page["items"] if item["key"] == PRESSURE)
    assert sample == {
        "key": PRESSURE,
        "index": sample["index"],
        "value": 0.597,
        "time_ms": at,
        "quality": 0,
        "gateway": "pump-house",
        "is_stale": False,
    }
    assert pump["gateway"] == "pump-house"


async def test_history_comes_from_the_engine(desk: Desk, center: Center) -> None:
    """A trend is asked from the engine for exactly the range on the screen."""
    center.series[PRESSURE] = [(1_000, 0.5), (2_000, 0.6), (9_000, 0.7)]
    async with desk.person("guard") as guard:
        url = f"/api/v1/signals/{PRESSURE}/history"
        series = body(await guard.get(f"{url}?start=1000&end=3000&buckets=10"), models.Series)
        recent = await guard.get(url)
        unknown = await guard.get("/api/v1/signals/WP-01/nothing/history")
        reversed_ = await guard.get(f"{url}?start=3000&end=1000")
    assert (series["t"], series["mean"]) == ([1000, 2000], [0.5, 0.6])
    assert center.asked[0] == {"keys": [PRESSURE], "start_ms": 1000, "end_ms": 3000, "buckets": 10}
    assert recent.status_code == 200
    assert center.asked[1]["end_ms"] - center.asked[1]["start_ms"] == 3_600_000
    assert (unknown.status_code, unknown.json()["code"]) == (404, "signal.unknown")
    assert (reversed_.status_code, reversed_.json()["code"]) == (422, "history.range")


async def test_alarm_has_names_guidance_and_tickets(desk: Desk, center: Center) -> None:
    """Whoever sees an alarm sees where it is, what it means, what to do and who works on it."""
    alarm_id = center.raise_()
    async with desk.person("guard") as guard:
        page = body(await guard.get("/api/v1/alarms"), models.Page[models.Alarm])
        detail = body(await guard.get(f"/api/v1/alarms/{alarm_id}"), models.AlarmWithEvents)
        missing = await guard.get("/api/v1/alarms/none")
    alarm = page["items"][0]
    assert (alarm["id"], alarm["state"], alarm["row"]) == (alarm_id, "UNACK", LOW)
    assert alarm["equipment_name"] == {"zh": "水泵 1 组", "en": "Booster set 1"}
    assert alarm["place_name"]["en"] == "Pump house"
    assert (alarm["value"], alarm["unit"], alarm["class"]) == (0.41, "MPa", "equipment")
    assert alarm["guidance"]["zh"]["do"]
    assert [ticket["type"] for ticket in alarm["tickets"]] == ["repair"]
    assert [event["kind"] for event in detail["events"]] == ["RAISE"]
    assert (missing.status_code, missing.json()["code"]) == (404, "alarm.unknown")


async def test_journal_view_pages_through_the_past(desk: Desk, center: Center) -> None:
    """Alarms that are over leave the list and stay in the journal."""
    start = utc_ms() - 100_000
    for i in range(5):
        center.judge((LOW, Change.RAISE), event_ms=start + 1000 * i)
        center.judge((LOW, Change.CLEAR), event_ms=start + 1000 * i + 500)
    async with desk.person("guard") as guard:
        live = body(await guard.get("/api/v1/alarms?view=live"), models.Page[models.Alarm])
        times: list[int] = []
        query = "view=journal&limit=2&equipment=WP-01"
        while True:
            page = body(await guard.get(f"/api/v1/alarms?{query}"), models.Page[models.Alarm])
            times += [item["raised_ms"] for item in page["items"]]
            if page["next"] is None:
                break
            query = f"view=journal&limit=2&equipment=WP-01&cursor={page['next']}"
    assert len(live["items"]) == 1
    assert times == sorted(times, reverse=True)
    assert times[-1] == start


@pytest.mark.parametrize("others", [0, FEW + 1])
async def test_a_ticket_tells_the_newest_alarms_and_every_live_one(
    desk: Desk, center: Center, database: Engine, others: int
) -> None:
    """A chattering alarm does not make its ticket heavier for ever; what still needs somebody is never left out."""
    start = utc_ms() - 100_000
    first = center.judge((LOW, Change.RAISE), event_ms=start)[0]
    with writing(database) as connection:  # the first one was acknowledged by nobody and is live for ever
        row = dict(connection.execute(select(alarm_table).where(alarm_table.c.id == first)).mappings().one())
        ticket_id = connection.execute(select(ticket_alarm.c.ticket_id)).scalar_one()
        for number in range(40):
            gone = row | {"id": f"gone-{number}", "is_live": False, "is_active": False, "state": "NORM"}
            connection.execute(alarm_table.insert(), gone | {"raised_ms": start + 1 + number})
            link = {"ticket_id": ticket_id, "alarm_id": gone["id"], "attached_ms": utc_ms() + number}
            connection.execute(ticket_alarm.insert(), link)
        told = dict(connection.execute(select(ticket_table)).mappings().one())
        for number in range(others):
            connection.execute(ticket_table.insert(), told | {"id": f"other-{number}", "number": f"WX-9{number}"})
    async with desk.person("guard") as guard:
        page = body(await guard.get("/api/v1/tickets"), models.Page[models.Ticket])
    ticket = next(item for item in page["items"] if item["id"] == ticket_id)
    newest = [f"gone-{number}" for number in range(39, 19, -1)]
    assert [item["id"] for item in ticket["alarms"]] == [*newest, first]
    assert ticket["alarm_count"] == 41
    assert len(page["items"]) == 1 + others


async def test_access_events_newest_first(desk: Desk, center: Center) -> None:
    """The feed shows who wanted in where, persons and cards only as keyed hashes."""
    center.passes("granted", "denied", "granted")
    async with desk.person("guard") as guard:
        first = body(await guard.get("/api/v1/access-events?limit=2"), models.Page[models.AccessEvent])
        rest = body(
            await guard.get(f"/api/v1/access-events?limit=2&cursor={first['next']}"), models.Page[models.AccessEvent]
        )
        other = body(await guard.get("/api/v1/access-events?equipment=DR-X"), models.Page[models.AccessEvent])
    items = first["items"] + rest["items"]
    assert [item["result"] for item in items] == ["granted", "denied", "granted"]
    assert [item["seq"] for item in items] == sorted((item["seq"] for item in items), reverse=True)
    assert items[0]["equipment_name"] == {"zh": "南门 1 道", "en": "South gate 1"}
    assert (items[0]["card"], items[0]["fields"]) == ("k:2233", {"reader": "R1"})
    assert other["items"] == []


async def test_the_access_log_is_searched(desk: Desk, center: Center) -> None:
    """By time, door, person, card, result and way; a search finds exactly what fits, over all pages."""
    center.passes("granted", "denied", "granted", "denied")
    async with desk.person("leader") as leader:

        async def found(query: str) -> list[str]:
            page = body(await leader.get(f"/api/v1/access-events?{query}"), models.Page[models.AccessEvent])
            return [item["result"] for item in page["items"]]

        assert await found("result=denied") == ["denied", "denied"]
        assert await found("result=denied&limit=1") == ["denied"]
        assert len(await found("person=k:0011&card=k:2233&method=card&equipment=DR-S1")) == 4
        assert await found("person=k:9999") == []
        assert await found("method=face") == []
        assert await found(f"end={utc_ms() - 3_600_000}") == []
        assert len(await found(f"start={utc_ms() - 3_600_000}&end={utc_ms() + 3_600_000}")) == 4
        wrong = await leader.get("/api/v1/access-events?start=-1")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "request.invalid")


async def test_other_events_are_listed_apart(desk: Desk, center: Center, database: Engine) -> None:
    """Texts of fire panels and operations are found by kind and time, and are no passages."""
    center.passes("granted")
    row = {"site": center.site.id, "gateway": "gate-south", "seen_ms": 2_000, "is_simulated": False}
    with writing(database) as conn:
        for number, kind in enumerate(("panel_text", "operation", "panel_text")):
            more = {"event_id": f"p{number}", "kind": kind, "time_ms": 1_000 + number, "fields": {"text": f"t{number}"}}
            conn.execute(access_event.insert(), {**row, **more})
    async with desk.person("guard") as guard:
        events = body(await guard.get("/api/v1/events"), models.Page[models.OtherEvent])["items"]
        texts = body(await guard.get("/api/v1/events?kind=panel_text&start=1001"), models.Page[models.OtherEvent])
        passages = body(await guard.get("/api/v1/access-events"), models.Page[models.AccessEvent])["items"]
    assert [item["kind"] for item in events] == ["panel_text", "operation", "panel_text"]
    assert [item["fields"]["text"] for item in texts["items"]] == ["t2"]
    assert len(passages) == 1


async def test_people_without_telephone_numbers(desk: Desk) -> None:
    """A ticket can be given to somebody; telephone numbers stay in the files."""
    async with desk.person("leader") as leader:
        page = body(await leader.get("/api/v1/people"), models.Page[models.StaffMember])
    assert page["items"] == [{"id": "li.wg", "name": {"zh": "李卫国", "en": "Li Weiguo"}, "role": "guard"}]


async def test_gateways_never_seen_and_online(desk: Desk, center: Center) -> None:
    """A gateway of the files that never reported is told as such, not as fine."""
    async with desk.person("guard") as guard:
        before = body(await guard.get("/api/v1/gateways"), models.Page[models.Gateway])["items"]
        center.born()
        center.sends({})
        await until("the heartbeat", lambda: desk.parts.tail.beats["pump-house"].last_ms)
        after = body(await guard.get("/api/v1/gateways"), models.Page[models.Gateway])["items"]
    assert [(item["id"], item["is_online"], item["reason"]) for item in before] == [("pump-house", False, "never_seen")]
    assert before[0]["beats"] == [0] * 40
    assert (after[0]["is_online"], after[0]["equipment"], after[0]["reason"]) == (True, "GW-01", None)
    assert after[0]["beats"][-1] > 0
    assert after[0]["epoch"] == "0123456789abcdef"


async def test_health_and_metrics_need_no_sign_in(desk: Desk, center: Center) -> None:
    """A supervisor asks without an account, and learns nothing about persons."""
    await until("the engine", lambda: desk.parts.engine.is_connected)
    async with desk.visitor() as anybody:
        health = await anybody.get("/health")
        metrics = await anybody.get("/metrics")
    assert health.status_code == 200
    assert health.json() == {
        "ok": True,
        "service": "dashboard",
        "version": "0.1.0",
        "database": True,
        "engine": True,
        "pages": False,
        "screens": 0,
    }
    assert "watchroom_dashboard_engine_connected 1.0" in metrics.text


async def test_health_without_engine_still_serves(center: Center) -> None:
    """The pages stay up while the engine is away; only its own answers are missing."""
    async with Desk(center, settings_for(center.data / "elsewhere")) as desk, desk.person("guard") as guard:
        health = await guard.get("/health")
        history = await guard.get(f"/api/v1/signals/{PRESSURE}/history")
    assert (health.status_code, health.json()["engine"]) == (200, False)
    assert (history.status_code, history.json()["code"]) == (503, "engine.away")


async def test_openapi_describes_every_path(desk: Desk) -> None:
    """A programmer finds every operation with its answer, and nothing is fetched from elsewhere."""
    async with desk.person("integrator") as integrator:
        spec = (await integrator.get("/api/openapi.json")).json()
        page = await integrator.get("/api/docs")
    assert {
        "/api/v1/session",
        "/api/v1/setup",
        "/api/v1/site",
        "/api/v1/equipment",
        "/api/v1/signals",
        "/api/v1/signals/{key}/history",
        "/api/v1/signals/{key}/samples",
        "/api/v1/history/export",
        "/api/v1/alarms",
        "/api/v1/alarms/{alarm_id}/ack",
        "/api/v1/tickets",
        "/api/v1/tickets/{ticket_id}/{step}",
        "/api/v1/access-events",
        "/api/v1/gateways",
        "/api/v1/people",
        "/api/v1/demo/{scenario}",
    } <= set(spec["paths"])
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            answers = [status for status in operation["responses"] if status.startswith("2")]
            content = operation["responses"][answers[0]].get("content", {})
            if "text/csv" in content:
                continue  # a file has no shape to describe
            assert answers == ["204"] or "$ref" in content["application/json"]["schema"], (method, path)
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "https://" not in page.text


async def test_signal_is_explained(desk: Desk, center: Center) -> None:
    """The engine's answer why a signal is in alarm comes through; a signal that does not exist is a 404."""

    async def explain(args: dict[str, Any]) -> Any:
        return {"signal": {"key": args["key"], "is_known": True}, "offset": 7, "rules": [{"row": "r", "state": None}]}

    center.operations["alarms.explain"] = explain
    async with desk.person("guard") as guard:
        told = body(await guard.get(f"/api/v1/signals/{PRESSURE}/explain"), models.Explanation)
        unknown = await guard.get("/api/v1/signals/WP-01/nothing/explain")
    assert told["signal"]["key"] == PRESSURE
    assert told["rules"][0]["row"] == "r"
    assert (unknown.status_code, unknown.json()["code"]) == (404, "signal.unknown")


@pytest.mark.parametrize("path", ["/api/docs", "/api/openapi.json", "/api/v1/site", "/api/v1/live/index"])
async def test_everything_else_needs_sign_in(desk: Desk, path: str) -> None:
    """No token, no answer."""
    async with desk.visitor() as anybody:
        reply = await anybody.get(path)
    assert (reply.status_code, reply.json()["code"]) == (401, "session.none")
    assert reply.headers["content-type"] == "application/problem+json"

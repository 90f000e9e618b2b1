"""Overlays in SQL: shelves, suppression by parents, out of service; by people, by time, through restarts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine

from alarms.covering import said
from alarms.rows import RuleRow
from alarms.store import occurrence_id
from tests.alarms.desk import MINUTE, Desk
from tests.alarms.handmade import SITE, change, plant, rule
from watchroom.database.connect import writing
from watchroom.database.tables import alarm_overlay
from watchroom.errors import StateError

ROW = rule()
ALARM = occurrence_id(ROW, 1000)
LATCHING = rule("door.forced", "DR-S1", latching=True, ticket=None)


@pytest.fixture
def desk(database: Engine) -> Desk:
    """One alarm standing."""
    desk = Desk(database, [ROW, LATCHING])
    desk.judge(change(ROW))
    return desk


def shelve(desk: Desk, alarm_id: str = ALARM, **args: Any) -> str:
    given: dict[str, Any] = {"mode": "timed", "minutes": 30, "reason": "being repaired", **args}
    return desk.ask("shelve", alarm_id, **given)


def test_a_shelf_says_who_why_and_until_when(desk: Desk) -> None:
    """The shelf list tells the next shift everything: reason, person, end."""
    assert shelve(desk) == "done"
    row = desk.alarms()[0]
    assert (row["state"], row["is_active"], row["timer_ms"]) == ("SHLVD", True, 10_000 + 30 * MINUTE)
    assert row["overlay"]["shelf"] == "timed"
    assert row["overlay"]["until_ms"] == 10_000 + 30 * MINUTE
    assert row["overlay"]["detail"]["shelf"] == said("li", at_ms=10_000, reason="being repaired")
    event = desk.event("SHELVE_TIMED")
    assert (event["user"], event["comment"], event["state"], event["is_accepted"]) == (
        "li",
        "being repaired",
        "SHLVD",
        True,
    )
    assert desk.is_whole()


def test_a_shelf_ends_on_time_with_the_horn(desk: Desk) -> None:
    """When the time is over the alarm is back, unacknowledged, at the very moment that was promised."""
    shelve(desk)
    desk.wait(30 * MINUTE - 1)
    assert desk.states() == ["SHLVD"]
    desk.wait(500)
    assert desk.states() == ["UNACK"]
    assert desk.event("SHELF_EXPIRE")["event_ms"] == 10_000 + 30 * MINUTE
    assert desk.overlays() == []
    assert desk.alarms()[0]["overlay"] is None


def test_a_shelf_survives_a_restart(desk: Desk) -> None:
    """A shelf set before a restart is there after it, and ends when it was to end."""
    shelve(desk)
    desk.start()
    desk.judge(change(ROW, "CLEAR", 2000), change(ROW, "RAISE", 3000))
    assert desk.states() == ["SHLVD"]
    desk.start()
    desk.wait(30 * MINUTE)
    assert desk.states() == ["UNACK"]
    assert desk.is_whole()


def test_time_passes_in_the_order_of_the_data(desk: Desk) -> None:
    """An engine that catches up decides as if it had been there: the shelf ends between the samples around it."""
    shelve(desk)
    ends = 10_000 + 30 * MINUTE
    before, after = change(ROW, "CLEAR", ends - 5_000), change(ROW, "RAISE", ends + 5_000)
    desk.now_ms = ends + MINUTE
    desk.judge(before, after)
    kinds = [(kind, state) for kind, accepted, state in desk.events() if accepted]
    assert kinds[-3:] == [("CLEAR", "SHLVD"), ("SHELF_EXPIRE", "NORM"), ("RAISE", "UNACK")]


def test_while_the_journal_waits_shelves_wait_too(desk: Desk) -> None:
    """The housekeeping ends no shelf that samples not judged yet may come before."""
    shelve(desk)
    desk.now_ms += 31 * MINUTE
    desk.committer.pass_time(judged_ms=20_000)
    assert desk.states() == ["SHLVD"]
    desk.committer.pass_time(judged_ms=desk.now_ms)
    assert desk.states() == ["UNACK"]


def test_shelved_for_this_once(desk: Desk) -> None:
    """A one-shot shelf ends when the alarm clears; the next one sounds."""
    assert shelve(desk, mode="once", minutes=None) == "done"
    assert desk.alarms()[0]["timer_ms"] is None
    desk.judge(change(ROW, "CLEAR", 2000))
    assert desk.states() == []
    assert desk.overlays() == []
    desk.judge(change(ROW, "RAISE", 3000))
    assert desk.states() == ["UNACK"]


def test_taking_it_off_the_shelf_acknowledges(desk: Desk) -> None:
    """Who unshelves has seen the alarm: it comes back acknowledged by that person, without the horn."""
    shelve(desk)
    assert desk.ask("unshelve", ALARM, user="wu") == "done"
    row = desk.alarms()[0]
    assert (row["state"], row["acked_by"], row["overlay"]) == ("ACKED", "wu", None)


def test_behind_a_shelf_no_ticket_is_opened(desk: Desk) -> None:
    """What comes and goes behind a shelf opens no ticket; each time stands in the journal with its own alarm."""
    shelve(desk)
    opened = len(desk.tickets())
    for at in range(2, 8, 2):
        desk.judge(change(ROW, "CLEAR", at * 1000), change(ROW, "RAISE", at * 1000 + 500))
    assert desk.states() == ["SHLVD"]
    assert len(desk.tickets()) == opened
    kinds = [kind for kind, _, _ in desk.events()]
    assert kinds.count("RAISE") == 4
    assert desk.is_whole()


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"reason": ""}, "alarm.reason_missing"),
        ({"minutes": 481}, "alarm.shelf_too_long"),
        ({"minutes": 0}, "alarm.shelf_too_long"),
    ],
)
def test_a_shelf_needs_a_reason_and_an_end(desk: Desk, args: dict[str, Any], code: str) -> None:
    """No reason, or longer than the site allows: refused, and the refusal stands in the journal."""
    assert shelve(desk, **args) == code
    assert desk.states() == ["UNACK"]
    assert desk.event("SHELVE_TIMED")["is_accepted"] is False
    assert desk.is_whole()


@pytest.mark.parametrize("row", [rule("p1", priorities={"": 1}), replace(rule("smoke"), class_="fire")])
def test_what_saves_lives_cannot_be_shelved(database: Engine, row: RuleRow) -> None:
    """Priority 1, fire and life safety have no shelf."""
    desk = Desk(database, [row])
    desk.judge(change(row, level=""))
    assert shelve(desk, occurrence_id(row, 1000)) == "alarm.not_shelvable"
    assert desk.states() == ["UNACK"]


def test_acknowledging_what_is_hidden_is_refused(desk: Desk) -> None:
    """On the shelf nobody acknowledges, and nobody shelves twice."""
    shelve(desk)
    assert desk.ask("ack", ALARM) == "alarm.hidden"
    assert shelve(desk) == "alarm.already_shelved"
    assert desk.ask("unshelve", ALARM) == "done"
    assert desk.ask("unshelve", ALARM) == "alarm.not_shelved"


def test_an_older_occurrence_cannot_be_shelved(desk: Desk) -> None:
    """Who still looks at yesterday's alarm does not hide today's."""
    desk.judge(change(ROW, "CLEAR", 2000), change(ROW, "RAISE", 3000))
    assert shelve(desk) == "alarm.superseded"
    assert desk.states() == ["UNACK"]


def test_out_of_service_needs_a_permit(desk: Desk) -> None:
    """Maintenance takes an alarm out of service under a work permit, and gives it back."""
    assert desk.ask("out", ALARM, reason="pump overhaul") == "alarm.permit_missing"
    assert desk.ask("out", ALARM, reason="pump overhaul", permit="PTW-17", user="zhao") == "done"
    row = desk.alarms()[0]
    assert row["state"] == "OOSRV"
    assert row["overlay"]["detail"]["out"]["permit"] == "PTW-17"
    assert desk.event("OUT")["reason"] == "PTW-17"
    desk.judge(change(ROW, "CLEAR", 2000), change(ROW, "RAISE", 3000), change(ROW, "CLEAR", 4000))
    assert desk.states() == ["OOSRV"]
    assert desk.ask("return", desk.alarms()[0]["id"], user="zhao") == "done"
    assert desk.states() == []
    assert desk.overlays() == []


def test_a_whole_piece_of_equipment_out_of_service(desk: Desk) -> None:
    """A lift under repair raises nothing, also from rules that were quiet when it was taken out."""
    other = rule("p2", "WP-01")
    desk = Desk(desk.database, [ROW, other, LATCHING])
    assert desk.ask("out_all", "WP-01", site=SITE, permit="PTW-18", reason="overhaul") == "done"
    assert [row["row"] for row in desk.overlays()] == sorted([ROW.key, other.key])
    desk.judge(change(other, "RAISE", 5000))
    assert desk.states() == ["OOSRV", "OOSRV"]
    desk.start()
    assert desk.ask("out_all", "WP-01", site=SITE, permit="PTW-18", reason="overhaul") == "alarm.already_out"
    assert desk.ask("return_all", "WP-01", site=SITE) == "done"
    assert desk.states() == ["UNACK", "UNACK"]
    assert desk.ask("return_all", "WP-01", site=SITE) == "alarm.not_out"
    assert desk.ask("return_all", "XX-99", site=SITE) == "equipment.unknown"
    assert desk.is_whole()


def test_a_latched_alarm_waits_behind_the_shelf(desk: Desk) -> None:
    """A forced door that closed behind the shelf still has to be acknowledged and reset."""
    desk.judge(change(LATCHING, "RAISE", 5000, level=""))
    alarm_id = occurrence_id(LATCHING, 5000)
    assert shelve(desk, alarm_id) == "done"
    desk.judge(change(LATCHING, "CLEAR", 6000, level=""))
    desk.wait(30 * MINUTE)
    assert desk.states()[-1] == "LUNACK"
    assert desk.ask("ack", alarm_id) == "done"
    assert desk.ask("reset", alarm_id) == "done"


def test_a_rule_that_is_gone_leaves_no_shelf(desk: Desk) -> None:
    """A rule removed while its alarm is shelved takes alarm and shelf with it, and the journal says so."""
    shelve(desk)
    desk._rules = replace(desk._rules, rows=(LATCHING,))
    desk.start()
    desk.committer.settle(desk._rules, {})
    assert desk.states() == []
    assert desk.overlays() == []
    assert desk.event("CLEAR")["reason"] == "retired"
    assert desk.event("UNSHELVE")["comment"] == "retired"


def test_a_failed_transaction_leaves_no_memory_behind(desk: Desk) -> None:
    """When SQL fails in the middle, the engine decides the next time from what SQL has kept."""
    shelve(desk)
    with pytest.raises(StateError, match="half way"):
        break_off(desk)
    desk.judge(change(ROW, "CLEAR", 2000))
    assert desk.states() == ["SHLVD"]


def break_off(desk: Desk) -> None:
    with desk.committer._turn() as turn:
        desk.committer._remembered(turn).overlays.clear()
        turn.connection.execute(alarm_overlay.delete())
        raise StateError("test.half", "half way")


# --- parents and children -----------------------------------------------------------------------------------------

GATEWAY = "GW-03"


def about_data(kind: str, equipment: str) -> RuleRow:
    row = rule(f"data.{kind}", equipment)
    return replace(row, kind="health", health=kind, class_="communication", signal=None)


SILENT = replace(about_data("gateway_silent", GATEWAY), key=f"gateway.silent|{GATEWAY}|", rule="gateway.silent")
LINKS = replace(rule("links.down", GATEWAY), class_="communication", signal=f"{GATEWAY}/links_down")
CHILDREN = [about_data(kind, f"WP-{number:02}") for number in range(1, 26) for kind in ("bad", "stale")]


def outage(database: Engine) -> Desk:
    site = plant([GATEWAY, "DR-S1", *(f"WP-{number:02}" for number in range(1, 26))])
    feeds = {f"WP-{number:02}": ["pump-house"] for number in range(1, 26)} | {GATEWAY: ["pump-house"]}
    elsewhere = about_data("bad", "DR-S1")
    rows = [SILENT, LINKS, *CHILDREN, ROW, elsewhere]
    return Desk(database, rows, site=site, gateways={"pump-house": GATEWAY}, feeds=feeds)


def test_a_gateway_outage_is_one_alarm_and_one_ticket(database: Engine) -> None:
    """50 alarms about missing data behind one silent gateway: one sounds, one ticket, the others are suppressed."""
    desk = outage(database)
    desk.judge(change(SILENT, "RAISE", 1000, level=""))
    desk.judge(*[change(child, "RAISE", 2000, level="") for child in CHILDREN])
    assert desk.states() == ["UNACK", *["DSUPR"] * len(CHILDREN)]
    assert len(desk.tickets()) == 1
    assert {row["overlay"]["detail"]["suppressed"]["parent"] for row in desk.alarms()[1:]} == {SILENT.key}


def test_children_that_came_first_are_suppressed_too(database: Engine) -> None:
    """Data that went bad half a minute before the link was found dead are explained by it all the same."""
    desk = outage(database)
    desk.judge(*[change(child, "RAISE", 1000, level="") for child in CHILDREN[:4]])
    desk.judge(change(LINKS, "RAISE", 2000, level="H"))
    assert sorted(desk.states()) == sorted(["DSUPR"] * 4 + ["UNACK"])
    assert desk.event("SUPPRESS")["reason"] == LINKS.key


def test_what_the_parent_does_not_explain_comes_back(database: Engine) -> None:
    """When the link is back, a device that still gives no data gets its alarm and its ticket."""
    desk = outage(database)
    desk.judge(change(LINKS, "RAISE", 1000, level="H"))
    desk.judge(*[change(child, "RAISE", 2000, level="") for child in CHILDREN[:2]])
    desk.start()
    desk.judge(change(CHILDREN[0], "CLEAR", 3000, level=""))
    desk.judge(change(LINKS, "CLEAR", 4000, level="H"))
    by_row = {row["row"]: row["state"] for row in desk.alarms()}
    assert by_row == {LINKS.key: "RTNUN", CHILDREN[1].key: "UNACK"}
    assert {row["equipment"] for row in desk.tickets()} == {GATEWAY, CHILDREN[1].equipment}


def test_two_parents_hold_until_both_are_gone(database: Engine) -> None:
    """A child of a dead link behind a gateway that falls silent stays suppressed until both are well."""
    desk = outage(database)
    child = CHILDREN[0]
    desk.judge(change(LINKS, "RAISE", 1000, level="H"), change(child, "RAISE", 2000, level=""))
    desk.judge(change(SILENT, "RAISE", 3000, level=""), change(SILENT, "CLEAR", 4000, level=""))
    assert {row["row"]: row["state"] for row in desk.alarms()}[child.key] == "DSUPR"
    desk.judge(change(LINKS, "CLEAR", 5000, level="H"))
    assert {row["row"]: row["state"] for row in desk.alarms()}[child.key] == "UNACK"


def test_the_equipment_itself_is_never_suppressed(database: Engine) -> None:
    """Low pressure stays low pressure while the gateway is silent, and another gateway's data are no children."""
    desk = outage(database)
    elsewhere = about_data("bad", "DR-S1")
    desk.judge(change(ROW, "RAISE", 500), change(SILENT, "RAISE", 1000, level=""))
    desk.judge(change(elsewhere, "RAISE", 2000, level=""))
    assert desk.states() == ["UNACK", "UNACK", "UNACK"]


def test_a_parent_that_stood_before_a_restart_still_counts(database: Engine) -> None:
    """After a restart the engine still knows which outage explains what."""
    desk = outage(database)
    desk.judge(change(SILENT, "RAISE", 1000, level=""))
    desk.start()
    desk.judge(change(CHILDREN[0], "RAISE", 2000, level=""))
    assert desk.states() == ["UNACK", "DSUPR"]


def test_overlays_are_of_one_site(database: Engine) -> None:
    """Two sites in one database do not share a shelf."""
    desk = Desk(database, [ROW])
    with writing(database) as connection:
        values = {
            "site": "other",
            "row": ROW.key,
            "equipment": "WP-01",
            "shelf": "timed",
            "until_ms": 1,
            "is_suppressed": False,
            "is_out": False,
            "is_active": False,
            "is_tripped": False,
            "is_held": False,
            "detail": {},
        }
        connection.execute(alarm_overlay.insert().values(values))
    desk.start()
    desk.judge(change(ROW))
    assert desk.states() == ["UNACK"]
    desk.wait(MINUTE)
    assert len(desk.overlays()) == 1

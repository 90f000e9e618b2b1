"""What time does to alarms, and what a storm does to tickets and messages."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine

from alarms.flood import Cap, Chatter, Flood
from alarms.store import occurrence_id
from alarms.timers import REALARM_MS, REALARMS
from tests.alarms.desk import MINUTE, Desk
from tests.alarms.handmade import change, plant, rule
from watchroom.site import Channel

ROW = rule()
URGENT = rule("flood", "SP-01", priorities={"": 1})
CHANNEL = {"duty": Channel(url_env="X", lang="en"), "leader": Channel(url_env="Y", lang="zh", priority=1)}


@pytest.fixture
def desk(database: Engine) -> Desk:
    """A site with two channels."""
    return Desk(database, [ROW, URGENT], channels=CHANNEL)


def told(desk: Desk) -> list[tuple[str, str]]:
    return sorted((row["channel"], row["title"]) for row in desk.messages() if row["ticket_id"] is None)


def test_an_urgent_alarm_that_nobody_takes_is_told(desk: Desk) -> None:
    """A priority 1 not acknowledged within 15 s goes out by message, once to each channel, with the page to open."""
    desk.judge(change(URGENT, level=""))
    desk.wait(14_900)
    assert told(desk) == []
    desk.wait(100)
    desk.wait(60_000)
    assert [channel for channel, _ in told(desk)] == ["duty", "leader"]
    assert "Nobody acknowledges" in told(desk)[0][1]
    assert "无人确认" in told(desk)[1][1]
    assert {row["path"] for row in desk.messages() if row["ticket_id"] is None} == {"/alarms"}
    assert [kind for kind, _, _ in desk.events()].count("UNATTENDED") == 1
    assert desk.is_whole()


def test_an_urgent_alarm_that_is_taken_is_not_told(desk: Desk) -> None:
    """Acknowledged in time: nobody at home is woken; less urgent alarms never do."""
    desk.judge(change(URGENT, level=""), change(ROW))
    assert desk.ask("ack", occurrence_id(URGENT, 1000)) == "done"
    desk.wait(60_000)
    assert told(desk) == []


def test_nobody_has_come_also_counts_after_a_restart(desk: Desk) -> None:
    """The 15 s go on while the engine restarts."""
    desk.judge(change(URGENT, level=""))
    desk.start()
    desk.wait(15_000)
    assert len(told(desk)) == 2


def test_an_acknowledged_alarm_sounds_again(desk: Desk) -> None:
    """Priority 2 comes back after 30 min as long as its condition stands, and after three times by message."""
    desk.judge(change(ROW))
    alarm_id = occurrence_id(ROW, 1000)
    for times in range(1, REALARMS + 1):
        assert desk.ask("ack", alarm_id) == "done"
        desk.wait(REALARM_MS[2] - 1)
        assert desk.states() == ["ACKED"]
        desk.wait(1)
        assert desk.states() == ["UNACK"]
        assert desk.alarms()[0]["realarms"] == times
    assert desk.ask("ack", alarm_id) == "done"
    desk.wait(REALARM_MS[2])
    assert desk.states() == ["ACKED"]
    assert told(desk)[0][1].startswith("Still standing")
    desk.wait(10 * REALARM_MS[2])
    assert desk.states() == ["ACKED"]
    assert desk.is_whole()


def test_what_is_over_does_not_sound_again(desk: Desk) -> None:
    """Acknowledged and cleared in time: no repeat."""
    desk.judge(change(ROW))
    desk.ask("ack", occurrence_id(ROW, 1000))
    desk.judge(change(ROW, "CLEAR", 2000))
    desk.wait(10 * REALARM_MS[2])
    assert desk.states() == []


def test_low_priority_never_sounds_again(database: Engine) -> None:
    """Priority 4 is told once."""
    low = rule("drift", priorities={"": 4})
    desk = Desk(database, [low])
    desk.judge(change(low, level=""))
    desk.ask("ack", occurrence_id(low, 1000))
    desk.wait(1000 * MINUTE)
    assert desk.states() == ["ACKED"]


def test_the_first_of_a_group_is_named(desk: Desk) -> None:
    """In one pump room the alarm that came first by the equipment's time is the cause of the others."""
    others = [rule(f"pump{n}") for n in range(3)]
    desk = Desk(desk.database, [ROW, *others])
    desk.judge(change(ROW, "RAISE", 5000), change(others[0], "RAISE", 7000))
    first = occurrence_id(ROW, 5000)
    assert {row["cause"] for row in desk.alarms()} == {first}
    desk.start()
    desk.judge(change(others[1], "RAISE", 2000))
    earlier = occurrence_id(others[1], 2000)
    assert {row["cause"] for row in desk.alarms()} == {earlier}
    desk.judge(change(others[2], "RAISE", 2000 - 5001 + 4000))
    assert {row["group_"] for row in desk.alarms()} == {"PUMPS"}


def test_a_group_begins_anew_when_all_is_well(desk: Desk) -> None:
    """Tomorrow's alarm has nothing to do with yesterday's cause."""
    other = rule("pump1")
    desk = Desk(desk.database, [ROW, other])
    desk.judge(change(ROW, "RAISE", 5000))
    desk.ask("ack", occurrence_id(ROW, 5000))
    desk.judge(change(ROW, "CLEAR", 6000), change(other, "RAISE", 7000))
    assert [row["cause"] for row in desk.alarms()] == [occurrence_id(other, 7000)]


def test_one_ticket_for_an_equipment_and_its_group(desk: Desk) -> None:
    """Five alarms of one pump set in one episode are one ticket with five alarms."""
    rows = [rule(f"fault{n}") for n in range(5)]
    desk = Desk(desk.database, rows)
    desk.judge(*[change(row, "RAISE", 1000 + n) for n, row in enumerate(rows)])
    assert len(desk.tickets()) == 1
    desk.judge(change(rule("another"), "RAISE", 200_000))
    assert len(desk.tickets()) == 2, "minutes later it is another fault"


def test_a_storm_of_low_priorities_is_one_more_ticket(database: Engine) -> None:
    """Beyond 20 tickets in ten minutes priorities 3 and 4 share one; priority 1 always gets its own."""
    equipment = [f"EL-{n}" for n in range(40)]
    low = [rule("drift", name, priorities={"": 3}) for name in equipment]
    site = replace(plant(equipment), places={})
    urgent = rule("flood", "EL-39", priorities={"": 1})
    desk = Desk(database, [*low, urgent], site=site, channels=CHANNEL)
    desk.judge(*[change(row, level="") for row in low])
    desk.judge(change(urgent, level=""))
    titles = [row["title"]["en"] for row in desk.tickets()]
    assert len(titles) == 22
    assert titles.count("Alarm storm: the other alarms") == 1
    desk.now_ms += 11 * MINUTE
    late = rule("drift2", "EL-1", priorities={"": 3})
    desk.judge(change(late, level=""))
    assert len(desk.tickets()) == 23


def test_a_storm_of_messages_is_capped(database: Engine) -> None:
    """No phone gets more than 30 messages in ten minutes, apart from those about priority 1."""
    equipment = [f"EL-{n}" for n in range(50)]
    rows = [rule("fault", name) for name in equipment]
    urgent = [rule("trapped", name, priorities={"": 1}) for name in equipment[:5]]
    site = replace(plant(equipment), places={})
    desk = Desk(database, [*rows, *urgent], site=site, channels={"duty": CHANNEL["duty"]})
    desk.judge(*[change(row, level="") for row in rows], *[change(row, level="") for row in urgent])
    assert len(desk.tickets()) == 55
    assert len(desk.messages()) == 35


def test_three_times_in_a_minute_is_chattering(desk: Desk) -> None:
    """An alarm that comes three times in a minute is marked; the engineer finds it."""
    for at in (1000, 20_000, 40_000):
        desk.judge(change(ROW, "RAISE", at), change(ROW, "CLEAR", at + 5_000))
    assert [row["is_chattering"] for row in desk.alarms()] == [True]


def test_a_flood_is_seen_and_ends(desk: Desk) -> None:
    """More than ten alarms in ten minutes is a flood; it ends when fewer than five came in ten minutes."""
    rows = [rule(f"r{n}") for n in range(12)]
    desk = Desk(desk.database, rows)
    desk.judge(*[change(row) for row in rows])
    assert desk.committer.flood() == {"is_flood": True, "count": 12, "since_ms": 10_000, "peak": 12}
    desk.start()
    desk.judge()
    desk.judge(change(rule("one more")))
    assert desk.committer.flood()["is_flood"] is True
    desk.now_ms += 10 * MINUTE + 2_000
    assert desk.committer.flood() == {"is_flood": False, "count": 0, "since_ms": None, "peak": 0}


def test_flood_thresholds() -> None:
    """Ten are no flood yet, eleven are; it holds at five and ends at four."""
    flood = Flood()
    for at in range(10):
        flood.note(at * 1000)
    assert not flood.look(10_000)
    flood.note(10_000)
    assert flood.look(10_000)
    assert flood.look(600_000 + 5_999)
    assert not flood.look(600_000 + 6_000)


def test_caps_know_what_has_passed() -> None:
    """What has passed once passes again; ten minutes later the cap is open again."""
    cap = Cap(2)
    assert cap.admits("a", 0)
    assert cap.admits("b", 0)
    assert not cap.admits("c", 1)
    assert cap.knows("a", 599_999)
    assert cap.admits("c", 600_000)
    assert not cap.knows("b", 600_000)


def test_chatter_needs_a_minute() -> None:
    """Three times in a minute and a second is not chattering."""
    chatter = Chatter()
    assert not chatter.note("r", 0)
    assert not chatter.note("r", 30_000)
    assert not chatter.note("r", 60_001)
    assert chatter.note("r", 60_002)

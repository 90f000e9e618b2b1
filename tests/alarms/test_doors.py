"""Access control: each alarm of a door or credential, raised by what happens and by nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alarms.doors.hours import Hours, parse_hours
from watchroom.centre import CENTRE_GATEWAY as CENTRE
from watchroom.errors import ConfigError
from watchroom.signals import Lane

from .bench import Bench, Brief
from .plant import T0

LIST = {"k:black": "black", "k:lost": "lost", "k:gone": "revoked", "k:out": "white", "k:ok": "white"}


def both(row: str, time: int) -> list[Brief]:
    """What an alarm that is over at once tells."""
    return [(row, "RAISE", time), (row, "CLEAR", time)]


def rest(bench: Bench) -> None:
    """Everything closed, locked and silent since second 0; the reader has spoken once."""
    plant = bench.plant
    plant.tick(0)
    for gateway, specs in plant.gateways.items():
        for lane in Lane:
            rows = [
                (spec.key, 0, 1.0 if spec.key.endswith(("online", "pressure")) else 0.0)
                for spec in specs
                if spec.lane is lane
            ]
            if rows:
                plant.samples(*rows, snapshot=True)
        for key in bench.site.equipment:
            if any(spec.key.startswith(key + "/") for spec in specs) and bench.site.equipment[key].type == "door":
                plant.event(gateway, key, 1, result="granted", card=f"k:{key}")
    plant.run(1000, 9000)
    assert bench.judge() == []


def make(folder: Path, **doors: dict[str, Any]) -> Bench:
    """Doors behind one gateway each, a fire panel behind another, and the centre itself."""
    equipment = {key.replace("_", "-"): {"type": "door", **extra} for key, extra in doors.items()}
    bench = Bench(
        folder,
        {**equipment, "FP-01": {"type": "fire_panel"}},
        {**{f"g-{key}": [key] for key in equipment}, "fire-room": ["FP-01"]},
    )
    bench.plant.gateways[CENTRE] = ()
    bench.plant._epoch[CENTRE], bench.plant._seq[CENTRE] = 5, 0
    rest(bench)
    return bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """One door."""
    return make(tmp_path, DR_1={"release_on": {"FP-01": [3]}, "hours": "Mo-Su 16:40-23:00"})


def swipe(bench: Bench, time: int, door: str = "DR-1", *, seen: int | None = None, **fields: Any) -> None:
    bench.plant.event(f"g-{door}", door, time, seen=seen, **fields)


def settle(bench: Bench, start: int, end: int) -> list[Brief]:
    bench.plant.run(start, end)
    return [told for told in bench.judge() if not told[0].startswith("data.")]


def test_a_late_grant_never_raises_door_forced(bench: Bench) -> None:
    """The reader's word comes 0.9 s after the door opened, over a slower line: no alarm, then or later."""
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    swipe(bench, 9_800, seen=10_900, result="granted", card="k:ok")
    assert settle(bench, 11_000, 30_000) == []


def test_a_late_grant_alone_is_no_alarm(bench: Bench) -> None:
    """A grant out of a backlog, long after its time, is written down and alarms nobody."""
    settle(bench, 10_000, 60_000)
    swipe(bench, 20_000, seen=20_000, result="granted", card="k:ok")
    assert settle(bench, 61_000, 70_000) == []


def test_a_pulse_of_fifty_milliseconds_is_a_forced_door(bench: Bench) -> None:
    """However short the door was open."""
    bench.plant.samples(("DR-1/contact", 10_000, 1), ("DR-1/contact", 10_050, 0))
    assert settle(bench, 11_000, 12_000) == [
        ("door.forced|DR-1|", "RAISE", 10_000),
        ("door.forced|DR-1|", "CLEAR", 10_050),
    ]


def test_remote_unlock_explains(bench: Bench) -> None:
    """The guard room unlocked the door: what opens it then is no force."""
    bench.plant.event("g-DR-1", "DR-1", 9_500, kind="operation", action="unlock", user="li")
    bench.plant.samples(("DR-1/contact", 10_000, 1), ("DR-1/contact", 12_000, 0))
    assert settle(bench, 12_500, 20_500) == []


def test_held_warns_then_alarms_and_clears(bench: Bench) -> None:
    """Held open with a right: a warning after 30 s, an alarm after 90 s, over when it closes."""
    swipe(bench, 9_500, result="granted")
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    told = settle(bench, 11_000, 105_000)
    assert told == [("door.held|DR-1|", "RAISE", 40_000), ("door.held|DR-1|", "ESCALATE", 100_000)]
    assert [(t.level, t.row.priority(t.level)) for t in bench.told] == [("H", 3), ("HH", 2)]
    bench.plant.samples(("DR-1/contact", 106_000, 0))
    assert settle(bench, 107_000, 109_000) == [("door.held|DR-1|", "CLEAR", 106_000)]


def permit(bench: Bench, time: int, *, start: int, end: int) -> None:
    fields: dict[str, Any] = {"id": "p1", "from_ms": T0 + start, "until_ms": T0 + end, "version": time}
    bench.plant.event(CENTRE, "DR-1", time, kind="permit", **fields)


def test_permitted_propping_ends_by_itself(bench: Bench) -> None:
    """Furniture is moved in, the door may stand open until 13:00: held counts from the end of the permit."""
    swipe(bench, 9_500, result="granted")
    permit(bench, 9_600, start=9_600, end=60_000)
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    assert settle(bench, 11_000, 91_000) == []
    assert settle(bench, 92_000, 93_000) == [("door.held|DR-1|", "RAISE", 90_000)]


def test_permit_taken_back(bench: Bench) -> None:
    """A permit that is revoked counts no longer from then on."""
    swipe(bench, 9_500, result="granted")
    permit(bench, 9_600, start=9_600, end=600_000)
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    settle(bench, 11_000, 20_000)
    permit(bench, 20_500, start=9_600, end=20_500)
    assert settle(bench, 21_000, 53_000) == [("door.held|DR-1|", "RAISE", 50_500)]


@pytest.mark.parametrize("kind", ["permit", "credential"])
def test_only_the_centre_permits(bench: Bench, kind: str) -> None:
    """A gateway that claims a permit or a list for itself is not believed."""
    fields: dict[str, Any] = {
        "id": "p",
        "from_ms": T0,
        "until_ms": T0 + 600_000,
        "version": 9,
        "changes": [["k:ok", "black", None, None, 9]],
    }
    bench.plant.event("g-DR-1", "DR-1", 9_400, kind=kind, **fields)
    swipe(bench, 9_500, result="granted", card="k:ok")
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    assert settle(bench, 11_000, 43_000) == [("door.held|DR-1|", "RAISE", 40_000)]


def test_released_in_time_on_fire(bench: Bench) -> None:
    """The zone burns and the lock lets go within ten seconds: as it should be."""
    bench.plant.samples(("FP-01/zone3_state", 10_000, 1))
    bench.plant.samples(("DR-1/lock", 19_000, 1))
    assert [told for told in settle(bench, 20_000, 30_000) if told[0].startswith("door")] == []


@pytest.mark.parametrize(("zone", "is_told"), [(3, True), (4, False)])
def test_not_released_on_fire(bench: Bench, zone: int, is_told: bool) -> None:
    """The lock stays shut though the door's own zone burns: told after ten seconds; another zone does not matter."""
    bench.plant.samples((f"FP-01/zone{zone}_state", 10_000, 1))
    told = [one for one in settle(bench, 11_000, 30_000) if one[0].startswith("door")]
    assert told == ([("door.release_failed|DR-1|", "RAISE", 20_000)] if is_told else [])
    bench.plant.samples(("DR-1/lock", 31_000, 1))
    told = [one for one in settle(bench, 32_000, 34_000) if one[0].startswith("door")]
    assert told == ([("door.release_failed|DR-1|", "CLEAR", 31_000)] if is_told else [])


def test_left_unlocked_outside_its_hours(tmp_path: Path) -> None:
    """Released for two minutes at a time when it should be locked."""
    bench = make(tmp_path, DR_1={})
    bench.plant.samples(("DR-1/lock", 10_000, 1))
    assert settle(bench, 11_000, 133_000) == [("door.unlocked|DR-1|", "RAISE", 130_000)]


def test_hours_end_while_it_stands_unlocked(bench: Bench) -> None:
    """Unlocked within its hours is right; when they end (T0 is 16:26:40, from 16:40 on) the two minutes begin."""
    bench.plant.samples(("DR-1/lock", 10_000, 1))
    told = settle(bench, 11_000, 135_000)
    assert told == [("door.unlocked|DR-1|", "RAISE", 130_000)]
    begins = 800_000
    bench.plant.run(140_000, begins + 5_000, step=5_000)
    assert ("door.unlocked|DR-1|", "CLEAR", begins) in bench.judge()


@pytest.mark.parametrize("text", ["Mo-Fr", "Xx 07:00-08:00", "Mo 08:00-07:00", "Mo 08:00-25:00", "Mo 08:61-09:00"])
def test_hours_that_make_no_sense(text: str) -> None:
    """Hours are weekdays and times that rise within a day."""
    with pytest.raises(ValueError, match="hours"):
        parse_hours(text)


def test_hours_over_the_weekend() -> None:
    """``Sa-Mo`` goes over the end of the week; minutes are the site's."""
    hours = Hours("Sa-Mo 08:00-12:00", "Asia/Shanghai")
    monday = 1_763_942_400_000  # Monday 2025-11-24 08:00 in Shanghai
    assert [hours.holds(monday + day * 86_400_000) for day in range(-3, 3)] == [False, True, True, True, False, False]
    assert not hours.holds(monday - 1)
    assert hours.between(monday - 1, monday + 86_400_000) == [monday, monday + 4 * 3_600_000]


def test_second_opening_on_one_grant(bench: Bench) -> None:
    """One card, the door opens, closes, and opens again: somebody followed."""
    swipe(bench, 9_500, result="granted")
    for time, value in ((10_000, 1), (11_000, 0), (12_000, 1), (13_000, 0)):
        bench.plant.samples(("DR-1/contact", time, value))
    assert settle(bench, 14_000, 20_000) == both("door.tailgating|DR-1|", 12_000)


def test_bouncing_contact_is_nobody(bench: Bench) -> None:
    """A contact that bounces for 100 ms is no second person."""
    swipe(bench, 9_500, result="granted")
    for time, value in ((10_000, 1), (11_000, 0), (11_100, 1), (12_000, 0)):
        bench.plant.samples(("DR-1/contact", time, value))
    assert settle(bench, 14_000, 20_000) == []


def test_two_grants_let_two_people_in(bench: Bench) -> None:
    """Two cards, three passages: only the third is too many."""
    swipe(bench, 9_500, result="granted", card="k:ok")
    swipe(bench, 9_900, result="granted", card="k:out")
    for time in (10_000, 11_000, 12_000):
        bench.plant.samples(("DR-1/passage", time, 1), ("DR-1/passage", time + 200, 0))
    assert settle(bench, 13_000, 20_000) == both("door.tailgating_counted|DR-1|", 12_000)


def enrol(bench: Bench, time: int, listed: dict[str, str], *, version: int = 1, until: int | None = None) -> None:
    changes = [[key, standing, None, until, version] for key, standing in listed.items()]
    bench.plant.event(CENTRE, "", time, kind="credential", changes=changes)


@pytest.mark.parametrize(
    ("card", "rule"),
    [
        ("k:black", "access.blacklisted"),
        ("k:lost", "access.lost"),
        ("k:gone", "access.expired"),
        ("k:ok", None),
        ("k:new", None),
    ],
)
def test_the_registry_tells(bench: Bench, card: str, rule: str | None) -> None:
    """The reader let it pass, but the registry knows better: listed, lost and revoked credentials alarm."""
    enrol(bench, 9_500, LIST)
    swipe(bench, 10_000, result="granted", card=card)
    assert settle(bench, 11_000, 13_000) == (both(f"{rule}|DR-1|", 10_000) if rule else [])
    assert [t.cause for t in bench.told] == [(card,)] * len(bench.told)


def test_validity_ends_at_its_minute(bench: Bench) -> None:
    """A tenant's card is good until the lease ends, and not a moment longer."""
    enrol(bench, 9_500, {"k:out": "white"}, until=T0 + 20_000)
    swipe(bench, 19_999, result="granted", card="k:out")
    swipe(bench, 20_000, result="granted", card="k:out")
    assert settle(bench, 21_000, 23_000) == both("access.expired|DR-1|", 20_000)


def test_a_card_found_again(bench: Bench) -> None:
    """Taken off the list it is a card like others; an older version that comes again changes nothing."""
    enrol(bench, 9_500, {"k:lost": "lost"}, version=1)
    enrol(bench, 9_600, {"k:lost": "white"}, version=2)
    enrol(bench, 9_700, {"k:lost": "lost"}, version=1)
    swipe(bench, 10_000, result="granted", card="k:lost")
    assert settle(bench, 11_000, 13_000) == []


def test_what_was_registered_later_does_not_count_before(bench: Bench) -> None:
    """A replay sees the registry as it was: a card listed at noon was no alarm in the morning."""
    swipe(bench, 9_500, result="granted", card="k:black")
    enrol(bench, 9_600, LIST)
    swipe(bench, 9_700, result="granted", card="k:black")
    assert settle(bench, 10_000, 12_000) == both("access.blacklisted|DR-1|", 9_700)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"result": "granted", "duress": True}, "access.duress"),
        ({"result": "duress"}, "access.duress"),
        ({"result": "blacklisted"}, "access.blacklisted"),
        ({"result": "lost"}, "access.lost"),
        ({"result": "expired"}, "access.expired"),
        ({"result": "granted", "duress": "no"}, None),
        ({"result": "unknown"}, None),
    ],
)
def test_what_the_reader_tells(bench: Bench, fields: dict[str, Any], rule: str | None) -> None:
    """One word of the reader is enough, at once; a single unknown card is not news."""
    swipe(bench, 10_000, card="k:x", **fields)
    assert bench.judge() == (both(f"{rule}|DR-1|", 10_000) if rule else [])


def test_duress_out_of_a_backlog_is_still_told(bench: Bench) -> None:
    """What happened during an outage of ten minutes is told late; after half an hour it is only recorded."""
    settle(bench, 10_000, 60_000)
    swipe(bench, 20_000, seen=20_000, result="duress")
    bench.judge()
    assert [(t.kind, t.is_late) for t in bench.rows("access.duress")] == [("RAISE", True), ("CLEAR", True)]


@pytest.mark.parametrize("gap", [19_000, 30_001])
def test_three_refusals_within_a_minute(bench: Bench, gap: int) -> None:
    """The third refusal of one card within 60 s alarms; spread out they do not."""
    for i in range(3):
        swipe(bench, 10_000 + i * gap, result="denied", card="k:x")
        bench.plant.run(10_500 + i * gap, 11_500 + i * gap)
    told = settle(bench, 75_000, 77_000)
    assert [one for one in [*told, *map(brief_of, bench.told)] if one[1] == "RAISE"][-1:] == (
        [("access.denials|DR-1|", "RAISE", 10_000 + 2 * gap)] if gap == 19_000 else []
    )


def brief_of(transition: Any) -> Brief:
    return transition.row.key, str(transition.kind), transition.event_ms - T0


def test_a_reader_that_repeats_itself_refuses_once(bench: Bench) -> None:
    """A reader that sends one refusal four times until it is answered has refused once."""
    for i in range(4):
        bench.plant.event("g-DR-1", "DR-1", 10_000, seen=10_100 + i, result="denied", card="k:x")
    assert settle(bench, 11_000, 13_000) == []


@pytest.mark.parametrize(
    ("result", "count", "rule"),
    [("denied", 5, "access.denials_door"), ("unknown", 5, "access.unknown"), ("liveness", 3, "access.liveness")],
)
def test_counts_at_one_door(bench: Bench, result: str, count: int, rule: str) -> None:
    """Different credentials, one door: probing is told at the last of them."""
    for i in range(count):
        swipe(bench, 10_000 + i * 1000, result=result, card=f"k:{i}")
    told = settle(bench, 10_000 + count * 1000, 20_000)
    assert [one for one in told if one[0].startswith(rule + "|")] == both(f"{rule}|DR-1|", 9_000 + count * 1000)


def test_same_way_twice(tmp_path: Path) -> None:
    """In, and in again without having left: passed back; out in between, or a fire, makes it right."""
    bench = make(tmp_path, DR_1={"area": "garage"}, DR_2={"area": "garage"}, DR_3={})
    ways = [
        ("DR-1", 10_000, "in"),
        ("DR-2", 20_000, "out"),
        ("DR-1", 30_000, "in"),
        ("DR-3", 40_000, "in"),
        ("DR-1", 50_000, "out"),
    ]
    for door, time, way in [*ways, ("DR-2", 60_000, "in"), ("DR-1", 62_000, "in"), ("DR-1", 64_000, "in")]:
        swipe(bench, time, door, result="granted", card="k:ok", direction=way)
        bench.plant.run(time + 100, time + 100)
    assert settle(bench, 66_000, 68_000) + [brief_of(t) for t in bench.told] != []
    assert [brief_of(t) for t in bench.rows("access.passback")] == both("access.passback|DR-1|", 62_000)


def test_fire_starts_passback_anew(tmp_path: Path) -> None:
    """People left without cards when it burned."""
    bench = make(tmp_path, DR_1={"area": "garage"}, DR_2={"area": "garage"})
    swipe(bench, 10_000, result="granted", card="k:ok", direction="in")
    bench.plant.samples(("FP-01/fire", 11_000, 1))
    bench.plant.samples(("FP-01/fire", 12_000, 0))
    swipe(bench, 20_000, "DR-2", result="granted", card="k:ok", direction="in")
    settle(bench, 21_000, 23_000)
    assert bench.rows("access.passback") == []


@pytest.mark.parametrize(("gap", "is_told"), [(20_000, True), (25_000, False)])
def test_nobody_walks_that_fast(tmp_path: Path, gap: int, is_told: bool) -> None:
    """200 m apart: 28.6 s at 7 m/s, less 4 s for the clocks."""
    bench = make(tmp_path, DR_1={"place": "P"}, DR_2={"place": "Q"})
    swipe(bench, 10_000, result="granted", card="k:ok")
    swipe(bench, 10_000 + gap, "DR-2", result="granted", card="k:ok")
    settle(bench, 40_000, 43_000)
    told = [brief_of(t) for t in bench.rows("access.travel")]
    assert told == (both("access.travel|DR-2|", 10_000 + gap) if is_told else [])


@pytest.mark.parametrize(
    "fields",
    [
        {"result": ["granted"], "card": {"a": 1}, "direction": 3, "duress": [], "liveness": {}},
        {"result": None, "card": "k" * 5000, "person": 7},
        {"version": "x", "changes": [[1], None, ["k", "black"]], "id": 3},
    ],
)
@pytest.mark.parametrize("kind", ["access", "permit", "credential", "operation"])
@pytest.mark.parametrize("gateway", ["g-DR-1", CENTRE])
def test_no_event_can_stop_the_judge(bench: Bench, fields: dict[str, Any], kind: str, gateway: str) -> None:
    """Whatever a device sends, the next forced door is told."""
    bench.plant.event(gateway, "DR-1", 9_400, kind=kind, **fields)
    bench.plant.event(gateway, "DR-1", -T0 - 5, seen=9_500, kind=kind, **fields)
    settle(bench, 9_600, 18_600)
    bench.plant.samples(("DR-1/contact", 19_000, 1))
    assert ("door.forced|DR-1|", "RAISE", 19_000) in settle(bench, 20_000, 21_500)


def test_release_on_an_unknown_panel(tmp_path: Path) -> None:
    """A door that must release on a panel nobody has is a mistake of the site's files."""
    with pytest.raises(ConfigError, match="release_on"):
        Bench(tmp_path, {"DR-1": {"type": "door", "release_on": {"FP-9": [1]}}}, {})


def test_a_clock_that_is_set_forces_no_door(bench: Bench) -> None:
    """The gateway's clock steps back an hour between card and door: the card still explains the door."""
    swipe(bench, 9_500, result="granted", card="k:ok")
    bench.plant.beat("g-DR-1", 9_900)
    bench.plant.clock_gen = 2
    bench.plant.beat("g-DR-1", 10_000 - 3_600_000)
    bench.plant.samples(("DR-1/contact", 11_000 - 3_600_000, 1), arrived=11_000)
    for time in range(12_000, 16_000, 1000):
        bench.plant.beat("g-DR-1", time - 3_600_000)
        bench.plant.now = time
        bench.plant.tick(time)
    bench.judge()
    assert bench.rows("door.forced") == []

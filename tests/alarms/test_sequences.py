"""Door forced: a door that opens and nothing explains it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .bench import Bench

FORCED = "door.forced|DR-1|"
CLOSED = [("DR-1/contact", 0.0), ("DR-1/exit_button", 0.0), ("DR-1/lock", 0.0), ("DR-1/tamper", 0.0)]
QUIET = [
    *[("FP-01/" + name, 0.0) for name in ("fire", "supervisory", "fault", "disabled", "mains_fault", "battery_fault")],
    *[(f"FP-01/zone{n}_state", 0.0) for n in range(1, 17)],
]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """One door and one fire panel behind two gateways, everything at rest since second 0."""
    bench = Bench(
        tmp_path,
        {"DR-1": {"type": "door"}, "FP-01": {"type": "fire_panel"}},
        {"gate": ["DR-1"], "fire-room": ["FP-01"]},
    )
    bench.plant.tick(0)
    bench.plant.samples(*[(key, 0, value) for key, value in CLOSED], snapshot=True)
    bench.plant.samples(*[(key, 0, value) for key, value in QUIET], snapshot=True)
    bench.plant.run(1000, 9000)
    assert bench.judge() == []
    return bench


def test_door_that_opens_by_itself_is_forced(bench: Bench) -> None:
    """A door opens, no card, no button: an alarm at the moment it opened, as soon as a late grant is ruled out."""
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    bench.plant.run(10_500, 11_000, step=500)
    assert bench.judge() == []
    bench.plant.run(11_500, 11_500)
    assert bench.judge() == [(FORCED, "RAISE", 10_000)]
    bench.plant.samples(("DR-1/contact", 14_000, 0))
    assert bench.judge() == [(FORCED, "CLEAR", 14_000)]


def test_grant_opens_the_door(bench: Bench) -> None:
    """A card was read three seconds ago: nothing is wrong."""
    bench.plant.event("gate", "DR-1", 9_500, result="granted", method="card")
    bench.plant.samples(("DR-1/contact", 12_500, 1))
    bench.plant.run(13_000, 20_000)
    assert bench.judge() == []


def test_grant_reported_after_the_door_opened(bench: Bench) -> None:
    """The reader's message comes 0.8 s after the door's: no alarm."""
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    bench.plant.event("gate", "DR-1", 10_800, result="granted")
    bench.plant.run(11_000, 20_000)
    assert bench.judge() == []


@pytest.mark.parametrize(
    ("time", "result", "equipment"), [(4_900, "granted", "DR-1"), (9_500, "denied", "DR-1"), (9_500, "granted", "DR-2")]
)
def test_what_explains_nothing(bench: Bench, time: int, result: str, equipment: str) -> None:
    """A grant too old, a refused card, or a grant at another door does not excuse an open door."""
    bench.plant.event("gate", equipment, time, result=result)
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    bench.plant.run(11_000, 12_000)
    assert bench.judge() == [(FORCED, "RAISE", 10_000)]


@pytest.mark.parametrize("name", ["exit_button", "lock"])
def test_button_or_release_explains(bench: Bench, name: str) -> None:
    """Pressing the exit button, or a lock released from the guard room, opens the door rightly."""
    bench.plant.samples((f"DR-1/{name}", 9_200, 1))
    bench.plant.samples((f"DR-1/{name}", 9_400, 0))
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    bench.plant.run(11_000, 12_000)
    assert bench.judge() == []


def test_lock_released_long_ago_still_explains(bench: Bench) -> None:
    """A door unlocked for the whole morning is not forced by each person."""
    bench.plant.samples(("DR-1/lock", 9_200, 1))
    bench.plant.run(10_000, 60_000)
    bench.plant.samples(("DR-1/contact", 60_500, 1))
    bench.plant.run(61_000, 63_000)
    assert bench.judge() == []


def test_fire_release_suppresses_forced_and_held(bench: Bench) -> None:
    """On a fire alarm the doors unlock: people leaving raise neither forced nor held."""
    bench.plant.samples(("FP-01/fire", 9_500, 1))
    bench.plant.samples(("DR-1/lock", 9_600, 1))
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    bench.plant.run(11_000, 60_000)
    bench.judge()
    assert {t.row.rule for t in bench.told} == {"fire"}


def test_fire_panel_alone_explains(bench: Bench) -> None:
    """Also where the lock does not report, the panel's fire bit is enough."""
    bench.plant.samples(("FP-01/fire", 9_500, 1))
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    bench.plant.run(11_000, 13_000)
    bench.judge()
    assert {t.row.rule for t in bench.told} == {"fire"}


def test_waits_for_the_other_gateway(bench: Bench) -> None:
    """While the fire panel's gateway lags, its release may still be under way: the judgement waits."""
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    bench.plant.run(11_000, 15_000, silent=["fire-room"])
    assert bench.judge() == []
    bench.plant.beat("fire-room", 15_000)
    assert bench.judge() == [(FORCED, "RAISE", 10_000)]


def test_silent_gateway_is_not_waited_for(bench: Bench) -> None:
    """The other gateway is dead: after its silence is established the forced door is told."""
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    bench.plant.run(11_000, 24_000, silent=["fire-room"])
    assert bench.judge() == []
    bench.plant.run(25_000, 26_000, silent=["fire-room"])
    assert (FORCED, "RAISE", 10_000) in bench.judge()


def test_door_closed_again_before_the_judgement(bench: Bench) -> None:
    """In and out within a second is still a forced door; it is raised and cleared with its true times."""
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    bench.plant.samples(("DR-1/contact", 10_400, 0))
    bench.plant.run(11_000, 12_000)
    assert bench.judge() == [(FORCED, "RAISE", 10_000), (FORCED, "CLEAR", 10_400)]


def test_open_door_found_after_an_outage_is_no_forced_door(bench: Bench) -> None:
    """After an outage the snapshot shows an open door; only the backlog can tell how it was opened."""
    bench.plant.run(10_000, 200_000, step=5000, silent=["gate"])
    bench.judge()
    rows = [("DR-1/contact", 200_000, 1.0), *[(key, 200_000, value) for key, value in CLOSED[1:]]]
    bench.plant.samples(*rows, snapshot=True)
    bench.plant.run(201_000, 210_000)
    bench.judge()
    assert bench.rows("door.forced") == []


@pytest.mark.parametrize("has_grant", [False, True])
def test_backlog_tells_a_forced_door_late(bench: Bench, has_grant: bool) -> None:
    """The backlog shows that the door was forced during the outage: told late, unless it also brings the grant."""
    bench.plant.run(10_000, 100_000, step=5000, silent=["gate"])
    bench.judge()
    bench.plant.samples(*[(key, 100_000, value) for key, value in CLOSED], snapshot=True)
    bench.plant.samples(("DR-1/contact", 30_000, 0), arrived=100_100)
    bench.plant.samples(("DR-1/contact", 40_000, 1), arrived=100_200)
    if has_grant:
        bench.plant.event("gate", "DR-1", 39_000, seen=39_100, result="granted")
    bench.plant.run(101_000, 110_000)
    bench.judge()
    forced = bench.rows("door.forced")
    assert [(t.kind, t.is_late) for t in forced] == ([] if has_grant else [("RAISE", True), ("CLEAR", True)])


def test_device_clock_far_off_is_not_believed(bench: Bench) -> None:
    """A reader whose clock is an hour behind still opens its door: its event counts when the gateway saw it."""
    bench.plant.event("gate", "DR-1", 9_500 - 3_600_000, seen=9_500, result="granted")
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    bench.plant.run(11_000, 13_000)
    for record in bench.plant.records:
        bench.evaluator.feed(record)
    judged = bench.evaluator.evaluate()
    assert [(e.judged_ms == e.event.seen_ms, e.quality) for e in judged.events] == [(True, 4)]
    assert judged.transitions == []


def test_door_held_open(bench: Bench) -> None:
    """Opened with a card, but open longer than thirty seconds: held, counted from the second it became too long."""
    bench.plant.event("gate", "DR-1", 9_500, result="granted")
    bench.plant.samples(("DR-1/contact", 10_000, 1))
    bench.plant.run(11_000, 40_000)
    assert bench.judge() == []
    bench.plant.run(41_000, 42_000)
    assert bench.judge() == [("door.held|DR-1|", "RAISE", 40_000)]

"""Missing data: stale, bad, never seen, and gateways that fall silent; all told by the journal's ticks."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchroom.frames import encode_samples

from .bench import Bench
from .plant import Plant

SILENT = "gateway.silent|GW-01|"


def all_good(plant: Plant, gateway: str, time: int) -> None:
    """Send every signal of a gateway."""
    for lane in (0, 1):
        rows = [(key, time, 50.0) for key, (owner, _, at) in plant._alias.items() if owner == gateway and at == lane]
        if rows:
            plant.samples(*rows, snapshot=True)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A gateway with five tanks and one with a sump; everything reported at second 0."""
    tanks = {f"TK-{n}": {"type": "tank"} for n in range(1, 6)}
    bench = Bench(
        tmp_path,
        {
            **tanks,
            "SP-1": {"type": "sump"},
            "GW-01": {"type": "gateway", "gateway": "g1"},
            "GW-02": {"type": "gateway", "gateway": "g2"},
        },
        {"g1": list(tanks), "g2": ["SP-1"]},
        only={"tank": ["level", "overflow"]},
    )
    bench.plant.tick(0)
    for gateway in ("g1", "g2"):
        all_good(bench.plant, gateway, 0)
    bench.plant.run(1000, 20_000)
    bench.judge()
    bench.told.clear()
    return bench


def test_one_outage_is_one_alarm(bench: Bench) -> None:
    """A gateway falls silent for ten minutes: one alarm and one clearing, and nothing about its equipment."""
    bench.plant.run(21_000, 620_000, silent=["g1"])
    for time in range(60_000, 620_000, 60_000):
        all_good(bench.plant, "g2", time)
    bench.judge()
    mine = [t for t in bench.told if not t.row.equipment.startswith("SP")]
    assert [(t.row.key, str(t.kind)) for t in mine] == [(SILENT, "RAISE")]
    all_good(bench.plant, "g1", 620_500)
    bench.plant.run(621_000, 640_000)
    bench.judge()
    mine = [t for t in bench.told if not t.row.equipment.startswith("SP")]
    assert [(t.row.key, str(t.kind)) for t in mine] == [(SILENT, "RAISE"), (SILENT, "CLEAR")]


def test_silence_counts_from_the_last_word(bench: Bench) -> None:
    """Offline since the last frame plus the time allowed, not since somebody looked."""
    bench.plant.run(21_000, 36_000, silent=["g1"])
    bench.judge()
    (raised,) = bench.told
    assert (raised.row.key, raised.event_ms - raised.arrived_ms) == (SILENT, 35_000 - 36_000)
    assert raised.row.describe(raised)[1]["en"] == "Nothing arrives from gateway g1"


def test_pause_of_the_centre_blames_no_gateway(bench: Bench) -> None:
    """The centre was down for an hour: no gateway is called silent for that hour."""
    bench.plant.run(3_600_000, 3_610_000, silent=["g1", "g2"])
    bench.judge()
    assert [t for t in bench.told if t.row.rule == "gateway.silent"] == []
    bench.plant.run(3_611_000, 3_620_000, silent=["g1"])
    bench.judge()
    assert [t.row.key for t in bench.told if t.row.rule == "gateway.silent"] == [SILENT]


def test_pause_of_the_centre_does_not_clear_a_silent_gateway(bench: Bench) -> None:
    """A gateway that was offline before the centre's restart is still offline after it."""
    bench.plant.run(21_000, 40_000, silent=["g1"])
    bench.plant.run(400_000, 420_000, silent=["g1"])
    bench.judge()
    assert [(t.row.key, str(t.kind)) for t in bench.told if t.row.equipment == "GW-01"] == [(SILENT, "RAISE")]


def set_back(plant: Plant, by: int, until: int, *, silent: list[str]) -> None:
    """Let a few seconds pass on a centre whose clock was set back; the gateways' clocks go on."""
    now = plant.now
    for time in range(1000, until, 1000):
        for gateway in plant.gateways:
            if gateway not in silent:
                plant.now = now - by + time
                for lane in (0, 1):
                    header = plant._header(gateway, lane, now + time, beat=True)
                    plant._append(gateway, encode_samples(header, alias=[], time_ms=[], value=[], quality=[]))
        plant.now = now - by + time
        plant._append("", b"")


@pytest.mark.parametrize("by", [2_000, 3_600_000])
def test_centre_set_back_still_finds_a_silent_gateway(bench: Bench, by: int) -> None:
    """The centre's clock is set back: a gateway that falls silent then is found within its time all the same."""
    set_back(bench.plant, by, 5_000, silent=[])
    set_back(bench.plant, 0, 25_000, silent=["g1"])
    bench.judge()
    assert [(t.row.key, str(t.kind)) for t in bench.told if t.row.rule == "gateway.silent"] == [(SILENT, "RAISE")]


@pytest.mark.parametrize("by", [2_000, 3_600_000])
def test_centre_set_back_does_not_clear_a_silent_gateway(bench: Bench, by: int) -> None:
    """A gateway that was offline before the centre's clock was set back is still offline after it."""
    bench.plant.run(21_000, 36_000, silent=["g1"])
    set_back(bench.plant, by, 10_000, silent=["g1"])
    bench.judge()
    assert [(t.row.key, str(t.kind)) for t in bench.told if t.row.rule == "gateway.silent"] == [(SILENT, "RAISE")]


def test_signal_that_stops_is_stale(bench: Bench) -> None:
    """Its gateway lives but one device stopped: one alarm for the equipment, which names the signals."""
    for time in range(21_000, 200_000, 1000):
        if time % 60_000 == 0:
            rows = [(f"TK-{n}/overflow", time, 0.0) for n in range(1, 6)]
            bench.plant.samples(*rows)
            bench.plant.samples(*[(f"TK-{n}/level", time, 50.0) for n in range(2, 6)])
            all_good(bench.plant, "g2", time)
        bench.plant.run(time, time)
    bench.judge()
    stale = [t for t in bench.told if t.row.rule == "data.stale"]
    assert [(t.row.key, str(t.kind), t.cause) for t in stale] == [("data.stale|TK-1|", "RAISE", ("level",))]
    latest = bench.evaluator.latest()
    stale_keys = {key for key, is_stale in zip(latest.keys, latest.is_stale, strict=True) if is_stale}
    assert {key for key in stale_keys if key.startswith("TK") and key in bench.plant._alias} == {"TK-1/level"}
    bench.plant.samples(("TK-1/level", 200_000, 50.0))
    bench.plant.run(201_000, 202_000)
    bench.judge()
    assert bench.told[-1].row.rule == "data.stale"
    assert bench.told[-1].kind == "CLEAR"


def test_bad_quality_is_told_after_its_delay(bench: Bench) -> None:
    """A sensor that fails for a second is nothing; one that stays bad is an alarm."""
    bench.plant.samples(("TK-1/level", 21_000, 50.0, 3))
    bench.plant.run(22_000, 25_000)
    bench.plant.samples(("TK-1/level", 25_500, 50.0))
    bench.plant.run(26_000, 30_000)
    bench.plant.samples(("TK-1/level", 30_500, 50.0, 3))
    bench.plant.run(31_000, 60_000)
    bench.judge()
    assert bench.told == []
    bench.plant.run(61_000, 63_000)
    assert [row for row, _, _ in bench.judge()] == ["data.bad|TK-1|"]


def test_never_seen_is_not_stale(tmp_path: Path) -> None:
    """Equipment that no gateway has ever announced is told as such, once, and not as data that stopped."""
    bench = Bench(
        tmp_path,
        {"TK-1": {"type": "tank"}, "TK-2": {"type": "tank"}, "GW-01": {"type": "gateway", "gateway": "g1"}},
        {"g1": ["TK-1"]},
    )
    bench.plant.tick(0)
    all_good(bench.plant, "g1", 0)
    for time in range(1000, 300_000, 1000):
        if time % 50_000 == 0:
            all_good(bench.plant, "g1", time)
        bench.plant.run(time, time)
    bench.judge()
    assert [(t.row.key, str(t.kind)) for t in bench.told] == [("data.never_seen|TK-2|", "RAISE")]


def test_gateway_that_never_came(tmp_path: Path) -> None:
    """A gateway that never said a word is offline; its equipment is not told one by one."""
    bench = Bench(
        tmp_path,
        {"TK-1": {"type": "tank"}, "TK-2": {"type": "tank"}, "GW-01": {"type": "gateway", "gateway": "g1"}},
        {"other": []},
    )
    bench.plant.run(0, 300_000)
    bench.judge()
    assert [(t.row.key, str(t.kind)) for t in bench.told] == [(SILENT, "RAISE")]


def test_nobody_is_blamed_while_the_centre_takes_nothing_in(tmp_path: Path) -> None:
    """The disk of the centre is full for ten minutes: one alarm says so, no gateway is called silent for it."""
    bench = Bench(
        tmp_path,
        {"TK-1": {"type": "tank"}, "GW-01": {"type": "gateway", "gateway": "g1"}, "CENTRE": {"type": "centre"}},
        {"g1": ["TK-1"], "centre": ["CENTRE"]},
        only={"tank": ["level", "overflow"], "centre": ["intake"]},
    )
    names = [key for key, (owner, _, _) in bench.plant._alias.items() if owner == "centre"]

    def report(time: int, intake: float) -> None:
        rows = [(key, time, intake if key.endswith("/intake") else 0.0) for key in names]
        bench.plant.samples(*rows, snapshot=True)

    bench.plant.tick(0)
    all_good(bench.plant, "g1", 0)
    for time in range(1000, 30_000, 1000):
        report(time, 1.0)
        bench.plant.run(time, time)
    for time in range(30_000, 630_000, 1000):
        report(time, 0.0)
        bench.plant.run(time, time, silent=["g1"])
    all_good(bench.plant, "g1", 630_000)
    for time in range(631_000, 640_000, 1000):
        report(time, 1.0)
        bench.plant.run(time, time)
    bench.judge()
    assert [(t.row.key, str(t.kind)) for t in bench.told] == [
        ("intake.stopped|CENTRE|", "RAISE"),
        ("intake.stopped|CENTRE|", "CLEAR"),
    ]
    for time in range(640_000, 670_000, 1000):
        report(time, 1.0)
        bench.plant.run(time, time, silent=["g1"])
    bench.told.clear()
    bench.judge()
    assert [(t.row.key, str(t.kind)) for t in bench.told] == [(SILENT, "RAISE")], "afterwards silence counts again"


@pytest.mark.parametrize(
    ("share", "expected"),
    [(79.9, []), (80.5, [("RAISE", "H", 3)]), (95.5, [("RAISE", "HH", 2)])],
)
def test_the_disk_of_the_centre_is_an_alarm(tmp_path: Path, share: float, expected: list[tuple[str, str, int]]) -> None:
    """80 % is told, 95 % is told louder; limits can be changed as those of any equipment."""
    bench = Bench(tmp_path, {"CENTRE": {"type": "centre"}}, {"centre": ["CENTRE"]})
    bench.plant.tick(0)
    bench.plant.samples(("CENTRE/disk_use", 0, 50.0), snapshot=True)
    bench.plant.samples(("CENTRE/disk_use", 1000, share), snapshot=True)
    bench.plant.run(2000, 5000)
    bench.judge()
    found = [t for t in bench.told if t.row.rule == "disk.use"]
    assert [(str(t.kind), t.level, t.row.priority(t.level)) for t in found] == expected

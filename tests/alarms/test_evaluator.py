"""Judging by event time: delays, holds, late samples, chains of frames, clock steps, duplicates, restarts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from alarms.evaluator import Evaluator
from alarms.rows import Op, RuleRow, StateTest
from watchroom.errors import ContractError, StateError
from watchroom.frames import FLAG_SIMULATED
from watchroom.signals import Lane

from .plant import SITE, T0, Plant, rules, signal

X, Y, MODE = "A-1/x", "A-1/y", "A-1/mode"


def row(
    *,
    key: str = X,
    limits: dict[str, float] | None = None,
    on: int = 0,
    off: int = 0,
    deadband: float = 0.0,
    latching: bool = False,
    guard: StateTest | None = None,
) -> RuleRow:
    return RuleRow(
        key=f"r|{key}|",
        rule="r",
        version="0",
        equipment="A-1",
        kind="limit",
        class_="equipment",
        priorities={"": 3},
        signal=key,
        signals=(key,) if guard is None else (key, guard.signal),
        limits=limits or {"H": 10.0},
        deadband=deadband,
        on_delay_ms=on,
        off_delay_ms=off,
        latching=latching,
        guard=guard,
    )


class Judge:
    """A plant with two signals on the telemetry lane and one urgent, and a judge of some rows."""

    def __init__(self, folder: Path, *rows: RuleRow) -> None:
        self.plant = Plant(
            folder, {"g": [signal(X), signal(Y), signal(MODE, lane=Lane.URGENT)], "h": [signal("B-1/z")]}
        )
        self.rows = rows
        self.evaluator = Evaluator(rules(*rows), self.plant.births, SITE)
        self.done = 0

    def told(self) -> list[tuple[str, int]]:
        """Return (kind, time after T0) of what is new."""
        records, self.done = self.plant.records[self.done :], len(self.plant.records)
        for record in records:
            self.evaluator.feed(record)
        return [(str(t.kind), t.event_ms - T0) for t in self.evaluator.evaluate().transitions]

    def values(self, *values: tuple[int, float] | tuple[int, float, int]) -> None:
        """Send samples of x, one frame each."""
        for time, value, *quality in values:
            self.plant.samples((X, time, value, int(quality[0]) if quality else 0))


def test_limit_is_judged_at_once(tmp_path: Path) -> None:
    """Without a delay the sample that crosses the limit raises, at its own time; at the limit is not beyond it."""
    judge = Judge(tmp_path, row())
    judge.values((0, 9.0), (1000, 10.0))
    assert judge.told() == []
    judge.values((2000, 10.1))
    assert judge.told() == [("RAISE", 2000)]
    judge.values((3000, 10.0))
    assert judge.told() == [("CLEAR", 3000)]


def test_already_bad_at_start(tmp_path: Path) -> None:
    """A signal that is beyond its limit in its first sample raises."""
    judge = Judge(tmp_path, row())
    judge.values((0, 99.0))
    assert judge.told() == [("RAISE", 0)]


def test_deadband_stops_chatter(tmp_path: Path) -> None:
    """A value that swings around the limit raises once, and clears when it is inside by the deadband."""
    judge = Judge(tmp_path, row(deadband=1.0))
    judge.values((0, 10.5), (1000, 9.5), (2000, 10.5), (3000, 9.1), (4000, 9.0))
    assert judge.told() == [("RAISE", 0), ("CLEAR", 4000)]


def test_delay_counts_from_the_crossing(tmp_path: Path) -> None:
    """Ten seconds beyond the limit raise at crossing plus ten seconds exactly, however rarely samples come."""
    judge = Judge(tmp_path, row(on=10_000))
    judge.values((0, 0.0), (1234, 11.0))
    judge.plant.beat("g", 11_234)
    assert judge.told() == []
    judge.plant.beat("g", 11_235)
    assert judge.told() == [("RAISE", 11_234)]


@pytest.mark.parametrize(("back_at", "raises"), [(10_999, False), (11_000, False), (11_001, True)])
def test_delay_that_is_just_met(tmp_path: Path, back_at: int, raises: bool) -> None:
    """Beyond the limit for exactly the delay is not longer than the delay."""
    judge = Judge(tmp_path, row(on=10_000))
    judge.values((0, 0.0), (1000, 11.0), (back_at, 5.0))
    assert judge.told() == ([("RAISE", 11_000), ("CLEAR", back_at)] if raises else [])


def test_buffered_sample_does_not_satisfy_a_delay(tmp_path: Path) -> None:
    """A sample that arrives ten minutes old does not count as ten minutes beyond the limit."""
    judge = Judge(tmp_path, row(on=300_000))
    judge.plant.samples((X, 0, 11.0), complete=0, arrived=600_000)
    judge.plant.tick(600_500)
    assert judge.told() == []
    judge.plant.samples((X, 60_000, 5.0), complete=60_000, arrived=600_600)
    judge.plant.tick(601_000)
    assert judge.told() == []


def test_levels_are_one_alarm(tmp_path: Path) -> None:
    """H, then HH, then H again, then normal: raised, escalated, eased, cleared - one row."""
    judge = Judge(tmp_path, row(limits={"H": 10.0, "HH": 20.0}))
    judge.values((0, 15.0), (1000, 25.0), (2000, 15.0), (3000, 5.0))
    assert judge.told() == [("RAISE", 0), ("ESCALATE", 1000), ("EASE", 2000), ("CLEAR", 3000)]


def test_jump_over_two_levels_is_one_alarm(tmp_path: Path) -> None:
    """A jump straight beyond HH raises once, at HH; the other side of a two-sided limit is news."""
    judge = Judge(tmp_path, row(limits={"H": 10.0, "HH": 20.0, "LL": 1.0}))
    judge.values((0, 25.0), (1000, 0.0))
    assert judge.told() == [("RAISE", 0), ("ESCALATE", 1000)]


@pytest.mark.parametrize("quality", [1, 2, 3])
def test_bad_quality_holds(tmp_path: Path, quality: int) -> None:
    """A bad sample neither raises nor clears, whatever its value."""
    judge = Judge(tmp_path, row())
    judge.values((0, 5.0), (1000, 99.0, quality), (2000, float("nan")))
    assert judge.told() == []
    judge.values((3000, 99.0))
    assert judge.told() == [("RAISE", 3000)]
    judge.values((4000, 0.0, quality), (5000, float("nan")))
    assert judge.told() == []


def test_delay_does_not_run_out_over_bad_samples(tmp_path: Path) -> None:
    """Beyond the limit, then the sensor fails: the delay does not mature, until a good sample confirms it."""
    judge = Judge(tmp_path, row(on=10_000))
    judge.values((0, 11.0), (3000, 0.0, 1))
    judge.plant.beat("g", 60_000)
    assert judge.told() == []
    judge.values((61_000, 11.0))
    assert judge.told() == [("RAISE", 10_000)]


def test_delay_is_not_met_by_unknown_time(tmp_path: Path) -> None:
    """Beyond the limit, then the sensor fails, then all is well: nobody knows, nothing is raised."""
    judge = Judge(tmp_path, row(on=10_000))
    judge.values((0, 11.0), (3000, 0.0, 1), (61_000, 5.0))
    judge.plant.beat("g", 70_000)
    assert judge.told() == []


def test_stale_signal_arms_nothing(tmp_path: Path) -> None:
    """A signal that was not re-sent in time does not mature a delay, although its lane goes on."""
    judge = Judge(tmp_path, row(on=120_000))
    judge.values((0, 11.0))
    judge.plant.beat("g", 300_000)
    assert judge.told() == []


def test_guard_that_goes_away_cancels_the_delay(tmp_path: Path) -> None:
    """Service mode leaves normal during the delay: no alarm; when it comes back the delay starts anew."""
    guard = StateTest(signal=MODE, op=Op.IN, values=(1.0,))
    judge = Judge(tmp_path, row(on=10_000, guard=guard))
    judge.plant.samples((MODE, 0, 1))
    judge.values((1000, 11.0))
    judge.plant.samples((MODE, 5000, 2))
    judge.plant.beat("g", 30_000)
    assert judge.told() == []
    judge.plant.samples((MODE, 31_000, 1))
    judge.plant.beat("g", 41_001)
    assert judge.told() == [("RAISE", 41_000)]


def test_guard_of_unknown_state_keeps_quiet(tmp_path: Path) -> None:
    """Before the guard's first sample nothing is raised."""
    judge = Judge(tmp_path, row(guard=StateTest(signal=MODE, op=Op.IN, values=(1.0,))))
    judge.values((0, 11.0))
    assert judge.told() == []
    judge.plant.samples((MODE, 1000, 1))
    assert judge.told() == [("RAISE", 1000)]


def test_broken_chain_proves_nothing(tmp_path: Path) -> None:
    """A frame is missing: later claims of its lane do not count until it has arrived."""
    judge = Judge(tmp_path, row(on=10_000))
    judge.values((0, 11.0))
    missing = judge.plant.samples((Y, 5000, 1.0))
    judge.plant.records.remove(missing)
    judge.plant.samples((Y, 20_000, 1.0))
    judge.plant.beat("g", 30_000)
    assert judge.told() == []
    judge.plant.records.append(missing)
    assert judge.told() == [("RAISE", 10_000)]


def test_lost_frames_are_given_up(tmp_path: Path) -> None:
    """The gateway says that frames are lost: the chain goes on without them."""
    judge = Judge(tmp_path, row(on=10_000))
    judge.values((0, 11.0))
    judge.plant.records.remove(judge.plant.samples((Y, 5000, 1.0)))
    judge.plant.samples((Y, 20_000, 1.0))
    assert judge.told() == []
    judge.plant.event("g", "A-1", 21_000, kind="loss")
    assert judge.told() == [("RAISE", 10_000)]


def test_snapshot_starts_a_new_chain(tmp_path: Path) -> None:
    """After an outage the first live frame counts at once, although the backlog is still under way."""
    judge = Judge(tmp_path, row(on=10_000))
    judge.values((0, 5.0))
    judge.plant.records.remove(judge.plant.samples((Y, 5000, 1.0)))
    judge.plant.samples((X, 100_000, 11.0), (Y, 100_000, 1.0), snapshot=True)
    judge.plant.beat("g", 110_001)
    assert judge.told() == [("RAISE", 110_000)]


def test_late_samples_do_not_move_the_live_state(tmp_path: Path) -> None:
    """Backlog that is older than what was judged neither raises nor clears a plain alarm."""
    judge = Judge(tmp_path, row())
    judge.values((100_000, 5.0))
    judge.plant.samples((X, 50_000, 99.0), complete=0, arrived=101_000)
    judge.plant.tick(102_000)
    assert judge.told() == []
    assert judge.evaluator.latest().value[0] == 5.0
    assert judge.evaluator.counters["late"] == 1


@pytest.mark.parametrize(("age", "is_told"), [(29 * 60_000, True), (31 * 60_000, False)])
def test_latched_alarm_from_the_backlog(tmp_path: Path, age: int, is_told: bool) -> None:
    """A fire of up to thirty minutes ago that the backlog brings is told as late; an older one is only history."""
    judge = Judge(tmp_path, row(latching=True))
    now = 4_000_000
    judge.values((now, 5.0))
    judge.plant.samples((X, now - age, 99.0), complete=0, arrived=now + 500)
    judge.plant.samples((X, now - age + 5000, 99.0), complete=0, arrived=now + 600)
    judge.plant.tick(now + 1000)
    at = now - age
    assert judge.told() == ([("RAISE", at), ("CLEAR", at)] if is_told else [])


def test_late_copy_of_an_alarm_that_stands(tmp_path: Path) -> None:
    """The snapshot raised the fire already: the backlog does not raise it again."""
    judge = Judge(tmp_path, row(latching=True))
    judge.values((100_000, 99.0))
    assert judge.told() == [("RAISE", 100_000)]
    judge.plant.samples((X, 50_000, 99.0), complete=0, arrived=101_000)
    judge.plant.tick(102_000)
    assert judge.told() == []


def test_late_latched_alarm_needs_its_delay(tmp_path: Path) -> None:
    """In the backlog, too, a delayed condition must have lasted longer than its delay."""
    judge = Judge(tmp_path, row(latching=True, on=3000))
    judge.values((100_000, 5.0))
    for time, value in ((50_000, 99.0), (52_000, 5.0), (60_000, 99.0), (64_000, 99.0)):
        judge.plant.samples((X, time, value), complete=0, arrived=101_000)
    judge.plant.tick(102_000)
    assert judge.told() == [("RAISE", 63_000), ("CLEAR", 63_000)]


def test_clock_step_starts_anew(tmp_path: Path) -> None:
    """A gateway's clock is set back by an hour: what it sends afterwards is judged, not thrown away as late."""
    judge = Judge(tmp_path, row(on=10_000))
    judge.values((4_000_000, 5.0))
    assert judge.told() == []
    judge.plant.clock_gen = 2
    judge.plant.samples((X, 400_000, 11.0), arrived=4_001_000)
    judge.plant.beat("g", 410_001)
    assert judge.told() == [("RAISE", 410_000)]


def test_clock_step_restarts_a_pending_delay(tmp_path: Path) -> None:
    """A delay that was running when the clock stepped does not wait for the old hour to come again."""
    judge = Judge(tmp_path, row(on=10_000))
    judge.values((4_000_000, 11.0))
    judge.plant.clock_gen = 2
    judge.plant.samples((Y, 400_000, 0.0), arrived=4_001_000)
    judge.values((405_000, 11.0))
    judge.plant.beat("g", 410_001)
    assert judge.told() == [("RAISE", 410_000)]


def test_loss_told_before_what_follows_it(tmp_path: Path) -> None:
    """The urgent lane tells of two lost frames first, the frames after them come later: claims count all the same."""
    judge = Judge(tmp_path, row(on=10_000))
    judge.values((0, 11.0))
    lost = [judge.plant.samples((Y, 1000, 1.0))]
    kept = [judge.plant.samples((Y, 2000, 1.0))]
    lost.append(judge.plant.samples((Y, 3000, 1.0)))
    kept.append(judge.plant.samples((Y, 20_000, 1.0)))
    for record in (*lost, *kept):
        judge.plant.records.remove(record)
    judge.plant.event("g", "A-1", 4000, kind="loss", ranges=[[2, 2], [4, 4]], count=2)
    assert judge.told() == []
    judge.plant.records += kept
    assert judge.told() == [("RAISE", 10_000)]


def test_frame_that_never_comes_is_given_up_in_the_end(tmp_path: Path) -> None:
    """A frame that nobody calls lost is missing for long: its lane counts again, and memory does not grow."""
    judge = Judge(tmp_path, row(on=10_000))
    judge.values((0, 11.0))
    judge.plant.records.remove(judge.plant.samples((Y, 1000, 1.0)))
    for time in range(20_000, 20_000 + 1200):
        judge.plant.samples((Y, time, 1.0))
    assert judge.told() == [("RAISE", 10_000)]


@pytest.mark.parametrize("clock_gen", [1, 2])
def test_new_outbox_counts_its_clock_anew(tmp_path: Path, clock_gen: int) -> None:
    """A gateway whose clock had stepped before gets a new disk: what it claims counts, and delays run out."""
    judge = Judge(tmp_path, row(on=10_000))
    judge.plant.clock_gen = 5
    judge.values((0, 5.0))
    judge.plant.renew("g", epoch=78)
    judge.plant.clock_gen = clock_gen
    judge.values((100_000, 11.0))
    judge.plant.beat("g", 110_001)
    assert judge.told() == [("RAISE", 110_000)]


def test_straggler_of_the_old_outbox(tmp_path: Path) -> None:
    """A frame of the outbox before is delivered after the new one has begun: the new one stays the gateway's."""
    judge = Judge(tmp_path, row(on=10_000))
    judge.values((0, 5.0))
    straggler = judge.plant.samples((Y, 200_000, 1.0))
    judge.plant.records.remove(straggler)
    judge.plant.renew("g", epoch=78)
    judge.values((100_000, 11.0))
    judge.plant.records.append(straggler)
    assert judge.told() == []
    judge.plant.beat("g", 110_001)
    assert judge.told() == [("RAISE", 110_000)]


def test_clock_generations_begin_again_after_the_last(tmp_path: Path) -> None:
    """The generation after 65535 is 1: a step like any other."""
    judge = Judge(tmp_path, row(on=10_000))
    judge.plant.clock_gen = 65_535
    judge.values((4_000_000, 5.0))
    judge.plant.clock_gen = 1
    judge.plant.samples((X, 400_000, 11.0), arrived=4_001_000)
    judge.plant.beat("g", 410_001)
    assert judge.told() == [("RAISE", 410_000)]


def test_duplicates_change_nothing(tmp_path: Path) -> None:
    """A frame that stands in the journal twice is judged once."""
    judge = Judge(tmp_path, row(latching=True))
    judge.values((0, 5.0), (1000, 99.0), (2000, 5.0))
    copies = [record._replace(offset=record.offset + 3) for record in judge.plant.records]
    judge.plant.records += copies
    judge.plant.tick(3000)
    assert judge.told() == [("RAISE", 1000), ("CLEAR", 2000)]
    assert judge.evaluator.counters["duplicates"] == 3


def test_simulated_data_are_marked(tmp_path: Path) -> None:
    """Alarms from simulated equipment carry the mark, also when a drill begins and ends in one batch."""
    judge = Judge(tmp_path, row())
    judge.plant.flags = FLAG_SIMULATED
    judge.values((0, 99.0))
    judge.plant.flags = 0
    judge.values((1000, 5.0))
    for record in judge.plant.records:
        judge.evaluator.feed(record)
    assert [t.is_simulated for t in judge.evaluator.evaluate().transitions] == [True, False]


@pytest.mark.parametrize("cut", range(1, 8))
def test_restart_in_mid_delay(tmp_path: Path, cut: int) -> None:
    """The judge is restarted anywhere while a delay runs: the alarm comes at the same moment."""
    judge = Judge(tmp_path, row(on=10_000, off=5000))
    judge.values((0, 5.0), (1000, 11.0))
    judge.plant.beat("g", 5000, lanes=[1])
    judge.values((8000, 11.0))
    judge.plant.beat("g", 12_000, lanes=[1])
    judge.values((13_000, 5.0))
    judge.plant.beat("g", 19_000, lanes=[1])
    judge.plant.tick(19_500)
    told: list[tuple[str, int]] = []
    for part in (judge.plant.records[:cut], judge.plant.records[cut:]):
        for record in part:
            judge.evaluator.feed(record)
        told += [(str(t.kind), t.event_ms - T0) for t in judge.evaluator.evaluate().transitions]
        state = judge.evaluator.checkpoint()
        judge.evaluator = Evaluator(rules(*judge.rows), judge.plant.births, SITE)
        judge.evaluator.restore(state)
    assert told == [("RAISE", 11_000), ("CLEAR", 18_000)]


def test_checkpoint_only_between_batches(tmp_path: Path) -> None:
    """A checkpoint in the middle of a batch would lose records: it is refused."""
    judge = Judge(tmp_path, row())
    judge.values((0, 5.0))
    judge.evaluator.feed(judge.plant.records[0])
    with pytest.raises(StateError):
        judge.evaluator.checkpoint()


@pytest.mark.parametrize("damage", [b"", b"WRC1", b"WRC1" + bytes(40)])
def test_damaged_checkpoint_is_refused(tmp_path: Path, damage: bytes) -> None:
    """A checkpoint that is not whole is not believed."""
    judge = Judge(tmp_path, row())
    with pytest.raises(ContractError, match="checkpoint"):
        judge.evaluator.restore(damage)


def test_changed_limit_keeps_the_state(tmp_path: Path) -> None:
    """A limit is changed while the alarm stands: the alarm stays until a sample says otherwise."""
    judge = Judge(tmp_path, row())
    judge.values((0, 15.0))
    assert judge.told() == [("RAISE", 0)]
    state = judge.evaluator.checkpoint()
    judge.evaluator = Evaluator(rules(row(limits={"H": 20.0})), judge.plant.births, SITE)
    judge.evaluator.restore(state)
    judge.values((1000, 15.0))
    assert judge.told() == [("CLEAR", 1000)]


def test_garbage_is_counted(tmp_path: Path) -> None:
    """A record that is no frame does not stop the judge."""
    judge = Judge(tmp_path, row())
    record = judge.plant.tick(0)._replace(gateway="g", payload=b"garbage")
    judge.plant.records[:] = [record]
    judge.values((1000, 99.0))
    assert judge.told() == [("RAISE", 1000)]
    assert judge.evaluator.counters["unreadable"] == 1


def frames_of(samples: Sequence[tuple[int, float]], folder: Path) -> list[tuple[str, int]]:
    judge = Judge(folder, row(on=2000, off=1000, deadband=1.0))
    judge.values(*samples)
    judge.plant.beat("g", 60_000)
    return judge.told()


def test_sampling_does_not_matter(tmp_path: Path) -> None:
    """The same course sampled ten times as often gives the same alarms at the same times."""
    course = [(0, 5.0), (3000, 12.0), (9000, 9.5), (12_000, 5.0), (30_000, 12.0)]
    dense = []
    for (time, value), (end, _) in zip(course, [*course[1:], (40_000, 0.0)], strict=True):
        dense += [(t, value) for t in range(time, end, 250)]
    assert frames_of(dense, tmp_path / "dense") == frames_of(course, tmp_path / "sparse")
    assert frames_of(course, tmp_path / "again") == [("RAISE", 5000), ("CLEAR", 13_000), ("RAISE", 32_000)]


@pytest.mark.parametrize("deep", [1, 1 << 30])
def test_sample_behind_its_watermark_is_decided_at_once(tmp_path: Path, deep: int) -> None:
    """A sample that its lane had already claimed to be complete beyond is proven by that claim, whatever comes next."""
    judge = Judge(tmp_path, row(on=1000))
    judge.evaluator = Evaluator(rules(row(on=1000)), judge.plant.births, SITE, deep=deep)
    judge.values((0, 0.0))
    judge.plant.beat("g", 5000)
    assert judge.told() == []
    judge.plant.samples((X, 3000, 11.0), complete=0)
    assert judge.told() == [("RAISE", 4000)]


def test_pulse_of_50_ms_always_raises(tmp_path: Path) -> None:
    """A contact that closes for 50 ms raises and clears, whether its samples come together or in several frames."""
    pulse = [(1000, 0.0), (2000, 11.0), (2050, 0.0), (3000, 0.0)]
    together = Judge(tmp_path / "a", row())
    together.plant.samples(*((X, time, value) for time, value in pulse))
    apart = Judge(tmp_path / "b", row())
    apart.values(*pulse)
    for judge in (together, apart):
        assert judge.told() == [("RAISE", 2000), ("CLEAR", 2050)]


def test_large_backlog_is_judged_in_parts(tmp_path: Path) -> None:
    """Ten thousand samples of one signal in one batch give the same alarms as one at a time."""
    judge = Judge(tmp_path, row(on=1500, off=700))
    wave = [(100 * i, 11.0 if i % 40 < 25 else 5.0) for i in range(10_000)]
    for start in range(0, len(wave), 1000):
        judge.plant.samples(*((X, time, value) for time, value in wave[start : start + 1000]))
    at_once = judge.told()
    one_by_one = Evaluator(rules(*judge.rows), judge.plant.births, SITE, deep=1 << 30)
    result = []
    for record in judge.plant.records:
        one_by_one.feed(record)
        result += [(str(t.kind), t.event_ms - T0) for t in one_by_one.evaluate().transitions]
    assert at_once == result
    assert len(at_once) == 2 * 250

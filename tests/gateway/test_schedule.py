"""Whose turn it is on a link, in virtual time."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from gateway.addresses import Table
from gateway.model import ModelSignal
from gateway.planner import Block
from gateway.schedule import BACK_OFF_S, REFUSED_PERIOD_S, Schedule, Turn

TIMEOUT_S = 1.0


def block(name: str, period_s: float, start: int = 0) -> Block:
    item = ModelSignal(name=name, table=Table.HOLDING, offset=start)
    return Block(table=Table.HOLDING, start=start, count=1, group="g", period_s=period_s, signals=(item,))


def drive(
    schedule: Schedule, until_s: float, *, takes_s: float, is_dead: Callable[[str, float], bool] = lambda *_: False
) -> list[tuple[float, Turn]]:
    """Run a link in virtual time; a dead device costs a whole timeout."""
    now_s, turns = 0.0, []
    while now_s < until_s:
        turn = schedule.pick(now_s)
        if turn is None:
            now_s += max(schedule.wait_s(now_s), 1e-6)
            continue
        turns.append((now_s, turn))
        if is_dead(turn.device, now_s):
            now_s += TIMEOUT_S
            schedule.missed(turn, now_s)
        else:
            now_s += takes_s
            schedule.answered(turn, now_s)
    return turns


def times(turns: list[tuple[float, Turn]], device: str) -> list[float]:
    return [at for at, turn in turns if turn.device == device]


def test_every_block_keeps_its_period() -> None:
    """A 100 ms group is read ten times a second beside a slow one, without drift."""
    schedule = Schedule({"a": [block("fast", 0.1), block("slow", 5.0, 10)]}, 0.0)
    turns = drive(schedule, 60.0, takes_s=0.01)
    fast = [at for at, turn in turns if turn.block.period_s == 0.1]
    assert 595 <= len(fast) <= 600
    assert len(turns) - len(fast) in {12, 13}
    assert max(b - a for a, b in itertools.pairwise(fast)) < 0.15


def test_starts_are_spread() -> None:
    """Thirty devices with the same period are not asked all at the same moment, and the same way every time."""
    plans = {f"d{i}": [block("x", 1.0, i)] for i in range(30)}
    first = [state.jobs[0].due_s for state in Schedule(plans, 0.0).devices.values()]
    again = [state.jobs[0].due_s for state in Schedule(plans, 0.0).devices.values()]
    assert first == again
    assert len({round(due, 1) for due in first}) >= 8
    assert max(first) <= 1.0


def test_an_overloaded_link_starves_nobody() -> None:
    """When there is too much to read, the fast group gets most, the slow one still every other of its turns."""
    schedule = Schedule({"a": [block("fast", 0.05)], "b": [block("slow", 2.0, 10)]}, 0.0)
    turns = drive(schedule, 30.0, takes_s=0.2)
    assert len(times(turns, "b")) >= 8
    assert len(times(turns, "a")) > 100
    assert schedule.overruns > 50


def test_a_dead_device_costs_its_neighbour_one_timeout_at_most() -> None:
    """One silent unit behind a converter must not delay the others by more than one timeout, ever."""
    plans = {"dead": [block("x", 0.5), block("y", 0.5, 5)], "good": [block("z", 0.5, 9)]}
    turns = drive(Schedule(plans, 0.0), 300.0, takes_s=0.02, is_dead=lambda name, _: name == "dead")
    good = times(turns, "good")
    assert max(b - a for a, b in itertools.pairwise(good)) <= 0.5 + TIMEOUT_S + 0.05
    assert len(times(turns, "dead")) < 35


def test_ten_dead_devices_delay_a_neighbour_no_more_than_one() -> None:
    """Probes of silent units never come in a row while somebody waits."""
    plans = {f"dead{i}": [block("x", 0.5, i)] for i in range(10)} | {"good": [block("z", 0.5, 99)]}
    turns = drive(Schedule(plans, 0.0), 300.0, takes_s=0.02, is_dead=lambda name, _: name != "good")
    good = times(turns, "good")
    assert max(b - a for a, b in itertools.pairwise(good)) <= 0.5 + TIMEOUT_S + 0.05
    assert all(times(turns, f"dead{i}") for i in range(10))


def test_a_busy_link_still_finds_out_that_a_device_is_back() -> None:
    """Even when healthy devices use the whole link, a silent one is probed now and then."""
    plans = {"back": [block("x", 1.0)], "greedy": [block("z", 0.05, 9)]}
    turns = drive(Schedule(plans, 0.0), 60.0, takes_s=0.1, is_dead=lambda name, at: name == "back" and at < 20)
    late = [at for at in times(turns, "back") if at > 20]
    assert late
    assert late[0] < 45


def test_probes_come_less_and_less_often() -> None:
    """After 1, 2, 5 and then every 10 seconds, the link's limit, with the shortest request there is."""
    long = Block(
        table=Table.HOLDING,
        start=0,
        count=40,
        group="g",
        period_s=0.5,
        signals=tuple(ModelSignal(name=f"s{i}", table=Table.HOLDING, offset=i) for i in range(40)),
    )
    turns = drive(Schedule({"dead": [long]}, 0.0), 220.0, takes_s=0.02, is_dead=lambda *_: True)
    at = times(turns, "dead")
    waits = [round(b - a - TIMEOUT_S, 3) for a, b in itertools.pairwise(at[1:])]
    assert waits[:4] == list(BACK_OFF_S[:4])
    assert set(waits[4:]) == {10}
    assert [turn.block.count for _, turn in turns] == [40] + [1] * (len(turns) - 1)


def test_one_lost_answer_is_no_outage() -> None:
    """The second try follows at once; only its failure makes the device silent."""
    schedule = Schedule({"a": [block("x", 1.0)]}, 0.0)
    turn = schedule.pick(1.0)
    assert turn is not None
    assert schedule.missed(turn, 2.0) is False
    probe = schedule.pick(2.0)
    assert probe is not None
    assert probe.is_probe
    assert schedule.missed(probe, 3.0) is True
    assert schedule.pick(3.5) is None
    back = schedule.pick(4.0)
    assert back is not None
    assert schedule.answered(back, 4.1) is True
    assert schedule.pick(4.1) is not None, "everything is read at once when the device is back"


def test_a_refused_register_is_asked_again_rarely() -> None:
    """What the device says it does not have is no load on the link, but is not forgotten."""
    schedule = Schedule({"a": [block("x", 1.0)]}, 0.0)
    turn = schedule.pick(1.0)
    assert turn is not None
    schedule.answered(turn, 1.0)
    schedule.refuse(turn, 1.0)
    assert schedule.devices["a"].refused == {"x"}
    assert schedule.pick(REFUSED_PERIOD_S - 1) is None
    again = schedule.pick(REFUSED_PERIOD_S + 1.5)
    assert again is not None
    schedule.answered(again, 602.0)
    schedule.accept(again, 602.0)
    assert schedule.devices["a"].refused == set()
    assert schedule.pick(603.5) is not None


@pytest.mark.parametrize("now_s", [0.0, 5.0])
def test_a_link_without_devices_sleeps(now_s: float) -> None:
    """A link that no device uses costs nothing."""
    schedule = Schedule({}, 0.0)
    assert schedule.pick(now_s) is None
    assert schedule.wait_s(now_s) == 60.0


def classed(name: str, period_s: float, urgency: int, start: int) -> Block:
    item = ModelSignal(name=name, table=Table.HOLDING, offset=start, urgency=urgency)
    return Block(table=Table.HOLDING, start=start, count=1, group="g", period_s=period_s, signals=(item,))


def test_alarms_go_before_states_before_telemetry() -> None:
    """When all are due at the same moment, the alarm is read first, whatever the periods."""
    blocks = [classed("power", 0.2, 3, 0), classed("door", 1.0, 2, 1), classed("fire", 2.0, 1, 2)]
    schedule = Schedule({"a": blocks}, 0.0)
    order, now_s = [], 1.0  # all due, none starved
    for job in schedule.devices["a"].jobs:
        job.due_s = 1.0
    while (turn := schedule.pick(now_s)) is not None:
        order.append(turn.block.signals[0].name)
        schedule.answered(turn, now_s)
    assert order == ["fire", "door", "power"]


def test_telemetry_is_read_also_beside_a_greedy_alarm() -> None:
    """An alarm group that takes more time than there is leaves the telemetry a turn now and then."""
    schedule = Schedule({"a": [classed("fire", 0.05, 1, 0), classed("power", 1.0, 3, 9)]}, 0.0)
    turns = drive(schedule, 60.0, takes_s=0.1)
    power = [at for at, turn in turns if turn.block.signals[0].name == "power"]
    assert max(b - a for a, b in itertools.pairwise(power)) <= 5.5


@pytest.mark.parametrize("back_off_s", [1.0, 5.0, 10.0])
def test_a_device_is_back_within_twice_its_back_off(back_off_s: float) -> None:
    """After a power-cycle of a minute values come within two back-offs, at worst."""
    plans = {"back": [block("x", 1.0)], "good": [block("z", 0.5, 9)]}
    schedule = Schedule(plans, 0.0, back_off_s=back_off_s)
    turns = drive(schedule, 120.0, takes_s=0.02, is_dead=lambda name, at: name == "back" and at < 60)
    late = [at for at, turn in turns if turn.device == "back" and at >= 60 and not turn.is_probe]
    assert late[0] - 60 <= 2 * back_off_s


def test_many_silent_devices_take_a_fifth_of_a_busy_link() -> None:
    """Thirty dead units beside busy good ones: probes cost at most a fifth of the time."""
    plans = {f"dead{i}": [block("x", 1.0, i)] for i in range(30)}
    plans |= {f"good{i}": [block("z", 0.5, 90 + i)] for i in range(10)}
    turns = drive(Schedule(plans, 0.0), 600.0, takes_s=0.05, is_dead=lambda name, _: name.startswith("dead"))
    probes = sum(TIMEOUT_S for at, turn in turns if turn.device.startswith("dead") and at > 120)
    assert probes <= 0.25 * 480


def test_a_unit_that_owes_an_answer_is_left_alone() -> None:
    """On RTU the second try waits until the line has settled, and the neighbour is read meanwhile."""
    plans = {"owes": [block("x", 1.0)], "good": [block("z", 0.2, 9)]}
    schedule = Schedule(plans, 0.0, settle_s=2.0)
    turns = drive(schedule, 10.0, takes_s=0.01, is_dead=lambda name, at: name == "owes" and at < 1.5)
    owes = times(turns, "owes")
    assert owes[1] - owes[0] >= TIMEOUT_S + 2.0
    between = [at for at in times(turns, "good") if owes[0] < at < owes[1]]
    assert len(between) >= 9

"""Doors: how many reader and contact events one core judges in a second, beside a plain judge in the same run.

A busy site: each passage is a grant, an opening and a closing; one opening in a hundred is forced. Both judges get the
same decoded events; the plain one keeps a list of grants for each door and looks back.
"""

from __future__ import annotations

import gc
import random
import time
from bisect import bisect_left, insort
from typing import NamedTuple

import numpy as np

from alarms.chunk import Chunk, Samples
from alarms.doors.judge import DoorJudge
from alarms.judged import Change, JudgedEvent
from alarms.lanes import Lanes
from alarms.rows import AccessTest, Op, RuleRow, StateTest
from alarms.signal_table import SignalTable
from benchmarks.figures import Figure, report
from watchroom.frames import Event

DOORS, PASSAGES, FRAME, CHUNK = 500, 100_000, 200, 30_000
GOAL = ">= 2000000"
T0, WITHIN_MS, SKEW_MS = 1_763_800_000_000, 5_000, 1_000


class Told(NamedTuple):
    """One event: kind 0 a grant, 1 an opening, 2 a closing."""

    time_ms: int
    door: int
    kind: int


def day(seed: int) -> list[Told]:
    """Return the events of a day, in order of time."""
    rng = random.Random(seed)
    ready = [T0 + 2000] * DOORS
    told = []
    for _ in range(PASSAGES):
        door = rng.randrange(DOORS)
        at = ready[door] + rng.randrange(6500, 9000)
        if rng.random() > 0.01:
            told.append(Told(at, door, 0))
        told += [Told(at + 700, door, 1), Told(at + 2500, door, 2)]
        ready[door] = at + 2500
    return sorted(told)


def plain(told: list[Told]) -> int:
    """Return how many openings nothing explains."""
    grants: list[list[int]] = [[] for _ in range(DOORS)]
    waiting: list[Told] = []
    forced = 0
    for one in told:
        if one.kind == 0:
            insort(grants[one.door], one.time_ms)
        elif one.kind == 1:
            waiting.append(one)
        while waiting and waiting[0].time_ms + SKEW_MS < one.time_ms:
            opened = waiting.pop(0)
            known = grants[opened.door]
            at = bisect_left(known, opened.time_ms - WITHIN_MS)
            forced += not (at < len(known) and known[at] <= opened.time_ms + SKEW_MS)
            del known[:at]
    return forced


def make() -> tuple[DoorJudge, SignalTable, Lanes]:
    """Return a judge of all doors behind one gateway, everything closed."""
    rows = []
    for door in range(DOORS):
        name = f"DR-{door}"
        contact = StateTest(signal=f"{name}/contact", op=Op.IN, values=(1.0,))
        test = AccessTest(
            of="forced",
            trues=(contact,),
            events=(("access", "result", name, ("granted",)),),
            within_ms=WITHIN_MS,
            skew_ms=SKEW_MS,
        )
        rows.append(
            RuleRow(
                key=f"forced|{name}|",
                rule="forced",
                version="0",
                equipment=name,
                kind="access",
                class_="security",
                priorities={"": 2},
                signal=contact.signal,
                signals=(contact.signal,),
                access=test,
            )
        )
    table, lanes = SignalTable(row.signals[0] for row in rows), Lanes()
    gateway = lanes.gateway("g")
    lanes.lane(gateway, 0)
    table.lane[:DOORS], table.gateway[:DOORS] = 0, gateway
    return DoorJudge(rows, table=table, lanes=lanes), table, lanes


def chunks(told: list[Told]) -> list[tuple[Chunk, Samples, list[JudgedEvent]]]:
    """Return the events as the evaluator hands them over: decoded, samples sorted by signal."""
    result, before = [], np.full(64, T0, np.int64)
    for first in range(0, len(told), CHUNK):
        part = told[first : first + CHUNK]
        chunk = Chunk()
        chunk.start(before)
        rows, events = [], []
        for start in range(0, len(part), FRAME):
            frame = part[start : start + FRAME]
            record = chunk.open(first + start, frame[-1].time_ms, 0)
            for one in frame:
                if one.kind:
                    rows.append((one.door, record, one.time_ms, float(one.kind == 1)))
                else:
                    event = Event(
                        id="",
                        kind="access",
                        equipment=f"DR-{one.door}",
                        time_ms=one.time_ms,
                        seen_ms=one.time_ms,
                        fields={"result": "granted"},
                    )
                    events.append(
                        JudgedEvent(
                            gateway="g",
                            event=event,
                            is_simulated=False,
                            offset=first + start,
                            arrived_ms=one.time_ms,
                            judged_ms=one.time_ms,
                        )
                    )
            chunk.mark(0, frame[-1].time_ms)
            before[0] = frame[-1].time_ms
        rows.sort()
        columns = np.array(rows)
        samples = Samples(
            signal=columns[:, 0].astype(np.intp),
            record=columns[:, 1].astype(np.int64),
            time_ms=columns[:, 2].astype(np.int64),
            value=columns[:, 3],
            quality=np.zeros(len(rows), np.uint8),
        )
        result.append((chunk, samples, events))
    return result


def main() -> None:
    """Judge the same day both ways and compare."""
    told = day(1)
    started = time.process_time()
    wanted = plain(told)
    plain_s = time.process_time() - started
    judge, _, _ = make()
    none = np.zeros(0, np.int64)
    nothing = Samples(
        signal=none.astype(np.intp), record=none, time_ms=none, value=none.astype(float), quality=none.astype(np.uint8)
    )
    first = Samples(
        signal=np.arange(DOORS),
        record=np.zeros(DOORS, np.int64),
        time_ms=np.full(DOORS, T0),
        value=np.zeros(DOORS),
        quality=np.zeros(DOORS, np.uint8),
    )
    chunk = Chunk()
    chunk.start(np.full(64, T0 - 1, np.int64))
    chunk.open(-1, T0, 0)
    judge.judge(chunk, fresh=first, late=nothing, events=[])
    judge.tick(0, T0)
    given = chunks(told)
    gc.freeze()
    raised, started = 0, time.process_time()
    for chunk, samples, events in given:
        changes = judge.judge(chunk, fresh=samples, late=nothing, events=events)
        raised += sum(change.kind is Change.RAISE for change in changes)
        judge.tick(0, int(chunk.arrived_ms[-1]))
    judge_s = time.process_time() - started
    rate, plain_rate = len(told) / judge_s, len(told) / plain_s
    report(
        "sequences",
        [
            Figure(name="door events judged", value=round(rate), unit="events/s", goal=GOAL),
            Figure(name="plain judge", value=round(plain_rate), unit="events/s"),
            Figure(name="times the plain judge", value=round(rate / plain_rate, 2), unit="x"),
            Figure(name="forced doors found", value=raised, unit="alarms"),
            Figure(name="of those the plain judge found", value=wanted, unit="alarms"),
        ],
    )


if __name__ == "__main__":
    main()

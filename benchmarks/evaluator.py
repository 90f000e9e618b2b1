"""How many samples a second one core judges: a quiet plant, one where everything moves, against a plain judge.

100,000 signals, four limit rules each. *Quiet*: 0.25 % of the signals lie outside all bands, one in twenty of them
comes back each second and another one leaves.
*Moving*: every sample is noise that crosses the limits, rules with 5 s on and 10 s off delay as usual in a plant.
*Storm*: the same noise and no delays, so that nearly every sample changes an alarm.

Judging starts with the frame's columns (signal numbers, times, values, qualities); the figures "with frames" add check
sum, decoding and duplicates. The plain judge of the tests runs on the same frames in the same run, and must agree.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alarms.evaluator import Evaluator
from benchmarks.evaluator_plant import SITE, Quiet, Size, Stream, births, moving, rules
from benchmarks.figures import Figure, quantile, report
from tests.alarms.reference import Reference
from watchroom.births import BirthStore

Values = Callable[[np.random.Generator], NDArray[np.float64]]
QUIET_SHARE = 0.0025
WARM_S = 3


class Meter:
    """Feeds batches to a judge and keeps the time of each."""

    def __init__(self, judge: Evaluator) -> None:
        self._judge = judge
        self.seconds: list[float] = []
        self.judging: list[float] = []
        self.samples = 0
        self.transitions = 0

    def second(self, stream: Stream, value: NDArray[np.float64]) -> None:
        """Judge one second of the plant."""
        for batch in stream.second_of(value):
            started = time.perf_counter()
            for record in batch:
                self._judge.feed(record)
            judged = self._judge.evaluate()
            self.seconds.append(time.perf_counter() - started)
            self.judging.append(self._judge.judging_s)
            self.transitions += len(judged.transitions)
        self.samples += len(value)


def run(judge: Evaluator, size: Size, values: Values, *, batch: int, seconds: int) -> Meter:
    """Judge some seconds after a warm-up of the same kind."""
    stream, rng = Stream(size, batch=batch), np.random.default_rng(1)
    meter = Meter(judge)
    for second in range(WARM_S + seconds):
        if second == WARM_S:
            meter = Meter(judge)
        meter.second(stream, values(rng))
    return meter


def figures_of(name: str, meter: Meter, *, goal: str) -> list[Figure]:
    """Return the rates and the time of one batch."""
    total, judging = sum(meter.seconds), sum(meter.judging)
    return [
        Figure(name=name, value=round(meter.samples / judging / 1e6, 2), unit="M samples/s", goal=goal),
        Figure(name=f"{name}, with frames", value=round(meter.samples / total / 1e6, 2), unit="M samples/s"),
        Figure(name=f"{name}, a batch p50", value=round(quantile(meter.seconds, 0.5) * 1e3, 3), unit="ms"),
        Figure(name=f"{name}, a batch p99", value=round(quantile(meter.seconds, 0.99) * 1e3, 3), unit="ms"),
        Figure(name=f"{name}, transitions", value=round(meter.transitions / total, 1), unit="1/s"),
    ]


def plain(size: Size, store: BirthStore, values: Values, *, seconds: int, delays: tuple[int, int]) -> list[Figure]:
    """Time the plain judge and compare what both say on the same frames.

    Raises:
        AssertionError: If they differ.
    """
    ruleset = rules(size, on_ms=delays[0], off_ms=delays[1])
    plain_judge, judge = Reference(list(ruleset.rows), store), Evaluator(ruleset, store, SITE)
    stream, rng = Stream(size, batch=size.per_gateway), np.random.default_rng(1)
    spent = [0.0, 0.0]
    told = []
    for _ in range(seconds):
        for batch in stream.second_of(values(rng)):
            started = time.perf_counter()
            for record in batch:
                plain_judge.feed(record)
            spent[0] += time.perf_counter() - started
            started = time.perf_counter()
            for record in batch:
                judge.feed(record)
            told += judge.evaluate().transitions
            spent[1] += time.perf_counter() - started
    mine = [(t.offset, t.event_ms, t.row.key, str(t.kind), t.level, t.value) for t in told]
    assert mine == plain_judge.told, "the vectorised judge and the plain one differ"
    samples = size.signals * seconds
    return [
        Figure(name="plain judge, same frames", value=round(samples / spent[0] / 1e6, 3), unit="M samples/s"),
        Figure(name="vectorised, same frames", value=round(samples / spent[1] / 1e6, 3), unit="M samples/s"),
        Figure(name="transitions both agree on", value=len(mine), unit=""),
    ]


def measure(size: Size, *, batches: list[int], seconds: int) -> list[Figure]:
    """Return all figures."""
    result = []
    cases: list[tuple[str, Values, tuple[int, int], dict[int, str]]] = [
        ("quiet", Quiet(size, share=QUIET_SHARE), (5000, 10_000), {10_000: ">= 20"}),
        ("moving", lambda rng: moving(size, rng), (5000, 10_000), dict.fromkeys((10000, 100000), ">= 1")),
        ("storm", lambda rng: moving(size, rng), (0, 0), {}),
    ]
    with tempfile.TemporaryDirectory() as folder:
        store = births(size, Path(folder))
        for name, values, delays, goals in cases:
            ruleset = rules(size, on_ms=delays[0], off_ms=delays[1])
            for batch in batches if name != "storm" else batches[1:2]:
                judge = Evaluator(ruleset, store, SITE)
                gc.collect()
                gc.freeze()
                meter = run(judge, size, values, batch=batch, seconds=seconds if name != "storm" else 2)
                result += figures_of(f"{name}, batches of {batch}", meter, goal=goals.get(batch, ""))
        few = Size(signals=min(size.signals, 5000), per_gateway=min(size.per_gateway, 5000))
        store = births(few, Path(folder) / "few")
        result += plain(few, store, lambda rng: moving(few, rng), seconds=8, delays=(1000, 2000))
    return result


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--signals", type=int, default=100_000)
    parser.add_argument("--batches", default="1000,10000,100000")
    parser.add_argument("--seconds", type=int, default=20, help="seconds of the plant's time for each figure")
    given = parser.parse_args()
    size = Size(signals=given.signals, per_gateway=min(10_000, given.signals))
    report("evaluator", measure(size, batches=[int(n) for n in given.batches.split(",")], seconds=given.seconds))


if __name__ == "__main__":
    main()

"""Which samples of a chunk need judging: the band filter, and the order of the rest. Pure."""

from __future__ import annotations

import numpy as np

from alarms.chunk import Samples
from alarms.signal_table import IS_USABLE, Bools, Ints, SignalTable

_NO_SAMPLES = Samples(
    signal=np.zeros(0, np.intp),
    record=np.zeros(0, np.int64),
    time_ms=np.zeros(0, np.int64),
    value=np.zeros(0),
    quality=np.zeros(0, np.uint8),
)


class Sieve:
    """Splits a chunk's samples by what they can change.

    Args:
        table: The signals; newest values are updated.
    """

    def __init__(self, table: SignalTable) -> None:
        self._table = table
        self._hot: Bools = np.zeros(0, bool)

    def sift(self, samples: Samples) -> tuple[Samples, Samples]:
        """Take the quiet samples over into the table; return (in order, late) of the others.

        Quiet: usable, newer than the newest, in the band where every condition is certainly clear, and no condition of
        the signal set or pending. *In order* is sorted by (signal, record, time), each time newer than the one before;
        *late* samples are not newer than one judged already.
        """
        table, signal, value, time_ms = self._table, samples.signal, samples.value, samples.time_ms
        quiet = table.is_clean[signal]
        if samples.quality.any():
            quiet &= IS_USABLE[samples.quality]
        quiet &= value >= table.low[signal]
        quiet &= value <= table.high[signal]
        quiet &= time_ms > table.time_ms[signal]
        if quiet.all():
            self._store(samples)
            return _NO_SAMPLES, _NO_SAMPLES
        loud = self._loud(signal, quiet)
        if len(loud) * 4 > len(signal):
            self._store(samples.part(quiet.nonzero()[0]))
            return self._ordered(samples.part(loud))
        rest = samples.part(loud)
        # cheaper than picking the quiet ones: store all, put back what the others overwrote
        old = rest.signal, table.time_ms[rest.signal], table.value[rest.signal], table.quality[rest.signal]
        self._store(samples)
        table.time_ms[old[0]], table.value[old[0]], table.quality[old[0]] = old[1:]
        return self._ordered(rest)

    def _loud(self, signal: Ints, quiet: Bools) -> Ints:
        """Return the positions of samples that need judging: all those of a signal, if any; clear them in ``quiet``."""
        loud: Ints = (~quiet).nonzero()[0]
        if (signal[1:] > signal[:-1]).all():
            return loud
        if len(self._hot) < len(self._table.is_clean):
            self._hot = np.zeros(len(self._table.is_clean), bool)
        which = signal[loud]
        self._hot[which] = True
        is_hot = self._hot[signal]
        self._hot[which] = False
        quiet[is_hot] = False
        return is_hot.nonzero()[0]

    def _store(self, samples: Samples) -> None:
        """Put samples into the table; the newest of each signal stays."""
        table, signal = self._table, samples.signal
        table.time_ms[signal] = samples.time_ms
        if (table.time_ms[signal] != samples.time_ms).any() and (table.time_ms[signal] < samples.time_ms).any():
            order = np.argsort(samples.time_ms, kind="stable")
            samples = samples.part(order)
            signal = samples.signal
            table.time_ms[signal] = samples.time_ms
        table.value[signal] = samples.value
        table.quality[signal] = samples.quality

    def _ordered(self, rest: Samples) -> tuple[Samples, Samples]:
        signal = rest.signal
        if not (signal[1:] > signal[:-1]).all():
            rest = rest.part(np.lexsort((rest.time_ms, rest.record, signal)).astype(np.intp))
        is_late = self._late(rest)
        if not is_late.any():
            self._store(rest)
            return rest, _NO_SAMPLES
        fresh, late = rest.part(np.flatnonzero(~is_late)), rest.part(np.flatnonzero(is_late))
        self._store(fresh)
        return fresh, late

    def _late(self, rest: Samples) -> Bools:
        signal, time_ms = rest.signal, rest.time_ms
        is_head = np.ones(len(signal), bool)
        np.not_equal(signal[1:], signal[:-1], out=is_head[1:])
        before = self._table.time_ms[signal]
        if not is_head.all():
            before[1:] = np.where(is_head[1:], before[1:], time_ms[:-1])
        is_late: Bools = time_ms <= before
        if not is_late.any():
            return is_late
        bounds = np.append(np.flatnonzero(is_head), len(signal))
        for group in np.unique(np.searchsorted(bounds, np.flatnonzero(is_late), side="right") - 1):
            low, high = bounds[group], bounds[group + 1]
            peak = np.maximum.accumulate(np.append(before[low], time_ms[low:high]))[:-1]
            is_late[low:high] = time_ms[low:high] <= peak
        return is_late

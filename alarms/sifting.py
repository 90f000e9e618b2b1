"""Which samples of a chunk need judging: the band filter, and the order of the rest. Pure."""

from __future__ import annotations

import numpy as np

from alarms.chunk import Samples
from alarms.signal_table import IS_USABLE, Bools, Ints, SignalTable


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
        quiet &= IS_USABLE[samples.quality]
        quiet &= (value >= table.low[signal]) & (value <= table.high[signal])
        quiet &= time_ms > table.time_ms[signal]
        if not quiet.all():
            if len(self._hot) < len(table.is_clean):
                self._hot = np.zeros(len(table.is_clean), bool)
            hot = self._hot
            loud = signal[~quiet]
            hot[loud] = True
            quiet = ~hot[signal]
            hot[loud] = False
            rest = samples.part(np.flatnonzero(~quiet))
            samples = samples.part(np.flatnonzero(quiet))
        else:
            rest = samples.part(np.zeros(0, np.intp))
        self._store(samples)
        return self._ordered(rest)

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
        if not len(rest.signal):
            return rest, rest
        rest = rest.part(np.lexsort((rest.time_ms, rest.record, rest.signal)).astype(np.intp))
        is_late = self._late(rest)
        if not is_late.any():
            self._store(rest)
            return rest, rest.part(np.zeros(0, np.intp))
        fresh, late = rest.part(np.flatnonzero(~is_late)), rest.part(np.flatnonzero(is_late))
        self._store(fresh)
        return fresh, late

    def _late(self, rest: Samples) -> Bools:
        signal, time_ms = rest.signal, rest.time_ms
        is_head = np.append(True, signal[1:] != signal[:-1])
        before = np.append(0, time_ms[:-1])
        before[is_head] = self._table.time_ms[signal[is_head]]
        is_late: Bools = time_ms <= before
        if not is_late.any():
            return is_late
        bounds = np.append(np.flatnonzero(is_head), len(signal))
        for group in np.unique(np.searchsorted(bounds, np.flatnonzero(is_late), side="right") - 1):
            low, high = bounds[group], bounds[group + 1]
            peak = np.maximum.accumulate(np.append(before[low], time_ms[low:high]))[:-1]
            is_late[low:high] = time_ms[low:high] <= peak
        return is_late


def numbers_of(samples: Samples) -> Ints:
    """Return the signals of samples sorted by signal, each once."""
    signal = samples.signal
    return signal[np.append(True, signal[1:] != signal[:-1])] if len(signal) else signal

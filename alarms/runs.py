"""Run lengths: when delayed conditions mature, for a whole chunk of samples at once. Pure.

A *run* is a stretch in which a condition keeps its value. It matures when it is known to have lasted longer than its
delay, and then counts from exactly ``start + delay``, whatever the sampling. What proves it, in journal order:

* a usable sample inside the run later than ``start + delay``;
* the sample that ends the run, or the first bad one, later than ``start + delay``;
* the watermark of the lane passing ``start + delay`` while the newest sample is usable and not older than the stale
  limit;
* with no delay, the first sample of the run.

Bad samples hold: they neither start nor end a run, and time that only bad samples cover proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from alarms.conditions import Conditions
from alarms.signal_table import F64, I64, U8, Bools, Ints

NO_RECORD = 1 << 60
"""Number of a record that does not come in this chunk."""

Crossing = Callable[[Ints, I64], I64]
"""(signals, times) -> first record of the chunk after which the signal's lane is complete beyond the time.

-1 when it was before the chunk, NO_RECORD when it is not.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """Samples as the conditions see them, sorted by (condition, record, time); columns of shape (n,)."""

    condition: Ints
    record: I64
    time_ms: I64
    is_guard: Bools
    value: F64
    quality: U8
    is_usable: Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class Matured:
    """Changes of conditions after their delays, columns of shape (k,), sorted by (condition, record).

    Attributes:
        is_active: The new state.
        event_ms: Start of the run plus the delay.
        record: Record of the chunk that proved it.
        value: Newest usable value of the main signal at that record.
    """

    condition: Ints
    is_active: Bools
    event_ms: I64
    record: I64
    value: F64
    quality: U8


@dataclass(slots=True, kw_only=True)
class _Stream:
    """Items with one carried item in front of each condition's; columns of shape (n,)."""

    condition: Ints
    record: I64
    time_ms: I64
    is_first: Bools
    is_value: Bools
    value: F64
    quality: U8
    is_usable: Bools
    hyst: I64
    guard: I64


def judge_runs(state: Conditions, items: Items, *, crossing: Crossing, stale_ms: I64) -> Matured:
    """Carry conditions through a chunk; the state is updated.

    Args:
        state: The conditions.
        items: Samples of the chunk, none late.
        crossing: Watermarks of the chunk.
        stale_ms: By signal: age beyond which a sample proves nothing any more.
    """
    pending = np.flatnonzero(state.cond != state.act)
    stream = _stream(state, items, pending)
    n = len(stream.condition)
    if n == 0:
        return _none()
    index = np.arange(n)
    hyst = stream.hyst[_filled(stream.hyst != 0, index)]
    guard = stream.guard[_filled(stream.guard != 0, index)]
    cond = (hyst > 0) & (guard > 0)
    is_known = stream.is_usable[_filled(stream.is_value, index)]
    newest = _filled(stream.is_first | (stream.is_value & stream.is_usable), index)
    # where the carried sample was bad, what proves is the older usable one
    usable_ms = np.where(stream.is_first[newest], state.usable_ms[stream.condition], stream.time_ms[newest])

    starts = stream.is_first.copy()
    starts[1:] |= cond[1:] != cond[:-1]
    run = np.cumsum(starts) - 1
    first = np.flatnonzero(starts)
    last = np.append(first[1:], n) - 1
    condition = stream.condition[first]
    is_carried = stream.is_first[first]
    start_ms = np.where(is_carried, state.since[condition], stream.time_ms[first])
    delay = np.where(cond[first], state.on_ms[condition], state.off_ms[condition])
    event_ms = start_ms + delay

    crossed = _crossed(state, condition, event_ms, crossing)
    record = np.full(len(first), NO_RECORD, np.int64)
    _prove_by_items(record, stream, run, starts, event_ms, is_known)
    at_once = (delay == 0) & ~is_carried
    record[at_once] = np.minimum(record[at_once], stream.record[first[at_once]])
    fresh_until_ms = usable_ms + stale_ms[state.signal[stream.condition]]
    _prove_by_watermark(record, stream, first, last, crossed, is_known & (fresh_until_ms > event_ms[run]))

    result = _changes(state, stream, record, cond[first], condition, is_carried, event_ms, newest, first)
    ends = np.append(np.flatnonzero(stream.is_first)[1:], n) - 1
    kept = stream.condition[ends]
    state.hyst[kept], state.guard[kept], state.cond[kept] = hyst[ends], guard[ends], cond[ends]
    state.since[kept] = start_ms[run[ends]]
    state.is_known[kept], state.item_ms[kept] = is_known[ends], stream.time_ms[ends]
    state.usable_ms[kept] = usable_ms[ends]
    state.value[kept], state.quality[kept] = stream.value[newest[ends]], stream.quality[newest[ends]]
    state.act[result.condition] = result.is_active  # sorted: the last change of a condition wins
    return result


def _none() -> Matured:
    none = np.zeros(0, np.int64)
    return Matured(
        condition=none.astype(np.intp),
        is_active=none.astype(bool),
        event_ms=none,
        record=none,
        value=none.astype(float),
        quality=none.astype(np.uint8),
    )


def _stream(state: Conditions, items: Items, pending: Ints) -> _Stream:
    """Put the carried state of each condition in front of its items."""
    heads = np.union1d(items.condition, pending)
    condition = np.concatenate([heads, items.condition])
    is_first = np.concatenate([np.ones(len(heads), bool), np.zeros(len(items.condition), bool)])
    order = np.lexsort((~is_first, condition))  # stable: items keep their order
    verdict = np.zeros(len(items.condition), np.int64)
    use = items.is_usable
    test = items.condition + np.where(items.is_guard, state.m, 0)
    verdict[use] = state.tests.verdicts(test[use], items.value[use])
    time_ms = np.concatenate([state.item_ms[heads], items.time_ms])[order]
    return _Stream(
        condition=condition[order],
        record=np.concatenate([np.full(len(heads), -1), items.record])[order],
        time_ms=_rising(time_ms, is_first[order]),
        is_first=is_first[order],
        is_value=np.concatenate([np.ones(len(heads), bool), ~items.is_guard])[order],
        value=np.concatenate([state.value[heads], items.value])[order],
        quality=np.concatenate([state.quality[heads], items.quality])[order],
        is_usable=np.concatenate([state.is_known[heads], items.is_usable])[order],
        hyst=np.concatenate([state.hyst[heads], np.where(items.is_guard, 0, verdict)])[order],
        guard=np.concatenate([state.guard[heads], np.where(items.is_guard, verdict, 0)])[order],
    )


def _rising(time_ms: I64, is_first: Bools) -> I64:
    """Let time stand still where a sample of the guard arrives after a newer one of the main signal, or vice versa."""
    back = np.flatnonzero((time_ms[1:] < time_ms[:-1]) & ~is_first[1:]) + 1
    if not len(back):
        return time_ms
    result = time_ms.copy()
    for group in np.unique(np.searchsorted(np.flatnonzero(is_first), back, side="right") - 1):
        bounds = np.append(np.flatnonzero(is_first), len(result))
        part = slice(bounds[group], bounds[group + 1])
        result[part] = np.maximum.accumulate(result[part])
    return result


def _filled(holds: Bools, index: Ints) -> Ints:
    """Return for each item the newest index so far at which something holds; it must hold at every carried item."""
    result: Ints = np.maximum.accumulate(np.where(holds, index, 0))
    return result


def _crossed(state: Conditions, condition: Ints, event_ms: I64, crossing: Crossing) -> I64:
    crossed = crossing(state.signal[condition], event_ms)
    guarded = np.flatnonzero(state.guard_signal[condition] >= 0)
    if len(guarded):
        other = crossing(state.guard_signal[condition[guarded]], event_ms[guarded])
        crossed[guarded] = np.maximum(crossed[guarded], other)
    return crossed


def _prove_by_items(record: I64, stream: _Stream, run: I64, starts: Bools, event_ms: I64, is_known: Bools) -> None:
    """Note the first item that proves a run: one inside it, or the one that ends it."""
    was_known = np.append(False, is_known[:-1])
    inside = np.flatnonzero(~starts)
    mine = run[inside]
    is_late_enough = stream.time_ms[inside] > event_ms[mine]
    confirms = stream.is_usable[inside] & stream.is_value[inside]
    proves = is_late_enough & (was_known[inside] | confirms)
    np.minimum.at(record, mine[proves], stream.record[inside[proves]])
    closing = np.flatnonzero(starts & ~stream.is_first)
    before = run[closing] - 1
    proves = (stream.time_ms[closing] > event_ms[before]) & was_known[closing]
    np.minimum.at(record, before[proves], stream.record[closing[proves]])


def _prove_by_watermark(record: I64, stream: _Stream, first: Ints, last: Ints, crossed: I64, counts: Bools) -> None:
    """Note the record whose watermark proves a run that is current there, if the newest sample counts as knowledge."""
    n = len(stream.condition)
    follower = np.minimum(last + 1, n - 1)
    is_closed = (last + 1 < n) & ~stream.is_first[follower]
    closed_by = np.where(is_closed, stream.record[follower], NO_RECORD)
    at = np.maximum(crossed, stream.record[first])
    which = np.flatnonzero((at >= 0) & (at < closed_by) & (at < record))
    current = _newest_at(stream, first[which], at[which])
    proven = which[counts[current]]
    record[proven] = at[proven]


def _newest_at(stream: _Stream, first: Ints, record: I64) -> Ints:
    """Return for each item the last one of the same condition whose record is not newer than a given one."""
    group = np.cumsum(stream.is_first) - 1
    width = int(stream.record.max()) + 3
    keys = group * width + stream.record + 1
    wanted = group[first] * width + np.minimum(record, width - 3) + 1
    result: Ints = np.searchsorted(keys, wanted, side="right").astype(np.intp) - 1
    return result


def _changes(
    state: Conditions,
    stream: _Stream,
    record: I64,
    cond: Bools,
    condition: Ints,
    is_carried: Bools,
    event_ms: I64,
    newest: Ints,
    first: Ints,
) -> Matured:
    """Drop runs that did not mature, and those that only confirm the state the condition has."""
    kept = np.flatnonzero(record < NO_RECORD)
    if not len(kept):
        return _none()
    before = np.append(False, cond[kept[:-1]])
    is_head = np.append(True, condition[kept[1:]] != condition[kept[:-1]])
    before[is_head] = state.act[condition[kept[is_head]]]
    kept = kept[cond[kept] != before]
    # the record may come after the run's last sample in this chunk, never before its first
    shown = newest[_newest_at(stream, first[kept], record[kept])]
    return Matured(
        condition=condition[kept],
        is_active=cond[kept],
        event_ms=event_ms[kept],
        record=record[kept],
        value=stream.value[shown],
        quality=stream.quality[shown],
    )

"""Samples carried through their conditions, all signals at once: one step for each sample of a signal in turn. Pure.

The n-th samples of all signals in a chunk are one *step*: in it every condition is met once at most, so that its delay
machine advances element by element over whole columns. What matures when is said in `alarms.runs`, which takes over
where one signal brings very many samples in a chunk; both give the same changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from alarms.chunk import Chunk, Samples
from alarms.conditions import I8, Conditions
from alarms.lanes import Lanes
from alarms.runs import NO_RECORD, Items, Matured, judge_runs
from alarms.signal_table import I64, IS_USABLE, U8, Bools, Ints, SignalTable

_NONE: Ints = np.zeros(0, np.intp)
DEEP = 32
"""Samples of one signal in a chunk from which whole runs are cheaper than steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One sample for each of some conditions, columns of shape (n,); each condition stands here once."""

    condition: Ints
    record: I64
    time_ms: I64
    is_guard: Bools | None
    verdict: I8
    is_usable: Bools

    def part(self, which: Ints) -> _Step:
        return _Step(
            condition=self.condition[which],
            record=self.record[which],
            time_ms=self.time_ms[which],
            is_guard=None if self.is_guard is None else self.is_guard[which],
            verdict=self.verdict[which],
            is_usable=self.is_usable[which],
        )


class _Pending(NamedTuple):
    """Conditions in mid-delay, columns of shape (n,): when the delay ends, and the lane to be measured until then."""

    condition: Ints
    due_ms: I64
    lane: I64


_Change = tuple[Ints, Bools, I64, I64]
"""Conditions that matured: (condition, new state, event time, record), columns of shape (k,)."""


class Steps:
    """Carries the conditions of a site through chunks.

    Args:
        state: The conditions; updated.
        table: The signals, whose ``is_clean`` is updated.
        lanes: Watermarks after the chunk that is judged.
        deep: Samples of one signal in a chunk from which whole runs are judged.
    """

    def __init__(self, state: Conditions, table: SignalTable, lanes: Lanes, *, deep: int = DEEP) -> None:
        self._state, self._table, self._lanes, self._deep = state, table, lanes, deep
        self._record: I64 = np.full(state.m, -1, np.int64)
        self._born: I64 = np.full(state.m, -1, np.int64)
        self._is_pending: Bools = np.zeros(state.m, bool)
        self._pending = _Pending(_NONE, _NONE, _NONE)
        self._has_guards = bool((state.guard_signal >= 0).any())
        self.reload()

    def reload(self) -> None:
        """Take over what the conditions say, after a restore."""
        self._is_pending = self._state.cond != self._state.act
        self._pending = self._wait(self._is_pending.nonzero()[0])
        self._births = self._table.births

    def judge(self, chunk: Chunk, fresh: Samples) -> Matured | None:
        """Carry the conditions through a chunk's samples, sorted by (signal, record, time), none of them late."""
        if self._births != self._table.births:
            self.reload()
        if not len(fresh.signal):
            return self._gather(self._by_watermark(chunk), fresh)
        position, condition, is_guard = self._state.users(fresh.signal)
        rank = self._ranks(fresh, position, condition)
        depth = int(rank.max(initial=0)) + 1
        # whole runs do not know when the run before them matured, which a minimum on asks
        if depth > self._deep and not self._state.holds_on:
            result = self._whole_runs(chunk, fresh, position, condition, is_guard)
        else:
            result = self._stepwise(chunk, fresh, position, condition, is_guard, rank, depth)
        self._refresh_clean(fresh, position, condition)
        return result

    def _stepwise(
        self,
        chunk: Chunk,
        fresh: Samples,
        position: Ints,
        condition: Ints,
        is_guard: Bools,
        rank: Ints,
        depth: int,
    ) -> Matured | None:
        whole = self._items(fresh, position, condition, is_guard)
        matured: list[_Change] = []
        if depth == 1:
            self._step(whole, chunk, matured)
            touched = condition
        else:
            order = np.argsort(rank, kind="stable")
            ends = np.cumsum(np.bincount(rank, minlength=depth))
            for start, end in zip([0, *ends.tolist()], ends.tolist(), strict=False):
                self._step(whole.part(order[start:end]), chunk, matured)
            touched = condition[rank == 0]
        self._settle(touched)
        matured += self._by_watermark(chunk)
        result = self._gather(matured, fresh)
        self._keep_values(fresh, position, condition, is_guard)
        self._record[touched] = -1
        self._born[touched] = -1
        return result

    def _items(self, fresh: Samples, position: Ints, condition: Ints, is_guard: Bools) -> _Step:
        state = self._state
        value, quality = fresh.value[position], fresh.quality[position]
        is_usable = IS_USABLE[quality] & (value == value)
        guards = is_guard if self._has_guards and is_guard.any() else None
        verdict = state.tests.verdicts(condition if guards is None else condition + np.where(guards, state.m, 0), value)
        if not is_usable.all():
            verdict[~is_usable] = 0
        return _Step(
            condition=condition,
            record=fresh.record[position],
            time_ms=fresh.time_ms[position],
            is_guard=guards,
            verdict=verdict,
            is_usable=is_usable,
        )

    def _ranks(self, fresh: Samples, position: Ints, condition: Ints) -> Ints:
        """Return for each item the number of items of the same condition before it."""
        signal = fresh.signal
        index = np.arange(len(signal))
        is_head = np.empty(len(signal), bool)
        is_head[0] = True
        np.not_equal(signal[1:], signal[:-1], out=is_head[1:])
        rank: Ints = (index - np.maximum.accumulate(np.where(is_head, index, 0)))[position]
        if not self._has_guards:
            return rank
        mixed = (self._state.guard_signal[condition] >= 0).nonzero()[0]
        if len(mixed):
            at = position[mixed]
            order = np.lexsort((fresh.time_ms[at], fresh.record[at], condition[mixed]))
            group = condition[mixed][order]
            place = np.arange(len(group))
            heads = np.append(True, group[1:] != group[:-1])
            rank[mixed[order]] = place - np.maximum.accumulate(np.where(heads, place, 0))
        return rank

    def _step(self, step: _Step, chunk: Chunk, matured: list[_Change]) -> None:
        """Advance each condition by one sample; what matures is appended."""
        state, condition = self._state, step.condition
        time_ms = np.maximum(step.time_ms, state.item_ms[condition])
        hyst, guard = self._verdicts(step)
        new, old, act = (hyst > 0) & (guard > 0), state.cond[condition], state.act[condition]
        waiting = (old != act).nonzero()[0]
        if len(waiting):
            done = self._end_delays(step, chunk, waiting, time_ms=time_ms, new=new, old=old, matured=matured)
            act[done] = old[done]
        changed = (new != old).nonzero()[0]
        if len(changed):
            which, start_ms = condition[changed], time_ms[changed]
            state.cond[which], state.since[which] = new[changed], start_ms
            self._born[which] = step.record[changed]
            delay = state.delay_ms(which, new[changed], start_ms)
            now = ((delay == 0) & (new[changed] != act[changed])).nonzero()[0]
            if len(now):
                at = changed[now]
                matured.append((which[now], new[at], start_ms[now], step.record[at]))
                act[at] = new[at]
                if state.holds_on:
                    self._note_raised(matured[-1])
        state.act[condition], state.item_ms[condition] = act, time_ms
        self._record[condition] = step.record
        self._note_knowledge(step, time_ms)

    def _verdicts(self, step: _Step) -> tuple[I8, I8]:
        state, condition = self._state, step.condition
        hyst, guard = state.hyst[condition], state.guard[condition]
        decides = step.verdict != 0
        if step.is_guard is None:
            hyst = np.where(decides, step.verdict, hyst)
        else:
            hyst = np.where(decides & ~step.is_guard, step.verdict, hyst)
            guard = np.where(decides & step.is_guard, step.verdict, guard)
            state.guard[condition] = guard
        state.hyst[condition] = hyst
        return hyst, guard

    def _note_knowledge(self, step: _Step, time_ms: I64) -> None:
        state, condition, is_usable = self._state, step.condition, step.is_usable
        if step.is_guard is not None:
            main = (~step.is_guard).nonzero()[0]
            condition, is_usable, time_ms = condition[main], is_usable[main], time_ms[main]
        state.is_known[condition] = is_usable
        if is_usable.all():
            state.usable_ms[condition] = time_ms
        else:
            state.usable_ms[condition[is_usable]] = time_ms[is_usable]

    def _end_delays(
        self,
        step: _Step,
        chunk: Chunk,
        waiting: Ints,
        *,
        time_ms: I64,
        new: Bools,
        old: Bools,
        matured: list[_Change],
    ) -> Ints:
        """Mature runs that a watermark before a sample proves, or the sample; return which items' runs did."""
        state, condition, record = self._state, step.condition[waiting], step.record[waiting]
        was = old[waiting]
        since_ms = state.since[condition]
        due_ms = since_ms + state.delay_ms(condition, was, since_ms)
        is_known = state.is_known[condition]
        at = self._proving_record(chunk, condition, due_ms)
        by_mark = (at >= 0) & (at < record)
        confirms = step.is_usable[waiting] & (new[waiting] == was)
        if step.is_guard is not None:
            confirms &= ~step.is_guard[waiting]
        by_item = ~by_mark & (time_ms[waiting] > due_ms) & (is_known | confirms)
        for proven, proof in ((by_mark, at), (by_item, record)):
            which = (proven).nonzero()[0]
            if len(which):
                matured.append((condition[which], was[which], due_ms[which], proof[which]))
                if state.holds_on:
                    self._note_raised(matured[-1])
        done: Ints = waiting[by_mark | by_item]
        return done

    def _proving_record(self, chunk: Chunk, condition: Ints, due_ms: I64) -> I64:
        """Return the record whose watermark proves each pending run with what is known now, -1 when none does.

        A watermark that passed before the newest sample does not count: it was asked with what was known then.
        """
        state, table = self._state, self._table
        result = np.full(len(condition), -1, np.int64)
        signal = state.signal[condition]
        ripe = (due_ms < self._lanes.complete_ms[table.lane[signal]]).nonzero()[0]
        if not len(ripe):
            return result
        condition, due_ms, signal = condition[ripe], due_ms[ripe], signal[ripe]
        at = chunk.crossed(table.lane[signal], due_ms)
        if self._has_guards:
            guarded = (state.guard_signal[condition] >= 0).nonzero()[0]
            if len(guarded):
                lane = table.lane[state.guard_signal[condition[guarded]]]
                at[guarded] = np.maximum(at[guarded], chunk.crossed(lane, due_ms[guarded]))
        at = np.maximum(at, self._born[condition])
        proves = state.is_known[condition] & (state.usable_ms[condition] + table.stale_ms[signal] > due_ms)
        proves &= (at >= self._record[condition]) & (at < NO_RECORD)
        result[ripe] = np.where(proves, at, -1)
        return result

    def _by_watermark(self, chunk: Chunk) -> list[_Change]:
        """Mature pending runs that a watermark proves after their last sample.

        A run that starts behind its watermark is proven at once, although that one does not move.
        """
        state, pending = self._state, self._pending
        if not len(pending.condition):
            return []
        ripe = (pending.due_ms < self._lanes.complete_ms[pending.lane]).nonzero()[0]
        if not len(ripe):
            return []
        condition, due_ms = pending.condition[ripe], pending.due_ms[ripe]
        at = self._proving_record(chunk, condition, due_ms)
        which = (at >= 0).nonzero()[0]
        if not len(which):
            return []
        done = condition[which]
        state.act[done] = state.cond[done]
        self._settle(done)
        change = (done, state.cond[done], due_ms[which], at[which])
        if state.holds_on:
            self._note_raised(change)
        return [change]

    def _note_raised(self, change: _Change) -> None:
        condition, is_active, event_ms, _ = change
        self._state.raised_ms[condition[is_active]] = event_ms[is_active]

    def _settle(self, touched: Ints) -> None:
        """Keep the list of pending conditions after some were touched."""
        state, pending = self._state, self._pending
        now = state.cond[touched] != state.act[touched]
        if len(pending.condition) and self._is_pending[touched].any():
            self._is_pending[touched] = False
            kept = self._is_pending[pending.condition]
            pending = _Pending(pending.condition[kept], pending.due_ms[kept], pending.lane[kept])
        if now.any():
            added = touched[now]
            self._is_pending[added] = True
            more = self._wait(added)
            pending = _Pending(*(np.concatenate(pair) for pair in zip(pending, more, strict=True)))
        self._pending = pending

    def _wait(self, condition: Ints) -> _Pending:
        """Return what pending conditions wait for."""
        state = self._state
        since_ms = state.since[condition]
        due_ms = since_ms + state.delay_ms(condition, state.cond[condition], since_ms)
        return _Pending(condition, due_ms, self._table.lane[state.signal[condition]])

    def _gather(self, matured: list[_Change], fresh: Samples) -> Matured | None:
        """Return the changes with the newest usable value of the main signal at the record that proved each."""
        if not matured:
            return None
        condition, is_active, event_ms, record = (
            matured[0] if len(matured) == 1 else (np.concatenate(column) for column in zip(*matured, strict=True))
        )
        value, quality = self._shown(fresh, condition, record)
        return Matured(
            condition=condition, is_active=is_active, event_ms=event_ms, record=record, value=value, quality=quality
        )

    def _shown(self, fresh: Samples, condition: Ints, record: I64) -> tuple[np.ndarray, U8]:
        state = self._state
        value, quality = state.value[condition], state.quality[condition]
        use = (IS_USABLE[fresh.quality] & (fresh.value == fresh.value)).nonzero()[0]
        if not len(use):
            return value, quality
        signal, width = fresh.signal[use], int(fresh.record.max()) + 2
        keys = signal * width + fresh.record[use]
        at = np.searchsorted(keys, state.signal[condition] * width + np.minimum(record, width - 1), side="right") - 1
        found = ((at >= 0) & (signal[np.maximum(at, 0)] == state.signal[condition])).nonzero()[0]
        newest = use[at[found]]
        value[found], quality[found] = fresh.value[newest], fresh.quality[newest]
        return value, quality

    def _keep_values(self, fresh: Samples, position: Ints, condition: Ints, is_guard: Bools) -> None:
        """Note the newest usable value of each condition; positions rise, so the last one written wins."""
        value, quality = fresh.value[position], fresh.quality[position]
        use = IS_USABLE[quality] & (value == value)
        if self._has_guards:
            use &= ~is_guard
        if not use.all():
            condition, value, quality = condition[use], value[use], quality[use]
        self._state.value[condition], self._state.quality[condition] = value, quality

    def _whole_runs(
        self, chunk: Chunk, fresh: Samples, position: Ints, condition: Ints, is_guard: Bools
    ) -> Matured | None:
        table = self._table
        order = np.lexsort((fresh.time_ms[position], fresh.record[position], condition))
        position, condition, is_guard = position[order], condition[order], is_guard[order]
        value, quality = fresh.value[position], fresh.quality[position]
        items = Items(
            condition=condition,
            record=fresh.record[position],
            time_ms=fresh.time_ms[position],
            is_guard=is_guard,
            value=value,
            quality=quality,
            is_usable=IS_USABLE[quality] & ~np.isnan(value),
        )

        def crossing(signal: Ints, time_ms: I64) -> I64:
            return chunk.crossed(table.lane[signal], time_ms)

        result = judge_runs(self._state, items, crossing=crossing, stale_ms=table.stale_ms)
        self.reload()
        return result if len(result.condition) else None

    def _refresh_clean(self, fresh: Samples, position: Ints, condition: Ints) -> None:
        """Say for the signals of some samples whether further ones in their band change nothing.

        A signal that only matures here stays as it was, not clean: its next sample asks again.
        """
        state, table, signal = self._state, self._table, fresh.signal
        table.is_clean[signal] = (
            IS_USABLE[table.quality[signal]] & (table.value[signal] == table.value[signal]) & ~table.is_tracked[signal]
        )
        busy = state.cond[condition] | state.act[condition] | (state.hyst[condition] > 0)
        table.is_clean[signal[position[busy]]] = False

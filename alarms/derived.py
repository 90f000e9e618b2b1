"""Values computed from signals and events, judged like signals: transforms, differences, counts, logic. Pure.

What one signal gives is computed at once. What several signals or events give waits until every lane that could still
bring an input has been measured beyond a moment plus the rule's skew, and is then computed in the order of event
times: it does not depend on who arrived first. Such a value has a lane of its own, measured as far as it was computed.
Lanes of silent gateways are not waited for.
"""

from __future__ import annotations

import heapq
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from alarms.chunk import Chunk, Samples
from alarms.judged import JudgedEvent
from alarms.lanes import Lanes
from alarms.rows import Derived, RuleRow
from alarms.signal_table import IS_USABLE, NEVER, SignalTable
from alarms.windows import Occurrences, Window

NO_LANE_OWNER = -1
LASTS_MS = 1 << 40
"""A count stays what it is however long nothing happens."""
QUEUE_LIMIT = 100_000
"""Inputs of one value that wait for a watermark; beyond it the oldest are computed without waiting further."""

Item = tuple[int, int, int, float, int]
"""(event time, input or -1, order of arrival, value, quality); for events the value is the number of its key."""
Out = tuple[int, int, float, int]
"""(record, event time, value, quality)"""


class Waiting:
    """One value made of several inputs.

    Args:
        derived: How.
        inputs: Numbers of its signals.
        lane: Number of its own lane.
    """

    def __init__(self, derived: Derived, inputs: Sequence[int], lane: int) -> None:
        self.derived, self.inputs, self.lane = derived, list(inputs), lane
        self.queue: list[Item] = []
        self.sources: set[int] = set()
        self._order = 0
        self._last_ms = NEVER
        n = max(len(derived.tests), len(inputs), 1)
        self._verdict: list[int] = [-1] * n
        self._value = [math.nan] * n
        self._is_bad = [False] * n
        self._was: bool | None = None
        self._keys: list[str] = []
        self._counted = Occurrences(derived.window_ms)

    def put(self, time_ms: int, which: int, value: float, quality: int) -> None:
        """Queue a sample of an input."""
        heapq.heappush(self.queue, (time_ms, which, self._order, value, quality))
        self._order += 1

    def concerns(self, judged: JudgedEvent) -> bool:
        """Whether an event is of the kind that is counted, whatever its field says."""
        counted, event = self.derived.event, judged.event
        return counted is not None and (event.kind, event.equipment or "") == (counted[0], counted[2])

    def put_event(self, judged: JudgedEvent) -> None:
        """Queue an event if it counts."""
        counted, fields = self.derived.event, judged.event.fields
        if counted is None or not self.concerns(judged) or fields.get(counted[1]) not in counted[3]:
            return
        key = str(fields.get(self.derived.by, "")) if self.derived.by else ""
        if key not in self._keys:
            self._keys.append(key)
        self.put(judged.judged_ms, -1, float(self._keys.index(key)), 0)

    def flush(self, until_ms: int, record: int) -> Iterator[Out]:
        """Compute what is complete before a time, and what the queue cannot hold; one result for each moment."""
        while True:
            queue = self.queue
            expiry_ms = self._counted.next_ms
            now_ms = min(queue[0][0] if queue else -NEVER, expiry_ms)
            if now_ms >= until_ms and len(queue) <= QUEUE_LIMIT:
                return
            result = (self._counted.at(now_ms), 0) if expiry_ms == now_ms else None
            while queue and queue[0][0] == now_ms:
                _, which, _, value, quality = heapq.heappop(queue)
                result = self._take(now_ms, which, value, quality) or result
            if result is not None:
                self._last_ms = max(self._last_ms, now_ms)
                yield record, self._last_ms, *result

    def _take(self, time_ms: int, which: int, value: float, quality: int) -> tuple[float, int] | None:
        is_usable = bool(IS_USABLE[quality]) and math.isfinite(value)
        if self.derived.how == "count":
            return self._count(time_ms, which, value, is_usable)
        number = self.inputs[which]
        for at, other in enumerate(self.inputs):
            if other == number:
                self._is_bad[at] = not is_usable
                if is_usable:
                    self._value[at] = value
                    if self.derived.how == "logic":
                        self._verdict[at] = self.derived.tests[at].verdict(value) or self._verdict[at]
        if any(self._is_bad):
            return math.nan, quality
        if self.derived.how == "logic":
            return float(sum(verdict > 0 for verdict in self._verdict)), quality
        return self._value[0] - self._value[1], quality

    def _count(self, time_ms: int, which: int, value: float, is_usable: bool) -> tuple[float, int] | None:
        if which >= 0:
            if not is_usable:
                return None
            was, self._was = self._was, self.derived.tests[0].verdict(value) > 0
            if was is not False or not self._was:
                return None
        self._counted.add(time_ms, "" if which >= 0 else self._keys[int(value)])
        return self._counted.at(max(time_ms, self._last_ms)), 0

    def restart(self) -> None:
        """Forget times, after a step of a clock."""
        self.queue.clear()
        self._last_ms = NEVER
        self._counted = Occurrences(self.derived.window_ms)

    def to_json(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {
            "queue": sorted(self.queue),
            "order": self._order,
            "sources": sorted(self.sources),
            "last_ms": self._last_ms,
            "verdict": self._verdict,
            "value": self._value,
            "is_bad": self._is_bad,
            "was": self._was,
            "keys": self._keys,
            "counted": self._counted.to_json(),
        }

    def load(self, content: dict[str, Any]) -> None:
        """Take over the state of a checkpoint."""
        self.queue = [(ms, which, order, value, quality) for ms, which, order, value, quality in content["queue"]]
        self._order, self.sources, self._last_ms = content["order"], set(content["sources"]), content["last_ms"]
        self._verdict, self._value, self._is_bad = content["verdict"], content["value"], content["is_bad"]
        self._was, self._keys = content["was"], content["keys"]
        self._counted.load(content["counted"])


class Derivations:
    """Computes the derived values of all rows.

    Args:
        rows: All rows of the site.
        table: The signals; derived values get numbers in it, and inputs are marked as tracked.
        lanes: Watermarks; values that wait get lanes of their own.
    """

    def __init__(self, rows: Sequence[RuleRow], *, table: SignalTable, lanes: Lanes) -> None:
        self._table, self._lanes = table, lanes
        self._windows: dict[str, tuple[int, int, Window]] = {}
        self._waiting: dict[str, tuple[int, Waiting]] = {}
        for derived in {row.derived.key: row.derived for row in rows if row.derived is not None}.values():
            self._add(derived)
        self._windows_of: dict[int, list[tuple[int, Window]]] = {}
        for number, source, window in self._windows.values():
            self._windows_of.setdefault(source, []).append((number, window))
        self._waiting_of: dict[int, list[tuple[int, Waiting]]] = {}
        for _, one in self._waiting.values():
            for which, source in enumerate(one.inputs):
                known = self._waiting_of.setdefault(source, [])
                if not any(other is one for _, other in known):
                    known.append((which, one))
        self._births = -1

    def _add(self, derived: Derived) -> None:
        table, key = self._table, derived.key
        number = table.number(key)
        inputs = [table.number(name) for name in derived.signals]
        for one in (number, *inputs):
            table.is_tracked[one], table.is_clean[one] = True, False
        if derived.skew_ms < 0:
            self._windows[key] = number, inputs[0], Window(derived.how, derived.window_ms)
        else:
            lane = self._lanes.lane(NO_LANE_OWNER, zlib.crc32(key.encode()))
            self._waiting[key] = number, Waiting(derived, inputs, lane)

    def derive(self, chunk: Chunk, fresh: Samples, events: Sequence[JudgedEvent]) -> Samples:
        """Return the samples with those of derived values, sorted by (signal, record, time)."""
        if not self._windows and not self._waiting:
            return fresh
        if self._births != self._table.births:
            self._link()
        outs: list[tuple[int, Out]] = []
        arrivals: dict[int, list[int]] = {}
        for at in np.flatnonzero(self._table.is_tracked[fresh.signal]).tolist():
            source, record, time_ms = int(fresh.signal[at]), int(fresh.record[at]), int(fresh.time_ms[at])
            value, quality = float(fresh.value[at]), int(fresh.quality[at])
            for number, window in self._windows_of.get(source, ()):
                is_usable = bool(IS_USABLE[quality]) and math.isfinite(value)
                outs.append((number, (record, time_ms, window.add(time_ms, value) if is_usable else math.nan, quality)))
            if source in self._waiting_of:
                arrivals.setdefault(record, []).append(at)
        if self._waiting:
            outs += self._wait(chunk, fresh, arrivals, events)
        return self._merged(fresh, outs)

    def _link(self) -> None:
        """Give derived values the lanes and gateways of their inputs, after a birth."""
        table = self._table
        for number, source, _ in self._windows.values():
            for column in (table.lane, table.gateway, table.stale_ms):
                column[number] = column[source]
        for number, one in self._waiting.values():
            table.lane[number] = one.lane
            is_count = one.derived.how == "count"
            table.stale_ms[number] = LASTS_MS if is_count else table.stale_ms[one.inputs].min()
            table.gateway[number] = table.gateway[one.inputs[0]] if one.inputs else max(one.sources, default=-1)
        self._births = table.births

    def _wait(
        self, chunk: Chunk, fresh: Samples, arrivals: dict[int, list[int]], events: Sequence[JudgedEvent]
    ) -> Iterator[tuple[int, Out]]:
        record_of = {offset: record for record, offset in enumerate(chunk.offset)} if events else {}
        happened: dict[int, list[JudgedEvent]] = {}
        for event in events:
            happened.setdefault(record_of[event.offset], []).append(event)
        marks = chunk.marks()
        for number, one in self._waiting.values():
            for record, some in happened.items():
                for event in some:
                    if one.concerns(event):
                        one.sources.add(chunk.gateway[record])
                        self._table.gateway[number] = chunk.gateway[record]
            lanes = self._lanes_of(one)
            level = {lane: chunk.before(lane) for lane in lanes}
            moved: tuple[list[int], list[int]] = ([], [])
            top = int(self._lanes.complete_ms[one.lane])
            stops = {0, *arrivals, *happened, *(record for lane in lanes for record, _ in marks.get(lane, ()))}
            for record in sorted(stops):
                for at in arrivals.get(record, ()):
                    self._put(one, fresh, at)
                for event in happened.get(record, ()):
                    one.put_event(event)
                for lane in lanes:
                    level[lane] = max((ms for at, ms in marks.get(lane, ()) if at <= record), default=level[lane])
                until_ms = min(level.values(), default=-NEVER) - one.derived.skew_ms
                for out in one.flush(until_ms, record):
                    yield number, out
                if lanes and until_ms > top:
                    top = until_ms
                    moved[0].append(record)
                    moved[1].append(top)
            chunk.put_marks(one.lane, *moved)
            self._lanes.complete_ms[one.lane] = top

    def _put(self, one: Waiting, fresh: Samples, at: int) -> None:
        signal = int(fresh.signal[at])
        if signal in one.inputs:
            which = one.inputs.index(signal)
            one.put(int(fresh.time_ms[at]), which, float(fresh.value[at]), int(fresh.quality[at]))

    def _lanes_of(self, one: Waiting) -> list[int]:
        """Return the lanes to wait for."""
        table, states = self._table, self._lanes.states
        lanes = {
            int(table.lane[number])
            for number in one.inputs
            if table.lane[number] >= 0 and not states[int(table.gateway[number])].is_silent
        }
        lanes |= {self._lanes.lane(gateway, 0) for gateway in one.sources if not states[gateway].is_silent}
        return sorted(lanes)

    def _merged(self, fresh: Samples, outs: list[tuple[int, Out]]) -> Samples:
        if not outs:
            return fresh
        table = self._table
        for number, (_, time_ms, value, quality) in outs:
            table.time_ms[number], table.value[number], table.quality[number] = time_ms, value, quality
        both = Samples(
            signal=np.concatenate([fresh.signal, np.array([number for number, _ in outs], np.intp)]),
            record=np.concatenate([fresh.record, np.array([out[0] for _, out in outs], np.int64)]),
            time_ms=np.concatenate([fresh.time_ms, np.array([out[1] for _, out in outs], np.int64)]),
            value=np.concatenate([fresh.value, np.array([out[2] for _, out in outs], float)]),
            quality=np.concatenate([fresh.quality, np.array([out[3] for _, out in outs], np.uint8)]),
        )
        return both.part(np.lexsort((both.time_ms, both.record, both.signal)).astype(np.intp))

    def restart(self, gateway: int) -> None:
        """After a step of a gateway's clock nothing it said before can be compared with what it says now."""
        for _, source, window in self._windows.values():
            if self._table.gateway[source] == gateway:
                window.clear()
        for _, one in self._waiting.values():
            if gateway in one.sources or any(self._table.gateway[source] == gateway for source in one.inputs):
                one.restart()
                self._lanes.complete_ms[one.lane] = NEVER

    def to_json(self) -> dict[str, Any]:
        """Return the state by names of values for a checkpoint."""
        return {
            "windows": {key: window.to_json() for key, (_, _, window) in self._windows.items()},
            "waiting": {key: one.to_json() for key, (_, one) in self._waiting.items()},
        }

    def load(self, content: dict[str, Any]) -> None:
        """Take over the state of a checkpoint; values that are new keep their first state."""
        for key, (_, _, window) in self._windows.items():
            if key in content["windows"]:
                window.load(content["windows"][key])
        for key, (_, one) in self._waiting.items():
            one.lane = self._lanes.lane(NO_LANE_OWNER, zlib.crc32(key.encode()))
            if key in content["waiting"]:
                one.load(content["waiting"][key])
        self._births = -1

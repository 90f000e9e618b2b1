"""What every history store can do: one protocol, one contract test (``tests/ingest/store_contract.py``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from watchroom.errors import StateError, StoreError

MOST_BUCKETS = 5_000
MOST_KEYS = 64
MOST_PAGE = 200_000
"""Samples of one page of a raw range: 17 bytes each."""
MOST_COUNTED = 50_000_000
"""Raw samples one aggregate may walk through: about ten seconds of one core."""
DAY_MS = 86_400_000


class TooBigError(StateError):
    """A query would be too big; ask for less (HTTP 422).

    Args:
        what: What there is too much of: ``keys``, ``buckets``, ``page``, ``samples``.
        asked: The number asked for.
        most: The number allowed.
        hint: What to do instead.
    """

    def __init__(self, what: str, *, asked: int, most: int, hint: str) -> None:
        self.what, self.asked, self.most, self.hint = what, asked, most, hint
        super().__init__(f"history.{what}", f"{asked} {what}; at most {most}: {hint}")


class RewoundError(StoreError):
    """The store has lost what it had confirmed; the writer goes on from an earlier record of the journal.

    Args:
        problem: What happened, in one sentence.
        position: Journal offset to go on from; what was being written is part of what is sent again.
    """

    def __init__(self, problem: str, *, position: int) -> None:
        self.position = position
        super().__init__(problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleBatch:
    """Samples of many signals as columns, in journal order.

    Attributes:
        keys: The distinct signal keys of this batch.
        series: Index into keys for each sample, shape (n,).
        time_ms: Event times, UTC, shape (n,).
        value: Values in each signal's unit, NaN where there was none, shape (n,).
        quality: Quality codes, shape (n,).
    """

    keys: Sequence[str]
    series: NDArray[np.uint32]
    time_ms: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.series)

    def only(self, fits: NDArray[np.bool_]) -> SampleBatch:
        """Return the samples for which ``fits``, shape (n,), is true."""
        columns = {name: getattr(self, name)[fits] for name in ("series", "time_ms", "value", "quality")}
        return SampleBatch(keys=self.keys, **columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """One signal over a range, at most one entry a bucket; buckets without usable samples are left out.

    A sample is usable if its quality is (``watchroom.signals.USABLE``) and its value is a number. A sample at t stands
    in bucket ``(t - start) * buckets // (end - start)``.

    Attributes:
        t: Time of the last usable sample in the bucket, UTC ms.
        min: Least value; ``max``, ``mean`` and ``last`` alike, in the signal's unit.
        count: Usable samples in the bucket.
        bad: Samples in the bucket that are not usable; the share of good quality is count / (count + bad).
    """

    t: list[int]
    min: list[float]
    max: list[float]
    mean: list[float]
    last: list[float]
    count: list[int]
    bad: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One stored sample, whatever its quality; value NaN means there was none."""

    time_ms: int
    value: float
    quality: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """One page of a raw range, by rising time; at most one sample a millisecond.

    Attributes:
        time_ms: UTC ms, shape (n,); ``value`` and ``quality`` alike, bad quality included.
        next_ms: Start of the next page, None when this was the last.
    """

    time_ms: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]
    next_ms: int | None

    def __len__(self) -> int:
        return len(self.time_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long each class of data is kept, in days; 0 keeps it for ever."""

    raw_days: float = 90.0
    minute_days: float = 730.0
    hour_days: float = 3650.0


class HistoryWrites(Protocol):
    """Where samples are kept for years. Used by one writer thread and several query threads."""

    def open(self) -> None:
        """Make ready, creating what is missing.

        Raises:
            StoreError: If the store is away or not usable.
        """

    def position(self) -> int:
        """Return the journal offset after the last one whose samples are surely kept.

        It may stand behind what was written, for a store that confirms before it is durable.
        """

    def write(self, batch: SampleBatch, *, position: int | None) -> None:
        """Store samples and the position; repeating a batch changes nothing.

        Of two samples of one signal with one time the one written later stays.

        Args:
            batch: Samples in any order of time.
            position: Journal offset after them; None leaves it (samples that did not come by the journal).

        Raises:
            RewoundError: If something confirmed before was lost; the writer goes on from an earlier position.
            StoreError: If nothing or not all was stored; the writer repeats the batch.
        """

    def expire(self, now_ms: int, keep: Retention) -> None:
        """Forget what is older than its class is kept, if this store does not do it by itself.

        Raises:
            StoreError: If the store refuses; what was not forgotten now is forgotten next time.
        """

    def close(self) -> None:
        """Let go of files and connections."""


@runtime_checkable
class Tended(Protocol):
    """A store that has work to do in the background."""

    def tend(self, now_ms: int, *, should_stop: Callable[[], bool]) -> None:
        """Do what is due; called every few seconds by one thread, safe to stop or kill at any point.

        Args:
            now_ms: Present time, UTC.
            should_stop: Asked between steps of a second or two.

        Raises:
            StoreError: If the store refuses; the next call goes on.
        """


class HistoryRange(Protocol):
    """The one read that charts need."""

    def range(self, keys: Sequence[str], *, start_ms: int, end_ms: int, buckets: int) -> Mapping[str, Buckets]:
        """Return min, max, mean, last, count and bad of each signal for start <= t < end, by buckets of equal width.

        Raises:
            StoreError: If the store cannot be read.
        """


class HistoryReads(HistoryRange, Protocol):
    """Everything else a store can be asked; all reads cover start <= t < end and may run beside the writer.

    What can be computed from these (states' durations, counters' increases, aligned columns, checksums) is computed
    once for all stores in ``ingest.queries``. A key the store never saw has no samples; it is no error.

    Every method raises StoreError if the store cannot be read.
    """

    def keys(self) -> list[str]:
        """Return every signal that was ever stored, sorted."""

    def samples(self, key: str, *, start_ms: int, end_ms: int, limit: int) -> Samples:
        """Return the first ``limit`` samples of a range and where to go on."""

    def last(self, keys: Sequence[str], *, before_ms: int) -> Mapping[str, Sample]:
        """Return the newest sample of each signal with t < before; a signal without one is left out."""

    def first(self, keys: Sequence[str], *, from_ms: int) -> Mapping[str, Sample]:
        """Return the oldest sample of each signal with t >= from; a signal without one is left out."""

    def count(self, keys: Sequence[str], *, start_ms: int, end_ms: int) -> Mapping[str, int]:
        """Return how many samples of any quality each signal has; much cheaper than reading them."""


class HistoryStore(HistoryWrites, HistoryReads, Protocol):
    """A store the engine can run."""


def check_range(keys: Sequence[str], *, start_ms: int, end_ms: int, buckets: int) -> None:
    """Refuse a query that makes no sense or would be too big.

    Raises:
        TooBigError: With the number, the most, and a hint.
        StateError: If the range is empty or nothing is asked for.
    """
    check_span(keys, start_ms=start_ms, end_ms=end_ms)
    if buckets < 1:
        raise StateError("history.buckets", f"{buckets} buckets; ask for 1 to {MOST_BUCKETS}")
    if buckets > MOST_BUCKETS:
        raise TooBigError("buckets", asked=buckets, most=MOST_BUCKETS, hint="one a pixel is enough")


def check_span(keys: Sequence[str], *, start_ms: int, end_ms: int) -> None:
    """Refuse no signals, too many signals, or an empty range.

    Raises:
        TooBigError: With the number, the most, and a hint.
        StateError: If the range is empty or nothing is asked for.
    """
    if not keys:
        raise StateError("history.keys", f"asked for no signal; name 1 to {MOST_KEYS}")
    if len(keys) > MOST_KEYS:
        raise TooBigError("keys", asked=len(keys), most=MOST_KEYS, hint="ask in several queries")
    if start_ms >= end_ms:
        raise StateError("history.range", f"start {start_ms} is not before end {end_ms}; both are UTC milliseconds")


def check_page(limit: int) -> None:
    """Refuse a page of no samples or too many.

    Raises:
        TooBigError: With the number, the most, and a hint.
        StateError: If the limit is below 1.
    """
    if limit < 1:
        raise StateError("history.page", f"a page of {limit} samples; ask for 1 to {MOST_PAGE}")
    if limit > MOST_PAGE:
        raise TooBigError("page", asked=limit, most=MOST_PAGE, hint="go on from next_ms, or export to a file")

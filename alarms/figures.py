"""Figures of the engine: for ``/metrics`` and for its status."""

from __future__ import annotations

import statistics
from collections import deque

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
KEPT = 600


class Durations:
    """How long something took lately, in milliseconds.

    Args:
        histogram: Where it is counted as well, in seconds.
    """

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._recent: deque[float] = deque(maxlen=KEPT)
        self.last_ms = 0.0

    def note(self, seconds: float) -> None:
        """Count one run."""
        self._histogram.observe(seconds)
        self.last_ms = seconds * 1000
        self._recent.append(self.last_ms)

    def facts(self, name: str) -> dict[str, float]:
        """Return newest, median and longest of the last runs."""
        # a copy first: another thread adds to the queue meanwhile
        recent = list(self._recent)
        return {
            f"last_{name}_ms": round(self.last_ms, 3),
            f"{name}_ms_p50": round(statistics.median(recent), 3) if recent else 0.0,
            f"{name}_ms_max": round(max(recent), 3) if recent else 0.0,
        }


class Figures:
    """Everything that the alarm engine counts.

    Args:
        registry: Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        scan = Histogram("watchroom_alarm_scan_seconds", "Judging one batch", buckets=BUCKETS, registry=registry)
        commit = Histogram("watchroom_alarm_commit_seconds", "One SQL transaction", buckets=BUCKETS, registry=registry)
        self.scan, self.commit = Durations(scan), Durations(commit)
        self.records = Counter("watchroom_alarm_records", "Journal records judged", registry=registry)
        self.transitions = Counter("watchroom_alarm_transitions", "Transitions", ["kind"], registry=registry)
        self.events = Counter("watchroom_alarm_events", "Events of readers and panels", registry=registry)
        self.commands = Counter("watchroom_alarm_commands", "Operators' actions applied", registry=registry)
        self.lag = Gauge("watchroom_alarm_lag_records", "Records that wait to be judged", registry=registry)
        self.is_away = Gauge("watchroom_alarm_database_away", "1 while SQL cannot be written", registry=registry)

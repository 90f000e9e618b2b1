"""The judge: journal records in, transitions of alarm rows out. Pure but for the birth store it reads."""

from __future__ import annotations

import numpy as np

from alarms.judged import Judged, Latest
from alarms.rules import RuleSet
from watchroom.births import BirthStore
from watchroom.journal import Record


class Evaluator:
    """Judges the records of one site in journal order.

    Args:
        ruleset: The site's rules.
        births: Explains the aliases of frames.
        site_id: The site.
    """

    def __init__(self, ruleset: RuleSet, births: BirthStore, site_id: str) -> None:
        self._ruleset, self._births, self._site = ruleset, births, site_id

    def feed(self, record: Record) -> None:
        """Take one record; it is judged by the next `evaluate`."""

    def evaluate(self) -> Judged:
        """Judge everything fed since the last call."""
        return Judged()

    def checkpoint(self) -> bytes:
        """Return the whole state; only between `evaluate` and the next `feed`."""
        return b""

    def restore(self, state: bytes) -> None:
        """Take over the state of a checkpoint."""

    def latest(self) -> Latest:
        """Return the newest sample of every signal."""
        return Latest(
            keys=[],
            time_ms=np.zeros(0, np.int64),
            value=np.zeros(0),
            quality=np.zeros(0, np.uint8),
            gateway=[],
            is_stale=np.zeros(0, bool),
        )

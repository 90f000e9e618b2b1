"""Rows of a file with old data on their way to batches: which column is what, and what each cell must hold. Pure.

Two layouts are read. *Long*: columns ``time``, ``signal``, ``value`` and perhaps ``quality``, one sample a row. *Wide*:
``time`` and one column for each signal, named by its key; an empty cell is no sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import numpy as np

from ingest.moments import moment_ms
from ingest.store import SampleBatch
from watchroom.errors import ContractError
from watchroom.signals import Quality, split_key

LONG = ("time", "signal", "value")
_QUALITIES = {str(int(quality)): int(quality) for quality in Quality}


class CellError(ValueError):
    """One cell of a file is wrong.

    Args:
        column: Name of its column.
        problem: What is wrong and what was expected.
    """

    def __init__(self, column: str, problem: str) -> None:
        self.column, self.problem = column, problem
        super().__init__(f"{column}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where things stand in a row.

    Attributes:
        time: Number of the time column.
        signal: Number of the signal column, -1 in a wide file.
        value: Number of the value column, -1 in a wide file.
        quality: Number of the quality column, -1 if there is none.
        wide: Number of column -> signal key.
        names: All names, for messages.
    """

    time: int
    signal: int = -1
    value: int = -1
    quality: int = -1
    wide: Mapping[int, str] = field(default_factory=dict)
    names: Sequence[str] = ()


def layout_of(names: Sequence[str]) -> Layout:
    """Return the layout that a header tells.

    Raises:
        CellError: If it is neither long nor wide.
    """
    names = [name.strip().removeprefix("\ufeff") for name in names]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CellError(twice, "the column stands there twice")
    if "time" not in names:
        raise CellError("time", f"the column is missing; found {', '.join(names[:8]) or 'nothing'}")
    place = {name: number for number, name in enumerate(names)}
    if "signal" in place or "value" in place:
        for name in LONG:
            if name not in place:
                raise CellError(name, f"the column is missing; expected {', '.join(LONG)} and perhaps quality")
        unknown = set(names) - {*LONG, "quality"}
        if unknown:
            raise CellError(min(unknown), f"unknown column; expected {', '.join(LONG)} and perhaps quality")
        quality = place.get("quality", -1)
        return Layout(time=place["time"], signal=place["signal"], value=place["value"], quality=quality, names=names)
    wide = {number: signal_key(name, column=name) for name, number in place.items() if name != "time"}
    if not wide:
        raise CellError("signal", "no signal; expected the columns signal and value, or one column for each signal")
    return Layout(time=place["time"], wide=wide, names=names)


def signal_key(text: str, *, column: str) -> str:
    """Return a signal key, checked.

    Raises:
        CellError: If it is none.
    """
    try:
        split_key(text)
    except ContractError as exc:
        raise CellError(column, exc.detail) from exc
    return text


def number_of(text: str, *, column: str) -> float:
    """Return a value; empty and ``nan`` mean that there was none.

    Raises:
        CellError: If it is no finite number.
    """
    text = text.strip()
    if not text or text.lower() == "nan":
        return math.nan
    try:
        value = float(text)
    except ValueError as exc:
        hint = "; write a decimal point, not a comma" if "," in text else ""
        raise CellError(column, f"{text!r} is no number{hint}") from exc
    if not math.isfinite(value) or "_" in text:
        raise CellError(column, f"{text!r} is no finite number")
    return value


def quality_of(text: str, value: float) -> int:
    """Return a quality code; empty means good, or invalid where there is no value.

    Raises:
        CellError: If it is none.
    """
    text = text.strip()
    if not text:
        return int(Quality.INVALID if math.isnan(value) else Quality.GOOD)
    if text not in _QUALITIES:
        raise CellError("quality", f"{text!r} is no quality; expected 0 (good) to 6")
    return _QUALITIES[text]


def time_of(text: str, zone: ZoneInfo | None, *, latest_ms: int) -> int:
    """Return a time as UTC milliseconds.

    Raises:
        CellError: If it is none, or lies ahead of what may be stored.
    """
    try:
        found = moment_ms(text, zone)
    except ValueError as exc:
        raise CellError("time", str(exc)) from exc
    if found > latest_ms:
        raise CellError("time", f"{text!r} lies in the future")
    return found


class Rows:
    """Samples of a file, until they are enough for a batch."""

    def __init__(self) -> None:
        self._keys: dict[str, int] = {}
        self._series: list[int] = []
        self._times: list[int] = []
        self._values: list[float] = []
        self._codes: list[int] = []

    def __len__(self) -> int:
        return len(self._times)

    def add(self, key: str, time_ms: int, value: float, *, quality: int) -> None:
        """Take one sample."""
        self._series.append(self._keys.setdefault(key, len(self._keys)))
        self._times.append(time_ms)
        self._values.append(value)
        self._codes.append(quality)

    def batch(self) -> SampleBatch:
        """Return what was taken, and begin anew."""
        batch = SampleBatch(
            keys=tuple(self._keys),
            series=np.array(self._series, np.uint32),
            time_ms=np.array(self._times, np.int64),
            value=np.array(self._values, np.float64),
            quality=np.array(self._codes, np.uint8),
        )
        self._keys, self._series, self._times, self._values, self._codes = {}, [], [], [], []
        return batch

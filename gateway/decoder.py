"""A block of registers to values and qualities, all its signals at once. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gateway.model import ModelSignal
from gateway.registers import Words, decode_raw, to_engineering
from gateway.sink import Qualities, Values
from watchroom.signals import Quality


class BlockDecoder:
    """Decodes one block; what can be worked out before the first answer is worked out here.

    Args:
        signals: The signals of the block, shape (n,).
        start: Offset of the block's first register or bit on the wire.
    """

    def __init__(self, signals: Sequence[ModelSignal], start: int) -> None:
        self._n = len(signals)
        groups: dict[tuple[str, str, int, int], list[int]] = {}
        for i, signal in enumerate(signals):
            encoding = signal.encoding
            key = (encoding.type, encoding.order, encoding.bit, encoding.wrap)
            groups.setdefault(key, []).append(i)
        at = np.array([signal.offset - start for signal in signals], dtype=np.intp)
        self._steps = [
            (np.array(members, dtype=np.intp), at[members], signals[members[0]].encoding) for members in groups.values()
        ]
        self._scale = np.array([signal.encoding.scale for signal in signals])
        self._offset = np.array([signal.encoding.offset for signal in signals])
        self._is_plain = bool((self._scale == 1).all() and not self._offset.any())
        self._low = np.array([signal.low for signal in signals])
        self._high = np.array([signal.high for signal in signals])
        self._is_bounded = bool(np.isfinite(self._low).any() or np.isfinite(self._high).any())
        self._invalid = [(i, np.array(signal.invalid)) for i, signal in enumerate(signals) if signal.invalid]
        self._maps = [(i, dict(signal.mapping)) for i, signal in enumerate(signals) if signal.mapping]

    def decode(self, words: Words) -> tuple[Values, Qualities]:
        """Return the values and qualities of one answer.

        Args:
            words: Registers of the block; for coils and discrete inputs 0 or 1 each.

        Returns:
            Values in each signal's unit, shape (n,): NaN with quality INVALID where the device says "no value",
            sends digits that are none, or a number its map does not know. Outside its range a signal keeps the
            value, with quality SENSOR_FAULT.
        """
        if len(self._steps) == 1:
            _, at, encoding = self._steps[0]
            raw = decode_raw(words, at, encoding)
        else:
            raw = np.empty(self._n)
            for members, at, encoding in self._steps:
                raw[members] = decode_raw(words, at, encoding)
        values = raw.copy() if self._is_plain else to_engineering(raw, self._scale, self._offset)
        quality = np.zeros(self._n, dtype=np.uint8)
        for i, codes in self._invalid:
            if raw[i] in codes:
                values[i] = np.nan
        for i, mapping in self._maps:
            values[i] = mapping.get(raw[i], np.nan)
        no_value = ~np.isfinite(values)
        if self._is_bounded:
            quality[(values < self._low) | (values > self._high)] = Quality.SENSOR_FAULT
        if no_value.any():
            values[no_value] = np.nan
            quality[no_value] = Quality.INVALID
        return values, quality

"""Frames and a small in-memory journal for the tests of the history writer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from watchroom.births import Birth
from watchroom.frames import Header, encode_samples
from watchroom.signals import Kind, SignalSpec

SITE = "spruce-court"
EPOCH = 0x0123456789ABCDEF


def birth(gateway: str = "pump-house", keys: Sequence[str] = ("WP-01/outlet_pressure", "WP-01/flow")) -> Birth:
    """Return a birth of measures with these keys."""
    return Birth(
        gateway=gateway,
        epoch=EPOCH,
        schema=1,
        time_ms=1_763_800_000_000,
        heartbeat_s=1,
        version="test",
        signals=tuple(SignalSpec(alias=i, key=key, kind=Kind.MEASURE) for i, key in enumerate(keys)),
    )


def samples(
    seq: int, alias: Sequence[int], time_ms: Sequence[int], value: Sequence[float], quality: Sequence[int] | None = None
) -> bytes:
    """Return one sample frame of the birth above."""
    header = Header(
        kind="D", lane=1, flags=0, epoch=EPOCH, seq=seq, prev=seq - 1, base_ms=time_ms[0],
        complete_ms=max(time_ms), schema=1, n=0, clock_gen=1,
    )  # fmt: skip
    return encode_samples(
        header,
        alias=np.array(alias, np.uint32),
        time_ms=np.array(time_ms, np.int64),
        value=np.array(value, np.float64),
        quality=np.array(quality or [0] * len(alias), np.uint8),
    )

"""Binary frames with signal values for browsers. Pure.

Little-endian: ``u32 magic "WRS1" | u32 index epoch | u32 n | u32 reserved | f64 server_ms | f64 value[n] |
f64 time_ms[n] | u32 index[n] | u8 quality[n]``; quality 255 means stale. Floats stand first so that a browser
can lay typed arrays over the buffer.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

MAGIC = 0x31535257
STALE = 255
HEAD = struct.Struct("<IIIId")
SAMPLE_BYTES = 21


def encode_signals(
    index: NDArray[np.uint32],
    *,
    epoch: int,
    server_ms: int,
    value: NDArray[np.float64],
    time_ms: NDArray[np.int64],
    quality: NDArray[np.uint8],
    is_stale: NDArray[np.bool_],
) -> bytes:
    """Return one frame for the signals of some indices.

    Args:
        index: Which signals, shape (n,).
        epoch: Index epoch, 32 bits.
        server_ms: UTC now.
        value: Newest values of **all** signals, as are the other columns, shape (signals,).
        time_ms: UTC ms.
        quality: As in `watchroom.signals.Quality`.
        is_stale: Where true the frame says 255 in place of the quality.
    """
    shown = np.where(is_stale[index], np.uint8(STALE), quality[index])
    return b"".join(
        (
            HEAD.pack(MAGIC, epoch, len(index), 0, server_ms),
            value[index].astype("<f8").tobytes(),
            time_ms[index].astype("<f8").tobytes(),
            index.astype("<u4").tobytes(),
            shown.astype("u1").tobytes(),
        )
    )

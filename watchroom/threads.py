"""How threads of one process share the interpreter."""

from __future__ import annotations

import sys

HAND_OVER_S = 0.0002
"""A SQL call lets go of the interpreter lock; with Python's 5 ms a busy neighbour would delay each one of them."""


def share_fairly() -> None:
    """Make a busy thread hand the interpreter over early, so that an alarm never waits behind a batch of history."""
    sys.setswitchinterval(HAND_OVER_S)

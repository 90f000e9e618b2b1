"""Names under which the centre reports on itself: its disk, its intake, its journal.

Ingest writes these samples straight into the journal. So the alarm rules judge the centre like any other equipment, its
limits can be changed in ``rules.yaml``, and history and screens show it.
"""

from __future__ import annotations

from typing import Final

CENTRE: Final = "CENTRE"
"""Equipment id; every site has it without naming it."""
CENTRE_TYPE: Final = "centre"
CENTRE_GATEWAY: Final = "centre"
"""Stands in the journal where a gateway's id stands; no gateway on the broker may call itself so."""
INTAKE: Final = f"{CENTRE}/intake"
"""1 while frames are taken in, 0 while the disk is too full for them."""

"""The last defence against a record whose results SQL refuses: kept in a file for people, and the engine goes on.

Without it one such record would end the engine, and again after every restart, and nobody would judge the site.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy.exc import InternalError, NotSupportedError, ProgrammingError, StatementError

from alarms.committer import Committer
from alarms.judged import Judged
from watchroom.disk import Disk, replace_file

log = structlog.get_logger(__name__)

OURS: Final = (ProgrammingError, InternalError, NotSupportedError)
"""Errors that no other record would escape: a missing table is a fault of the installation, not of a record."""
_NAME: Final = re.compile(r"aside-\d+\.json")


class SetAside:
    """Commits what was judged, around the records that cannot be committed.

    Args:
        committer: Writes to SQL.
        folder: One file ``aside-OFFSET.json`` for each record set aside; people remove it when they have looked.
        disk: File operations.
    """

    def __init__(self, committer: Committer, folder: Path, disk: Disk) -> None:
        self._committer, self._folder, self._disk = committer, folder, disk
        disk.make_folder(folder)
        self.count = sum(bool(_NAME.fullmatch(name)) for name in disk.names(folder))

    def commit(self, judged: Judged, *, end: int) -> int:
        """Write everything judged before an offset; return the last sequence of the change feed.

        Raises:
            StoreError: If SQL or the disk is away. What was written stays written; try again with the same.
            StateError: ``engine.fenced``.
        """
        try:
            return self._committer.commit(judged, end=end)
        except (StatementError, ValueError, OverflowError) as exc:
            if isinstance(exc, OURS):
                raise
            problem = exc
        offsets = sorted({item.offset for item in judged.transitions} | {item.offset for item in judged.events})
        if len(offsets) > 1:
            middle = offsets[len(offsets) // 2]
            self.commit(_part(judged, 0, middle), end=middle)
            return self.commit(_part(judged, middle, end), end=end)
        if not offsets:
            raise problem
        self._keep(offsets[0], judged, problem)
        return self._committer.commit(Judged(), end=end)

    def _keep(self, offset: int, judged: Judged, problem: Exception) -> None:
        path = self._folder / f"aside-{offset}.json"
        is_new = path.name not in self._disk.names(self._folder)
        cause = problem.orig if isinstance(problem, StatementError) and problem.orig is not None else problem
        content: dict[str, Any] = {
            "offset": offset,
            "problem": f"{type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else ''}",
            "transitions": [{**asdict(item), "row": item.row.key} for item in judged.transitions],
            "events": [asdict(item) for item in judged.events],
        }
        replace_file(self._disk, path, json.dumps(content, default=str, indent=1).encode())
        self.count += is_new
        log.error(
            "record set aside, SQL refuses its results", offset=offset, problem=type(cause).__name__, file=str(path)
        )


def _part(judged: Judged, low: int, high: int) -> Judged:
    return Judged(
        transitions=[item for item in judged.transitions if low <= item.offset < high],
        events=[item for item in judged.events if low <= item.offset < high],
    )

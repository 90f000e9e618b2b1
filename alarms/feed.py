"""A writer's turn at a site: the lock, the numbers given out under it, and the change feed to the screens.

Whoever changes alarms, tickets or commands of a site begins a `Turn` first. It holds the site's row in table
``position`` until the transaction ends, so sequences grow without holes that a reader could overtake, and two
writers never wait for each other crosswise.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from alarms.chain import GENESIS
from watchroom.database.tables import change, position

PREFIXES: Final = {
    "repair": "WX",
    "patrol": "XC",
    "round": "XG",
    "maintenance": "WB",
    "request": "BX",
    "complaint": "TS",
    "drill": "YL",
}
FIRST_NUMBER = 1001
KEPT_CHANGES = 100_000
# statements of every turn are made once: making one costs more than running it
_LOCK: Final = select(position).where(position.c.partition == bindparam("site")).with_for_update()
_NOTE_CHANGES: Final = change.insert()
_MOVED: Final = ("committed", "generation", "feed_seq", "ticket_no", "command_seq", "alarm_hash", "updated_ms")
_MOVE: Final = (
    update(position)
    .where(position.c.partition == bindparam("site"))
    .values({name: bindparam(f"new_{name}") for name in _MOVED})
)


class Turn:
    """The site's row in ``position``, locked; changed values are written by `finish`.

    Args:
        connection: In a writing transaction.
        site: Id of the site; its row is made if it has none.
        now_ms: Time of the changes, UTC ms.
    """

    def __init__(self, connection: Connection, site: str, *, now_ms: int) -> None:
        self.connection, self.site, self.now_ms = connection, site, now_ms
        self._changes: dict[tuple[str, str], None] = {}
        row = self._locked()
        if row is None:
            self._make()
            row = self._locked()
        self._before = row or {}
        self.committed: int = self._before["committed"]
        self.generation: int = self._before["generation"]
        self.feed_seq: int = self._before["feed_seq"]
        self.alarm_hash: str = self._before["alarm_hash"]
        self._ticket_no: int = self._before["ticket_no"]
        self._command_seq: int = self._before["command_seq"]

    def changed(self, kind: str, ref: str) -> None:
        """Tell the screens, at the end of this turn, that an ``alarm``, ``ticket`` or ``access`` event is different."""
        # the newest mention counts: a screen that has read up to it has the final state
        self._changes.pop((kind, ref), None)
        self._changes[kind, ref] = None

    def ticket_number(self, type_: str) -> str:
        """Give out the next ticket number, for example ``WX-1042``."""
        self._ticket_no += 1
        return f"{PREFIXES.get(type_, 'GD')}-{self._ticket_no}"

    def command_number(self) -> int:
        """Give out the next place in the order of commands."""
        self._command_seq += 1
        return self._command_seq

    def finish(self) -> int:
        """Write the change rows and the position; return the sequence of the last change ever made."""
        rows = []
        for kind, ref in self._changes:
            self.feed_seq += 1
            rows.append({"site": self.site, "seq": self.feed_seq, "kind": kind, "ref": ref, "at_ms": self.now_ms})
        if rows:
            self.connection.execute(_NOTE_CHANGES, rows)
        values = {
            "committed": self.committed,
            "generation": self.generation,
            "feed_seq": self.feed_seq,
            "ticket_no": self._ticket_no,
            "command_seq": self._command_seq,
            "alarm_hash": self.alarm_hash,
        }
        if any(self._before[key] != value for key, value in values.items()):
            moved = {f"new_{key}": value for key, value in {**values, "updated_ms": self.now_ms}.items()}
            self.connection.execute(_MOVE, {"site": self.site, **moved})
        return self.feed_seq

    def _locked(self) -> dict[str, Any] | None:
        row = self.connection.execute(_LOCK, {"site": self.site}).mappings().one_or_none()
        return None if row is None else dict(row)

    def _make(self) -> None:
        insert = postgresql.insert if self.connection.dialect.name == "postgresql" else sqlite.insert
        values = {
            "partition": self.site,
            "committed": 0,
            "generation": 0,
            "feed_seq": 0,
            "ticket_no": FIRST_NUMBER - 1,
            "command_seq": 0,
            "alarm_hash": GENESIS,
            "updated_ms": self.now_ms,
        }
        self.connection.execute(insert(position).values(values).on_conflict_do_nothing())


def trim_changes(turn: Turn) -> None:
    """Drop changes that no screen asks for any more: one that is further behind takes a snapshot."""
    turn.connection.execute(
        delete(change).where(change.c.site == turn.site, change.c.seq <= turn.feed_seq - KEPT_CHANGES)
    )

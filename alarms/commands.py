"""What operators ask of the alarm engine: written down durably by anybody, applied in order by the engine alone."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Connection, Engine, select, update

from alarms.feed import Turn
from alarms.lifecycle import Step
from alarms.memory import Memory
from alarms.overlays import Cover
from alarms.store import AlarmRows
from alarms.ticket_opening import TicketOrder
from watchroom.database.connect import reading
from watchroom.database.tables import alarm, command
from watchroom.errors import StateError

CommandKind = Literal["ack", "reset", "shelve", "unshelve", "out", "return", "out_all", "return_all"]
STEPS: Final[Mapping[str, Step | Cover]] = {
    "ack": Step.ACK,
    "reset": Step.RESET,
    "shelve": Cover.SHELVE_TIMED,
    "unshelve": Cover.UNSHELVE,
    "out": Cover.OUT,
    "return": Cover.RETURN,
}
WHOLE: Final[Mapping[str, Cover]] = {"out_all": Cover.OUT, "return_all": Cover.RETURN}
"""Their target is a piece of equipment: all its rows."""
MANAGED: Final = frozenset({"fire", "life_safety"})
"""Classes that nobody may shelve, whatever their priority."""
MINUTE_MS: Final = 60_000
DONE: Final = "done"
BATCH: Final = 500
POLL_S: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a command.

    Attributes:
        code: ``done``, or the code of the `StateError` that refused it.
        cursor: Journal offset at which it was applied.
    """

    code: str
    cursor: int
    applied_ms: int

    def check(self) -> None:
        """Raise the refusal, if it was refused.

        Raises:
            StateError: With the code.
        """
        if self.code != DONE:
            raise StateError(self.code)


def submit(
    connection: Connection,
    kind: str,
    target: str,
    *,
    user: str,
    args: Mapping[str, Any],
    idempotency_key: str,
    now_ms: int,
    site: str | None = None,
) -> str:
    """Write a command down and return its id; the same key again returns the first one's.

    Args:
        connection: In a writing transaction; the caller commits, then wakes the engine.
        kind: One of `CommandKind`.
        target: Id of the alarm (the occurrence that the operator saw), for `WHOLE` of the equipment.
        user: Who asks.
        args: ``comment``; to shelve ``mode`` (timed or once), ``minutes``, ``reason``; out of service ``permit``
            and ``reason``.
        idempotency_key: At most 64 characters, chosen by the client.
        now_ms: UTC ms.
        site: Id of the site, for commands about equipment.

    Raises:
        StateError: ``alarm.unknown``, ``command.kind``, or ``command.key_reused`` for a key of another command.
    """
    if kind not in STEPS and kind not in WHOLE:
        raise StateError("command.kind", kind)
    if kind in STEPS:
        site = connection.execute(select(alarm.c.site).where(alarm.c.id == target)).scalar_one_or_none()
    if site is None:
        raise StateError("alarm.unknown", target)
    turn = Turn(connection, site, now_ms=now_ms)
    query = select(command).where(command.c.site == site, command.c.idempotency_key == idempotency_key)
    earlier = connection.execute(query).mappings().one_or_none()
    if earlier is not None:
        if (earlier["kind"], earlier["target"], earlier["user"]) != (kind, target, user):
            raise StateError("command.key_reused")
        return str(earlier["id"])
    command_id = str(uuid.uuid4())
    values = {
        "id": command_id,
        "seq": turn.command_number(),
        "site": site,
        "kind": kind,
        "target": target,
        "user": user,
        "args": dict(args),
        "idempotency_key": idempotency_key,
        "created_ms": now_ms,
    }
    connection.execute(command.insert().values(values))
    turn.finish()
    return command_id


def outcome_of(connection: Connection, command_id: str) -> Outcome | None:
    """Return what became of a command, None while the engine has not applied it.

    Raises:
        StateError: ``command.unknown``.
    """
    row = connection.execute(select(command).where(command.c.id == command_id)).mappings().one_or_none()
    if row is None:
        raise StateError("command.unknown", command_id)
    if row["outcome"] is None:
        return None
    return Outcome(code=row["outcome"], cursor=row["applied_cursor"], applied_ms=row["applied_ms"])


def await_outcome(database: Engine, command_id: str, *, timeout_s: float = 2.0) -> Outcome | None:
    """Block until the engine has applied a command; None if it has not within the time. Not for an event loop.

    Raises:
        StateError: ``command.unknown``.
        StoreError: If the database is away.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = POLL_S
    while True:
        with reading(database) as connection:
            outcome = outcome_of(connection, command_id)
        if outcome is not None or time.monotonic() >= deadline:
            return outcome
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.05)


def pending(connection: Connection, site: str) -> list[dict[str, Any]]:
    """Return the commands that wait, in order of arrival, at most a batch."""
    query = select(command).where(command.c.site == site, command.c.outcome.is_(None)).order_by(command.c.seq)
    return [dict(row) for row in connection.execute(query.limit(BATCH)).mappings()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What a batch of commands did.

    Attributes:
        alarms: Ids of the alarms that changed.
        count: How many commands were answered.
        orders: Tickets that uncovered alarms ask for.
    """

    alarms: list[str]
    count: int
    orders: list[TicketOrder]


def apply_pending(
    turn: Turn, *, memory: Memory | None = None, places: Mapping[str, str] | None = None, shelve_max_ms: int = 0
) -> Applied:
    """Apply the waiting commands in order.

    For the engine alone: it decides at the journal position that the turn stands at, and stamps it.

    Args:
        turn: The writer's turn.
        memory: Overlays and parents of the site.
        places: Equipment id -> place, for tickets.
        shelve_max_ms: Longest time on the shelf.
    """
    waiting = pending(turn.connection, turn.site)
    if not waiting:
        return Applied(alarms=[], count=0, orders=[])
    memory = memory or Memory()
    targets = sorted({item["target"] for item in waiting if item["kind"] in STEPS})
    query = select(alarm).where(alarm.c.site == turn.site, alarm.c.id.in_(targets))
    seen = {row["id"]: dict(row) for row in turn.connection.execute(query).mappings()}
    keys = {row["row"] for row in seen.values()}
    for item in waiting:
        if item["kind"] in WHOLE:
            keys |= set(memory.rows_of(item["target"]))
    rows = AlarmRows(turn, keys, places=places, memory=memory)
    for item in waiting:
        if item["kind"] in WHOLE:
            outcome = _apply_whole(rows, item, at_ms=turn.now_ms)
        else:
            outcome = _apply(rows, item, seen.get(item["target"]), at_ms=turn.now_ms, shelve_max_ms=shelve_max_ms)
        values = {"outcome": outcome, "applied_cursor": turn.committed, "applied_ms": turn.now_ms}
        turn.connection.execute(update(command).where(command.c.id == item["id"]).values(values))
    return Applied(alarms=rows.write(), count=len(waiting), orders=rows.orders)


def _apply(
    rows: AlarmRows, item: Mapping[str, Any], target: dict[str, Any] | None, *, at_ms: int, shelve_max_ms: int
) -> str:
    if target is None:
        return "alarm.unknown"
    kind, user, args = STEPS[item["kind"]], item["user"], item["args"]
    comment = args.get("comment") or args.get("reason")
    current = rows.live(target["row"])
    refusal = ""
    if current is None or current["id"] != target["id"]:
        # the operator looked at an older occurrence: what hides behind it has not been seen by anybody
        refusal = "alarm.closed" if current is None else "alarm.superseded"
    elif kind is Cover.SHELVE_TIMED:
        refusal = _shelf_refusal(current, args, shelve_max_ms)
    elif kind is Cover.OUT and not (args.get("permit") and args.get("reason")):
        refusal = "alarm.permit_missing"
    if refusal or current is None:
        rows.refuse(target, kind, user=user, comment=comment, at_ms=at_ms, code=refusal)
        return refusal
    if isinstance(kind, Step):
        return rows.act(current, kind, user=user, comment=comment, at_ms=at_ms) or DONE
    return _cover(rows, current["row"], kind, user=user, args=args, at_ms=at_ms) or DONE


def _shelf_refusal(current: Mapping[str, Any], args: Mapping[str, Any], shelve_max_ms: int) -> str:
    if current["priority"] == 1 or current["class_"] in MANAGED:
        return "alarm.not_shelvable"
    if not args.get("reason"):
        return "alarm.reason_missing"
    if args.get("mode") == "once":
        return ""
    minutes = args.get("minutes") or 0
    return "" if 0 < minutes * MINUTE_MS <= shelve_max_ms else "alarm.shelf_too_long"


def _cover(rows: AlarmRows, row: str, kind: Cover, *, user: str, args: Mapping[str, Any], at_ms: int) -> str | None:
    until_ms = None
    if kind is Cover.SHELVE_TIMED and args.get("mode") == "once":
        kind = Cover.SHELVE_ONCE
    elif kind is Cover.SHELVE_TIMED:
        until_ms = at_ms + args["minutes"] * MINUTE_MS
    note = {"permit": args["permit"]} if args.get("permit") else {}
    comment = args.get("comment") or args.get("reason")
    return rows.covers.cover(row, kind, user=user, at_ms=at_ms, comment=comment, note=note, until_ms=until_ms)


def _apply_whole(rows: AlarmRows, item: Mapping[str, Any], *, at_ms: int) -> str:
    """Take all rows of a piece of equipment out of service, or back; rows that are there already do not matter."""
    kind, args = WHOLE[item["kind"]], item["args"]
    keys = rows.memory.rows_of(item["target"])
    if not keys:
        return "equipment.unknown"
    if kind is Cover.OUT and not (args.get("permit") and args.get("reason")):
        return "alarm.permit_missing"
    outside = {row for row in keys if (known := rows.memory.overlays.get(row)) and known.standing.is_out}
    due = [row for row in keys if (row in outside) == (kind is Cover.RETURN)]
    for row in due:
        _cover(rows, row, kind, user=item["user"], args=args, at_ms=at_ms)
    if due:
        return DONE
    return "alarm.already_out" if kind is Cover.OUT else "alarm.not_out"

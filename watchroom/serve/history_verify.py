"""``watchroom history verify``: the engine's second opinion on its own history."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from ingest.store import HistoryStore
from ingest.verify import Verifier
from watchroom.births import BirthStore
from watchroom.journal import Journal
from watchroom.local import LocalClient
from watchroom.serve.history import span_of, with_engine
from watchroom.settings import Settings

Operation = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
ANSWER_S = 600.0


def verify_operation(
    site: str, journal: Journal, *, births: BirthStore, store: HistoryStore, slots: asyncio.Semaphore
) -> Operation:
    """Return the operation ``history.verify`` of the engine's local API: ``start_ms``, ``end_ms`` -> a verdict."""
    verifier = Verifier(site, journal, births=births, store=store)

    async def verify(args: dict[str, Any]) -> dict[str, Any]:
        span = {"start_ms": int(args["start_ms"]), "end_ms": int(args["end_ms"])}
        async with slots:
            verdict = await asyncio.to_thread(verifier.verify, **span)
        digests = {name: getattr(verdict, name).text() for name in ("journal", "store")}
        return asdict(verdict) | digests | {"is_sound": verdict.is_sound}

    return verify


def run_verify(options: argparse.Namespace, settings: Settings) -> int:
    """Ask the engine to compare a range and print what it found; 1 if anything is wrong."""
    span = span_of(options, int(time.time() * 1000))

    async def work(engine: LocalClient) -> dict[str, Any]:
        found: dict[str, Any] = await engine.ask("history.verify", ANSWER_S, start_ms=span.start_ms, end_ms=span.end_ms)
        return found

    found = with_engine(settings, work)
    for line in verdict_lines(found):
        print(line)
    return 0 if found["is_sound"] else 1


def verdict_lines(found: dict[str, Any]) -> list[str]:
    """Return a verdict as people read it."""
    since = datetime.fromtimestamp(found["from_ms"] / 1000, UTC).isoformat(timespec="seconds")
    lines = [
        f"journal   {found['journal']}  (since {since})" if found["from_ms"] else f"journal   {found['journal']}",
        f"store     {found['store']}, {found['signals']} signals",
        f"missing   {found['missing']}",
        f"different {found['different']}",
        f"only in the store (imported, or newer) {found['only_in_store']}",
        f"roll-ups  {found['cells']} compared, {found['wrong_cells']} wrong",
    ]
    if found["unread"]:
        lines.append(f"frames of the journal that could not be read {found['unread']}")
    lines += found["examples"]
    return [*lines, "sound" if found["is_sound"] else "NOT sound"]

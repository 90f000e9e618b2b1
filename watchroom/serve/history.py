"""The commands ``watchroom history``: export and import through the running engine."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from ingest.moments import moment_ms, zone_of
from ingest.transfer import export, format_of, import_file
from watchroom.errors import ConfigError, LinkError
from watchroom.local import LocalClient
from watchroom.settings import Settings

T = TypeVar("T")
CONNECT_S = 5.0
AHEAD_MS = 3_600_000
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A range as the command line tells it.

    Attributes:
        start_ms: Begin, UTC ms.
        end_ms: End, not included, UTC ms.
        zone: Zone of the person, None for UTC.
    """

    start_ms: int
    end_ms: int
    zone: ZoneInfo | None


def span_of(options: argparse.Namespace, now_ms: int) -> Span:
    """Return the range that the options tell.

    Raises:
        ConfigError: If a time or the zone is wrong.
    """
    zone = zone_option(options.zone)
    start_ms = time_option("--start", options.start, zone, default=now_ms - DAY_MS)
    end_ms = time_option("--end", options.end, zone, default=now_ms)
    if start_ms >= end_ms:
        raise ConfigError(f"{options.start} is not before {options.end or 'now'}", key="--start")
    return Span(start_ms=start_ms, end_ms=end_ms, zone=zone)


def zone_option(name: str | None) -> ZoneInfo | None:
    """Return a zone named on the command line.

    Raises:
        ConfigError: If there is none of that name.
    """
    try:
        return zone_of(name) if name else None
    except ValueError as exc:
        raise ConfigError(str(exc), key="--zone") from exc


def time_option(option: str, text: str | None, zone: ZoneInfo | None, *, default: int) -> int:
    """Return a time named on the command line.

    Raises:
        ConfigError: If it is none.
    """
    try:
        return moment_ms(text, zone) if text else default
    except ValueError as exc:
        raise ConfigError(str(exc), key=option) from exc


def run_export(options: argparse.Namespace, settings: Settings) -> int:
    """Write a range to a file."""
    span, path = span_of(options, int(time.time() * 1000)), Path(options.file)
    format_of(path)

    async def work(engine: LocalClient) -> int:
        stored = (await engine.ask("history.keys", 60.0))["keys"]
        keys = _chosen(stored, options.signal)
        return await export(engine, path, keys, start_ms=span.start_ms, end_ms=span.end_ms, zone=span.zone)

    print(f"Wrote {with_engine(settings, work)} samples to {path}")
    return 0


def run_import(options: argparse.Namespace, settings: Settings) -> int:
    """Bring files into the history."""
    zone = zone_option(options.zone)
    latest_ms = int(time.time() * 1000) + AHEAD_MS
    paths = [Path(file) for file in options.files]
    for path in paths:
        format_of(path)

    async def work(engine: LocalClient) -> None:
        known = None
        if not options.new_signals:
            stored = (await engine.ask("history.keys", 60.0))["keys"]
            known = frozenset(stored) | frozenset((await engine.ask("signals.latest"))["keys"])
        for path in paths:
            done = await import_file(
                engine,
                path,
                zone=zone,
                latest_ms=latest_ms,
                known=known,
                is_check=options.check,
                on_progress=_progress(path),
            )
            word = "Checked" if options.check else "Stored"
            print(f"{word} {done.samples} samples of {len(done.keys)} signals from {path}")

    with_engine(settings, work)
    return 0


def with_engine(settings: Settings, work: Callable[[LocalClient], Awaitable[T]]) -> T:
    """Run something with a connection to the engine.

    Raises:
        LinkError: If the engine does not run.
    """

    async def connected() -> T:
        path = settings.data / "engine.sock"
        engine = LocalClient(path)
        task = asyncio.create_task(engine.run(), name="engine-link")
        try:
            deadline = time.monotonic() + CONNECT_S
            while not engine.is_connected:
                if time.monotonic() > deadline:
                    raise LinkError(f"no engine answers at {path}; start it, or name its folder with --data")
                await asyncio.sleep(0.02)
            return await work(engine)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return asyncio.run(connected())


def _chosen(stored: list[str], wanted: list[str] | None) -> list[str]:
    if not wanted:
        return stored
    for key in wanted:
        if key not in stored:
            raise ConfigError(f"there is no history of {key!r}", key="--signal")
    return sorted(set(wanted))


def _progress(path: Path) -> Callable[[int], None]:
    def tell(total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{path.name}: {total} samples", end="\n" if total == 0 else "", file=sys.stderr, flush=True)

    return tell

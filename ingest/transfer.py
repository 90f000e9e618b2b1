"""History to files and back, through the running engine: nobody else opens its store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

from ingest.packed import pack_batch, unpack
from ingest.sample_csv import HEADER, csv_rows, read_csv
from ingest.store import SampleBatch, Samples
from watchroom.errors import ConfigError, LinkError, StateError, StoreError
from watchroom.local import LocalClient

PAGE = 20_000
ANSWER_S = 120.0
"""A page waits behind charts, and a store may be slow: longer than any answer needs."""
SUFFIXES = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}


class Pages(Protocol):
    """Turns pages of samples into the bytes of a file."""

    def add(self, key: str, page: Samples) -> bytes:
        """Take a page and return the bytes that are ready."""

    def finish(self) -> bytes:
        """Return the last bytes."""


class CsvPages:
    """Pages of samples as CSV.

    Args:
        zone: Zone in which times are told; None for UTC.
    """

    def __init__(self, zone: ZoneInfo | None) -> None:
        self._zone, self._head = zone, HEADER

    def add(self, key: str, page: Samples) -> bytes:
        """Take a page and return its lines, after the header at the first time."""
        head, self._head = self._head, b""
        return head + csv_rows(key, page, self._zone)

    def finish(self) -> bytes:
        """Return the header if there was no page at all."""
        return self._head


def pages_for(format_: str, zone: ZoneInfo | None) -> Pages:
    """Return what writes ``csv`` or ``parquet``; Parquet holds times in UTC whatever the zone."""
    if format_ == "csv":
        return CsvPages(zone)
    from ingest.sample_parquet import ParquetPages

    return ParquetPages()


def format_of(path: Path) -> str:
    """Return ``csv`` or ``parquet`` by a file's name.

    Raises:
        ConfigError: If it is neither.
    """
    found = SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise ConfigError("the name tells no format", path=path, hint="expected NAME.csv or NAME.parquet")
    return found


async def stream(
    engine: LocalClient, keys: Sequence[str], *, start_ms: int, end_ms: int, pages: Pages
) -> AsyncIterator[tuple[int, bytes]]:
    """Yield (samples, bytes of the file) page by page, signal after signal.

    Raises:
        LinkError: If the engine is away.
        StateError: If it refuses.
    """
    for key in keys:
        at: int | None = start_ms
        while at is not None:
            span = {"start_ms": at, "end_ms": end_ms, "limit": PAGE}
            page = unpack(await engine.ask("history.samples", ANSWER_S, key=key, **span))
            # a page of CSV takes tens of milliseconds: nobody else's request waits for it
            yield len(page), await asyncio.to_thread(pages.add, key, page)
            at = page.next_ms
    yield 0, pages.finish()


async def export(
    engine: LocalClient, path: Path, keys: Sequence[str], *, start_ms: int, end_ms: int, zone: ZoneInfo | None
) -> int:
    """Write a range of signals to a file and return how many samples it holds; a broken export leaves no file.

    Raises:
        ConfigError: If the file cannot be written.
        LinkError: If the engine is away.
    """
    pages, total = pages_for(format_of(path), zone), 0
    draft = path.with_name(path.name + ".part")
    try:
        with open(draft, "wb") as file:  # noqa: ASYNC230  the command has nothing else to do meanwhile
            async for number, data in stream(engine, keys, start_ms=start_ms, end_ms=end_ms, pages=pages):
                file.write(data)
                total += number
        draft.replace(path)
    except OSError as exc:
        raise ConfigError(f"cannot write the file: {exc.strerror or exc}", path=path) from exc
    finally:
        draft.unlink(missing_ok=True)
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did.

    Attributes:
        samples: Samples stored (or read, when only checking).
        keys: Signals they belong to.
    """

    samples: int
    keys: frozenset[str]


async def import_file(
    engine: LocalClient,
    path: Path,
    *,
    zone: ZoneInfo | None,
    latest_ms: int,
    known: frozenset[str] | None,
    is_check: bool = False,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Imported:
    """Bring the samples of a file into the history; bringing them again changes nothing.

    Args:
        engine: The running engine.
        path: CSV or Parquet, long or wide (`ingest.sample_rows`).
        zone: Zone of times without an offset.
        latest_ms: Later times are refused.
        known: Signals that may come; None for any.
        is_check: Read everything, store nothing.
        on_progress: Called with the number of samples so far.

    Raises:
        ConfigError: If the file is wrong; says where, and how much was stored before.
        LinkError: If the engine went away.
        StoreError: If the store refuses.
    """
    total, keys = 0, set[str]()
    try:
        for batch in _reader(path, zone, latest_ms=latest_ms):
            strange = sorted(set(batch.keys) - known) if known is not None else []
            if strange:
                raise ConfigError(
                    f"the site has no signal {strange[0]}",
                    path=path,
                    hint="mend the name, or allow new signals with --new-signals",
                )
            if not is_check:
                await engine.ask("history.import", ANSWER_S, **pack_batch(batch))
            total += len(batch)
            keys.update(batch.keys)
            on_progress(total)
    except (ConfigError, LinkError, StateError) as exc:
        if total and not is_check:
            hint = f"{total} samples before are stored; importing the file again is harmless"
            raise _with_hint(exc, hint) from exc
        raise
    return Imported(samples=total, keys=frozenset(keys))


def _reader(path: Path, zone: ZoneInfo | None, *, latest_ms: int) -> Iterator[SampleBatch]:
    if format_of(path) == "csv":
        return read_csv(path, zone, latest_ms=latest_ms)
    from ingest.sample_parquet import read_parquet

    return read_parquet(path, zone, latest_ms=latest_ms)


def _with_hint(exc: ConfigError | LinkError | StateError, hint: str) -> ConfigError | LinkError | StoreError:
    if isinstance(exc, ConfigError):
        hints = f"{exc.hint}; {hint}" if exc.hint else hint
        return ConfigError(exc.problem, path=exc.path, line=exc.line, key=exc.key, hint=hints)
    if isinstance(exc, LinkError):
        return LinkError(f"{exc} ({hint})")
    return StoreError(f"{exc} ({hint})")

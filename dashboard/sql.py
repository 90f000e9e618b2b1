"""Database work of the dashboard, away from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine

from watchroom.database.connect import reading, writing

T = TypeVar("T")


class Database:
    """Run reads and writes in a few named threads.

    Args:
        engine: The open database.
        threads: Reads and writes that may run at once; more wait in line.
    """

    def __init__(self, engine: Engine, *, threads: int = 3) -> None:
        self.engine = engine
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="sql")

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Return what the work finds in one consistent snapshot.

        Raises:
            StoreError: If the database is away.
        """

        def run() -> T:
            with reading(self.engine) as conn:
                return work(conn)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Return what the work returns, after its one transaction has been committed.

        Raises:
            StoreError: If the database is away or locked; nothing was kept.
        """

        def run() -> T:
            with writing(self.engine) as conn:
                return work(conn)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    def close(self) -> None:
        """Wait for work under way and let the connections go."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.engine.dispose()

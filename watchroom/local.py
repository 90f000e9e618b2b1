"""The engine's local API: JSON lines over a unix socket that only the owner of the data folder can open.

A request is ``{"id": 1, "op": "history.range", "args": {...}}``; the answer ``{"id": 1, "ok": ...}`` or
``{"id": 1, "error": {"code": ..., "detail": ...}}``. After ``{"op": "wake.follow"}`` the engine also pushes
``{"wake": {...}}`` lines whenever something was committed, so that a screen need not poll.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from watchroom.errors import LinkError, StateError, WatchroomError

Operation = Callable[[dict[str, Any]], Awaitable[Any]]
LINE_LIMIT = 32 * 1024 * 1024
FOLLOWER_LIMIT = 1024 * 1024


class LocalServer:
    """Answer local requests and wake the followers.

    Args:
        path: Where the socket is made; removed at the end.
        operations: Name -> coroutine that takes the arguments and returns something JSON can hold.
    """

    def __init__(self, path: Path, operations: dict[str, Operation]) -> None:
        self._path, self._operations = path, operations
        self._followers: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.StreamWriter] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, started: asyncio.Event | None = None) -> None:
        """Serve until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, self._path, limit=LINE_LIMIT)
        self._path.chmod(0o600)
        if started is not None:
            started.set()
        try:
            await server.serve_forever()
        finally:
            # a server does not close what it accepted: without this a client would wait for its time-out
            server.close()
            for writer in list(self._connections):
                writer.close()
            self._path.unlink(missing_ok=True)

    def wake(self, facts: dict[str, Any]) -> None:
        """Tell every follower; may be called from any thread, never blocks."""
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake, facts)

    def _wake(self, facts: dict[str, Any]) -> None:
        line = json.dumps({"wake": facts}).encode() + b"\n"
        for writer in list(self._followers):
            if writer.transport.get_write_buffer_size() > FOLLOWER_LIMIT:
                # a follower that does not read is dropped; it reconnects and takes a snapshot
                self._followers.discard(writer)
                writer.close()
            else:
                writer.write(line)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pending: set[asyncio.Task[None]] = set()
        self._connections.add(writer)
        try:
            while line := await reader.readline():
                request = json.loads(line)
                if request["op"] == "wake.follow":
                    self._followers.add(writer)
                    writer.write(json.dumps({"id": request["id"], "ok": True}).encode() + b"\n")
                    continue
                task = asyncio.create_task(self._answer(request, writer), name=f"local-{request['op']}")
                pending.add(task)
                task.add_done_callback(pending.discard)
        except (ConnectionError, json.JSONDecodeError, KeyError, ValueError):
            pass
        finally:
            self._followers.discard(writer)
            self._connections.discard(writer)
            for task in pending:
                task.cancel()
            writer.close()

    async def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        answer: dict[str, Any] = {"id": request["id"]}
        operation = self._operations.get(request["op"])
        try:
            if operation is None:
                raise StateError("local.unknown", request["op"])
            answer["ok"] = await operation(request.get("args", {}))
        except StateError as exc:
            answer["error"] = {"code": exc.code, "detail": exc.detail}
        except WatchroomError as exc:
            answer["error"] = {"code": "engine.error", "detail": str(exc)}
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(answer, allow_nan=False).encode() + b"\n")
            await writer.drain()


class LocalClient:
    """Ask the engine; one connection, many requests at once.

    Args:
        path: The engine's socket.
        on_wake: Called for every push, in the event loop; None to receive no pushes.
        on_lost: Called when the connection is gone.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_wake: Callable[[dict[str, Any]], None] | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self._path, self._on_wake, self._on_lost = path, on_wake, on_lost
        self._writer: asyncio.StreamWriter | None = None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._next = 0

    @property
    def is_connected(self) -> bool:
        """Whether the engine is there at the moment."""
        return self._writer is not None

    async def run(self, *, retry_s: float = 0.2) -> None:
        """Keep the connection alive until cancelled."""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=LINE_LIMIT)
            except OSError:
                await asyncio.sleep(retry_s)
                continue
            self._writer = writer
            try:
                if self._on_wake is not None:
                    self._send("wake.follow", {})
                    self._on_wake({"connected": True})
                while line := await reader.readline():
                    self._take(json.loads(line))
            except ConnectionError:
                pass
            finally:
                self._writer = None
                writer.close()
                for future in self._answers.values():
                    if not future.done():
                        future.set_exception(LinkError("the engine went away"))
                self._answers.clear()
                if self._on_lost is not None:
                    self._on_lost()
            await asyncio.sleep(retry_s)

    async def ask(self, op: str, timeout_s: float = 10.0, **args: Any) -> Any:
        """Return the engine's answer.

        Raises:
            LinkError: If the engine is not there or does not answer in time.
            StateError: If the engine refuses.
        """
        if self._writer is None:
            raise LinkError("the engine is not running")
        try:
            # not wait_for: until Python 3.12 it may swallow a cancellation that meets the lost connection
            async with asyncio.timeout(timeout_s):
                return await self._send(op, args)
        except TimeoutError as exc:
            raise LinkError(f"the engine did not answer {op} within {timeout_s:g} s") from exc

    def _send(self, op: str, args: dict[str, Any]) -> asyncio.Future[Any]:
        if self._writer is None:
            raise LinkError("the engine is not running")
        self._next += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        # a follow request has nobody waiting: its failure must not warn
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._answers[self._next] = future
        self._writer.write(json.dumps({"id": self._next, "op": op, "args": args}).encode() + b"\n")
        return future

    def _take(self, message: dict[str, Any]) -> None:
        if "wake" in message:
            if self._on_wake is not None:
                self._on_wake(message["wake"])
            return
        future = self._answers.pop(message["id"], None)
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(StateError(message["error"]["code"], message["error"]["detail"]))
        else:
            future.set_result(message["ok"])

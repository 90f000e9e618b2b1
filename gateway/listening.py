"""A TCP port for devices that connect to us."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

RETRY_S = 5.0
Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


async def listening(connected: Connected, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> asyncio.Server:
    """Return a server once the port is free; one warning while it is taken."""
    is_told = False
    while True:
        try:
            return await asyncio.start_server(connected, host, port, ssl=tls)
        except OSError as exc:
            if not is_told:
                log.warning("cannot listen for devices", host=host, port=port, reason=exc.strerror)
            is_told = True
            await asyncio.sleep(RETRY_S)

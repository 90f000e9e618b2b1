"""The WebSocket protocol of the server, with a way to cut a connection whose other side does not read."""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class CuttingProtocol(WebSocketsSansIOProtocol):
    """Hands the application ``scope["state"]["abort"]``: an orderly close would wait for the reader."""

    async def run_asgi(self) -> None:
        """Serve one connection."""
        self.scope["state"]["abort"] = self.transport.abort
        await super().run_asgi()

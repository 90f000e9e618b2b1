"""Centre: HTTP, WebSocket and the page."""

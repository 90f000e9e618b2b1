"""How the pages get into an installation: built when needed, left out when asked, refused in words."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import hatch_build
from hatch_build import NODE_REQUIREMENT, WebBuildHook, fingerprint
from tests.node import ROOT, node_or_skip

PACKAGES = ("watchroom", "gateway", "ingest", "alarms", "dashboard", "simulators", "sites")
NOBODY = "http://127.0.0.1:9"


def hook(root: Path) -> WebBuildHook:
    """The hook as hatchling makes it for a project folder."""
    nothing: Any = None
    return WebBuildHook(str(root), {}, nothing, nothing, str(root / "dist"), "wheel")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project with web sources and pages that were built from them."""
    for name in ("WATCHROOM_SKIP_WEB", "WATCHROOM_NODE"):
        monkeypatch.delenv(name, raising=False)
    web, static = tmp_path / "dashboard/web", tmp_path / "dashboard/static"
    (web / "src").mkdir(parents=True)
    (web / "src/main.ts").write_text("console.log(1)\n")
    (web / "package.json").write_text("{}")
    static.mkdir()
    (static / "index.html").write_text("built")
    (static / ".stamp").write_text(fingerprint(web) + "\n")
    return tmp_path


def test_current_pages_are_not_built_again(project: Path) -> None:
    """Nothing is fetched while the sources are those the pages were built from."""
    assert hook(project).is_current()
    assert hook(project).dependencies() == []
    hook(project).initialize("standard", {})
    assert (project / "dashboard/static/index.html").read_text() == "built"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("src/main.ts", "console.log(2)\n"),
        ("src/new.ts", ""),
        ("package-lock.json", "{}"),
        ("vite.config.ts", "export default {}"),
        ("public/favicon.svg", "<svg/>"),
    ],
)
def test_any_change_of_the_sources_asks_for_a_build(project: Path, file: str, text: str) -> None:
    """A changed, new or renamed source makes the pages stale, and node is asked for."""
    path = project / "dashboard/web" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert not hook(project).is_current()
    assert hook(project).dependencies() == [NODE_REQUIREMENT]


def test_a_renamed_source_asks_for_a_build(project: Path) -> None:
    """The names of the files count, not only their contents."""
    source = project / "dashboard/web/src/main.ts"
    source.rename(source.with_name("start.ts"))
    assert not hook(project).is_current()


@pytest.mark.parametrize("file", ["node_modules/vue/index.js", "tests/a.test.ts"])
def test_what_is_not_part_of_the_pages_does_not_count(project: Path, file: str) -> None:
    """Installed packages and tests of the page do not make it stale."""
    path = project / "dashboard/web" / file
    path.parent.mkdir(parents=True)
    path.write_text("x")
    assert hook(project).is_current()


def test_every_source_of_the_pages_counts() -> None:
    """Whatever the web folder holds is either watched by the stamp or known not to be part of the pages."""
    known = {*hatch_build.SOURCES, "node_modules", "tests"}
    assert {path.name for path in (ROOT / "dashboard/web").iterdir()} <= known


def test_an_own_node_is_taken_at_its_word(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With WATCHROOM_NODE the package from PyPI is not asked for."""
    (project / "dashboard/static/.stamp").unlink()
    assert hook(project).dependencies() == [NODE_REQUIREMENT]
    monkeypatch.setenv("WATCHROOM_NODE", "/opt/node/bin/node")
    assert hook(project).dependencies() == []
    assert hatch_build.find_node() == (
        Path("/opt/node/bin/node"),
        Path("/opt/node/lib/node_modules/npm/bin/npm-cli.js"),
    )


def test_pages_without_sources_are_taken_as_they_are(project: Path) -> None:
    """A source distribution may carry built pages only."""
    shutil.rmtree(project / "dashboard/web")
    assert hook(project).is_current()
    shutil.rmtree(project / "dashboard/static")
    assert not hook(project).is_current()


def test_a_failed_build_keeps_the_old_pages(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that ends half way leaves what is served untouched, and says which step failed."""
    node = project / "node/bin/node"
    node.parent.mkdir(parents=True)
    node.write_text(
        "#!/bin/sh\ncat <<'END'\nnpm error code EWHATEVER\nnpm error     at Module.load (loader.js:1)\n"
        "npm error   syscall: 'connect',\nnpm error }\n   1 | let a = 0\nEND\nexit 7\n"
    )
    node.chmod(0o755)
    monkeypatch.setenv("WATCHROOM_NODE", str(node))
    (project / "dashboard/web/src/main.ts").write_text("changed")
    with pytest.raises(SystemExit) as failure:
        hook(project).initialize("standard", {})
    told = [line for line in str(failure.value).splitlines() if line.startswith("  | ")]
    assert "could not install the web packages (exit 7)" in str(failure.value)
    assert told == ["  | npm error code EWHATEVER", "  |    1 | let a = 0"]
    assert (project / "dashboard/static/index.html").read_text() == "built"
    assert not list((project / "dashboard").glob("static.*.tmp"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a fresh clone has it: no built pages, no installed web packages."""
    folder = tmp_path_factory.mktemp("clone")
    ignored = shutil.ignore_patterns("node_modules", "static", "static.*.tmp", "__pycache__", "*.egg-info")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def build(tree: Path, output: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Build a wheel as pip does, without isolation."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("WATCHROOM_")}
    return subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(output)],
        cwd=tree,
        env={**ours, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )


def test_services_can_be_installed_without_pages(tree: Path, tmp_path: Path) -> None:
    """WATCHROOM_SKIP_WEB=1 touches no npm registry, warns, and makes a wheel with everything but the pages."""
    done = build(tree, tmp_path, WATCHROOM_SKIP_WEB="1", npm_config_registry=NOBODY)
    assert done.returncode == 0, done.stdout
    assert "the dashboard pages are not built (API only)" in done.stdout
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} >= set(PACKAGES)
    assert not [name for name in names if name.startswith(("dashboard/static/", "dashboard/web/src/"))]
    assert "gateway/models/booster_plc.yaml" in names


@pytest.mark.slow
def test_an_unreachable_registry_is_explained(tree: Path, tmp_path: Path) -> None:
    """Behind a firewall the installation fails soon, names the registry and tells the three ways out."""
    node = node_or_skip()
    done = build(
        tree,
        tmp_path,
        WATCHROOM_NODE=str(node.node),
        npm_config_registry=NOBODY,
        npm_config_cache=str(tmp_path / "empty-cache"),
        npm_config_fetch_retries="0",
    )
    assert done.returncode != 0
    for words in (
        "Watchroom could not install the web packages",
        NOBODY,
        "npm_config_registry=URL-OF-YOUR-MIRROR pip install .",
        "WATCHROOM_SKIP_WEB=1 pip install .",
    ):
        assert words in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
    assert not (tree / "dashboard/static").exists()
    assert not list(tmp_path.glob("*.whl"))

"""The page's own checks, run by the tools it is written with: vitest and the type checker."""

from __future__ import annotations

import pytest

from tests.node import ROOT, Node, node_or_skip

WEB = ROOT / "dashboard" / "web"


@pytest.fixture(scope="module")
def node() -> Node:
    """Node.js with every package of the page installed, those for development too."""
    found = node_or_skip()
    found.install(WEB)
    return found


@pytest.mark.slow
def test_the_unit_tests_of_the_page_pass(node: Node) -> None:
    """Every vitest test passes, and none is skipped unnoticed because the pages are not built."""
    done = node.run(WEB / "node_modules/vitest/vitest.mjs", "run", "--reporter=dot", cwd=WEB)
    assert done.returncode == 0, done.stdout
    if (ROOT / "dashboard/static/index.html").exists():
        assert "skipped" not in done.stdout, done.stdout


@pytest.mark.slow
def test_the_types_of_the_page_hold(node: Node) -> None:
    """Vue and TypeScript in strict mode find no mistake."""
    done = node.run(WEB / "node_modules/vue-tsc/bin/vue-tsc.js", "--noEmit", cwd=WEB)
    assert done.returncode == 0, done.stdout

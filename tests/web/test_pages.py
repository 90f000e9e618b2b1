"""The built pages, as they are served: small, complete, and talking to nobody but their own server."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "dashboard" / "static"
WEB = ROOT / "dashboard" / "web"
ENTRY_SCRIPT_KB, ENTRY_STYLE_KB, ROUTE_KB = 90, 10, 160
NAMES_NOT_ADDRESSES = {
    "http://www.w3.org",  # XML namespaces of SVG and MathML
    "https://vuejs.org",  # text of Vue's own errors
}
_ORIGIN = re.compile(r"""(?:https?:|(?<=["'(`]))//[a-zA-Z0-9.-]+\.[a-z]{2,}""")
_STATIC_IMPORT = re.compile(r'(?:import|from)\s*"\./([^"]+\.js)"')

pytestmark = pytest.mark.skipif(
    not (STATIC / "index.html").exists(), reason="the pages are not built (pip install -e '.[server]' builds them)"
)


def _asset(name: str) -> Path:
    return STATIC / "assets" / name


def _closure(*names: str) -> set[str]:
    """Return scripts and everything they import at once, not what they load later."""
    found: set[str] = set()
    waiting = [*names]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _STATIC_IMPORT.findall(_asset(name).read_text(encoding="utf-8"))
    return found


def _kilobytes(names: set[str]) -> float:
    return sum(len(gzip.compress(_asset(name).read_bytes(), 9)) for name in names) / 1000


@pytest.fixture(scope="module")
def entry() -> set[str]:
    """What the browser fetches before it can draw anything: scripts and styles that index.html names."""
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    named = set(re.findall(r'(?:src|href)="/assets/([^"]+\.(?:js|css))"', html))
    assert any(name.endswith(".js") for name in named), "index.html loads no script"
    scripts = _closure(*(name for name in named if name.endswith(".js")))
    return scripts | {name for name in named if name.endswith(".css")}


def _routes() -> dict[str, set[str]]:
    """Return for each page the files that vite loads for it, beside those of the entry."""
    pages = sorted(path.name for path in (STATIC / "assets").glob("*Page-*.js"))
    lists = [path.read_text(encoding="utf-8") for path in (STATIC / "assets").glob("index-*.js")]
    (script,) = [text for text in lists if "__vite__mapDeps" in text]
    match = re.search(r"m\.f=(\[[^\]]*\])", script)
    assert match, "the list of files that vite loads with a page has another form now"
    files = [name.removeprefix("assets/") for name in json.loads(match[1])]
    routes = {}
    for page in pages:
        deps = re.search(rf"import\(`\./{re.escape(page)}`\),__vite__mapDeps\(\[([\d,]*)\]\)", script)
        with_it = {files[int(number)] for number in deps[1].split(",") if number} if deps else set()
        routes[page] = with_it | _closure(page)
    return routes


def test_the_first_screen_is_small(entry: set[str]) -> None:
    """Before anything is drawn: at most 90 kB of scripts and 10 kB of styles, compressed."""
    styles = {name for name in entry if name.endswith(".css")}
    assert 20 < _kilobytes(entry - styles) <= ENTRY_SCRIPT_KB
    assert 1 < _kilobytes(styles) <= ENTRY_STYLE_KB


def test_every_page_is_small(entry: set[str]) -> None:
    """No page needs more than 160 kB of scripts and styles, the entry included."""
    routes = _routes()
    sizes = {page: _kilobytes(entry | files) for page, files in routes.items()}
    assert len(sizes) >= 6
    assert all(size <= ROUTE_KB for size in sizes.values()), sizes


def test_every_file_that_is_named_exists(entry: set[str]) -> None:
    """A page never asks for a file that was not built."""
    wanted = set(entry).union(*_routes().values())
    for path in (STATIC / "assets").glob("*.css"):
        wanted |= set(re.findall(r"url\(/?(?:assets/|\./)?([^):]+)\)", path.read_text(encoding="utf-8")))
    missing = {name for name in wanted if not _asset(name).exists() and not name.startswith("data")}
    assert missing == set()


def test_no_third_party_is_asked() -> None:
    """No font, script, map or counter comes from another server: a control room may have no internet."""
    found: dict[str, set[str]] = {}
    for path in STATIC.rglob("*"):
        if path.suffix in {".html", ".js", ".css", ".svg"}:
            for origin in _ORIGIN.findall(path.read_text(encoding="utf-8")):
                found.setdefault(origin, set()).add(path.name)
    assert set(found) <= NAMES_NOT_ADDRESSES, found


def test_licences_of_all_that_is_shipped_are_there() -> None:
    """Each package in the pages has its name, version and licence text in THIRD_PARTY_LICENSES.txt."""
    text = (STATIC / "THIRD_PARTY_LICENSES.txt").read_text(encoding="utf-8")
    declared = json.loads((WEB / "package.json").read_text(encoding="utf-8"))["dependencies"]
    tools = {"vite", "@vitejs/plugin-vue"}
    for name in set(declared) - tools:
        assert re.search(rf"^{re.escape(name)} \d+\.\d+", text, re.MULTILINE), f"{name} is missing"
    notices = re.split(r"\n-{80}\n", text)
    assert len(notices) == len(set(declared) - tools)
    assert all(len(notice) > 500 for notice in notices), "a notice without its text"


def test_both_languages_are_complete() -> None:
    """Every text of the page exists in Chinese and in English."""

    def keys(language: str) -> set[str]:
        tree = json.loads((WEB / "src/i18n" / f"{language}.json").read_text(encoding="utf-8"))
        return set(_flat(tree))

    assert len(keys("zh")) > 100
    assert keys("zh") == keys("en")


def _flat(tree: dict[str, object], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(value)
    return flat

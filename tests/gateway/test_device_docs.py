"""The examples of the page about readers and panels are files that a gateway takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.config import load_gateway, signals_of
from gateway.model import ModelLibrary
from gateway.ready import ready_names

PAGE = Path(__file__).parents[2] / "docs" / "readers-and-panels.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_taken_as_it_stands(tmp_path: Path, example: str) -> None:
    """What an integrator copies from the page passes the check and gives devices."""
    path = tmp_path / "example.yaml"
    path.write_text(example, encoding="utf-8")
    config = load_gateway(path, models=ModelLibrary())
    assert config.readers or config.sources
    assert len({spec.key for spec in signals_of(config)}) == len(signals_of(config))


def test_the_page_shows_every_way_in() -> None:
    """HTTP, own MQTT port, broker, both dial directions and paper are all there."""
    assert len(EXAMPLES) == 5
    page = "".join(EXAMPLES)
    for words in (
        "protocol: isapi",
        "protocol: zkteco",
        "speaks: mqtt",
        "speaks: gbt26875",
        "speaks: text",
        "tcp: ",
        "listen: ",
    ):
        assert words in page
    named = set(re.findall(r"like: (\w+)", page))
    assert named <= set(ready_names())

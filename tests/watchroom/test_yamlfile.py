"""Site files: an error names file, line, key and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchroom.durations import Seconds, seconds
from watchroom.errors import ConfigError
from watchroom.yamlfile import Strict, Text, load_yaml, parse_yaml


class Pump(Strict):
    """A small model for the tests."""

    name: Text
    delay: Seconds = 1.0
    limits: dict[str, float] = {}


FILE = Path("equipment.yaml")


def problem(text: str) -> ConfigError:
    """Return the error of parsing pumps."""
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, FILE).parse(dict[str, Pump])
    return caught.value


def test_misspelt_key_names_line_and_nearest_key() -> None:
    """An integrator who writes `dealy` is told the line and `delay`."""
    error = problem("P-1:\n  name: {zh: 泵, en: pump}\n  dealy: 5s\n")
    assert str(error) == "equipment.yaml:3: P-1.dealy: unknown key (did you mean 'delay'?)"


def test_missing_key_is_named_at_its_parent() -> None:
    """A key that is not there is named; the line is that of the thing that lacks it."""
    error = problem("P-1:\n  delay: 5s\nP-2:\n  name: {zh: 泵, en: pump}\n")
    assert (error.line, error.key, error.problem) == (1, "P-1.name", "this key is missing")


def test_wrong_value_shows_what_was_found() -> None:
    """A wrong value is shown with its line."""
    error = problem("P-1:\n  name: {zh: 泵, en: pump}\n  limits:\n    H: 3\n    L: low\n")
    assert (error.line, error.key) == (5, "P-1.limits.L")
    assert "'low'" in str(error)


def test_duration_in_words_of_the_field() -> None:
    """A wrong duration shows examples of right ones."""
    error = problem("P-1:\n  name: {zh: 泵, en: pump}\n  delay: 5 parsec\n")
    assert "500ms, 10s, 5m or 2h" in str(error)
    assert error.line == 3


def test_key_twice_is_an_error() -> None:
    """YAML would silently keep the last one; a rule that vanishes must not happen."""
    error = problem("P-1:\n  delay: 1s\nP-1:\n  delay: 2s\n")
    assert error.line == 3
    assert "twice" in error.problem


def test_broken_yaml_has_a_line() -> None:
    """A stray bracket is told with its line."""
    error = problem("P-1:\n  name: [zh\n")
    assert "not valid YAML" in str(error)
    assert error.line >= 2


def test_on_and_off_stay_words() -> None:
    """`on`, `off`, `yes` and `no` are texts of equipment, not booleans; dates stay texts too."""
    data = parse_yaml("a: on\nb: no\nc: true\nd: 2025-01-02\n", FILE).data
    assert data == {"a": "on", "b": "no", "c": True, "d": "2025-01-02"}


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    """A file that is not there or not UTF-8 is a clear error."""
    with pytest.raises(ConfigError, match="does not exist"):
        load_yaml(tmp_path / "no.yaml")
    (tmp_path / "gbk.yaml").write_bytes("名: 泵".encode("gbk"))
    with pytest.raises(ConfigError, match="cannot read"):
        load_yaml(tmp_path / "gbk.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500ms", 0.5), ("10s", 10), ("1.5m", 90), ("2h", 7200), ("3d", 259_200), ("2min", 120), (7, 7), (0.25, 0.25)],
)
def test_durations(text: object, expected: float) -> None:
    """Every unit of the files is understood."""
    assert seconds(text) == expected


@pytest.mark.parametrize("text", [True, "ten", "-5s", "5", ""])
def test_what_is_no_duration(text: object) -> None:
    """A bare text number has no unit and is refused."""
    with pytest.raises(ValueError, match="expected a duration"):
        seconds(text)

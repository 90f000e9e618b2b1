"""Logs: one shape for our own lines and for those of libraries."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from watchroom.logs import configure_logs


@pytest.fixture(autouse=True)
def restore_logs() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_is_json_where_no_person_watches(capsys: pytest.CaptureFixture[str]) -> None:
    """A collector gets one object a line: constant phrase, facts as fields, Chinese as it is."""
    configure_logs("info")
    structlog.get_logger("ingest").warning("broker lost", reason="连接被拒绝", attempt=3)
    line = json.loads(capsys.readouterr().out)
    assert {key: line[key] for key in ("event", "reason", "attempt", "level", "logger")} == {
        "event": "broker lost", "reason": "连接被拒绝", "attempt": 3, "level": "warning", "logger": "ingest",
    }  # fmt: skip
    assert line["timestamp"].endswith("Z")


def test_libraries_speak_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback from the standard library's loggers arrives in the same objects."""
    configure_logs("info", json=True)
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("somewhere").exception("it failed: %s", 7)
    line = json.loads(capsys.readouterr().out)
    assert (line["event"], line["level"], line["logger"]) == ("it failed: 7", "error", "somewhere")
    assert "ValueError: why" in line["exception"]


def test_less_severe_lines_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """The level counts for us and for libraries; noisy libraries are quieter still."""
    configure_logs("info", json=True)
    structlog.get_logger("x").debug("detail")
    logging.getLogger("x").debug("detail")
    logging.getLogger("amqtt").info("every packet")
    assert capsys.readouterr().out == ""
    configure_logs("debug", json=True)
    structlog.get_logger("x").debug("detail")
    assert "detail" in capsys.readouterr().out


def test_a_terminal_gets_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    """For people the line is readable, not JSON."""
    configure_logs("info", json=False)
    structlog.get_logger("x").info("ingest started", site="spruce-court")
    line = capsys.readouterr().out
    assert "ingest started" in line
    assert "site=spruce-court" in line
    assert not line.startswith("{")

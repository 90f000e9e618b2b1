"""Heartbeat strips, rights, origins, cursors, the start of the day: rules without input or output."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.accounts import Person, hash_password, is_password
from dashboard.heartbeats import CELL_MS, CELLS, GOOD, LATE, MISSING, Heartbeats
from dashboard.paging import decode_cursor, encode_cursor, page
from dashboard.problems import Problem, problem_of
from dashboard.rights import ALL, READ_ONLY, RIGHTS, is_same_origin, may
from dashboard.vitals import midnight_ms
from dashboard.wire import dumps, parcel
from watchroom.errors import ContractError, LinkError, RightsError, StateError, StoreError, WatchroomError
from watchroom.site import Role

NOW = 1_700_000_000_000 // CELL_MS * CELL_MS


def strip(*times: int, now: int) -> list[int]:
    """Return the strip of a gateway that was heard at these times after NOW."""
    beats = Heartbeats()
    for time in times:
        beats.heard(NOW + time)
    return beats.strip(NOW + now)


def test_regular_heartbeats_are_good() -> None:
    """A gateway heard each second has full cells, one that was never heard only empty ones."""
    regular = strip(*range(0, 30_000, 1000), now=30_000)
    assert regular[-3:] == [GOOD, GOOD, GOOD]
    assert regular[:-3] == [MISSING] * (CELLS - 3)
    assert strip(now=5) == [MISSING] * CELLS


def test_a_pause_makes_a_cell_late_and_silence_makes_it_missing() -> None:
    """Four seconds without a word is late, a whole cell without one is missing."""
    assert strip(*range(0, 5_000, 1000), *range(8_500, 15_000, 1000), now=15_000)[-2] == LATE
    assert strip(*range(0, 15_000, 1000), *range(30_000, 45_000, 1000), now=45_000)[-4:-1] == [GOOD, MISSING, GOOD]


def test_a_cell_that_has_just_begun_is_not_missing() -> None:
    """The newest cell does not flicker at its begin."""
    assert strip(*range(0, 15_000, 1000), now=15_500)[-1] == GOOD
    assert strip(*range(0, 15_000, 1000), now=20_000)[-1] == MISSING


@given(st.lists(st.integers(0, CELLS * CELL_MS * 2)), st.integers(0, CELLS * CELL_MS * 2))
def test_strip_has_forty_cells_of_three_kinds(times: list[int], now: int) -> None:
    """Whatever arrives in whatever order, the strip can be drawn, and memory stays bounded."""
    beats = Heartbeats()
    for time in sorted(times):
        beats.heard(NOW + time)
    cells = beats.strip(NOW + now)
    assert len(cells) == CELLS
    assert set(cells) <= {MISSING, LATE, GOOD}
    assert len(beats._last) <= CELLS + 2


def test_rights_name_every_role_of_the_site_files() -> None:
    """A role that people.yaml knows is known here, and read-only roles may only look."""
    assert frozenset(get_args(Role)) == ALL
    for right, roles in RIGHTS.items():
        assert roles <= ALL
        assert right == "view" or not roles & READ_ONLY, right
    assert [role for role in sorted(ALL) if may(role, "alarm.ack")] == ["admin", "guard", "leader"]


@pytest.mark.parametrize(
    ("headers", "is_ours"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://h:1", "host": "h:1"}, False),
        ({"origin": "http://h:1", "host": "h:1"}, True),
        ({"origin": "http://H:1", "host": "h:1"}, True),
        ({"origin": "http://h:2", "host": "h:1"}, False),
        ({"origin": "https://pub.example", "host": "inner:80"}, True),
        ({"origin": "null", "host": "h:1"}, False),
        ({"origin": "null"}, False),
        ({"host": "h:1"}, False),
        ({}, False),
    ],
)
def test_origin(headers: dict[str, str], is_ours: bool) -> None:
    """Only what a browser attributes to our own page counts."""
    assert is_same_origin(headers, public_url="https://pub.example") is is_ours


@given(st.lists(st.one_of(st.integers(-(2**63) + 1, 2**63 - 1), st.text())))
def test_cursor_gives_back_its_values(values: list[int | str]) -> None:
    """A cursor means the same row tomorrow."""
    assert decode_cursor(encode_cursor(*values), [type(value) for value in values]) == values


@given(st.text())
def test_foreign_cursor_is_refused(text: str) -> None:
    """A made-up cursor is a wrong request, never a failure."""
    with pytest.raises(Problem) as caught:
        decode_cursor(text, (int, str, int))
    assert (caught.value.status, caught.value.code) == (400, "request.cursor")


def test_page_ends_exactly() -> None:
    """A full last page has no next one."""
    assert page([1, 2], 2, str) == ([1, 2], None)
    assert page([1, 2, 3], 2, str) == ([1, 2], "2")
    assert page([], 2, str) == ([], None)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StateError("alarm.superseded"), 409, "alarm.superseded"),
        (StateError("ticket.unknown"), 404, "ticket.unknown"),
        (RightsError("no"), 403, "rights.role"),
        (LinkError("no engine"), 503, "engine.away"),
        (StoreError("locked"), 503, "store.away"),
        (ContractError("json"), 400, "request.contract"),
        (WatchroomError("?"), 500, "server.error"),
    ],
)
def test_each_error_has_its_status(error: WatchroomError, status: int, code: str) -> None:
    """What a program should do stands in the status, what to tell people in the code."""
    problem = problem_of(error)
    assert (problem.status, problem.code) == (status, code)


@pytest.mark.parametrize(
    ("now", "midnight"),
    [
        ("2026-11-22T03:00:00+08:00", "2026-11-22T00:00:00+08:00"),
        ("2026-11-21T23:59:59+08:00", "2026-11-21T00:00:00+08:00"),
    ],
)
def test_the_day_begins_at_midnight_of_the_site(now: str, midnight: str) -> None:
    """Passages of today are those since midnight in the compound, wherever the server stands."""
    now_ms, expected = (round(datetime.fromisoformat(text).timestamp() * 1000) for text in (now, midnight))
    assert midnight_ms(now_ms, ZoneInfo("Asia/Shanghai")) == expected


def test_password_is_salted_and_slow_to_guess() -> None:
    """Two people with one password have different hashes, and neither tells the password."""
    first, second = hash_password("long enough"), hash_password("long enough")
    assert first != second
    assert is_password("long enough", first)
    assert not is_password("long enough ", first)
    assert first.startswith("scrypt$16384$8$1$")


def test_json_refuses_nan() -> None:
    """A browser must never get text that its parser chokes on."""
    with pytest.raises(ValueError, match="Out of range"):
        dumps({"value": float("nan")})


def test_parcel_text_is_json_for_each_person() -> None:
    """Pieces encoded once fit together for everybody."""
    ticket: dict[str, Any] = {
        "id": "t", "type": "repair", "state": "NEW", "priority": 2, "assignee": None, "worker": None,
        "held_from": None, "closed_ms": None, "alarms": [],
    }  # fmt: skip
    content = parcel([{"id": "a"}], [ticket], [], seq=5, prev=3)
    for role, can in (("leader", True), ("kiosk", False)):
        person = Person(name=role, display=role, role=role, lang="zh")
        told = json.loads(content.text("change", person, server_ms=9, extra=',"more":1'))
        assert (told["seq"], told["prev"], told["alarms"], told["more"]) == (5, 3, [{"id": "a"}], 1)
        assert ("dispatch" in told["tickets"][0]["steps"]) is can
        assert "held_from" not in told["tickets"][0]


@pytest.mark.parametrize("text", ["[99999999999999999999999]", "[" * 3000, "[true]", "{"])
def test_cursor_not_made_by_us_is_refused(text: str) -> None:
    """A number no database column can hold, or nested lists without end, are the asker's mistake and not ours."""
    cursor = base64.urlsafe_b64encode(text.encode()).decode()
    with pytest.raises(Problem, match=r"request\.cursor"):
        decode_cursor(cursor, (int,))

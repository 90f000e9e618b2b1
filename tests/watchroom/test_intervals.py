"""Sets of received numbers, against Python's own sets."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchroom.errors import ContractError
from watchroom.intervals import IntervalSet

ranges = st.tuples(st.integers(1, 60), st.integers(0, 12)).map(lambda row: (row[0], row[0] + row[1]))


def plain(rows: list[tuple[int, int]]) -> set[int]:
    return {number for a, b in rows for number in range(a, b + 1)}


@given(rows=st.lists(ranges, max_size=30))
def test_it_holds_what_a_set_would_hold(rows: list[tuple[int, int]]) -> None:
    """In whatever order frames arrive, overlap and repeat, exactly those numbers count as received."""
    received, wanted = IntervalSet(), set[int]()
    for a, b in rows:
        is_new = not plain([(a, b)]) <= wanted
        assert received.add(a, b) is is_new
        wanted |= plain([(a, b)])
        assert {number for number in range(90) if number in received} == wanted
    assert len(received) == len(wanted)
    assert received.top == max(wanted, default=0)
    assert received.upto == next(number for number in range(99) if number + 1 not in wanted)


@given(rows=st.lists(ranges, max_size=30))
def test_its_ranges_are_sorted_and_never_touch(rows: list[tuple[int, int]]) -> None:
    """An acknowledgement is as short as it can be."""
    found = list(IntervalSet(rows))
    assert all(a <= b for a, b in found)
    assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(found))


@given(rows=st.lists(ranges, max_size=30))
def test_what_is_missing_fills_the_gaps_exactly(rows: list[tuple[int, int]]) -> None:
    """Asking for the missing ranges, and getting them, leaves nothing missing."""
    received = IntervalSet(rows)
    missing = received.missing()
    assert len(missing) == received.gap_count
    assert received.missing(2) == missing[:2]
    assert all(number not in received for number in plain([(a, b) for a, b in missing]))
    for a, b in missing:
        received.add(a, b)
    assert received.upto == received.top
    assert received.missing() == []


@given(rows=st.lists(ranges, max_size=30))
def test_an_acknowledgement_says_the_same_at_the_other_end(rows: list[tuple[int, int]]) -> None:
    """The gateway reads from the JSON exactly the set that ingest holds."""
    received = IntervalSet(rows)
    again = IntervalSet.from_json(received.to_json())
    assert again == received
    assert all(again.acknowledges(number) == (number in received) for number in range(80))


@given(rows=st.lists(ranges, max_size=30), limit=st.integers(0, 4))
def test_a_shortened_acknowledgement_never_claims_more(rows: list[tuple[int, int]], limit: int) -> None:
    """Leaving ranges out makes a gateway repeat frames, never lose one."""
    received = IntervalSet(rows)
    content = received.to_json(limit)
    assert len(content["have"]) <= limit
    short = IntervalSet.from_json(content)
    assert all(number in received for number in range(80) if number in short)
    assert short.upto == received.upto


@given(rows=st.lists(ranges, max_size=30), near=st.lists(ranges, max_size=3), limit=st.integers(0, 4))
def test_a_shortened_acknowledgement_tells_the_newest_first(
    rows: list[tuple[int, int]], near: list[tuple[int, int]], limit: int
) -> None:
    """However many gaps there are, a gateway hears of what it has just sent: its window never stays full."""
    received, asked = IntervalSet(rows), IntervalSet(near)
    content = received.to_json(limit, near=asked)
    short = IntervalSet.from_json(content)
    assert len(content["have"]) <= limit
    assert content["have"] == sorted(content["have"])
    assert all(number in received for number in range(80) if number in short)
    told = [row for row in received.have if row in content["have"]]
    close = [row for row in received.have if any(number in asked for number in range(row[0], row[1] + 1))]
    assert len(told) == min(limit, len(received.have))
    assert all(row in told for row in close[:limit])


def test_the_example_of_the_contract() -> None:
    """The acknowledgement in the contract's own example."""
    received = IntervalSet([(1, 41), (44, 60), (63, 63)])
    assert received.to_json() == {"upto": 41, "have": [[44, 60], [63, 63]]}
    assert received.missing() == [[42, 43], [61, 62]]
    assert received.have == [[44, 60], [63, 63]]


def test_without_the_first_number_nothing_is_complete() -> None:
    """`upto` counts from 1: a later range alone does not move it."""
    received = IntervalSet([(2, 9)])
    assert (received.upto, received.have, received.missing()) == (0, [[2, 9]], [[1, 1]])


@pytest.mark.parametrize(("a", "b"), [(0, 0), (-3, 5), (5, 4)])
def test_numbers_that_cannot_be_are_refused(a: int, b: int) -> None:
    """Sequence numbers start at 1 and ranges do not run backwards."""
    with pytest.raises(ValueError, match="no range"):
        IntervalSet().add(a, b)


@pytest.mark.parametrize(
    "content",
    [
        None, 7, [], {}, {"upto": 3}, {"upto": "3", "have": []}, {"upto": True, "have": []}, {"upto": -1, "have": []},
        {"upto": 1, "have": [[3]]}, {"upto": 1, "have": [[5, 4]]}, {"upto": 1, "have": [["3", "4"]]},
        {"upto": 1, "have": 7}, {"upto": 1.5, "have": []}, {"upto": 1, "have": [[0, 4]]},
    ],
)  # fmt: skip
def test_an_acknowledgement_that_is_none_is_refused(content: object) -> None:
    """Rubbish on the ack topic is a broken contract, not a crash."""
    with pytest.raises(ContractError, match="json"):
        IntervalSet.from_json(content)


def test_two_sets_are_equal_when_they_hold_the_same() -> None:
    """How a set was filled does not show."""
    assert IntervalSet([(1, 2), (3, 4)]) == IntervalSet([(1, 4)])
    assert IntervalSet([(1, 2)]) != IntervalSet([(1, 3)])
    assert IntervalSet() != "nothing"
    assert repr(IntervalSet([(1, 2)])) == "IntervalSet([[1, 2]])"

"""Hash chains: whatever is changed in the past, shows."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from alarms.chain import GENESIS, first_break, link

EVENT = st.dictionaries(
    st.text(max_size=5), st.none() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)
)
Chain = list[tuple[int, dict[str, Any], str]]


def chained(events: list[dict[str, Any]]) -> Chain:
    previous, result = GENESIS, []
    for seq, event in enumerate(events, 1):
        previous = link(previous, event)
        result.append((seq, event, previous))
    return result


def head(chain: Chain) -> str:
    return chain[-1][2] if chain else GENESIS


@given(st.lists(EVENT))
def test_an_untouched_history_is_whole(events: list[dict[str, Any]]) -> None:
    """A history that nobody touched passes."""
    chain = chained(events)
    assert first_break(chain, head=head(chain)) is None


@given(st.lists(EVENT, min_size=1), st.data())
def test_a_changed_event_is_found_where_it_is(events: list[dict[str, Any]], data: st.DataObject) -> None:
    """Somebody edits one event: the check names that event."""
    chain = chained(events)
    at = data.draw(st.integers(0, len(events) - 1))
    seq, event, stored = chain[at]
    forged = [*chain[:at], (seq, {**event, "who": "somebody else"}, stored), *chain[at + 1 :]]
    assert first_break(forged, head=head(chain)) == seq


@given(st.lists(EVENT, min_size=2), st.data())
def test_a_removed_event_is_found(events: list[dict[str, Any]], data: st.DataObject) -> None:
    """Somebody deletes an event, in the middle or at the end: the check tells where the history breaks."""
    chain = chained(events)
    at = data.draw(st.integers(0, len(events) - 1))
    forged = chain[:at] + chain[at + 1 :]
    is_last = at == len(events) - 1
    assert first_break(forged, head=head(chain)) == (-1 if is_last else chain[at + 1][0])


@given(EVENT, st.randoms())
def test_the_order_of_keys_does_not_matter(event: dict[str, Any], random: Any) -> None:
    """The same event has the same hash whichever server gives its columns in whichever order."""
    keys = list(event)
    random.shuffle(keys)
    assert link("before", {key: event[key] for key in keys}) == link("before", event)

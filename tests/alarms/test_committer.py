"""The engine's transactions: repeated safely, fenced off, tickets told of their alarms."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from alarms.committer import Committer
from alarms.judged import Judged, Transition
from alarms.retention import Keep
from alarms.tickets import step_ticket
from tests.alarms.handmade import SITE, change, plant, rule, rules, swipe
from watchroom.database.connect import migrate, open_database, reading, writing
from watchroom.database.tables import access_event, alarm, alarm_event, position, ticket, ticket_event
from watchroom.database.tables import change as change_table
from watchroom.errors import StateError

ROW = rule()
NOW = 1_763_800_000_000


class Clock:
    """A wall clock that the test moves."""

    def __init__(self) -> None:
        self.now_ms = NOW

    def __call__(self) -> int:
        return self.now_ms


def committer_of(database: Engine, clock: Clock | None = None) -> Committer:
    committer = Committer(plant(), database, channels={}, now_ms=clock or Clock())
    committer.claim()
    return committer


def kinds(database: Engine) -> list[tuple[str, bool]]:
    with reading(database) as connection:
        rows = connection.execute(select(alarm_event).order_by(alarm_event.c.seq)).mappings()
        return [(row["kind"], row["is_accepted"]) for row in rows]


def test_a_commit_whose_answer_was_lost_may_be_repeated(database: Engine) -> None:
    """The connection broke after the commit: tried again, with what was judged meanwhile, nothing is done twice."""
    committer = committer_of(database)
    first: list[Transition] = [
        change(ROW, event_ms=1000, offset=0),
        change(ROW, "ESCALATE", 1500, level="LL", offset=1),
        change(ROW, "CLEAR", 2000, offset=1),
        change(ROW, event_ms=3000, offset=2),
    ]
    committer.commit(Judged(transitions=list(first), events=[swipe("e1", offset=2)]), end=3)
    more = [*first, change(ROW, "CLEAR", 4000, offset=3)]
    committer.commit(Judged(transitions=more, events=[swipe("e1", offset=2), swipe("e2", offset=3)]), end=4)
    assert kinds(database) == [(kind, True) for kind in ("RAISE", "ESCALATE", "CLEAR", "SUPERSEDE", "RAISE", "CLEAR")]
    with reading(database) as connection:
        assert len(connection.execute(select(access_event)).all()) == 2
        assert len(connection.execute(select(ticket)).all()) == 1
        assert connection.execute(select(position.c.committed)).scalar_one() == 4


def test_an_older_engine_writes_nothing_any_more(database: Engine) -> None:
    """Fenced off, every kind of write is refused and nothing is left of it."""
    old = committer_of(database)
    old.commit(Judged(transitions=[change(ROW)]), end=1)
    young = committer_of(database)
    assert young.generation == old.generation + 1
    with pytest.raises(StateError, match=r"engine\.fenced"):
        old.commit(Judged(transitions=[change(ROW, "CLEAR", 2000, offset=1)]), end=2)
    with pytest.raises(StateError, match=r"engine\.fenced"):
        old.rewind(0)
    with pytest.raises(StateError, match=r"engine\.fenced"):
        old.trim(Keep())
    assert kinds(database) == [("RAISE", True)]


def test_a_ticket_is_told_of_its_alarms_end(database: Engine) -> None:
    """The alarm goes away while somebody works on its ticket: the ticket's page hears of it as well."""
    committer = committer_of(database)
    committer.commit(Judged(transitions=[change(ROW)]), end=1)
    before = committer.commit(Judged(), end=1)
    committer.commit(Judged(transitions=[change(ROW, "CLEAR", 2000, offset=1)]), end=2)
    with reading(database) as connection:
        query = select(change_table.c.kind).where(change_table.c.site == SITE, change_table.c.seq > before)
        assert sorted(connection.execute(query).scalars()) == ["alarm", "ticket"]


def test_time_passes_for_tickets(database: Engine) -> None:
    """Nobody accepts in time: the engine notes the breach by itself, once, and tells the screens."""
    clock = Clock()
    committer = committer_of(database, clock)
    committer.commit(Judged(transitions=[change(ROW)]), end=1)
    assert committer.pass_time() == 0
    clock.now_ms += 300_000
    assert committer.pass_time() > 0
    assert committer.pass_time() == 0
    with reading(database) as connection:
        steps = connection.execute(select(ticket_event.c.step).order_by(ticket_event.c.seq)).scalars().all()
    assert steps == ["open", "breach"]


def test_settling_finds_nothing_to_do_after_an_ordinary_replay(database: Engine) -> None:
    """A restart under the same rules changes no alarm, whatever state people have brought it into."""
    committer = committer_of(database)
    moves = [change(ROW), change(rule(equipment="DR-S1")), change(rule(equipment="DR-S1"), "CLEAR", 2000, offset=1)]
    committer.commit(Judged(transitions=list(moves)), end=2)
    last = {item.row.key: item for item in moves}
    assert committer.settle(rules([ROW, rule(equipment="DR-S1")]), last) == 0
    assert len(kinds(database)) == 3


def test_pages_and_engine_write_to_one_file(tmp_path: Path) -> None:
    """Another process takes a ticket's step between two commits of the engine: both are kept, in order."""
    url = f"sqlite:///{tmp_path / 'watchroom.sqlite'}"
    engine_side, page_side = open_database(url), open_database(url)
    migrate(engine_side)
    committer = committer_of(engine_side)
    committer.commit(Judged(transitions=[change(ROW)]), end=1)
    with writing(page_side) as connection:
        step_ticket(connection, "WX-1001", "dispatch", user="li", role="guard", now_ms=NOW)
    seq = committer.commit(Judged(transitions=[change(ROW, "CLEAR", 2000, offset=1)]), end=2)
    with reading(page_side) as connection:
        assert connection.execute(select(position.c.feed_seq)).scalar_one() == seq == 5
        assert connection.execute(select(ticket.c.state)).scalar_one() == "DISPATCHED"
        assert connection.execute(select(alarm.c.state)).scalar_one() == "RTNUN"
    engine_side.dispose()
    page_side.dispose()

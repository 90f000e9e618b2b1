"""A writer's turn: numbers without holes, one writer at a time, one news a change."""

from __future__ import annotations

import threading

from sqlalchemy import Engine, select

from alarms.feed import KEPT_CHANGES, Turn, trim_changes
from tests.alarms.handmade import SITE
from watchroom.database.connect import reading, writing
from watchroom.database.tables import change, position


def turn(database: Engine, *refs: str, site: str = SITE, fail: bool = False) -> int:
    with writing(database) as connection:
        mine = Turn(connection, site, now_ms=1)
        for ref in refs:
            mine.changed("alarm", ref)
        seq = mine.finish()
        if fail:
            raise RuntimeError
        return seq


def feed(database: Engine, site: str = SITE) -> list[tuple[int, str]]:
    with reading(database) as connection:
        query = select(change.c.seq, change.c.ref).where(change.c.site == site).order_by(change.c.seq)
        return [(row.seq, row.ref) for row in connection.execute(query)]


def test_numbers_follow_each_other(database: Engine) -> None:
    """Three changes have the numbers 1, 2, 3: a screen that has seen 2 knows exactly what it misses."""
    assert turn(database, "a", "b") == 2
    assert turn(database, "c") == 3
    assert feed(database) == [(1, "a"), (2, "b"), (3, "c")]


def test_an_object_changed_twice_in_a_turn_is_told_once(database: Engine) -> None:
    """The screens get the final state, in the place of its last change."""
    turn(database, "a", "b", "a")
    assert feed(database) == [(1, "b"), (2, "a")]


def test_a_failed_turn_leaves_no_hole(database: Engine) -> None:
    """What was rolled back has used no number up."""
    try:
        turn(database, "lost", fail=True)
    except RuntimeError:
        turn(database, "kept")
    assert feed(database) == [(1, "kept")]


def test_sites_count_for_themselves(database: Engine) -> None:
    """Two compounds in one database do not disturb each other's sequence."""
    turn(database, "a")
    turn(database, "b", site="maple-court")
    assert feed(database) == [(1, "a")]
    assert feed(database, "maple-court") == [(1, "b")]


def test_many_writers_at_once_get_different_numbers(database: Engine) -> None:
    """Engine and pages write at the same time: no number twice, none missing, and no deadlock."""
    problems: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for index in range(10):
                turn(database, f"{name}-{index}")
        except BaseException as exc:
            problems.append(exc)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    found = feed(database)
    assert [seq for seq, _ in found] == list(range(1, 51))
    assert len({ref for _, ref in found}) == 50


def test_a_quiet_turn_writes_nothing(database: Engine) -> None:
    """Looking for due work every second does not wear the disk."""
    turn(database, "a")
    with writing(database) as connection:
        connection.execute(position.update().values(updated_ms=77))
    turn(database)
    with reading(database) as connection:
        assert connection.execute(select(position.c.updated_ms)).scalar_one() == 77


def test_ticket_numbers_and_commands_count_up(database: Engine) -> None:
    """Numbers of tickets go on over all types and restarts."""
    for expected in (("WX-1001", "XC-1002", 1), ("WX-1003", "XC-1004", 2)):
        with writing(database) as connection:
            mine = Turn(connection, SITE, now_ms=1)
            assert (mine.ticket_number("repair"), mine.ticket_number("patrol"), mine.command_number()) == expected
            mine.finish()


def test_old_news_are_dropped(database: Engine) -> None:
    """The feed keeps what a screen could still ask for and does not grow for ever."""
    turn(database, "old", "new")
    with writing(database) as connection:
        connection.execute(position.update().values(feed_seq=KEPT_CHANGES + 1))
        trim_changes(Turn(connection, SITE, now_ms=1))
    assert feed(database) == [(2, "new")]

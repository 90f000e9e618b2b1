"""Times in files: pure."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.moments import moment_ms, moment_text, zone_of

SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")
AT = 1_763_800_000_250


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2025-11-22T08:26:40.250Z", None, AT),
        ("2025-11-22T16:26:40.250+08:00", None, AT),
        ("2025-11-22 16:26:40.250", SHANGHAI, AT),
        (" 1763800000250 ", None, AT),
        ("2025-11-22T08:26:40.250999Z", None, AT),
        ("2025-11-22", SHANGHAI, 1_763_740_800_000),
        ("2025-11-22T16:26:40.250+08:00", BERLIN, AT),
    ],
)
def test_times_are_read_as_people_write_them(text: str, zone: ZoneInfo | None, expected: int) -> None:
    """With an offset, as UTC milliseconds, or local to a zone that is named; an offset in the text wins."""
    assert moment_ms(text, zone) == expected


@pytest.mark.parametrize(
    ("text", "zone", "says"),
    [
        ("2025-11-22 16:26:40", None, "no offset from UTC"),
        ("22.11.2025 16:26", SHANGHAI, "is no time"),
        ("1763800000", None, "seconds are not accepted"),
        ("", None, "is no time"),
        ("2025-10-26 02:30", BERLIN, "happens twice in Europe/Berlin"),
        ("2025-03-30 02:30", BERLIN, "does not exist in Europe/Berlin"),
    ],
)
def test_a_doubtful_time_is_refused(text: str, zone: ZoneInfo | None, says: str) -> None:
    """A time that could mean two moments, or none, is told and never guessed."""
    with pytest.raises(ValueError, match=says):
        moment_ms(text, zone)


@given(at_ms=st.integers(10**11, 4_000_000_000_000), zone=st.sampled_from([None, SHANGHAI, BERLIN]))
def test_what_is_written_is_read_again(at_ms: int, zone: ZoneInfo | None) -> None:
    """Every moment survives a file to the millisecond, in any zone, over every change of the clock."""
    assert moment_ms(moment_text(at_ms, zone), None) == at_ms


def test_an_unknown_zone_is_told() -> None:
    """A wrong --zone says what one looks like."""
    with pytest.raises(ValueError, match="Asia/Shanghai"):
        zone_of("Asia/Shangai")

"""A CSV file of cards and faces: taken over whole, or told what is wrong and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchroom.credentials.listing import masked_name, masked_number, read_listing
from watchroom.errors import ConfigError
from watchroom.pii import keyed_hash

KEY = b"0123456789abcdef"
ZONE = "Asia/Shanghai"
TEXT = """kind,number,owner,list,valid_from,valid_until
card,0A1B2C3D,张三,white,2026-01-01,2026-12-31
face,1041,Li Wei,black,,
card,0A1B2C3D,张三,lost,,
"""


def test_a_list_is_hashed_and_masked() -> None:
    """What readers report finds the card; nothing kept tells a number or a name; the last line of a number counts."""
    found = read_listing("\ufeff" + TEXT, key=KEY, zone=ZONE)
    assert [row.key for row in found] == [keyed_hash(KEY, "0A1B2C3D"), keyed_hash(KEY, "1041")]
    assert [(row.standing, row.hint, row.owner) for row in found] == [("lost", "…3D", "张*"), ("black", "…", "L*")]
    assert "0A1B2C3D" not in repr(found)
    assert "Wei" not in repr(found)


def test_dates_are_whole_days_of_the_site() -> None:
    """Valid until the 31st means to the end of that day, in the site's own time."""
    row = read_listing("kind,number,valid_from,valid_until\ncard,12345,2026-12-31,2026-12-31", key=KEY, zone=ZONE)[0]
    assert row.from_ms is not None
    assert row.until_ms is not None
    assert row.until_ms - row.from_ms == 86_400_000
    assert row.from_ms == 1_798_646_400_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the columns kind and number"),
        ("kind,owner\ncard,x", "the columns kind and number"),
        ("kind,number,colour\ncard,1,red", "no column 'colour'"),
        ("kind,number\ncard,", "1 to 64"),
        ("kind,number\ncard," + "9" * 65, "1 to 64"),
        ("kind,number\nkey,77", "card, face, qr"),
        ("kind,number,list\ncard,77,grey", "white, black, lost, revoked"),
        ("kind,number,valid_until\ncard,77,soon", "a date such as"),
        ("kind,number,valid_until\ncard,77,9999-12-31", "a date such as"),
        ("kind,number,valid_from,valid_until\ncard,77,2026-02-01,2026-01-01", "ends before it begins"),
        ("kind,number\ncard", "expected 2 values"),
        ("kind,number\ncard,1,2", "expected 2 values"),
    ],
)
def test_mistakes_name_file_and_line(text: str, words: str) -> None:
    """The message names file and line, and what was expected."""
    with pytest.raises(ConfigError) as caught:
        read_listing(text, path=Path("cards.csv"), key=KEY, zone=ZONE)
    told = str(caught.value)
    assert words in told
    assert "cards.csv" in told
    assert ("2" if "\n" in text and "columns kind" not in words and "no column" not in words else "1") in told


def test_masks() -> None:
    """Short numbers and empty names show nothing at all."""
    assert [masked_number(text) for text in ("1234", "12345")] == ["…", "…45"]
    assert [masked_name(text) for text in ("", "王五")] == ["", "王*"]

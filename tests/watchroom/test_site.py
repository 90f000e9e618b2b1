"""The site folder: read as a whole, or refused with the place of the mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchroom.errors import ConfigError
from watchroom.site import load_site

SITE = """\
site: {id: maple, name: {zh: 枫园, en: Maple Garden}}
places:
  B1: {kind: building, name: {zh: 1号楼, en: Building 1}, outline: [[0, 0], [9, 0], [9, 5]]}
  B1-U1: {kind: unit, in: B1}
"""
EQUIPMENT = "EL-1-1: {type: elevator, place: B1-U1, name: {zh: 客梯, en: Lift}, fault_codes: gbt24476_a}\n"


def write(folder: Path, site: str = SITE, equipment: str = EQUIPMENT, **more: str) -> Path:
    """Write a site folder."""
    (folder / "site.yaml").write_text(site, encoding="utf-8")
    (folder / "equipment.yaml").write_text(equipment, encoding="utf-8")
    for name, text in more.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def test_a_site_is_read(tmp_path: Path) -> None:
    """Places, equipment with the keys of its own type, and defaults of what is not written."""
    site = load_site(write(tmp_path))
    assert site.id == "maple"
    assert site.info.zone == "Asia/Shanghai"
    assert site.equipment["EL-1-1"].model_extra == {"fault_codes": "gbt24476_a"}
    assert list(site.place_chain("B1-U1")) == ["B1-U1", "B1"]
    assert site.rules_file is None
    assert site.gateway_files == ()


def test_every_site_has_its_centre(tmp_path: Path) -> None:
    """The centre is equipment like any other, so a full disk is an alarm in every compound, named by it or not."""
    assert load_site(write(tmp_path)).equipment["CENTRE"].type == "centre"
    own = "CENTRE: {type: centre, place: B1-U1, name: {zh: 机房, en: Server room}}\n"
    site = load_site(write(tmp_path, SITE, EQUIPMENT + own))
    assert site.equipment["CENTRE"].name.en == "Server room"
    office = SITE + "  DESK: {kind: office}\n"
    assert load_site(write(tmp_path, office)).equipment["CENTRE"].place == "DESK"
    with pytest.raises(ConfigError, match="this id stands for the centre itself"):
        load_site(write(tmp_path, SITE, EQUIPMENT + own.replace("type: centre", "type: door")))


@pytest.mark.parametrize(
    ("site", "equipment", "words"),
    [
        (SITE.replace("in: B1", "in: B9"), EQUIPMENT, "site.yaml:4: places.B1-U1.in: place 'B9' does not exist"),
        (SITE.replace("{kind: building,", "{kind: building, in: B1-U1,"), EQUIPMENT, "a place cannot be inside itself"),
        (SITE, EQUIPMENT.replace("B1-U1", "B7"), "equipment.yaml:1: EL-1-1.place: place 'B7' is not in site.yaml"),
        (SITE.replace("id: maple", "id: Maple Garden"), EQUIPMENT, "site.yaml:1: site.id"),
        (SITE.replace("name: {zh: 枫园", "zone: Mars/Base, name: {zh: 枫园"), EQUIPMENT, "IANA time zone"),
        (SITE.replace("kind: unit", "kind: castle"), EQUIPMENT, "site.yaml:4"),
        (SITE.replace("places:", "plces:"), EQUIPMENT, "did you mean 'places'?"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, site: str, equipment: str, words: str) -> None:
    """Each mistake names its file, line and key."""
    with pytest.raises(ConfigError) as caught:
        load_site(write(tmp_path, site, equipment))
    assert words in str(caught.value)


def test_secrets_do_not_stand_in_channels(tmp_path: Path) -> None:
    """A channel names the environment variable of its address; the address itself is refused."""
    write(tmp_path, channels="duty: {url: 'wecombot://secret'}\n")
    with pytest.raises(ConfigError, match=r"channels\.yaml:1: duty\.url"):
        load_site(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    """A folder that is not there is told as such."""
    with pytest.raises(ConfigError, match="expected a site folder"):
        load_site(tmp_path / "nowhere")

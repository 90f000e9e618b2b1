"""The site files: places, equipment, people and channels of one compound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import ConfigDict, Field, field_validator

from watchroom.centre import CENTRE, CENTRE_TYPE
from watchroom.errors import ConfigError
from watchroom.yamlfile import Strict, Text, YamlFile, load_yaml

Point = tuple[float, float]
Role = Literal["guard", "leader", "technician", "contractor", "integrator", "manager", "committee", "kiosk", "admin"]
PlaceKind = Literal["building", "unit", "plant_room", "gate", "garage", "office", "area"]


class SiteInfo(Strict):
    """What one compound is called and where its clock stands."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Id of the site, used in topics and file names")
    name: Text
    zone: str = Field(default="Asia/Shanghai", description="IANA time zone of shift rules and reports")
    city_rescue_min: int = Field(default=30, ge=1, description="Minutes allowed to reach a trapped passenger")
    shelve_max_min: int = Field(default=480, ge=1, description="Longest time an alarm may be shelved, in minutes")
    homes: int = Field(default=0, ge=0, description="Homes in the compound, for the page head")
    simulated: bool = Field(default=False, description="The whole site is simulated: the badge is on every screen")

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as exc:
            raise ValueError(f"{value!r} is not an IANA time zone such as Asia/Shanghai") from exc
        return value


class Floors(Strict):
    """How many storeys a building has."""

    below: int = Field(default=0, ge=0)
    above: int = Field(ge=1)


class Place(Strict):
    """One node of the tree of places; plan coordinates in metres, origin south-west."""

    kind: PlaceKind
    name: Text | None = None
    within: str | None = Field(default=None, alias="in", description="Id of the parent place")
    floors: Floors | None = None
    outline: list[Point] | None = None
    at: Point | None = None


class Plan(Strict):
    """What the plan shows besides places; polygons and lines in metres. Roads are driven on, paths walked."""

    roads: list[list[Point]] = []
    paths: list[list[Point]] = []
    green: list[list[Point]] = []
    water: list[list[Point]] = []
    wall: list[Point] = []


class SiteFile(Strict):
    """Content of ``site.yaml``."""

    site: SiteInfo
    places: dict[str, Place]
    plan: Plan = Plan()


class Equipment(Strict):
    """One elevator, pump set, door, panel, meter or gateway.

    Attributes beyond these (``fault_codes``, ``zones``, ``readers`` ...) belong to the type's template
    and are kept in ``model_extra``.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str
    place: str
    name: Text
    rated: dict[str, float] = {}
    contractor: str | None = None


class Person(Strict):
    """One member of staff. No passwords here: accounts live in the database."""

    name: Text
    role: Role
    phone: str | None = None
    skills: list[str] = []


class Channel(Strict):
    """Where messages go; the address is a secret and stands in the environment."""

    url_env: str = Field(description="Name of the environment variable that holds the Apprise URL")
    ticket_types: list[str] = Field(default=["patrol", "repair"], description="Ticket types sent here")
    priority: int = Field(default=4, ge=1, le=4, description="Least important priority sent here")
    lang: Literal["zh", "en"] = "zh"


@dataclass(frozen=True, slots=True)
class Site:
    """One compound, read from its folder.

    Attributes:
        folder: The folder the files were read from.
        gateway_files: Paths of ``gateways/*.yaml``, sorted; parsed by the gateway.
        rules_file: ``rules.yaml`` if the site has one; parsed by the alarm engine.
    """

    folder: Path
    info: SiteInfo
    places: Mapping[str, Place]
    plan: Plan
    equipment: Mapping[str, Equipment]
    people: Mapping[str, Person] = field(default_factory=dict)
    channels: Mapping[str, Channel] = field(default_factory=dict)
    gateway_files: tuple[Path, ...] = ()
    rules_file: YamlFile | None = None

    @property
    def id(self) -> str:
        """Id of the site."""
        return self.info.id

    def place_chain(self, place: str) -> Iterator[str]:
        """Yield a place and its parents, inside out."""
        here: str | None = place
        while here is not None:
            yield here
            here = self.places[here].within


def load_site(folder: Path) -> Site:
    """Read and check the folder of one site.

    Raises:
        ConfigError: With file, line and key of the first thing that is wrong.
    """
    if not folder.is_dir():
        raise ConfigError("this folder does not exist", path=folder, hint="expected a site folder with site.yaml in it")
    top = load_yaml(folder / "site.yaml")
    parsed: SiteFile = top.parse(SiteFile)
    _check_places(top, parsed.places)
    equipment_file = load_yaml(folder / "equipment.yaml")
    equipment: dict[str, Equipment] = equipment_file.parse(dict[str, Equipment])
    for key, item in equipment.items():
        if item.place not in parsed.places:
            raise equipment_file.error((key, "place"), f"place {item.place!r} is not in site.yaml")
    if CENTRE in equipment and equipment[CENTRE].type != CENTRE_TYPE:
        raise equipment_file.error((CENTRE, "type"), "this id stands for the centre itself", hint="choose another id")
    rules = folder / "rules.yaml"
    return Site(
        folder=folder,
        info=parsed.site,
        places=parsed.places,
        plan=parsed.plan,
        equipment=_with_centre(equipment, parsed.places),
        people=_optional(folder / "people.yaml", dict[str, Person]),
        channels=_optional(folder / "channels.yaml", dict[str, Channel]),
        gateway_files=tuple(sorted((folder / "gateways").glob("*.yaml"))),
        rules_file=load_yaml(rules) if rules.exists() else None,
    )


def _with_centre(equipment: Mapping[str, Equipment], places: Mapping[str, Place]) -> Mapping[str, Equipment]:
    """Add the centre itself, unless the site gives it a name and a place of its own."""
    if CENTRE in equipment or not places:
        return equipment
    place = next((key for key, item in places.items() if item.kind == "office"), next(iter(places)))
    centre = Equipment(type=CENTRE_TYPE, place=place, name=Text(zh="监控中心", en="Watchroom centre"))
    return {**equipment, CENTRE: centre}


def _optional(path: Path, kind: Any) -> Any:
    return load_yaml(path).parse(kind) if path.exists() else {}


def _check_places(file: YamlFile, places: Mapping[str, Place]) -> None:
    for key, place in places.items():
        seen, here = {key}, place.within
        while here is not None:
            if here not in places:
                raise file.error(("places", key, "in"), f"place {here!r} does not exist")
            if here in seen:
                raise file.error(("places", key, "in"), "a place cannot be inside itself")
            seen.add(here)
            here = places[here].within

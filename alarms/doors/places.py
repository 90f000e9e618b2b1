"""Where doors are and what they lead into, from the site's files. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from watchroom.site import Place, Site


def areas_of(site: Site | None, doors: Sequence[str]) -> dict[str, str]:
    """Return door -> ``area:`` of its equipment entry; only these take part in anti-passback."""
    if site is None:
        return {}
    found = {door: (site.equipment[door].model_extra or {}).get("area") for door in doors if door in site.equipment}
    return {door: area for door, area in found.items() if isinstance(area, str)}


def points_of(site: Site | None, doors: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return door -> position in metres: that of the innermost of its places that has one."""
    if site is None:
        return {}
    result = {}
    for door in doors:
        item = site.equipment.get(door)
        if item is None or item.place not in site.places:
            continue
        for key in site.place_chain(item.place):
            point = _point(site.places[key])
            if point is not None:
                result[door] = point
                break
    return result


def _point(place: Place) -> tuple[float, float] | None:
    if place.at is not None:
        return place.at
    if not place.outline:
        return None
    return (
        sum(x for x, _ in place.outline) / len(place.outline),
        sum(y for _, y in place.outline) / len(place.outline),
    )

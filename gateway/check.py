"""What can be said about a gateway file without any device: whether it is right, and which requests it makes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gateway.config import GatewayConfig, LinkConfig, load_gateway, signals_of
from gateway.model import ModelLibrary
from gateway.planner import Block, describe, plan_reads, requests_per_second
from watchroom.errors import ConfigError
from watchroom.signals import split_key
from watchroom.site import Site

SITE_MODELS = "models"
"""Folder of a site for device models of its own."""


def library_for(site_folder: Path) -> ModelLibrary:
    """Return the models a site can use: those in its own ``models/``, then those of the package."""
    return ModelLibrary(site_folder / SITE_MODELS)


def check_gateway(
    path: Path, *, models: ModelLibrary, site: Site | None = None, addresses: Mapping[str, str] | None = None
) -> list[str]:
    """Return what is wrong with one gateway file, one line a problem; empty if nothing is.

    Args:
        path: The gateway file.
        models: Where device models are found.
        site: The site it belongs to; without it equipment ids are not looked up.
        addresses: As for ``load_gateway``.
    """
    try:
        config = load_gateway(path, models=models, addresses=addresses)
    except ConfigError as exc:
        return [str(exc)]
    return [*_against_site(config, site), *_overloads(config)]


def check_gateways(paths: Sequence[Path], *, models: ModelLibrary, site: Site | None = None) -> list[str]:
    """Return what is wrong with all gateway files of a site, also between them."""
    problems = [problem for path in paths for problem in check_gateway(path, models=models, site=site)]
    if problems:
        return problems
    ids: dict[str, Path] = {}
    keys: dict[str, str] = {}
    for path in paths:
        config = load_gateway(path, models=models)
        if config.id in ids:
            problems.append(f"{path}: gateway.id: {config.id!r} is already the gateway of {ids[config.id].name}")
        ids[config.id] = path
        for spec in signals_of(config):
            other = keys.setdefault(spec.key, config.id)
            if other != config.id:
                problems.append(f"{path}: signal {spec.key} is already reported by gateway {other!r}")
    return problems


def summary(config: GatewayConfig) -> str:
    """Return one line about a gateway file that is right."""
    signals = signals_of(config)
    rate = sum(requests_per_second(blocks) for blocks in _plans(config).values())
    return (
        f"{config.path.name}: gateway {config.id}, {len(config.links)} links, "
        f"{len(config.devices)} Modbus devices, {len(config.readers)} reader mappings, "
        f"{len(signals)} signals, {rate:g} requests/s"
    )


def normalised(config: GatewayConfig) -> list[str]:
    """Return every address that is written otherwise than it goes over the wire, one line a signal.

    A maker who counts from 1, and the old style 40001, are where integrators read the neighbour's register.
    """
    lines: list[str] = []
    for device in config.devices.values():
        for signal in device.model.signals.values():
            plain = signal.written.replace(" ", "").removesuffix(".0")
            if signal.table is not None and plain not in {signal.at, signal.at.removesuffix(".0")}:
                lines.append(f"{device.name}: {signal.name} {signal.written} is {signal.at} on the wire")
    return lines


def plan_text(config: GatewayConfig) -> str:
    """Return the exact requests a gateway makes, as ``watchroom plan`` prints them."""
    lines: list[str] = []
    plans = _plans(config)
    for link in config.links.values():
        lines.append(f"link {link}")
        for device in config.devices_on(link.name):
            blocks = plans[device.name]
            lines.append(
                f"  {device.name} ({device.model.name}, {device.equipment}): {len(blocks)} requests, "
                f"{requests_per_second(blocks):g}/s"
            )
            lines += [f"    {line}" for line in describe(device.unit, blocks)]
        for reader in config.readers_on(link.name):
            lines.append(f"  {reader.name}: subscribes to {', '.join(reader.mapping.filters)}")
        sources = config.sources_on(link.name)
        lines += [f"  {source.name}: {source.equipment}, speaks {link.speaks}" for source in sources]
        if not config.devices_on(link.name) and not config.readers_on(link.name) and not sources:
            lines.append("  no device uses this link")
    return "\n".join(lines)


def _plans(config: GatewayConfig) -> dict[str, tuple[Block, ...]]:
    return {
        name: plan_reads(device.model, link_kind=config.links[device.link].kind)
        for name, device in config.devices.items()
    }


def _against_site(config: GatewayConfig, site: Site | None) -> Iterator[str]:
    if site is None:
        return
    if config.site != site.id:
        yield f"{config.path}: gateway.site: {config.site!r} is not this site ({site.id!r})"
    seen: set[str] = set()
    for spec in signals_of(config):
        equipment, _ = split_key(spec.key)
        if equipment in site.equipment or equipment in seen:
            continue
        seen.add(equipment)
        near = difflib.get_close_matches(equipment, site.equipment, n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        yield f"{config.path}: equipment {equipment!r} is not in equipment.yaml{hint}"


def _overloads(config: GatewayConfig) -> Iterator[str]:
    plans = _plans(config)
    for link in config.links.values():
        if link.kind != "serial":
            continue
        devices = config.devices_on(link.name)
        share = sum(_seconds(block, link) / block.period_s for device in devices for block in plans[device.name])
        if share > 1:
            yield (
                f"{config.path}: links.{link.name}: at {link.baud} baud the requests take {share:.1f} times "
                "the time there is (slower groups, a higher baud rate, or another line)"
            )


def _seconds(block: Block, link: LinkConfig) -> float:
    """About how long a serial line is busy with a request and its answer; the device's own delay left out."""
    data = -(-block.count // 8) if block.table.is_bits else 2 * block.count
    characters = 8 + 5 + data + 7
    return characters * 11 / link.baud + link.gap_s

"""``watchroom check``: everything that can be said about a site or a gateway file without any device."""

from __future__ import annotations

from pathlib import Path

from alarms.rules import compile_rules
from alarms.templates import load_templates
from gateway.check import check_gateway, check_gateways, library_for, normalised, summary
from gateway.config import load_gateway
from watchroom.errors import ConfigError
from watchroom.site import load_site


def check(path: Path) -> tuple[list[str], list[str]]:
    """Return (problems, what was found) of a site folder or of one gateway file.

    All files are looked at, so that one run tells more than the first mistake.
    """
    if path.is_file():
        folder = path.resolve().parent.parent
        site = load_site(folder) if (folder / "site.yaml").exists() else None
        models = library_for(folder)
        problems = check_gateway(path, models=models, site=site)
        if problems:
            return problems, []
        config = load_gateway(path, models=models)
        return [], [summary(config), *normalised(config)]
    site = load_site(path)
    models = library_for(path)
    problems = check_gateways(site.gateway_files, models=models, site=site)
    found = [f"{site.id}: {len(site.places)} places, {len(site.equipment)} pieces of equipment"]
    try:
        ruleset = compile_rules(site, load_templates())
        found.append(f"rules: {len(ruleset.rows)} alarm rows")
    except ConfigError as exc:
        problems.append(str(exc))
    if not problems:
        found += [summary(load_gateway(file, models=models)) for file in site.gateway_files]
    return problems, found

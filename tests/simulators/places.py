"""Where the tests of the simulators find the site and recordings, and free ports."""

from __future__ import annotations

import socket
from pathlib import Path

from watchroom.site import Site, load_site

ROOT = Path(__file__).parents[2]
SITE = ROOT / "sites" / "spruce-court"
RECORDINGS = ROOT.parent / "shared" / "data"


def spruce_court() -> Site:
    """Return the compound of the demo."""
    return load_site(SITE)


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def free_addresses(site: Site) -> dict[str, str]:
    """Map each Modbus address of a site's gateway files to a free port."""
    from gateway.config import load_gateway
    from gateway.model import ModelLibrary

    models = ModelLibrary()
    found: dict[str, str] = {}
    for path in site.gateway_files:
        for link in load_gateway(path, models=models).links.values():
            if link.kind == "tcp":
                found[f"{link.host}:{link.port}"] = f"127.0.0.1:{free_port()}"
    return found

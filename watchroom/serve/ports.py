"""Find out which TCP ports of this machine are free."""

from __future__ import annotations

import socket
from contextlib import closing

from watchroom.errors import ConfigError, LinkError


def is_free(host: str, port: int) -> bool:
    """Return whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        # a server may take over a port in TIME_WAIT, so the probe may too
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def require_free(host: str, port: int, *, option: str) -> None:
    """Refuse a port that is taken, in words that tell what to do.

    Raises:
        ConfigError: If another program listens there.
    """
    if not is_free(host, port):
        raise ConfigError(_in_use(host, port), hint=f"stop it, or choose another port with {option} N")


def wait_for_free(host: str, port: int) -> None:
    """Refuse a port that is taken, for a part whose supervisor tries again: the rest goes on meanwhile.

    Raises:
        LinkError: If another program listens there.
    """
    if not is_free(host, port):
        raise LinkError(_in_use(host, port))


def _in_use(host: str, port: int) -> str:
    return f"port {port} on {host} is in use by another program, perhaps another Watchroom"


def free_port(host: str, preferred: int) -> int:
    """Return the preferred port if it is free, else any free one; 0 prefers none."""
    if preferred and is_free(host, preferred):
        return preferred
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])

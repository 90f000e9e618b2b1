"""Who may connect to a port of ours: addresses, accounts, and passwords that stand outside the files."""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

import structlog
from pydantic import Field

from watchroom.yamlfile import Strict

log = structlog.get_logger(__name__)

Network = IPv4Network | IPv6Network


class AccountEntry(Strict):
    """One account of devices that connect to us."""

    password_env: str | None = Field(default=None, description="Environment variable with the password")
    password_file: str | None = Field(default=None, description="File with the password")


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may come in; without accounts anybody from the networks, without networks from anywhere."""

    networks: tuple[Network, ...] = ()
    accounts: tuple[tuple[str, AccountEntry], ...] = ()

    def admits_host(self, host: str) -> bool:
        """Whether an IP address may connect."""
        return admits(self.networks, host)

    def admits_user(self, user: str, password: str) -> bool:
        """Whether an account exists and the password is its own; takes the same time for both."""
        if not self.accounts:
            return True
        entry = dict(self.accounts).get(user)
        wanted = _password(user, entry) if entry is not None else None
        is_same = hmac.compare_digest((wanted or "").encode(), password.encode())
        return is_same and bool(wanted)


ANYBODY = Admission()


def admits(networks: tuple[Network, ...], host: str) -> bool:
    """Whether an IP address lies in one of the networks; in none at all, any may come."""
    if not networks:
        return True
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any(item in network for network in networks for item in (address, mapped) if item is not None)


def _password(user: str, entry: AccountEntry) -> str | None:
    if entry.password_env is not None:
        password = os.environ.get(entry.password_env)
        if not password:
            log.warning("password of an account is missing", account=user, variable=entry.password_env)
        return password
    try:
        return Path(str(entry.password_file)).read_text(encoding="utf-8").strip()
    except OSError as exc:
        log.warning("password of an account cannot be read", account=user, reason=exc.strerror)
        return None

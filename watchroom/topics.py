"""MQTT topics of the backbone, built and taken apart in one place."""

from __future__ import annotations

from typing import NamedTuple

from watchroom.errors import ContractError

ROOT = "wr1"
LEAVES = frozenset({"birth", "u", "d", "b", "ack", "want", "cmd", "status"})
CENTRE = "centre.self"
"""Stands for the centre itself among the gateways of a journal; no gateway on the wire may have this name."""
FROM_GATEWAY = ("birth", "u", "d", "b", "status")


class Topic(NamedTuple):
    """One topic ``wr1/{site}/{gateway}/{leaf}``."""

    site: str
    gateway: str
    leaf: str

    def __str__(self) -> str:
        return f"{ROOT}/{self.site}/{self.gateway}/{self.leaf}"


def parse_topic(text: str) -> Topic:
    """Return the parts of a backbone topic.

    Raises:
        ContractError: If the text is not such a topic.
    """
    parts = text.split("/")
    if len(parts) != 4 or parts[0] != ROOT or parts[3] not in LEAVES:
        raise ContractError("topic", text)
    if not (parts[1] and parts[2]) or parts[2] == CENTRE:
        raise ContractError("topic", text)
    return Topic(parts[1], parts[2], parts[3])


def subscription(site: str, leaf: str) -> str:
    """Return the filter for one leaf of all gateways of a site."""
    return f"{ROOT}/{site}/+/{leaf}"

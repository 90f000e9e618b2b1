"""MQTT topics of the backbone, built and taken apart in one place."""

from __future__ import annotations

from typing import NamedTuple

from watchroom.errors import ContractError

ROOT = "wr1"
LEAVES = frozenset({"birth", "u", "d", "b", "ack", "want", "cmd", "status"})
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
    if len(parts) != 4 or parts[0] != ROOT or parts[3] not in LEAVES or not (parts[1] and parts[2]):
        raise ContractError("topic", text)
    return Topic(parts[1], parts[2], parts[3])


def subscription(site: str, leaf: str) -> str:
    """Return the filter for one leaf of all gateways of a site."""
    return f"{ROOT}/{site}/+/{leaf}"

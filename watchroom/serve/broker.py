"""The embedded MQTT broker for a first day without any server installed: amqtt, MQTT 3.1.1, this machine only."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amqtt.broker import Broker
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session

USER = "watchroom"
PASSWORD_VARIABLE = "WATCHROOM_MQTT__PASSWORD"


class OnePassword(BaseAuthPlugin):  # type: ignore[misc]
    """Let in who knows the password of this start."""

    @dataclass
    class Config:
        """No settings: the password comes by the environment."""

    async def authenticate(self, *, session: Session) -> bool | None:
        """Return whether user name and password are right."""
        secret = os.environ.get(PASSWORD_VARIABLE, "")
        given = session.password or ""
        return bool(secret) and session.username == USER and hmac.compare_digest(given.encode(), secret.encode())


class Subscriptions(dict[str, Any]):
    """A dict that may grow while it is iterated.

    amqtt 0.12 awaits inside its loops over the subscriptions; when another client subscribed meanwhile, the loop failed
    and the connection was dropped (seen with twelve gateways connecting at once).
    """

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.keys()))

    def items(self) -> Any:
        """Return a copy of the items."""
        return list(super().items())


class OneBoxBroker(Broker):  # type: ignore[misc]
    """amqtt with two of its faults mended, both seen with twelve gateways connecting at once."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._subscriptions = Subscriptions()

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """Send retained messages only to a subscriber; amqtt 0.12 also sends those of everybody else's topics."""
        if any(one is session for one, _ in self._subscriptions.get(subscription[0], ())):
            await super()._publish_retained_messages_for_subscription(subscription, session)


async def run_broker(port: int) -> None:
    """Serve on the loopback address until SIGTERM."""
    logging.getLogger("amqtt").setLevel(logging.ERROR)
    logging.getLogger("transitions").setLevel(logging.ERROR)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    broker = OneBoxBroker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {f"{__name__}.OnePassword": {}},
        }
    )
    await broker.start()
    await stop.wait()
    await broker.shutdown()

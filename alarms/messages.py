"""Messages to people who are not in front of a screen: what is not about one ticket."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Select, select

from alarms.feed import Turn
from alarms.flood import MESSAGE_CAP, Cap
from alarms.ticket_opening import PRIORITY_WORDS
from watchroom.database.tables import message
from watchroom.site import Channel

NAMESPACE: Final = uuid.UUID("0d5a4b1e-6f39-5c55-8a0e-6d6573736167")
Both = Mapping[str, str]


class MessageCaps:
    """How many messages a storm lets through: 30 in ten minutes for each channel, priority 1 always."""

    def __init__(self) -> None:
        self._caps: dict[str, Cap] = {}

    def admits(self, channel: str, key: str, *, priority: int, now_ms: int) -> bool:
        """Count a message and return whether it may be sent."""
        if priority == 1:
            return True
        cap = self._caps.setdefault(channel, Cap(MESSAGE_CAP))
        return cap.knows(key, now_ms) or cap.admits(key, now_ms)


def tell(
    turn: Turn, channels: Mapping[str, Channel], *, key: str, title: Both, body: Both, path: str, priority: int = 1
) -> int:
    """Write one message for each channel that takes this priority; return how many.

    Args:
        turn: The writer's turn.
        channels: The channels that have an address.
        key: What the message is about; the same key gives the same message once only.
        title: In both languages.
        body: In both languages.
        path: Page that the link leads to, with a slash at its begin.
        priority: Of what it is about.
    """
    rows: list[dict[str, Any]] = []
    for name, channel in channels.items():
        if priority > channel.priority:
            continue
        rows.append(
            {
                "id": str(uuid.uuid5(NAMESPACE, f"{turn.site}\n{name}\n{key}")),
                "site": turn.site,
                "channel": name,
                "ticket_id": None,
                "title": title[channel.lang],
                "body": body[channel.lang],
                "created_ms": turn.now_ms,
                "attempts": 0,
                "next_ms": turn.now_ms,
                "path": path,
            }
        )
    if rows:
        known = set(turn.connection.execute(_known([row["id"] for row in rows])).scalars())
        rows = [row for row in rows if row["id"] not in known]
    if rows:
        turn.connection.execute(message.insert(), rows)
    return len(rows)


def _known(ids: list[str]) -> Select[tuple[str]]:
    return select(message.c.id).where(message.c.id.in_(ids))


def unattended_text(row: Mapping[str, Any], name: Both, *, seconds: int) -> tuple[Both, Both]:
    """Return title and body of the message about a priority 1 that nobody has acknowledged."""
    badge = {"zh": "【模拟】", "en": "[simulated] "} if row["is_simulated"] else {"zh": "", "en": ""}
    words = {lang: PRIORITY_WORDS[lang][row["priority"]] for lang in ("zh", "en")}
    title = {
        "zh": f"{badge['zh']}{words['zh']}报警无人确认：{name.get('zh', '')} {row['title']['zh']}",
        "en": f"{badge['en']}Nobody acknowledges: {name.get('en', '')}, {row['title']['en']}",
    }
    body = {
        "zh": f"{seconds} 秒内值班台无人确认\n{row['detail']['zh']}",
        "en": f"Not acknowledged at any console within {seconds} s ({words['en']})\n{row['detail']['en']}",
    }
    return title, body


def standing_text(row: Mapping[str, Any], name: Both) -> tuple[Both, Both]:
    """Return title and body of the message about an alarm that has sounded again in vain."""
    title = {
        "zh": f"报警仍未解除：{name.get('zh', '')} {row['title']['zh']}",
        "en": f"Still standing: {name.get('en', '')}, {row['title']['en']}",
    }
    body = {
        "zh": f"已重复提醒 {row['realarms']} 次\n{row['detail']['zh']}",
        "en": f"Has sounded again {row['realarms']} times\n{row['detail']['en']}",
    }
    return title, body

"""When an alarm was attached to its ticket: a ticket of a chattering alarm shows the newest without reading all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the time; what is attached already gets the time its alarm was raised."""
    op.add_column("ticket_alarm", sa.Column("attached_ms", sa.BigInteger(), server_default="0", nullable=False))
    op.execute(
        "UPDATE ticket_alarm SET attached_ms ="
        " COALESCE((SELECT raised_ms FROM alarm WHERE alarm.id = ticket_alarm.alarm_id), 0)"
    )
    op.create_index("ix_ticket_alarm_newest", "ticket_alarm", ["ticket_id", "attached_ms"], unique=False)

"""Overlays of alarm rows, first-up groups, timers of alarms, and messages that are not about a ticket."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; what is there keeps its meaning: nothing is shelved, nothing has a timer."""
    for column in (
        sa.Column(
            "overlay",
            sa.JSON(),
            nullable=True,
            comment="what lies over its row now, for the screens; empty when nothing does",
        ),
        sa.Column("group_", sa.String(length=64), nullable=True, comment="first-up group"),
        sa.Column("cause", sa.String(length=36), nullable=True, comment="id of the alarm that came first in its group"),
        sa.Column("timer_ms", sa.BigInteger(), nullable=True, comment="when the housekeeping has to look at it"),
        sa.Column("realarms", sa.Integer(), server_default="0", nullable=False, comment="times it has sounded again"),
        sa.Column(
            "is_chattering",
            sa.Boolean(),
            server_default=sa.false(),
            nullable=False,
            comment="raised 3 times in a minute",
        ),
    ):
        op.add_column("alarm", column)
    op.create_index("ix_alarm_timer", "alarm", ["site", "timer_ms"], unique=False)
    op.create_table(
        "alarm_overlay",
        sa.Column("site", sa.String(length=64), nullable=False),
        sa.Column("row", sa.String(length=200), nullable=False, comment="rule|equipment|instance"),
        sa.Column("equipment", sa.String(length=64), nullable=False),
        sa.Column("shelf", sa.String(length=8), nullable=False, comment="timed, once or empty"),
        sa.Column("until_ms", sa.BigInteger(), nullable=True, comment="end of a timed shelf"),
        sa.Column("is_suppressed", sa.Boolean(), nullable=False),
        sa.Column("is_out", sa.Boolean(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("is_tripped", sa.Boolean(), nullable=False),
        sa.Column("is_held", sa.Boolean(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False, comment="who, when and why, for each overlay"),
        sa.PrimaryKeyConstraint("site", "row", name=op.f("pk_alarm_overlay")),
    )
    with op.batch_alter_table("message") as message:
        message.add_column(
            sa.Column(
                "path",
                sa.String(length=120),
                nullable=True,
                comment="page that the link leads to, when it is not the ticket's",
            )
        )
        message.alter_column("ticket_id", existing_type=sa.String(length=36), nullable=True)

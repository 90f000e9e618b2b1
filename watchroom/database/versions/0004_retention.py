"""Indices to search the access log by person and card, and to find what is older than it is kept."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; no row changes."""
    op.create_index("ix_access_event_person", "access_event", ["site", "person", "time_ms"], unique=False)
    op.create_index("ix_access_event_card", "access_event", ["site", "card", "time_ms"], unique=False)
    op.create_index("ix_command_created", "command", ["site", "created_ms"], unique=False)
    op.create_index("ix_message_created", "message", ["site", "created_ms"], unique=False)
    op.create_index("ix_audit_at", "audit", ["at_ms"], unique=False)


def downgrade() -> None:
    """Take them away."""
    op.drop_index("ix_audit_at", table_name="audit")
    op.drop_index("ix_message_created", table_name="message")
    op.drop_index("ix_command_created", table_name="command")
    op.drop_index("ix_access_event_card", table_name="access_event")
    op.drop_index("ix_access_event_person", table_name="access_event")

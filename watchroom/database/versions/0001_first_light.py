"""The first schema: alarms, commands, tickets, messages, access events, change feed, accounts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "access_event",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("site", sa.String(length=64), nullable=False),
        sa.Column("gateway", sa.String(length=64), nullable=False),
        sa.Column("event_id", sa.String(length=160), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False, comment="access, panel_text, operation ..."),
        sa.Column("equipment", sa.String(length=64), nullable=True),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.String(length=16), nullable=True),
        sa.Column("person", sa.String(length=64), nullable=True, comment="keyed hash or masked name"),
        sa.Column("card", sa.String(length=64), nullable=True, comment="keyed hash"),
        sa.Column("result", sa.String(length=24), nullable=True),
        sa.Column("direction", sa.String(length=8), nullable=True),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("is_simulated", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_access_event")),
        sa.UniqueConstraint("site", "gateway", "event_id", name=op.f("uq_access_event_site_gateway_event_id")),
    )
    op.create_index("ix_access_event_door", "access_event", ["site", "equipment", "time_ms"], unique=False)
    op.create_index("ix_access_event_time", "access_event", ["site", "time_ms"], unique=False)
    op.create_table(
        "account",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("display", sa.String(length=120), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("lang", sa.String(length=2), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False, comment="failed sign-ins in a row"),
        sa.Column("locked_until_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_account")),
    )
    op.create_table(
        "alarm",
        sa.Column(
            "id", sa.String(length=36), nullable=False, comment="occurrence: uuid5(row, transition time, rule version)"
        ),
        sa.Column("site", sa.String(length=64), nullable=False),
        sa.Column("row", sa.String(length=200), nullable=False, comment="rule|equipment|instance"),
        sa.Column("is_live", sa.Boolean(), nullable=False, comment="the row's present occurrence, until it is NORM"),
        sa.Column("rule", sa.String(length=120), nullable=False),
        sa.Column("rule_version", sa.String(length=16), nullable=False),
        sa.Column("equipment", sa.String(length=64), nullable=False),
        sa.Column("instance", sa.String(length=64), nullable=False),
        sa.Column("signal", sa.String(length=130), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("class_", sa.String(length=32), nullable=False),
        sa.Column("level", sa.String(length=4), nullable=False, comment="HH, H, L, LL or empty"),
        sa.Column("state", sa.String(length=8), nullable=False, comment="NORM UNACK ACKED RTNUN LUNACK LACKED"),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("is_latching", sa.Boolean(), nullable=False),
        sa.Column("is_late", sa.Boolean(), nullable=False),
        sa.Column("is_simulated", sa.Boolean(), nullable=False),
        sa.Column("raised_ms", sa.BigInteger(), nullable=False, comment="event time of the transition"),
        sa.Column("arrived_ms", sa.BigInteger(), nullable=False, comment="when the engine saw it"),
        sa.Column("cleared_ms", sa.BigInteger(), nullable=True),
        sa.Column("acked_ms", sa.BigInteger(), nullable=True),
        sa.Column("acked_by", sa.String(length=64), nullable=True),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("limit", sa.Float(), nullable=True),
        sa.Column("title", sa.JSON(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm")),
    )
    op.create_index("ix_alarm_equipment", "alarm", ["site", "equipment", "raised_ms"], unique=False)
    op.create_index("ix_alarm_live", "alarm", ["site", "is_live", "raised_ms"], unique=False)
    op.create_index("ix_alarm_row", "alarm", ["site", "row", "raised_ms"], unique=False)
    op.create_table(
        "alarm_event",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("site", sa.String(length=64), nullable=False),
        sa.Column("alarm_id", sa.String(length=36), nullable=False),
        sa.Column("row", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False, comment="RAISE CLEAR ACK RESET ESCALATE EASE ..."),
        sa.Column("is_accepted", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(length=120), nullable=True, comment="why rejected"),
        sa.Column("state", sa.String(length=8), nullable=False, comment="state afterwards"),
        sa.Column("level", sa.String(length=4), nullable=False),
        sa.Column("event_ms", sa.BigInteger(), nullable=False),
        sa.Column("arrived_ms", sa.BigInteger(), nullable=False),
        sa.Column("user", sa.String(length=64), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("quality", sa.Integer(), nullable=True),
        sa.Column("rule_version", sa.String(length=16), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False, comment="sha256 over the previous hash and this event"),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_alarm_event")),
    )
    op.create_index(op.f("ix_alarm_event_alarm_id"), "alarm_event", ["alarm_id"], unique=False)
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("user", sa.String(length=64), nullable=True),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
    )
    op.create_table(
        "change",
        sa.Column("site", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False, comment="given under the site's row in position"),
        sa.Column("kind", sa.String(length=12), nullable=False, comment="alarm, ticket, access"),
        sa.Column("ref", sa.String(length=64), nullable=False, comment="id of the changed object"),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site", "seq", name=op.f("pk_change")),
    )
    op.create_table(
        "command",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False, comment="order of arrival"),
        sa.Column("site", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False, comment="ack, reset"),
        sa.Column("target", sa.String(length=200), nullable=False, comment="alarm id"),
        sa.Column("user", sa.String(length=64), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column(
            "applied_cursor", sa.BigInteger(), nullable=True, comment="journal offset at which the engine applied it"
        ),
        sa.Column("applied_ms", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(length=64), nullable=True, comment="done, or a StateError code"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_command")),
        sa.UniqueConstraint("site", "idempotency_key", name=op.f("uq_command_site_idempotency_key")),
    )
    op.create_index("ix_command_open", "command", ["site", "outcome", "seq"], unique=False)
    op.create_table(
        "one_time_link",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False, comment="setup"),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("used_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_one_time_link")),
    )
    op.create_table(
        "position",
        sa.Column("partition", sa.String(length=64), nullable=False),
        sa.Column("committed", sa.BigInteger(), nullable=False, comment="next journal offset to judge"),
        sa.Column(
            "generation",
            sa.BigInteger(),
            nullable=False,
            comment="raised by each engine that starts: fences off an older one",
        ),
        sa.Column("feed_seq", sa.BigInteger(), nullable=False, comment="last sequence given in table change"),
        sa.Column("ticket_no", sa.BigInteger(), nullable=False, comment="last ticket number given"),
        sa.Column("command_seq", sa.BigInteger(), nullable=False, comment="last sequence given in table command"),
        sa.Column(
            "alarm_hash", sa.String(length=64), nullable=False, comment="hash of the last alarm_event: shows a cut tail"
        ),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("partition", name=op.f("pk_position")),
    )
    op.create_table(
        "ticket",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.String(length=16), nullable=False, comment="WX-1042 repair, XC-1043 patrol"),
        sa.Column("site", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("equipment", sa.String(length=64), nullable=True),
        sa.Column("place", sa.String(length=64), nullable=True),
        sa.Column(
            "fault",
            sa.String(length=120),
            nullable=True,
            comment="fault family: with equipment and type the key that finds an open ticket",
        ),
        sa.Column("title", sa.JSON(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("closed_ms", sa.BigInteger(), nullable=True),
        sa.Column("assignee", sa.String(length=64), nullable=True),
        sa.Column(
            "worker",
            sa.String(length=64),
            nullable=True,
            comment="who reported the work done; another person must accept it",
        ),
        sa.Column("held_from", sa.String(length=12), nullable=True, comment="state to return to from HOLD"),
        sa.Column("held_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("rework", sa.Integer(), nullable=False, comment="times the work was not accepted"),
        sa.Column("reopened", sa.Integer(), nullable=False),
        sa.Column("is_repeat", sa.Boolean(), nullable=False, comment="same fault again within 30 days"),
        sa.Column("is_simulated", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, comment="raised by each step"),
        sa.Column(
            "hash", sa.String(length=64), nullable=False, comment="hash of its last ticket_event: shows a cut tail"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ticket")),
        sa.UniqueConstraint("site", "number", name=op.f("uq_ticket_site_number")),
    )
    op.create_index("ix_ticket_fault", "ticket", ["site", "equipment", "fault", "type"], unique=False)
    op.create_index("ix_ticket_open", "ticket", ["site", "state", "priority"], unique=False)
    op.create_table(
        "message",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("site", sa.String(length=64), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("ticket_id", sa.String(length=36), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_ms", sa.BigInteger(), nullable=True, comment="NULL when sent or given up"),
        sa.Column("sent_ms", sa.BigInteger(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_message_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message")),
        sa.UniqueConstraint("ticket_id", "channel", name=op.f("uq_message_ticket_id_channel")),
    )
    op.create_index("ix_message_due", "message", ["site", "next_ms"], unique=False)
    op.create_table(
        "session",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["account.name"], name=op.f("fk_session_account")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_session")),
    )
    op.create_table(
        "ticket_alarm",
        sa.Column("ticket_id", sa.String(length=36), nullable=False),
        sa.Column("alarm_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["alarm_id"], ["alarm.id"], name=op.f("fk_ticket_alarm_alarm_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_ticket_alarm_ticket_id")),
        sa.PrimaryKeyConstraint("ticket_id", "alarm_id", name=op.f("pk_ticket_alarm")),
    )
    op.create_index("ix_ticket_alarm_alarm", "ticket_alarm", ["alarm_id"], unique=False)
    op.create_table(
        "ticket_clock",
        sa.Column("ticket_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False, comment="accept, arrive, restore"),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("target_ms", sa.BigInteger(), nullable=False, comment="due time when it started"),
        sa.Column("paused_ms", sa.BigInteger(), nullable=False, comment="total of closed pauses"),
        sa.Column("pause_start_ms", sa.BigInteger(), nullable=True),
        sa.Column("stop_ms", sa.BigInteger(), nullable=True),
        sa.Column("breached_ms", sa.BigInteger(), nullable=True, comment="never erased"),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_ticket_clock_ticket_id")),
        sa.PrimaryKeyConstraint("ticket_id", "kind", name=op.f("pk_ticket_clock")),
    )
    op.create_index("ix_ticket_clock_running", "ticket_clock", ["stop_ms", "breached_ms", "target_ms"], unique=False)
    op.create_table(
        "ticket_event",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("ticket_id", sa.String(length=36), nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("from_state", sa.String(length=12), nullable=True),
        sa.Column("to_state", sa.String(length=12), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("user", sa.String(length=64), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=True),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_ticket_event_ticket_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_ticket_event")),
        sa.UniqueConstraint("ticket_id", "idempotency_key", name=op.f("uq_ticket_event_ticket_id_idempotency_key")),
    )
    op.create_index(op.f("ix_ticket_event_ticket_id"), "ticket_event", ["ticket_id"], unique=False)

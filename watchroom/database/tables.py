"""The SQL tables. Times are UTC milliseconds; texts in both languages are JSON {"zh": ..., "en": ...}.

Who writes: ``alarm_*``, ``command`` outcomes, ``position`` and ``access_event`` the alarm engine alone; tickets
the ticket module; accounts and audit the dashboard; ``change`` whoever changes something, in the same transaction.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts up by itself only for INTEGER PRIMARY KEY
Serial = BigInteger().with_variant(Integer, "sqlite")

position = Table(
    "position",
    metadata,
    Column("partition", String(64), primary_key=True),
    Column("committed", BigInteger, nullable=False, comment="next journal offset to judge"),
    Column(
        "generation", BigInteger, nullable=False, comment="raised by each engine that starts: fences off an older one"
    ),
    Column("feed_seq", BigInteger, nullable=False, comment="last sequence given in table change"),
    Column("ticket_no", BigInteger, nullable=False, comment="last ticket number given"),
    Column("command_seq", BigInteger, nullable=False, comment="last sequence given in table command"),
    Column("alarm_hash", String(64), nullable=False, comment="hash of the last alarm_event: shows a cut tail"),
    Column("updated_ms", BigInteger, nullable=False),
)

alarm = Table(
    "alarm",
    metadata,
    Column("id", String(36), primary_key=True, comment="occurrence: uuid5(row, transition time, rule version)"),
    Column("site", String(64), nullable=False),
    Column("row", String(200), nullable=False, comment="rule|equipment|instance"),
    Column("is_live", Boolean, nullable=False, comment="the row's present occurrence, until it is NORM"),
    Column("rule", String(120), nullable=False),
    Column("rule_version", String(16), nullable=False),
    Column("equipment", String(64), nullable=False),
    Column("instance", String(64), nullable=False),
    Column("signal", String(130)),
    Column("priority", Integer, nullable=False),
    Column("class_", String(32), nullable=False, key="class_"),
    Column("level", String(4), nullable=False, comment="HH, H, L, LL or empty"),
    Column("state", String(8), nullable=False, comment="NORM UNACK ACKED RTNUN LUNACK LACKED"),
    Column("is_active", Boolean, nullable=False),
    Column("is_latching", Boolean, nullable=False),
    Column("is_late", Boolean, nullable=False),
    Column("is_simulated", Boolean, nullable=False),
    Column("raised_ms", BigInteger, nullable=False, comment="event time of the transition"),
    Column("arrived_ms", BigInteger, nullable=False, comment="when the engine saw it"),
    Column("cleared_ms", BigInteger),
    Column("acked_ms", BigInteger),
    Column("acked_by", String(64)),
    Column("value", Float),
    Column("limit", Float),
    Column("title", JSON, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("overlay", JSON, comment="what lies over its row now, for the screens; empty when nothing does"),
    Column("group_", String(64), key="group_", comment="first-up group"),
    Column("cause", String(36), comment="id of the alarm that came first in its group"),
    Column("timer_ms", BigInteger, comment="when the housekeeping has to look at it"),
    Column("realarms", Integer, nullable=False, server_default="0", comment="times it has sounded again"),
    Column("is_chattering", Boolean, nullable=False, server_default=false(), comment="raised 3 times in a minute"),
    Index("ix_alarm_live", "site", "is_live", "raised_ms"),
    Index("ix_alarm_timer", "site", "timer_ms"),
    Index("ix_alarm_row", "site", "row", "raised_ms"),
    Index("ix_alarm_equipment", "site", "equipment", "raised_ms"),
)

alarm_overlay = Table(
    "alarm_overlay",
    metadata,
    Column("site", String(64), primary_key=True),
    Column("row", String(200), primary_key=True, comment="rule|equipment|instance"),
    Column("equipment", String(64), nullable=False),
    Column("shelf", String(8), nullable=False, comment="timed, once or empty"),
    Column("until_ms", BigInteger, comment="end of a timed shelf"),
    Column("is_suppressed", Boolean, nullable=False),
    Column("is_out", Boolean, nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("is_tripped", Boolean, nullable=False),
    Column("is_held", Boolean, nullable=False),
    Column("detail", JSON, nullable=False, comment="who, when and why, for each overlay"),
)

alarm_event = Table(
    "alarm_event",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("site", String(64), nullable=False),
    Column("alarm_id", String(36), nullable=False, index=True),
    Column("row", String(200), nullable=False),
    Column("kind", String(16), nullable=False, comment="RAISE CLEAR ACK RESET ESCALATE EASE ..."),
    Column("is_accepted", Boolean, nullable=False),
    Column("reason", String(120), comment="why rejected"),
    Column("state", String(8), nullable=False, comment="state afterwards"),
    Column("level", String(4), nullable=False),
    Column("event_ms", BigInteger, nullable=False),
    Column("arrived_ms", BigInteger, nullable=False),
    Column("user", String(64)),
    Column("comment", Text),
    Column("value", Float),
    Column("quality", Integer),
    Column("rule_version", String(16), nullable=False),
    Column("hash", String(64), nullable=False, comment="sha256 over the previous hash and this event"),
)

command = Table(
    "command",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("seq", BigInteger, nullable=False, comment="order of arrival"),
    Column("site", String(64), nullable=False),
    Column("kind", String(16), nullable=False, comment="ack, reset"),
    Column("target", String(200), nullable=False, comment="alarm id"),
    Column("user", String(64), nullable=False),
    Column("args", JSON, nullable=False),
    Column("idempotency_key", String(64), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("applied_cursor", BigInteger, comment="journal offset at which the engine applied it"),
    Column("applied_ms", BigInteger),
    Column("outcome", String(64), comment="done, or a StateError code"),
    UniqueConstraint("site", "idempotency_key"),
    Index("ix_command_open", "site", "outcome", "seq"),
    Index("ix_command_created", "site", "created_ms"),
)

ticket = Table(
    "ticket",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("number", String(16), nullable=False, comment="WX-1042 repair, XC-1043 patrol"),
    Column("site", String(64), nullable=False),
    Column("type", String(16), nullable=False),
    Column("state", String(12), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("equipment", String(64)),
    Column("place", String(64)),
    Column("fault", String(120), comment="fault family: with equipment and type the key that finds an open ticket"),
    Column("title", JSON, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("closed_ms", BigInteger),
    Column("assignee", String(64)),
    Column("worker", String(64), comment="who reported the work done; another person must accept it"),
    Column("held_from", String(12), comment="state to return to from HOLD"),
    Column("held_until_ms", BigInteger),
    Column("rework", Integer, nullable=False, comment="times the work was not accepted"),
    Column("reopened", Integer, nullable=False),
    Column("is_repeat", Boolean, nullable=False, comment="same fault again within 30 days"),
    Column("is_simulated", Boolean, nullable=False),
    Column("version", Integer, nullable=False, comment="raised by each step"),
    Column("hash", String(64), nullable=False, comment="hash of its last ticket_event: shows a cut tail"),
    UniqueConstraint("site", "number"),
    Index("ix_ticket_open", "site", "state", "priority"),
    Index("ix_ticket_fault", "site", "equipment", "fault", "type"),
)

ticket_alarm = Table(
    "ticket_alarm",
    metadata,
    Column("ticket_id", String(36), ForeignKey("ticket.id"), primary_key=True),
    Column("alarm_id", String(36), ForeignKey("alarm.id"), primary_key=True),
    Column("attached_ms", BigInteger, nullable=False, server_default="0"),
    Index("ix_ticket_alarm_alarm", "alarm_id"),
    Index("ix_ticket_alarm_newest", "ticket_id", "attached_ms"),
)

ticket_clock = Table(
    "ticket_clock",
    metadata,
    Column("ticket_id", String(36), ForeignKey("ticket.id"), primary_key=True),
    Column("kind", String(8), primary_key=True, comment="accept, arrive, restore"),
    Column("start_ms", BigInteger, nullable=False),
    Column("target_ms", BigInteger, nullable=False, comment="due time when it started"),
    Column("paused_ms", BigInteger, nullable=False, comment="total of closed pauses"),
    Column("pause_start_ms", BigInteger),
    Column("stop_ms", BigInteger),
    Column("breached_ms", BigInteger, comment="never erased"),
    Index("ix_ticket_clock_running", "stop_ms", "breached_ms", "target_ms"),
)

ticket_event = Table(
    "ticket_event",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("ticket_id", String(36), ForeignKey("ticket.id"), nullable=False, index=True),
    Column("step", String(16), nullable=False),
    Column("from_state", String(12)),
    Column("to_state", String(12), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("user", String(64)),
    Column("comment", Text),
    Column("fields", JSON, nullable=False),
    Column("idempotency_key", String(64)),
    Column("hash", String(64), nullable=False),
    UniqueConstraint("ticket_id", "idempotency_key"),
)

message = Table(
    "message",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("site", String(64), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("ticket_id", String(36), ForeignKey("ticket.id")),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_ms", BigInteger, comment="NULL when sent or given up"),
    Column("sent_ms", BigInteger),
    Column("problem", Text),
    Column("path", String(120), comment="page that the link leads to, when it is not the ticket's"),
    UniqueConstraint("ticket_id", "channel"),
    Index("ix_message_due", "site", "next_ms"),
    Index("ix_message_created", "site", "created_ms"),
)

access_event = Table(
    "access_event",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("site", String(64), nullable=False),
    Column("gateway", String(64), nullable=False),
    Column("event_id", String(160), nullable=False),
    Column("kind", String(16), nullable=False, comment="access, panel_text, operation ..."),
    Column("equipment", String(64)),
    Column("time_ms", BigInteger, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    Column("method", String(16)),
    Column("person", String(64), comment="keyed hash or masked name"),
    Column("card", String(64), comment="keyed hash"),
    Column("result", String(24)),
    Column("direction", String(8)),
    Column("fields", JSON, nullable=False),
    Column("is_simulated", Boolean, nullable=False),
    UniqueConstraint("site", "gateway", "event_id"),
    Index("ix_access_event_time", "site", "time_ms"),
    Index("ix_access_event_door", "site", "equipment", "time_ms"),
    Index("ix_access_event_person", "site", "person", "time_ms"),
    Index("ix_access_event_card", "site", "card", "time_ms"),
)

change = Table(
    "change",
    metadata,
    Column("site", String(64), primary_key=True),
    Column("seq", BigInteger, primary_key=True, comment="given under the site's row in position"),
    Column("kind", String(12), nullable=False, comment="alarm, ticket, access"),
    Column("ref", String(64), nullable=False, comment="id of the changed object"),
    Column("at_ms", BigInteger, nullable=False),
)

account = Table(
    "account",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("display", String(120), nullable=False),
    Column("role", String(16), nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("lang", String(2), nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("failed", Integer, nullable=False, comment="failed sign-ins in a row"),
    Column("locked_until_ms", BigInteger),
)

session = Table(
    "session",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("account", String(64), ForeignKey("account.name"), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
)

one_time_link = Table(
    "one_time_link",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("purpose", String(16), nullable=False, comment="setup"),
    Column("expires_ms", BigInteger, nullable=False),
    Column("used_ms", BigInteger),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("user", String(64)),
    Column("address", String(64)),
    Column("action", String(32), nullable=False),
    Column("target", String(200)),
    Column("detail", JSON, nullable=False),
    Index("ix_audit_at", "at_ms"),
)

credential = Table(
    "credential",
    metadata,
    Column("site", String(64), primary_key=True),
    Column("key", String(64), primary_key=True, comment="keyed hash of its number, as gateways report it"),
    Column("kind", String(8), nullable=False, comment="card, face, qr"),
    Column("hint", String(8), nullable=False, comment="end of the number"),
    Column("owner", String(16), nullable=False, comment="masked name"),
    Column("standing", String(8), nullable=False, comment="white, black, lost, revoked"),
    Column("from_ms", BigInteger, comment="valid from"),
    Column("until_ms", BigInteger, comment="valid until, not included"),
    Column("version", BigInteger, nullable=False, comment="version of the site's registry that changed it"),
    Column("updated_ms", BigInteger, nullable=False),
    Index("ix_credential_version", "site", "version"),
)

permit = Table(
    "permit",
    metadata,
    Column("site", String(64), primary_key=True),
    Column("id", String(32), primary_key=True),
    Column("door", String(64), nullable=False),
    Column("from_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False, comment="earlier when it was ended by hand"),
    Column("user", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("version", BigInteger, nullable=False, comment="version of the site's registry that changed it"),
    Index("ix_permit_version", "site", "version"),
    Index("ix_permit_until", "site", "until_ms"),
)

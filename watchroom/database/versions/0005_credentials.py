"""The registry of credentials, and permits for doors to stand open."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two empty tables."""
    op.create_table(
        "credential",
        sa.Column("site", sa.String(length=64), nullable=False),
        sa.Column(
            "key", sa.String(length=64), nullable=False, comment="keyed hash of its number, as gateways report it"
        ),
        sa.Column("kind", sa.String(length=8), nullable=False, comment="card, face, qr"),
        sa.Column("hint", sa.String(length=8), nullable=False, comment="end of the number"),
        sa.Column("owner", sa.String(length=16), nullable=False, comment="masked name"),
        sa.Column("standing", sa.String(length=8), nullable=False, comment="white, black, lost, revoked"),
        sa.Column("from_ms", sa.BigInteger(), nullable=True, comment="valid from"),
        sa.Column("until_ms", sa.BigInteger(), nullable=True, comment="valid until, not included"),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="version of the site's registry that changed it"),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("site", "key", name=op.f("pk_credential")),
    )
    op.create_index("ix_credential_version", "credential", ["site", "version"], unique=False)
    op.create_table(
        "permit",
        sa.Column("site", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("door", sa.String(length=64), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False, comment="earlier when it was ended by hand"),
        sa.Column("user", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="version of the site's registry that changed it"),
        sa.PrimaryKeyConstraint("site", "id", name=op.f("pk_permit")),
    )
    op.create_index("ix_permit_version", "permit", ["site", "version"], unique=False)
    op.create_index("ix_permit_until", "permit", ["site", "until_ms"], unique=False)

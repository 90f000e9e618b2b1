"""Alembic's entry: runs the migrations on the connection that ``migrations.upgrade`` opened."""

from __future__ import annotations

from alembic import context

from watchroom.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()

"""Fixtures of the SQL database, on both kinds of server; ``tests/conftest.py`` hands them to every test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url

from tests.postgres import ENVIRONMENT, Cluster, NoPostgresError, private_cluster
from watchroom.database.connect import migrate, open_database


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    """A private PostgreSQL server of the whole test run."""
    try:
        with private_cluster() as cluster:
            yield cluster
    except NoPostgresError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="session")
def postgres_database(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Make an empty PostgreSQL database and return its URL."""
    server = os.environ.get(ENVIRONMENT)
    if server is None:
        cluster: Cluster = request.getfixturevalue("postgres_cluster")
        return cluster.database
    return lambda: _foreign_database(server)


def _foreign_database(server: str) -> str:
    name = f"watchroom_test_{uuid.uuid4().hex[:12]}"
    url = make_url(server).set(drivername="postgresql+psycopg")
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database; the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'watchroom.sqlite'}"
    make: Callable[[], str] = request.getfixturevalue("postgres_database")
    return make()


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    """An open database with the newest schema."""
    engine = open_database(database_url)
    migrate(engine)
    yield engine
    engine.dispose()

"""A small compound with its engine's side and a running dashboard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import Engine

from tests.dashboard.center import ROLES, Center, write_site
from tests.dashboard.desk import Desk, settings_for
from watchroom.database.connect import migrate, open_database
from watchroom.site import Site, load_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A compound with a booster set, a door and a gateway."""
    return load_site(write_site(tmp_path / "site"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def database(data: Path) -> Iterator[Engine]:
    """A migrated database."""
    engine = open_database(settings_for(data).database_url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest_asyncio.fixture
async def center(site: Site, database: Engine, data: Path) -> AsyncIterator[Center]:
    """The engine's side, with an account for every role."""
    center = Center(site, database, data)
    center.people(*ROLES)
    async with center.running():
        yield center
    center.journal.close()


@pytest_asyncio.fixture
async def desk(center: Center) -> AsyncIterator[Desk]:
    """A dashboard that listens, its engine connected."""
    async with Desk(center, settings_for(center.data)) as desk:
        yield desk

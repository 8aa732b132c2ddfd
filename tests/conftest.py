"""A throw-away PostgreSQL for the whole run, and a fresh copy of the schema for each test.

``TRAFFICLOG_TEST_DATABASE_URL`` names a superuser's connection to another server, on which the
suite then runs instead, such as an older PostgreSQL.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from tests.serving import Service, serving_as_marked
from trafficlog import postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# Each process of a run has its own.
TEMPLATE = f"template_trafficlog_{os.getpid()}"

# A test's data need not outlive the machine.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "autovacuum_naptime": "10s",
}

# How fast a machine is that runs the tests is no fault of what they test. What a test is given, a
# store or a service, serves all of its examples.
settings.register_profile(
    "untimed",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("untimed")

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.EmbeddedServer]:
    """The embedded server of this run, without durability."""
    # Not below pytest's own directory: it takes back what the server's user needs to pass it.
    data_dir = Path(tempfile.mkdtemp(prefix="trafficlog-tests-"))
    try:
        with postgres.running(data_dir, settings=FAST) as server:
            yield server
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


@pytest.fixture(scope="session")
def server_dsn(request: pytest.FixtureRequest) -> str:
    """The superuser's connection to the server that the tests use."""
    given = os.environ.get("TRAFFICLOG_TEST_DATABASE_URL")
    if given:
        return given
    server: postgres.EmbeddedServer = request.getfixturevalue("postgres_server")
    return server.dsn


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def template_database(server_dsn: str) -> AsyncIterator[str]:
    """The dsn of a migrated database that nobody connects to: the others are copies of it."""
    from trafficlog import migrate

    dsn = with_database(server_dsn, TEMPLATE)
    await administer(server_dsn, f"DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)")
    await administer(server_dsn, f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
    await migrate.migrate(dsn)
    yield dsn
    await administer(server_dsn, f"DROP DATABASE {TEMPLATE} WITH (FORCE)")


@pytest_asyncio.fixture
async def database(server_dsn: str, template_database: str) -> AsyncIterator[str]:
    """The dsn (as superuser) of a fresh, migrated database, gone after the test."""
    name = f"t_{os.getpid()}_{next(_numbers)}"
    await administer(server_dsn, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
    yield with_database(server_dsn, name)
    await administer(server_dsn, f"DROP DATABASE {name} WITH (FORCE)")


def with_database(dsn: str, name: str) -> str:
    """The same server, user and options, another database."""
    parts = urlsplit(dsn)
    # An empty authority part is kept as it is: a socket's directory is in the query.
    return urlunsplit((parts.scheme, parts.netloc, f"/{name}", parts.query, parts.fragment))


async def administer(dsn: str, statement: str) -> None:
    """Run one statement, on a connection of its own."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest_asyncio.fixture
async def service(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Service]:
    """The whole service on a fresh database.

    ``@pytest.mark.service_now("2026-11-22T00:00:00Z")`` puts its clock, and
    ``@pytest.mark.service_config(batch_records_max=10)`` its settings.
    """
    async with serving_as_marked(request, database) as running:
        yield running

"""A writer on a fresh database."""

import pytest

from tests.store.helpers import opened


@pytest.fixture
async def store(database):
    """The writer of one process."""
    async with opened(database) as opened_store:
        yield opened_store

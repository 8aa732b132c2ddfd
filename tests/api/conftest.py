"""What stands between a client and the service, or in the service's place, and fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from tests.api.flaky import FlakyService, flaky_service
from tests.api.relay import Relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.serving import Service


@pytest_asyncio.fixture
async def flaky() -> AsyncIterator[FlakyService]:
    """A server on a port of its own, which fails as it is told to."""
    async with flaky_service() as service:
        yield service


@pytest_asyncio.fixture
async def relay(service: Service) -> AsyncIterator[Relay]:
    """A way to the service that can be cut."""
    way = Relay(service.url)
    await way.listen()
    yield way
    way.close()

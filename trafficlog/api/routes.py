"""How routes are declared: each names the scopes that open it, or says that none is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from trafficlog.api.services import Services

PUBLIC: Final[frozenset[str]] = frozenset()

Handler = Callable[[web.Request, "Services"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """A route and the scopes of which a key must have one; ``PUBLIC`` needs no key.

    Query parameters that are not among ``parameters`` are refused: a misspelt ``dry_run``
    must not do what it was to try.
    """

    method: str
    path: str
    handler: Handler
    scopes: frozenset[str]
    parameters: tuple[str, ...] = ()


def scopes(*names: str) -> frozenset[str]:
    """The scopes of a route, at least one."""
    if not names:
        raise ValueError("a route without a scope is declared PUBLIC")
    return frozenset(names)

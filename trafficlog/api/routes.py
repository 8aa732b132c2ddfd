"""How routes are declared: each names the scopes that open it, or says that none is needed.

A declaration also says what is read and what is answered; ``trafficlog.api.openapi`` makes the
description of the API from it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

if TYPE_CHECKING:
    from trafficlog.api.parameters import Bound, Parameter
    from trafficlog.api.services import Services
    from trafficlog.errors import TrafficlogError

PUBLIC: Final[frozenset[str]] = frozenset()
JSON: Final = "application/json"

Handler = Callable[[web.Request, "Services"], Awaitable[web.StreamResponse]]
# A type that msgspec reads and writes, or a JSON schema as it is.
Shape = type[Any] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Body:
    """What a route reads: its shape, for each media type if they differ.

    ``text`` says what the shape does not; ``items_max`` is how many a list may have,
    ``bytes_max`` how large it may be where that is less than the service takes at all.
    """

    shapes: Mapping[str, Shape]
    text: str = ""
    bytes_max: Bound | None = None
    items_max: Bound | None = None
    is_required: bool = True

    @classmethod
    def json(cls, shape: Shape, text: str = "", *, bytes_max: Bound | None = None) -> Body:
        """A body of JSON."""
        return cls({JSON: shape}, text, bytes_max)


@dataclass(frozen=True, slots=True)
class Answer:
    """One good answer of a route.

    ``shapes`` are by media type, None where there is no body; ``headers`` are those that belong
    to this answer, each with what it says.
    """

    text: str
    shapes: Mapping[str, tuple[Shape, ...]] = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(
        cls, text: str, *shapes: Shape, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """An answer in JSON, of one of these shapes."""
        return cls(text, {JSON: shapes}, status, headers or {})

    @classmethod
    def stream(
        cls, text: str, *media_types: str, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """An answer in one of these media types, none of which is JSON."""
        return cls(text, dict.fromkeys(media_types, ()), headers=headers or {})


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal of a route's own, with the members that it has beside those of all problems."""

    status: int
    code: str
    text: str
    more: type[Any] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A route and the scopes of which a key must have one; ``PUBLIC`` needs no key.

    Query parameters that are not among ``parameters`` are refused: a misspelt ``dry_run``
    must not do what it was to try.

    What follows them is for the description. A summary is the first sentence of the handler's
    docstring. ``headers`` are those of the request that it reads. ``errors`` are those of this
    route: what all routes of its kind can answer (no key, a body that is too large) is known
    without being told.
    """

    method: str
    path: str
    handler: Handler
    scopes: frozenset[str]
    parameters: tuple[Parameter, ...] = ()
    group: str = ""
    text: str = ""
    body: Body | None = None
    headers: tuple[Parameter, ...] = ()
    answers: tuple[Answer, ...] = ()
    errors: tuple[type[TrafficlogError] | Refused, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The names of the query parameters that it takes."""
        return frozenset(each.name for each in self.parameters)

    @property
    def summary(self) -> str:
        """What it does, in a sentence."""
        return (self.handler.__doc__ or "").strip().partition("\n")[0]


def scopes(*names: str) -> frozenset[str]:
    """The scopes of a route, at least one."""
    if not names:
        raise ValueError("a route without a scope is declared PUBLIC")
    return frozenset(names)

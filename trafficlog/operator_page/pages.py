"""How the operators' pages are declared, and what each visit to one carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from trafficlog.api.services import Services
    from trafficlog.dashboard.sessions import Session, Sessions
    from trafficlog.operator_page.render import Renderer
    from trafficlog.store.keys import Principal
    from trafficlog.store.oversight import Oversight
    from trafficlog.store.sessions import OperatorSessions


@dataclass(frozen=True, slots=True)
class Operation:
    """What the pages work with."""

    services: Services
    sessions: Sessions
    operator_sessions: OperatorSessions
    oversight: Oversight
    renderer: Renderer


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of an operator who is signed in; ``form`` came from a page of this session."""

    request: web.Request
    session: Session
    principal: Principal
    csrf_token: str
    form: Mapping[str, str] = field(default_factory=dict)


PublicHandler = Callable[[web.Request, Operation], Awaitable[web.Response]]
VisitHandler = Callable[[Visit, Operation], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class PublicPage:
    """A page that anybody may see: there is one alone, to sign in."""

    method: str
    path: str
    handler: PublicHandler


@dataclass(frozen=True, slots=True)
class OperatorPage:
    """A page for operators; what is posted to it must carry the session's token."""

    method: str
    path: str
    handler: VisitHandler


Page = PublicPage | OperatorPage

"""How pages are declared: each needs a session, or says that it does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from trafficlog.api.services import Services
    from trafficlog.dashboard.render import Renderer
    from trafficlog.dashboard.sessions import Session, Sessions
    from trafficlog.records import AccountKey
    from trafficlog.store.keys import Principal
    from trafficlog.store.sessions import PageSessions


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What the pages work with."""

    services: Services
    sessions: Sessions
    page_sessions: PageSessions
    renderer: Renderer


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who is signed in; ``form`` came from a page of this session."""

    request: web.Request
    session: Session
    principal: Principal
    csrf_token: str
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def account_key(self) -> AccountKey:
        """The one account that this visit can see."""
        return self.session.account_key


PublicHandler = Callable[[web.Request, Dashboard], Awaitable[web.Response]]
# A file is sent as it is read, and so by a response that is a stream.
SessionHandler = Callable[[Visit, Dashboard], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class PublicPage:
    """A page that anybody may see."""

    method: str
    path: str
    handler: PublicHandler


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A page for those who are signed in; what is posted to it must carry the session's token."""

    method: str
    path: str
    handler: SessionHandler


Page = PublicPage | SessionPage

"""Who is asking, and what a key opens. Nothing is open that is not opened here."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from trafficlog.errors import KeyMissingError, ScopeMissingError
from trafficlog.guesses import Guesses
from trafficlog.patience import unanswered, within
from trafficlog.store.keys import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from trafficlog.rates import Buckets
    from trafficlog.store.keys import Keys, Principal

CACHED_KEYS_MAX: Final = 10_000


class Authenticator:
    """Recognises keys; remembers one for a few seconds, unknown ones not at all.

    Args:
        keys: where keys are looked up.
        cache_seconds: how long a revoked key may go on being accepted.
        answer_seconds_max: how long a key may take to be looked up.
        wrong_keys: how often one address may bring a wrong one; None: as often as it likes.
    """

    def __init__(
        self,
        keys: Keys,
        cache_seconds: float,
        answer_seconds_max: float = 30,
        wrong_keys: Buckets | None = None,
    ) -> None:
        self._keys = keys
        self._guesses = None if wrong_keys is None else Guesses(wrong_keys)
        self._cache_seconds = cache_seconds
        self._answer_seconds_max = answer_seconds_max
        self._cached: dict[bytes, tuple[float, Principal]] = {}
        # Those under way, and when they began.
        self._look_ups: dict[bytes, tuple[float, asyncio.Task[Principal | None]]] = {}

    async def principal(self, authorization: str | None, address: Callable[[], str]) -> Principal:
        """Who the ``Authorization`` header speaks for; ``address`` gives where it comes from.

        Raises:
            KeyMissingError: it carries no key, or one that is unknown or revoked.
            TooManyRequestsError: too many wrong keys came from there lately.
            DatabaseUnavailableError: whether it is known cannot be told in time.
        """
        secret = secret_in(authorization)
        if not secret:
            raise KeyMissingError("send an API key: `Authorization: Bearer tl_…`")
        return await self.by_secret(secret, address)

    def known(self, digest: bytes) -> Principal | None:
        """Whose key has this digest, if it was looked up in these seconds; else nothing is said."""
        cached = self._cached.get(digest)
        return None if cached is None or cached[0] <= time.monotonic() else cached[1]

    async def by_secret(self, secret: str, address: Callable[[], str]) -> Principal:
        """Who a key belongs to; ``address`` gives where it comes from.

        Raises:
            KeyMissingError: it is unknown or revoked.
            TooManyRequestsError: too many wrong keys came from there lately.
            DatabaseUnavailableError: whether it is known cannot be told in time.
        """
        digest = digest_of(secret)
        principal = self.known(digest)
        if principal is None:
            try:
                async with asyncio.timeout(self._answer_seconds_max):
                    principal = await self._found(secret, digest, address)
            except TimeoutError as error:
                raise unanswered(self._answer_seconds_max) from error
        if principal is None:
            raise KeyMissingError("the API key is unknown or revoked")
        return principal

    async def _found(
        self, secret: str, digest: bytes, address: Callable[[], str]
    ) -> Principal | None:
        """Whose key it is now, by a look-up that all who ask for it at the same time share.

        A key that was right before is not refused for the sake of wrong ones from the same
        address, such as that of a proxy.
        """
        look_up, origin = self._shared(digest), None
        if look_up is None and self._guesses is not None and digest not in self._cached:
            origin = address()
            await self._guesses.begin(origin)
            # While this one waited for its turn, another may have asked for the same key.
            look_up, principal = self._shared(digest), self.known(digest)
            if look_up is not None or principal is not None:
                self._guesses.end(origin, wrong=False)
            if principal is not None:
                return principal
        if look_up is None:
            # A task of its own: whoever began it may give up, and the others still want it.
            look_up = asyncio.create_task(self._look_up(secret, digest, origin))
            self._look_ups[digest] = time.monotonic(), look_up
        return await within(self._answer_seconds_max, look_up)

    def _shared(self, digest: bytes) -> asyncio.Task[Principal | None] | None:
        """The look-up of this key that is under way, if what it finds may be gone by still."""
        began, look_up = self._look_ups.get(digest, (0.0, None))
        return look_up if time.monotonic() < began + self._cache_seconds else None

    async def _look_up(self, secret: str, digest: bytes, origin: str | None) -> Principal | None:
        """Looks a key up and remembers whose it is; ``origin`` had a turn for it."""
        began, wrong = time.monotonic(), False
        try:
            principal = await within(self._answer_seconds_max, self._keys.recognise(secret))
            wrong = principal is None
        finally:
            # Another one may have taken its place, if it took long.
            if self._look_ups.get(digest, (0.0, None))[1] is asyncio.current_task():
                del self._look_ups[digest]
            if origin is not None and self._guesses is not None:
                self._guesses.end(origin, wrong=wrong)
        if principal is None:
            self._cached.pop(digest, None)
            return None
        if len(self._cached) >= CACHED_KEYS_MAX:
            self._cached.clear()
        self._cached[digest] = (began + self._cache_seconds, principal)
        return principal


def secret_in(authorization: str | None) -> str:
    """The key in an ``Authorization`` header; empty if there is none."""
    scheme, _, secret = (authorization or "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def require(principal: Principal, scopes: frozenset[str], account_id: str | None) -> None:
    """Lets ``principal`` pass when its key opens one of ``scopes``.

    A customer's key opens its own account alone, so a route under an account must
    say which: ``account_id``.

    Raises:
        ScopeMissingError: the key does not open this.
    """
    if principal.scope not in scopes:
        raise ScopeMissingError(
            f"this needs a key of scope {' or '.join(sorted(scopes))}; yours is {principal.scope}"
        )
    if principal.scope == "customer" and principal.account_id != account_id:
        raise ScopeMissingError("a customer's key opens its own account only")

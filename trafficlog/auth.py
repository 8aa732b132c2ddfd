"""Who is asking, and what a key opens. Nothing is open that is not opened here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from trafficlog.errors import KeyMissingError, ScopeMissingError
from trafficlog.patience import within
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
        self._wrong_keys = wrong_keys
        self._cache_seconds = cache_seconds
        self._answer_seconds_max = answer_seconds_max
        self._cached: dict[bytes, tuple[float, Principal]] = {}

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
        digest, now = digest_of(secret), time.monotonic()
        cached = self._cached.get(digest)
        if cached is not None and cached[0] > now:
            return cached[1]
        principal = await self._look_up(secret, address, known_before=cached is not None)
        if principal is None:
            self._cached.pop(digest, None)
            raise KeyMissingError("the API key is unknown or revoked")
        if len(self._cached) >= CACHED_KEYS_MAX:
            self._cached.clear()
        self._cached[digest] = (now + self._cache_seconds, principal)
        return principal

    async def _look_up(
        self, secret: str, address: Callable[[], str], *, known_before: bool
    ) -> Principal | None:
        """Whose key it is now.

        A key that was right before is not refused for the sake of wrong ones from the same
        address, such as that of a proxy.
        """
        if self._wrong_keys is None or known_before:
            return await within(self._answer_seconds_max, self._keys.recognise(secret))
        origin, wrong = address(), False
        # Taken before it is known to be wrong, or many could be tried at the same time.
        self._wrong_keys.take(origin, time.monotonic())
        try:
            principal = await within(self._answer_seconds_max, self._keys.recognise(secret))
            wrong = principal is None
        finally:
            if not wrong:
                self._wrong_keys.give_back(origin)
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

"""Rate limits: how often one key may ask, and how often one address may bring a wrong key.

Each process counts for itself. What a key has left stands in the fields ``RateLimit`` and
``RateLimit-Policy`` of its answers (draft-ietf-httpapi-ratelimit-headers).
"""

from __future__ import annotations

import ipaddress
import math
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from trafficlog.errors import TooManyRequestsError
from trafficlog.rates import Buckets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from trafficlog.config import Config
    from trafficlog.store.keys import Principal

# Of each: keys that ask at the same time, and addresses that bring wrong ones.
NAMES_MAX: Final = 10_000
# What one household or host is given of IPv6: it can change the rest at will.
IPV6_PREFIX: Final = 64
UNLIMITED: Final[Mapping[str, str]] = MappingProxyType({})


class KeyRates:
    """How often each key may ask: keys for ingest by their own limit, all others by another."""

    def __init__(self, config: Config) -> None:
        self._ingest = _limit(config.ingest_requests_per_second, config.ingest_burst_requests)
        self._others = _limit(config.requests_per_second, config.burst_requests)

    def admit(self, principal: Principal) -> Mapping[str, str]:
        """Counts one request of a key; gives the headers that tell what it has left.

        Raises:
            TooManyRequestsError: it has asked too often; its headers are in ``headers``.
        """
        limit = self._ingest if principal.scope == "ingest" else self._others
        if limit is None:
            return UNLIMITED
        buckets, policy = limit
        try:
            left = buckets.take(principal.key_id, time.monotonic())
        except TooManyRequestsError as error:
            error.headers = {
                "RateLimit-Policy": policy,
                "RateLimit": f'"key";r=0;t={error.retry_seconds}',
            }
            raise
        return {"RateLimit-Policy": policy, "RateLimit": f'"key";r={left}'}


def _limit(per_second: int, burst: int) -> tuple[Buckets, str] | None:
    """The buckets of a limit and its name in headers; None when there is none."""
    if not per_second:
        return None
    # So many in the time in which an empty bucket fills.
    policy = f'"key";q={burst};w={math.ceil(burst / per_second)}'
    return Buckets(per_second, burst, NAMES_MAX), policy


def wrong_keys(config: Config) -> Buckets | None:
    """How often an address may bring a wrong key; None: as often as it likes."""
    most = config.wrong_keys_per_minute_max
    return Buckets(most / 60, most, NAMES_MAX) if most else None


def client_address(request: web.Request, trusted_proxies: int) -> str:
    """Whom a request comes from, for the purpose of counting.

    Behind proxies that are trusted it is what the first of them saw. Of an IPv6 address only
    the network counts.
    """
    told = request.remote or ""
    if trusted_proxies:
        forwarded = [
            each.strip()
            for line in request.headers.getall("X-Forwarded-For", ())
            for each in line.split(",")
        ]
        # What stands further to the left may be the client's own invention.
        told = forwarded[-trusted_proxies] if len(forwarded) >= trusted_proxies else told
    try:
        address = ipaddress.ip_address(told)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), IPV6_PREFIX), strict=False))
    return str(address)

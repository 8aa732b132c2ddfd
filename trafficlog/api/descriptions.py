"""What the description of the API says that no route says of itself."""

from __future__ import annotations

from typing import Any, Final

from trafficlog.values import NAME_PATTERN

# In this order they are shown.
GROUPS: Final = {
    "Records in": "For the gateway: records, debug lines, and what is in transit.",
    "History": "A customer's own records: list, read, erase.",
    "Erasures": "Any of it erased by filter, with a preview, progress and a receipt.",
    "Exports": "Any of it, or all, taken along.",
    "Settings": "What is kept for a customer, and how long.",
    "Usage": "Statistics and monthly reports, without personal data.",
    "Holds": "For the abuse desk: what must not be destroyed until a case is closed.",
    "Disclosure": "For officers: the legal record for a lawful request, and who read what.",
    "Operation": "For staff and machines: debug lines, certificates, health, metrics.",
    "Description": "What you are reading.",
}
# What a part of a path is, by the part before it and its name.
PATH_PARAMETERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "accounts/account": ("The account; a customer's key opens its own.", {"examples": ["acme"]}),
    "history/id": ("The gateway's id of the record.", {"examples": ["m1"]}),
    "in-transit/id": (
        "The gateway's id of the communication.",
        {"pattern": NAME_PATTERN, "examples": ["m1"]},
    ),
    "holds/id": ("The hold's id.", {"examples": ["123cc32943aa"]}),
    "reports/month": ("The month.", {"examples": ["2026-10"]}),
    "erasures/id": ("The erasure's id.", {"examples": ["0192f1c4a7b8"]}),
}
ABOUT: Final = """
A telecom traffic-log store with legal retention: records in, a customer's history out, and what
is due destroyed.

**Keys.** A request carries its key as `Authorization: Bearer tl_…`. A key has one scope: `ingest`,
`customer` (of one account), `operator`, `officer` or `metrics`; each route names those that open
it.

**Errors** are `application/problem+json` (RFC 9457). A program goes by the `code`: it never
changes. Every address can answer 404 `not_found`, 405 `method_not_allowed` with `Allow`, and,
before a request is even read, 400 `not_http`, 408 `too_slow`, 417 `expectation_failed`,
431 `headers_too_large` or 503 `too_many_connections`. After 408, 429, 500 and 503 try again, not
before `Retry-After`.

**Times** are RFC 3339; in a request one without a zone is in UTC, in an answer all are.

**Request ids.** Each answer to a request that could be read has an `X-Request-Id`, which is in the
lines of the service's log and in the body of an error. Send one of your own (1 to 64 of
`A-Z a-z 0-9 . _ -`) and it is used; any other text is ignored.

**Parameters** that a route does not know are refused, and so are unknown members of a JSON object,
except in records and debug lines, where they are not stored.

**Bodies** may be compressed: `Content-Encoding: gzip` or `zstd`. As they are sent they have at most
{body_bytes_max:,} bytes and decompressed {body_decoded_bytes_max:,}, unless a route takes less.

Not described here: the pages for people, and what lies under `/a1/`, whose paths, bodies and errors
are those of the 46elks API.
"""

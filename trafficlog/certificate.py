"""The certificate of destruction: what was destroyed in a period, and how that is known.

It says what the purge ledger holds of the period, where in the chain of hashes that stands,
and what verification found at the time of issue: a fault is stated, never left out. Like the
ledger it holds no personal data. How it is signed is in ``trafficlog.signature``.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from trafficlog.errors import InvalidValueError
from trafficlog.ledger import GENESIS, Instant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from trafficlog.ledger import LedgerEntry

ISSUER_CHARS_MAX: Final = 200
# All findings are counted; a thousand in one certificate would tell no more than these.
FINDINGS_SHOWN_MAX: Final = 100
CERTIFICATE: Final = "certificate of destruction"


class Period(msgspec.Struct, frozen=True, rename={"lower": "from", "upper": "to"}):
    """What lies from ``lower`` on and before ``upper``."""

    lower: Instant
    upper: Instant

    def __contains__(self, at: datetime) -> bool:
        return self.lower <= at < self.upper

    @classmethod
    def ended(
        cls, lower: datetime, upper: datetime, now: datetime, *, names: tuple[str, str]
    ) -> Period:
        """A period that is over at ``now``; ``names`` are what its ends are called by who asks.

        Raises:
            InvalidValueError: it has not ended, or ends before it begins.
        """
        if lower >= upper:
            raise InvalidValueError(
                names[0],
                lower.isoformat(),
                f"must lie before {names[1]}",
                reason_code="out_of_range",
            )
        if upper > now:
            raise InvalidValueError(
                names[1],
                upper.isoformat(),
                "lies in the future: only a period that has ended can be certified",
                reason_code="out_of_range",
            )
        return cls(lower.astimezone(UTC), upper.astimezone(UTC))


class Total(msgspec.Struct, frozen=True):
    """All that was destroyed of one class for one reason.

    ``rows`` were destroyed; of ``held`` among them a copy is or was kept under a hold.
    """

    data_class: str
    reason: str
    entries: int
    rows: int
    held: int


class DestroyedPartition(msgspec.Struct, frozen=True):
    """A partition that was dropped, with the bounds of what expired in it."""

    seq: int
    at: Instant
    data_class: str
    object: str
    lower: Instant | None
    upper: Instant | None
    rows: int
    held: int


class Link(msgspec.Struct, frozen=True):
    """An entry's place in the chain; the hashes are in hexadecimal."""

    seq: int
    previous: str
    hash: str


class Head(msgspec.Struct, frozen=True):
    """The last entry of the ledger."""

    seq: int
    hash: str


class Destruction(msgspec.Struct, frozen=True):
    """What the ledger holds of a period, up to its head."""

    totals: list[Total]
    partitions: list[DestroyedPartition]
    # Entries need not be in the order of their times: others may stand between these two.
    first: Link | None
    last: Link | None
    head: Head


class Findings(msgspec.Struct, frozen=True):
    """What verification looked at when the certificate was issued, and what it found wrong.

    ``listed`` are the first of ``count`` findings.
    """

    partitions: int
    ledger_entries: int
    ledger_holds: bool
    count: int
    listed: list[str]


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate of destruction.

    ``installation`` is the same for all certificates of one database; ``issuer`` is the name of
    who runs it, if it was told.
    """

    type: Literal["certificate of destruction"] = CERTIFICATE
    version: Literal[1] = 1
    installation: str
    issuer: str | None
    issued_at: Instant
    period: Period
    destruction: Destruction
    verification: Findings


class Gathering:
    """Gathers what entries of the ledger say of a period, as they are read."""

    def __init__(self, period: Period) -> None:
        self._period = period
        self._totals: dict[tuple[str, str], Total] = {}
        self._partitions: list[DestroyedPartition] = []
        self._first: Link | None = None
        self._last: Link | None = None

    def add(self, entry: LedgerEntry) -> None:
        """Notes an entry if it is of the period."""
        if entry.at not in self._period:
            return
        key = (entry.data_class, entry.reason)
        before = self._totals.get(key, Total(*key, 0, 0, 0))
        self._totals[key] = Total(
            *key, before.entries + 1, before.rows + entry.rows, before.held + entry.held
        )
        if entry.reason == "expired":
            self._partitions.append(
                DestroyedPartition(
                    *(entry.seq, entry.at, entry.data_class, entry.object),
                    *(entry.lower, entry.upper, entry.rows, entry.held),
                )
            )
        self._last = Link(entry.seq, entry.previous.hex(), entry.hash.hex())
        self._first = self._first or self._last

    def destruction(self, head: Head) -> Destruction:
        """All that was gathered; ``head`` is the end of the ledger that was read."""
        totals = [self._totals[key] for key in sorted(self._totals)]
        return Destruction(totals, self._partitions, self._first, self._last, head)


def disagreements(certificate: Certificate, entries: Sequence[LedgerEntry]) -> list[str]:
    """In what a certificate differs from the ledger's entries, which must be all from the first.

    What was added to the ledger after the certificate was issued makes no difference.
    """
    stated = certificate.destruction
    gathering, head = Gathering(certificate.period), Head(0, GENESIS.hex())
    for entry in entries:
        if entry.seq > stated.head.seq:
            break
        gathering.add(entry)
        head = Head(entry.seq, entry.hash.hex())
    if head.seq != stated.head.seq:
        return [f"the ledger ends at entry {head.seq}, before the head {stated.head.seq} it had"]
    found = gathering.destruction(head)
    return [
        f"{name}: {difference}"
        for name in Destruction.__struct_fields__
        for difference in _differences(getattr(stated, name), getattr(found, name))
    ]


def entries_since(certificate: Certificate, entries: Sequence[LedgerEntry]) -> int:
    """How many entries of the period came into the ledger after the certificate was issued."""
    head = certificate.destruction.head.seq
    return sum(e.seq > head and e.at in certificate.period for e in entries)


def _differences(stated: Any, found: Any) -> list[str]:
    """What only the certificate says, and what only the ledger does."""
    if stated == found:
        return []
    if not isinstance(stated, list):
        stated, found = [stated], [found]
    in_certificate, in_ledger = set(stated), set(found)
    only = [
        *(("the certificate", each) for each in stated if each not in in_ledger),
        *(("the ledger", each) for each in found if each not in in_certificate),
    ]
    return [f"only {who} says {msgspec.json.encode(each).decode()}" for who, each in only] or [
        "the certificate repeats something, or says it in another order"
    ]

"""The purge ledger as a chain of hashes, verified without a database.

Each entry's hash covers its own fields and the hash of the entry before, so that no
entry can be changed, left out or put in afterwards without breaking all that follow.
It holds no personal data: classes, bounds and counts only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from trafficlog.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterable

GENESIS: Final = hashlib.sha256(b"trafficlog purge ledger").digest()

# An instant as it is read from a file: with its zone, or it is none.
Instant = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One thing destroyed: what, why, when, how many rows, and how many a hold kept."""

    seq: int
    at: Instant
    data_class: str
    object: str
    reason: str
    lower: Instant | None
    upper: Instant | None
    rows: int
    held: int
    previous: bytes
    hash: bytes

    def text(self) -> str:
        """What the hash is taken of: one field a line, instants in UTC to the microsecond."""
        return "\n".join(
            [
                str(self.seq),
                _instant(self.at),
                self.data_class,
                self.object,
                self.reason,
                _instant(self.lower),
                _instant(self.upper),
                str(self.rows),
                str(self.held),
                self.previous.hex(),
            ]
        )

    def computed_hash(self) -> bytes:
        """SHA-256 of the entry's text."""
        return hashlib.sha256(self.text().encode()).digest()


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """What a verification found: how many entries it read, and every fault."""

    entries: int
    head: bytes
    faults: tuple[str, ...]


class Chain:
    """Checks the chain as it is read, entry by entry, from its beginning."""

    def __init__(self) -> None:
        self._previous = GENESIS
        self._expected_seq = 1
        self._faults: list[str] = []

    def add(self, entry: LedgerEntry) -> None:
        """Notes every way in which the next entry does not follow on those before."""
        if entry.seq != self._expected_seq:
            self._faults.append(f"entry {self._expected_seq} is missing: entry {entry.seq} follows")
        if entry.previous != self._previous:
            self._faults.append(f"entry {entry.seq} does not follow on the one before it")
        if entry.computed_hash() != entry.hash:
            self._faults.append(f"entry {entry.seq} was changed: its hash does not fit its content")
        self._previous, self._expected_seq = entry.hash, entry.seq + 1

    def report(self) -> LedgerReport:
        """What was found up to here."""
        return LedgerReport(self._expected_seq - 1, self._previous, tuple(self._faults))


def verify_chain(entries: Iterable[LedgerEntry]) -> LedgerReport:
    """Checks the whole chain from its beginning."""
    chain = Chain()
    for entry in entries:
        chain.add(entry)
    return chain.report()


class _Export(msgspec.Struct):
    entries: list[dict[str, Any]]


def read_export(content: bytes) -> list[LedgerEntry]:
    """The entries in what ``ledger export --json`` wrote, whatever they say.

    Raises:
        InvalidValueError: the file is not such an export.
    """
    try:
        exported = msgspec.json.decode(content, type=_Export)
        return [
            msgspec.convert(
                # JSON has no bytes: the hashes are in hexadecimal.
                each | {name: bytes.fromhex(each[name]) for name in ("previous", "hash")},
                LedgerEntry,
                builtin_types=(bytes,),
            )
            for each in exported.entries
        ]
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError) as error:
        raise InvalidValueError(
            "--file", content[:40], f"is not what `ledger export --json` writes: {error}"
        ) from None


def verify_export(content: bytes) -> LedgerReport:
    """Checks the chain in a file that was exported, without the database it came from.

    That its end is the ledger's end, only the database can tell; compare the head.

    Raises:
        InvalidValueError: the file is not such an export.
    """
    return verify_chain(read_export(content))


def _instant(value: datetime | None) -> str:
    return "-" if value is None else value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

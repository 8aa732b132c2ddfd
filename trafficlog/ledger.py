"""The purge ledger as a chain of hashes, verified without a database.

Each entry's hash covers its own fields and the hash of the entry before, so that no
entry can be changed, left out or put in afterwards without breaking all that follow.
It holds no personal data: classes, bounds and counts only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from trafficlog.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterable

GENESIS: Final = hashlib.sha256(b"trafficlog purge ledger").digest()


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One thing destroyed: what, why, when, how many rows, and how many a hold kept."""

    seq: int
    at: datetime
    data_class: str
    object: str
    reason: str
    lower: datetime | None
    upper: datetime | None
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


def verify_chain(entries: Iterable[LedgerEntry]) -> LedgerReport:
    """Checks the whole chain from its beginning."""
    previous, expected_seq, faults = GENESIS, 1, []
    for entry in entries:
        if entry.seq != expected_seq:
            faults.append(f"entry {expected_seq} is missing: entry {entry.seq} follows")
        if entry.previous != previous:
            faults.append(f"entry {entry.seq} does not follow on the one before it")
        if entry.computed_hash() != entry.hash:
            faults.append(f"entry {entry.seq} was changed: its hash does not fit its content")
        previous, expected_seq = entry.hash, entry.seq + 1
    return LedgerReport(expected_seq - 1, previous, tuple(faults))


class _ExportedEntry(msgspec.Struct):
    """An entry as ``ledger export --json`` writes it: hashes in hexadecimal."""

    seq: int
    at: datetime
    data_class: str
    object: str
    reason: str
    lower: datetime | None
    upper: datetime | None
    rows: int
    held: int
    previous: str
    hash: str


class _Export(msgspec.Struct):
    entries: list[_ExportedEntry]


def verify_export(content: bytes) -> LedgerReport:
    """Checks the chain in a file that was exported, without the database it came from.

    That its end is the ledger's end, only the database can tell; compare the head.

    Raises:
        InvalidValueError: the file is not such an export.
    """
    try:
        exported = msgspec.json.decode(content, type=_Export)
        entries = [
            LedgerEntry(
                **{
                    **msgspec.structs.asdict(each),
                    "previous": bytes.fromhex(each.previous),
                    "hash": bytes.fromhex(each.hash),
                }
            )
            for each in exported.entries
        ]
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise InvalidValueError(
            "--file", content[:40], f"is not what `ledger export --json` writes: {error}"
        ) from None
    return verify_chain(entries)


def _instant(value: datetime | None) -> str:
    return "-" if value is None else value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

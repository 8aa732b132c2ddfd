"""Issues certificates of destruction: reads the ledger, verifies the store, signs what it found."""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING

from trafficlog.certificate import (
    FINDINGS_SHOWN_MAX,
    ISSUER_CHARS_MAX,
    Certificate,
    Findings,
    Gathering,
    Head,
)
from trafficlog.errors import InvalidValueError
from trafficlog.queries import queries
from trafficlog.signature import sign
from trafficlog.signing import signing_key
from trafficlog.store.database import availability
from trafficlog.store.retention import Retention
from trafficlog.store.verify import verify

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    import asyncpg

    from trafficlog.certificate import Period
    from trafficlog.config import Config
    from trafficlog.signature import SignedCertificate


class Certificates:
    """Issues certificates, one at a time.

    Works on a connection of its own in the role of retention, which alone can verify all; what
    it reads is the ledger and the catalogue, never a record.

    Args:
        dsn: the database.
        config: its settings.
        key_file: the signing key; made when it is missing. None: nothing can be signed.
        issuer: the name of who runs the installation, which certificates then bear.

    Raises:
        InvalidValueError: the issuer's name is empty, too long or not printable.
    """

    def __init__(self, dsn: str, config: Config, key_file: Path | None, issuer: str | None) -> None:
        if issuer is not None and not (
            issuer.isprintable() and 0 < len(issuer.strip()) <= len(issuer) <= ISSUER_CHARS_MAX
        ):
            raise InvalidValueError(
                "--issuer", issuer, f"must be 1 to {ISSUER_CHARS_MAX} printable characters"
            )
        self._dsn = dsn
        self._config = config
        self._key_file = key_file
        self._issuer = issuer
        self._one = asyncio.Lock()

    async def issue(self, period: Period, now: datetime) -> SignedCertificate:
        """A certificate of a period that has ended, issued at ``now``.

        Raises:
            SigningKeyError: there is no key to sign with.
            DatabaseUnavailableError: the database does not answer.
        """
        key = signing_key(self._key_file)
        async with self._one, Retention(self._dsn, self._config) as retention:
            gathering = Gathering(period)
            verification = await verify(
                retention.connection, now, self._config, watch=gathering.add
            )
            installation = await _installation(retention.connection)
        head = Head(verification.ledger_entries, verification.ledger_head.hex())
        return sign(
            Certificate(
                installation=installation,
                issuer=self._issuer,
                issued_at=now,
                period=period,
                destruction=gathering.destruction(head),
                verification=Findings(
                    verification.partitions,
                    verification.ledger_entries,
                    verification.ledger_holds,
                    len(verification.findings),
                    verification.findings[:FINDINGS_SHOWN_MAX],
                ),
            ),
            key,
        )


async def _installation(connection: asyncpg.Connection) -> str:
    """What tells one installation from another; it betrays nothing of the secret it comes from."""
    with availability():
        secret = await queries.cursor_secret(connection)
    return hmac.digest(secret, b"trafficlog installation", "sha256").hex()[:16]

"""Paging cursors: a place in the list, signed so that no other can be made up."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from trafficlog.errors import InvalidValueError
from trafficlog.store.history import Position

if TYPE_CHECKING:
    from trafficlog.records import AccountKey

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SIGNATURE_BYTES: Final = 12
MICROSECOND: Final = timedelta(microseconds=1)


class Cursors:
    """Writes and reads cursors; each is good for one account alone."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def write(self, account: AccountKey, position: Position) -> str:
        """The cursor for a place in an account's list."""
        microseconds = (position.created - EPOCH) // MICROSECOND
        place = struct.pack(">q", microseconds) + position.id.encode()
        return self._encode(self._sign(account, place) + place)

    def read(self, account: AccountKey, cursor: str) -> Position:
        """The place that a cursor tells.

        Raises:
            InvalidValueError: it was not written here for this account.
        """
        try:
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            raw = base64.b64decode(padded, altchars=b"-_", validate=True)
            signature, place = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
            genuine = hmac.compare_digest(signature, self._sign(account, place))
            if not genuine or self._encode(raw) != cursor:
                raise ValueError
            (microseconds,) = struct.unpack(">q", place[:8])
            return Position(EPOCH + microseconds * MICROSECOND, place[8:].decode())
        except (ValueError, binascii.Error, struct.error, OverflowError):
            raise InvalidValueError(
                "cursor", cursor, "is not a cursor of this list; take it from `next` as it is"
            ) from None

    @staticmethod
    def _encode(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    def _sign(self, account: AccountKey, place: bytes) -> bytes:
        message = b"history:%d:" % account + place
        return hmac.digest(self._secret, message, hashlib.sha256)[:SIGNATURE_BYTES]

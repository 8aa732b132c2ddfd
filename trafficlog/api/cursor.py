"""Paging cursors: a place in a list, signed so that no other can be made up."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from trafficlog.errors import InvalidValueError
from trafficlog.store.history_list import Position

if TYPE_CHECKING:
    from trafficlog.records import AccountKey

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SIGNATURE_BYTES: Final = 12
INSTANT_BYTES: Final = 8
MICROSECOND: Final = timedelta(microseconds=1)


class Cursors:
    """Writes and reads cursors; each is good for one list alone, such as an account's history."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def write(self, account: AccountKey, position: Position) -> str:
        """The cursor for a place in an account's history."""
        return self.sign(_history(account), packed(position.created) + position.id.encode())

    def read(self, account: AccountKey, cursor: str) -> Position:
        """The place in an account's history that a cursor tells.

        Raises:
            InvalidValueError: it was not written here for this account.
        """
        place = self.place(_history(account), cursor)
        return Position(unpacked(place), place[INSTANT_BYTES:].decode())

    def sign(self, list_name: str, place: bytes) -> str:
        """The cursor for a place in a list, both in whatever form its reader knows."""
        return self._encode(self._sign(list_name, place) + place)

    def place(self, list_name: str, cursor: str) -> bytes:
        """The place that a cursor of a list tells.

        Raises:
            InvalidValueError: it was not written here for this list.
        """
        try:
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            raw = base64.b64decode(padded, altchars=b"-_", validate=True)
            signature, place = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
            genuine = hmac.compare_digest(signature, self._sign(list_name, place))
            if not genuine or self._encode(raw) != cursor:
                raise ValueError
        except (ValueError, binascii.Error):
            raise InvalidValueError(
                "cursor", cursor, "is not a cursor of this list; take it from `next` as it is"
            ) from None
        return place

    @staticmethod
    def _encode(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    def _sign(self, list_name: str, place: bytes) -> bytes:
        message = list_name.encode() + b":" + place
        return hmac.digest(self._secret, message, hashlib.sha256)[:SIGNATURE_BYTES]


def packed(instant: datetime) -> bytes:
    """An instant in a cursor: microseconds since 1970."""
    return ((instant - EPOCH) // MICROSECOND).to_bytes(INSTANT_BYTES, signed=True)


def unpacked(place: bytes) -> datetime:
    """The instant that a place begins with."""
    return EPOCH + timedelta(microseconds=int.from_bytes(place[:INSTANT_BYTES], signed=True))


def _history(account: AccountKey) -> str:
    return f"history:{account}"

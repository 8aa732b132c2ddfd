"""Sessions of the page: a signed cookie that says which key opened it, and until when."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from trafficlog.records import AccountKey

if TYPE_CHECKING:
    from trafficlog.store.keys import Principal

SIGNATURE_BYTES: Final = 32
SESSION_ID_BYTES: Final = 16
# The account's key, the end in microseconds since 1970, and the session's id; the key's id follows.
LAYOUT: Final = struct.Struct(f">qq{SESSION_ID_BYTES}s")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Session:
    """Who signed in, and until when; ``id`` tells it from others of the same key."""

    id: bytes
    key_id: str
    account_key: AccountKey
    expires_at: datetime


class Sessions:
    """Opens, signs and reads sessions. Whether the key is still in force is asked elsewhere.

    Args:
        secret: what the installation signs with; a key of its own is derived from it.
        period: how long a session lasts. It is not renewed by use.
    """

    def __init__(self, secret: bytes, period: timedelta) -> None:
        self._key = hmac.digest(secret, b"page session", hashlib.sha256)
        self.period = period

    def open(self, principal: Principal, now: datetime) -> Session:
        """A new session for a customer's key."""
        if principal.account_key is None:
            raise ValueError("only a customer's key opens a session")
        return Session(
            secrets.token_bytes(SESSION_ID_BYTES),
            principal.key_id,
            principal.account_key,
            now + self.period,
        )

    def write(self, session: Session) -> str:
        """The session as its cookie."""
        end = (session.expires_at - EPOCH) // MICROSECOND
        content = LAYOUT.pack(session.account_key, end, session.id) + session.key_id.encode()
        return _encode(self._sign(b"session:", content) + content)

    def read(self, cookie: str | None, now: datetime) -> Session | None:
        """The session of a cookie; None when it was not written here, or is over."""
        try:
            padded = (cookie or "").encode("ascii") + b"=" * (-len(cookie or "") % 4)
            raw = base64.b64decode(padded, altchars=b"-_", validate=True)
            signature, content = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
            if not hmac.compare_digest(signature, self._sign(b"session:", content)):
                return None
            account_key, end, session_id = LAYOUT.unpack_from(content)
        except (ValueError, binascii.Error, struct.error):
            return None
        session = Session(
            session_id,
            content[LAYOUT.size :].decode(),
            AccountKey(account_key),
            EPOCH + end * MICROSECOND,
        )
        return session if now < session.expires_at else None

    def csrf_token(self, session: Session) -> str:
        """What each form of a session carries, and no other site can know."""
        return _encode(self._sign(b"form:", session.id))

    def is_csrf_token(self, session: Session, token: str) -> bool:
        """Whether a form came from a page of this session."""
        return hmac.compare_digest(token.encode(), self.csrf_token(session).encode())

    def _sign(self, purpose: bytes, content: bytes) -> bytes:
        return hmac.digest(self._key, purpose + content, hashlib.sha256)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")

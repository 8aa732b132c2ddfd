"""The key that certificates are signed with: a file, never in the database.

Whoever can rewrite the ledger must not thereby be able to sign what they wrote.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from trafficlog.errors import InvalidValueError, SigningKeyError
from trafficlog.signature import key_id

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger()

DEFAULT_NAME: Final = "signing_key.pem"
# The owner reads and writes, a group may read: so secrets are handed to containers.
_FORBIDDEN_MODE: Final = 0o027


def signing_key(path: Path | None) -> Ed25519PrivateKey:
    """The key in a file (PKCS #8, PEM); made when there is no file, for its owner alone.

    Of several processes that make it at once, one's key becomes the key of all.

    Raises:
        SigningKeyError: the file holds no such key, others may read it, it cannot be made, or
            nobody has said where it is to be.
    """
    if path is None:
        raise SigningKeyError(
            "with a database of your own, say where the signing key is or is to be made: "
            "TRAFFICLOG_SIGNING_KEY_FILE, or a data directory"
        )
    try:
        if not path.exists():
            _make(path)
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise SigningKeyError(f"the signing key {path}: {error.strerror}") from error
    if mode & _FORBIDDEN_MODE:
        raise SigningKeyError(f"the signing key {path} is open to others: chmod 600 it")
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyError(f"{path} holds no Ed25519 private key in PEM without a password")
    return key


def public_key(content: bytes) -> Ed25519PublicKey:
    """The public key in what ``ledger public-key`` prints.

    Raises:
        InvalidValueError: there is none in it.
    """
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        # Its beginning is not shown: it may be a private key, given by mistake.
        raise InvalidValueError("--public-key", "…", "holds no Ed25519 public key in PEM")
    return key


def pem(key: Ed25519PublicKey) -> str:
    """A public key as a file, such as OpenSSL reads."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _make(path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Whole before it has its name, so that nobody reads half a key; and a link, unlike a
    # rename, never takes the place of a key that another process has made meanwhile.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            path.hardlink_to(draft)
            log.warning("signing_key_made", path=str(path), key_id=key_id(key.public_key()))
    finally:
        draft.unlink()

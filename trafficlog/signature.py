"""Signed certificates: made, and checked without a store.

What is signed are the bytes of the certificate's canonical JSON: members sorted by name, no white
space, UTF-8, nothing escaped that need not be, whole numbers only. For such values that is
RFC 8785. The signature is Ed25519 (RFC 8032), which anybody can check with OpenSSL.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from trafficlog.certificate import Certificate
from trafficlog.errors import InvalidValueError, SignatureWrongError

# Beyond it, a number is not the same in every reader of JSON (RFC 8785, 3.2.2.3).
WHOLE_NUMBER_MAX: Final = 2**53 - 1
KEY_ID_CHARS: Final = 16
ALGORITHM: Final = "Ed25519"

# In what ways a file can be no certificate.
_UNREADABLE: Final = (
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    RecursionError,
    UnsupportedAlgorithm,
)


class _Signature(msgspec.Struct, frozen=True):
    algorithm: Literal["Ed25519"]
    key_id: str
    public_key: str
    value: str


class _Envelope(msgspec.Struct, frozen=True):
    certificate: dict[str, Any]
    signature: _Signature


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """A certificate with its signature, and whose key it says that it was signed with.

    ``digest`` is the SHA-256 of the bytes that are signed, ``public_key`` the DER form in base64.
    """

    certificate: Certificate
    digest: str
    key_id: str
    public_key: str
    signature: str
    text: bytes


def canonical(value: Any) -> bytes:
    """JSON as it is signed.

    Raises:
        InvalidValueError: there is something in it that has no canonical form here.
    """
    _refuse_inexact(value)
    try:
        text = json.dumps(
            value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        )
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError("certificate", "…", f"has no canonical form: {error}") from None


def sign(certificate: Certificate, key: Ed25519PrivateKey) -> SignedCertificate:
    """Signs a certificate.

    The text is JSON in three lines, of which the second is what is signed: it can be cut out
    without a program that reads JSON.
    """
    signed = canonical(msgspec.to_builtins(certificate))
    public = key.public_key()
    signature = _Signature(
        ALGORITHM,
        key_id(public),
        base64.b64encode(der(public)).decode(),
        base64.b64encode(key.sign(signed)).decode(),
    )
    text = b'{"certificate":\n%s\n,"signature":%s}\n' % (
        signed,
        canonical(msgspec.to_builtins(signature)),
    )
    return _signed(certificate, signed, signature, text)


def read_signed(content: bytes, key: Ed25519PublicKey | None = None) -> SignedCertificate:
    """A certificate whose signature is right.

    Args:
        content: the text that ``sign`` made; its white space and the order of members may differ.
        key: whose signature it must be. Without one it is checked with the key that is in the
            text: so nothing was changed since it was signed, but by whom it was signed stays open.

    Raises:
        InvalidValueError: the content is no such text.
        SignatureWrongError: the signature does not fit.
    """
    try:
        envelope = msgspec.convert(
            json.loads(content, object_pairs_hook=_without_duplicates), _Envelope
        )
        certificate = msgspec.convert(envelope.certificate, Certificate)
        signature = envelope.signature
        embedded = load_der_public_key(base64.b64decode(signature.public_key, validate=True))
        value = base64.b64decode(signature.value, validate=True)
        if not isinstance(embedded, Ed25519PublicKey):
            raise TypeError("its public key is not of Ed25519")
    except _UNREADABLE as error:
        raise InvalidValueError(
            "--certificate",
            content[:40],
            f"is not what `ledger certificate --json` writes: {error}",
        ) from None
    if signature.key_id != key_id(embedded):
        raise SignatureWrongError("the key's id in it is not that of the key in it")
    signed = canonical(envelope.certificate)
    try:
        (key or embedded).verify(value, signed)
    except InvalidSignature:
        if key is None:
            raise SignatureWrongError("it was changed after it was signed") from None
        raise SignatureWrongError(
            f"it was not signed with the key {key_id(key)}, or changed afterwards; it names the "
            f"key {signature.key_id}"
        ) from None
    return _signed(certificate, signed, signature, content)


def key_id(key: Ed25519PublicKey) -> str:
    """What a key is called: the beginning of the SHA-256 of its DER form."""
    return hashlib.sha256(der(key)).hexdigest()[:KEY_ID_CHARS]


def der(key: Ed25519PublicKey) -> bytes:
    """A public key as RFC 8410 puts it, which OpenSSL reads."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _signed(
    certificate: Certificate, signed: bytes, signature: _Signature, text: bytes
) -> SignedCertificate:
    return SignedCertificate(
        certificate,
        hashlib.sha256(signed).hexdigest(),
        signature.key_id,
        signature.public_key,
        signature.value,
        text,
    )


def _refuse_inexact(value: Any) -> None:
    """Refuses numbers that another reader of JSON might write otherwise."""
    match value:
        case dict():
            for each in value.values():
                _refuse_inexact(each)
        case list():
            for each in value:
                _refuse_inexact(each)
        case float():
            raise InvalidValueError("certificate", value, "must hold whole numbers only")
        case int() if abs(value) > WHOLE_NUMBER_MAX:
            raise InvalidValueError("certificate", value, f"must be at most {WHOLE_NUMBER_MAX}")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; with a name in it twice, two readers could read two things."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found

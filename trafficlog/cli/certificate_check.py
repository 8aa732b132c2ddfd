"""``trafficlog ledger verify --certificate``: without a database."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from trafficlog.certificate import disagreements, entries_since
from trafficlog.cli.common import ANSWER_IS_NO
from trafficlog.errors import SignatureWrongError
from trafficlog.ledger import read_export, verify_chain
from trafficlog.signature import read_signed
from trafficlog.signing import public_key

if TYPE_CHECKING:
    from pathlib import Path

    from trafficlog.certificate import Certificate
    from trafficlog.cli.common import Target
    from trafficlog.ledger import LedgerEntry

EMBEDDED_KEY_ONLY = (
    "only the key inside the certificate was used: nothing was changed since it was signed, but "
    "by whom it was signed is open; give --public-key with the key that its issuer made known"
)


def check_certificate(
    target: Target, certificate: Path, key_file: Path | None, exported: Path | None
) -> None:
    """Checks the signature, and with an exported ledger that it says the same.

    Raises:
        InvalidValueError: one of the files is not what it should be.
    """
    key = None if key_file is None else public_key(key_file.read_bytes())
    entries = None if exported is None else read_export(exported.read_bytes())
    try:
        signed = read_signed(certificate.read_bytes(), key)
    except SignatureWrongError as error:
        _answer(target, {"ok": False, "faults": [f"signature: {error.detail}"]}, [])
        sys.exit(ANSWER_IS_NO)
    faults = [] if entries is None else _against(signed.certificate, entries)
    stated = signed.certificate.verification
    notes = [] if key_file is not None else [EMBEDDED_KEY_ONLY]
    if stated.count:
        notes.append(f"the certificate itself states {stated.count} faults of the store")
    if entries is not None and (late := entries_since(signed.certificate, entries)):
        notes.append(f"{late} entries of the period were added after it was issued")
    period = signed.certificate.period
    _answer(
        target,
        {
            "ok": not faults,
            "faults": faults,
            "key_id": signed.key_id,
            "origin_checked": key_file is not None,
            "ledger_checked": entries is not None,
            "issuer": signed.certificate.issuer,
            "installation": signed.certificate.installation,
            "issued_at": signed.certificate.issued_at,
            "from": period.lower,
            "to": period.upper,
            "findings": stated.count,
            "notes": notes,
        },
        [
            f"the signature of key {signed.key_id} is right",
            f"period: from {period.lower:%Y-%m-%d %H:%M:%SZ} to {period.upper:%Y-%m-%d %H:%M:%SZ}",
            *(["the exported ledger says the same"] if entries is not None and not faults else []),
            *(f"note: {note}" for note in notes),
        ],
    )
    if faults:
        sys.exit(ANSWER_IS_NO)


def _against(certificate: Certificate, entries: list[LedgerEntry]) -> list[str]:
    return [
        *(f"the exported ledger: {fault}" for fault in verify_chain(entries).faults),
        *disagreements(certificate, entries),
    ]


def _answer(target: Target, data: dict[str, Any], lines: list[str]) -> None:
    sentences = [*(f"fault: {fault}" for fault in data["faults"]), *lines]
    if target.as_json:
        target.answer(data, str)
    else:
        click.echo("\n".join(sentences))

"""``trafficlog ledger``."""

from __future__ import annotations

import base64
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trafficlog import signing
from trafficlog.certificate import Period
from trafficlog.certificate_page import CertificatePage
from trafficlog.cli.certificate_check import check_certificate
from trafficlog.cli.common import (
    ANSWER_IS_NO,
    database_command,
    print_json,
    table_of,
)
from trafficlog.cli.signing import SIGNING_KEY_FILE, key_file_of, signing_options
from trafficlog.clock import parse_instant
from trafficlog.errors import InvalidValueError
from trafficlog.ledger import verify_export
from trafficlog.signature import der, key_id
from trafficlog.store.certificates import Certificates
from trafficlog.store.retention import Retention
from trafficlog.store.verify import read_ledger, verify_ledger

if TYPE_CHECKING:
    from trafficlog.cli.common import Target
    from trafficlog.ledger import LedgerEntry, LedgerReport
    from trafficlog.signature import SignedCertificate

INPUT = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def ledger() -> None:
    """Verify and export the ledger of everything destroyed, and certify what is in it."""


@ledger.command("verify")
@click.option(
    "--file",
    "exported",
    type=INPUT,
    help="Check what `ledger export --json` wrote, without a database.",
)
@click.option(
    "--certificate",
    type=INPUT,
    help="Check what `ledger certificate --json` wrote, without a database; with --file also "
    "whether that ledger says the same.",
)
@click.option(
    "--public-key",
    type=INPUT,
    help="Whose signature the certificate must bear: what `ledger public-key` printed.",
)
@database_command
def ledger_verify(
    target: Target, exported: Path | None, certificate: Path | None, public_key: Path | None
) -> None:
    """Check the ledger's chain of hashes, or a certificate. Exit code 1 when it is broken."""
    if certificate is not None:
        check_certificate(target, certificate, public_key, exported)
        return
    if public_key is not None:
        raise InvalidValueError("--public-key", str(public_key), "goes with --certificate")

    async def work(dsn: str) -> LedgerReport:
        async with Retention(dsn, target.config) as executor:
            return await verify_ledger(executor.connection)

    report = target.run(work) if exported is None else verify_export(exported.read_bytes())
    target.answer(
        {
            "ok": not report.faults,
            "entries": report.entries,
            "head": report.head.hex(),
            "faults": list(report.faults),
        },
        lambda: (
            table_of(["fault"], [[f] for f in report.faults], "")
            if report.faults
            else f"the chain holds: {report.entries} entries, head {report.head.hex()}"
        ),
    )
    if report.faults:
        sys.exit(ANSWER_IS_NO)


@ledger.command("export")
@database_command
def ledger_export(target: Target) -> None:
    """Print the whole ledger: a table, or with --json one object with all entries."""

    async def work(dsn: str) -> list[LedgerEntry]:
        async with Retention(dsn, target.config) as executor:
            return [entry async for entry in read_ledger(executor.connection)]

    entries = target.run(work)
    if target.as_json:
        print_json(
            {
                "entries": [
                    asdict(e) | {"previous": e.previous.hex(), "hash": e.hash.hex()}
                    for e in entries
                ]
            }
        )
        return
    target.answer(
        None,
        lambda: table_of(
            ["seq", "at", "class", "object", "reason", "rows", "held", "hash"],
            [
                [e.seq, e.at, e.data_class, e.object, e.reason, e.rows, e.held, e.hash.hex()[:16]]
                for e in entries
            ],
            "nothing has been destroyed yet",
        ),
    )


@ledger.command("certificate")
@click.option("--from", "lower", required=True, metavar="TIME", help="Where the period begins.")
@click.option(
    "--to",
    "upper",
    required=True,
    metavar="TIME",
    help="Where it ends; this instant is no longer part of it.",
)
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Also write the certificate as a page to print.",
)
@signing_options
@database_command
def ledger_certificate(
    target: Target,
    lower: str,
    upper: str,
    page: Path | None,
    signing_key_file: Path | None,
    issuer: str | None,
) -> None:
    """Issue a signed certificate of what was destroyed in a period that has ended.

    With --json it is printed as it is signed. It states what verification finds wrong, and
    then the exit code is 1.
    """
    now = target.clock.now()
    period = Period.ended(
        parse_instant(lower, "--from"), parse_instant(upper, "--to"), now, names=("--from", "--to")
    )
    key_file = key_file_of(target, signing_key_file)

    async def work(dsn: str) -> SignedCertificate:
        return await Certificates(dsn, target.config, key_file, issuer).issue(period, now)

    signed = target.run(work)
    if page is not None:
        try:
            page.write_text(CertificatePage().html(signed), "utf-8")
        except OSError as error:
            raise InvalidValueError("--html", str(page), f"{error.strerror}") from error
    if target.as_json:
        sys.stdout.buffer.write(signed.text)
        sys.stdout.flush()
    else:
        _show(target, signed)
    if signed.certificate.verification.count:
        sys.exit(ANSWER_IS_NO)


@ledger.command("public-key")
@SIGNING_KEY_FILE
@database_command
def ledger_public_key(target: Target, signing_key_file: Path | None) -> None:
    """Print the public key that certificates are checked with; no database is needed.

    The key is made if there is none yet, so that it can be made known beforehand.
    """
    key = signing.signing_key(key_file_of(target, signing_key_file)).public_key()
    if target.as_json:
        print_json(
            {
                "algorithm": "Ed25519",
                "key_id": key_id(key),
                "public_key": base64.b64encode(der(key)).decode(),
                "pem": signing.pem(key),
            }
        )
    else:
        click.echo(signing.pem(key), nl=False)


def _show(target: Target, signed: SignedCertificate) -> None:
    """The certificate for people: what was destroyed, what is wrong, and what ties it down."""
    certificate = signed.certificate
    destruction, verification = certificate.destruction, certificate.verification
    target.answer(
        None,
        lambda: table_of(
            ["class", "reason", "entries", "rows", "held"],
            [[t.data_class, t.reason, t.entries, t.rows, t.held] for t in destruction.totals],
            "nothing was destroyed in this period",
        ),
    )
    for finding in verification.listed:
        click.echo(f"fault: {finding}")
    click.echo(
        f"issued {certificate.issued_at:%Y-%m-%d %H:%M:%SZ} with the key {signed.key_id}, "
        f"{verification.count} faults found, ledger up to entry {destruction.head.seq}; "
        f"SHA-256 {signed.digest}"
    )

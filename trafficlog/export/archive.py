"""All that is kept for an account as one ZIP archive, written as it comes.

Each file's size and checksum stand after it, since they are not known before; the list of all
files is the end of an archive, without which it does not open.
"""

from __future__ import annotations

import hashlib
import textwrap
import zipfile
from typing import TYPE_CHECKING, Any, Final

import orjson

from trafficlog.export.lines import Ndjson
from trafficlog.export.sink import Sink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    import pyarrow as pa

HISTORY: Final = "history.ndjson"
MANIFEST: Final = "manifest.json"
README: Final = "README.txt"
MANIFEST_VERSION: Final = 1
# As an export in gzip.
DEFLATE_LEVEL: Final = 1
# What is in no archive, whatever is kept for the account: the same words for everyone.
NOT_INCLUDED: Final = (
    {
        "what": "the legal record of traffic (who reached whom, when, from which address)",
        "why": "The law has it kept apart, for a stated time, and for lawful requests alone; this "
        "service cannot read it for any other purpose. Ask the operator for access to it.",
    },
    {
        "what": "what the law, or the establishment or defence of legal claims, may require the "
        "operator to keep apart",
        "why": "It serves that purpose alone. Ask the operator, who says what can be said.",
    },
    {
        "what": "debug lines and communications that are still being delivered",
        "why": "The former are gone after days, the latter within hours.",
    },
    {
        "what": "records that expired, were erased, or were not to be logged",
        "why": "They are not stored any more, or never were.",
    },
    {
        "what": "API keys",
        "why": "Only a digest of each is stored, from which the key cannot be had.",
    },
)
_README: Final = """\
Everything that is kept for the account {account}
as of {made_at}.

history.ndjson
    One record a line, as JSON, newest first. Times are in UTC (RFC 3339);
    `duration` is in seconds, `cost` in 1/10000 of {currency}.
    `expires` is when the record will be gone. What is not known, or was not
    to be logged, is absent. It was read while the service went on: records
    that expired or were erased meanwhile may be missing.

settings.json
    What is kept for the account, and for how long.

statistics.csv, statistics.json
    What was used on each day (UTC): counts, parts, seconds and cost by kind,
    direction and status. No number, name or text is in them.

reports/
    The monthly reports, one file a month.

erasures/
    The receipts of erasures that were asked for by filter or of everything.

manifest.json
    The name, size and SHA-256 of every file in this archive, and what is not
    in it and why. On Linux or macOS the sums can be checked by
    `sha256sum FILE` or `shasum -a 256 FILE`.

Not in this archive
-------------------
{not_included}
"""


class Archive:
    """One ZIP archive: documents, the history, and a manifest with the checksums of all.

    Args:
        about: `account` and what else the manifest is to say of whose archive it is.
        documents: small files by name, as they are.
        clock: what time it is.
    """

    def __init__(
        self,
        about: Mapping[str, str | None],
        documents: Mapping[str, bytes],
        clock: Callable[[], datetime],
    ) -> None:
        self._about = about
        self._clock = clock
        self._made_at = clock()
        self._documents = {README: self._readme(), **documents}
        self._files: list[dict[str, Any]] = []
        self._sink = Sink()
        self._zip = _ForgottenZip(self._sink, "w", zipfile.ZIP_DEFLATED)
        self._lines = Ndjson()
        self._history: Any = None
        self._digest = hashlib.sha256()
        self._bytes = self._records = 0

    def page(self, records: pa.RecordBatch) -> bytes:
        """What a page of history adds."""
        self._begin()
        self._add_lines(self._lines.page(records))
        self._records += records.num_rows
        return self._sink.taken()

    def end(self) -> bytes:
        """The manifest and the list of files."""
        self._begin()
        self._history.close()
        self._note(HISTORY, self._bytes, self._digest.hexdigest(), records=self._records)
        manifest = {
            "version": MANIFEST_VERSION,
            **self._about,
            "made_at": self._made_at,
            "completed_at": self._clock(),
            "files": self._files,
            "not_included": NOT_INCLUDED,
        }
        self._zip.writestr(self._entry(MANIFEST), _pretty(manifest))
        self._zip.close()
        return self._sink.taken()

    def _begin(self) -> None:
        """Writes the documents, once, and begins the history."""
        if self._history is not None:
            return
        for name, content in self._documents.items():
            self._zip.writestr(self._entry(name), content)
            self._note(name, len(content), hashlib.sha256(content).hexdigest())
        # Its size is not known, and may be more than the old form of ZIP can tell.
        self._history = self._zip.open(self._entry(HISTORY), "w", force_zip64=True)

    def _add_lines(self, lines: bytes) -> None:
        self._history.write(lines)
        self._digest.update(lines)
        self._bytes += len(lines)

    def _note(self, name: str, size: int, digest: str, **more: int) -> None:
        self._files.append({"name": name, "bytes": size, "sha256": digest, **more})

    def _entry(self, name: str) -> zipfile.ZipInfo:
        entry = zipfile.ZipInfo(name, self._made_at.timetuple()[:6])
        entry.compress_type = zipfile.ZIP_DEFLATED
        # Before Python 3.13 there is no other way to say it of one file.
        entry._compresslevel = DEFLATE_LEVEL  # type: ignore[attr-defined,unused-ignore]  # noqa: SLF001
        entry.external_attr = 0o644 << 16
        return entry

    def _readme(self) -> bytes:
        currency = self._about.get("currency") or "the account's currency"
        items = "\n".join(_item(each["what"], each["why"]) for each in NOT_INCLUDED)
        return _README.format(
            account=self._about["account"],
            made_at=f"{self._made_at:%Y-%m-%d %H:%M:%S} UTC",
            currency=currency,
            not_included=items,
        ).encode()


class _ForgottenZip(zipfile.ZipFile):
    """One that may be left in the middle: then there is nobody to whom its end is of use."""

    def __del__(self) -> None:
        """Does not try to write that end."""


def _item(what: str, why: str) -> str:
    return "\n".join(
        [
            textwrap.fill(f"{what}:", initial_indent="- ", subsequent_indent="  "),
            textwrap.fill(why, initial_indent="  ", subsequent_indent="  "),
        ]
    )


def _pretty(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_INDENT_2)

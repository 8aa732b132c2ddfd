"""Why a record is not taken, in words that a person can act on.

Typed decoding (msgspec) is fast and says little; what it objects to is told here by the name
of the field, its value, and what it must be.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec

from trafficlog.errors import InvalidValueError
from trafficlog.values import INTEGER_MAX, IP_RULE, TAGS_MAX, USER_AGENT_CHARS_MAX

# What each field must be, as the second half of a sentence.
_FIELD_RULES: Final = {
    "id": "must be 1 to 64 characters of A-Z a-z 0-9 . _ : @ + ~ = -",
    "account": "must be 1 to 64 characters of A-Z a-z 0-9 . _ : @ + ~ = -",
    "kind": "must be one of sms, mms, call",
    "direction": "must be one of incoming, outgoing, outgoing-reply",
    "from": "must be a text of 1 to 64 printable characters",
    "to": "must be a text of 1 to 64 printable characters",
    "created": "must be a time as RFC 3339 writes it, such as 2026-03-14T09:52:07Z",
    "updated": "must be a time as RFC 3339 writes it, such as 2026-03-14T09:52:07Z",
    "delivered": "must be a time as RFC 3339 writes it, such as 2026-03-14T09:52:07Z",
    "status": "must be one of created, sent, delivered, failed, received; "
    "for calls ongoing, success, failed, busy, no-answer",
    "duration": f"must be a whole number of seconds from 0 to {INTEGER_MAX}",
    "parts": f"must be a whole number from 0 to {INTEGER_MAX}",
    "cost": f"must be a whole number from 0 to {INTEGER_MAX}, in 1/10000 of the currency",
    "ip": IP_RULE,
    "user_agent": f"must be a text of at most {USER_AGENT_CHARS_MAX} printable characters",
    "message": "must be a text",
    "dontlog": "must be message, from, to, or a list of these",
    "owner": "must be a text of 1 to 64 printable characters",
    "tags": f"must be a list of at most {TAGS_MAX} texts of 1 to 64 characters",
}

_REASON_CODES: Final = (
    ("missing required field", "missing"),
    ("Invalid enum value", "not_in_set"),
    ("Invalid RFC3339", "bad_time"),
    ("matching regex", "bad_format"),
    ("of length", "bad_length"),
    (">=", "out_of_range"),
    ("<=", "out_of_range"),
    ("Expected", "wrong_type"),
)

# What is wrong with a larger record is told without reading it again as Python values: nobody else
# has a turn meanwhile, and it takes up to 75 ms a megabyte, and twenty times the memory.
EXPLAINED_BYTES_MAX: Final = 256 * 1024
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
# Without one of these in its bytes no text of a record has one.
_SURROGATE_BYTES: Final = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")

_encode: Final = json.JSONEncoder(ensure_ascii=False).encode


class Refusal(msgspec.Struct, frozen=True):
    """Why one record of a batch was not stored; ``raw`` is its text.

    ``account`` is the one it names, which need not exist.
    """

    index: int
    id: str | None
    field: str | None
    code: str
    detail: str
    raw: str
    account: str | None = None


def in_words(raw: bytes, error: Exception) -> InvalidValueError:
    """What typed decoding objected to, as an error that names the field and its value."""
    if len(raw) > EXPLAINED_BYTES_MAX:
        return _of_a_large_one(raw, error)
    try:
        # The standard decoder lets lone surrogates through, so that the field
        # they stand in can be named.
        value: Any = json.loads(raw)
    except (ValueError, RecursionError) as reason:
        return _malformed(raw, reason)
    if not isinstance(value, dict):
        return InvalidValueError("record", value, "must be a JSON object", reason_code="wrong_type")
    if _SURROGATE_BYTES.search(raw):
        for name, content in value.items():
            text = content if isinstance(content, str) else _encode(content)
            if _SURROGATE.search(text):
                return InvalidValueError(
                    name if name in _FIELD_RULES else "record",
                    text[:200].encode("utf-8", "backslashreplace").decode(),
                    "contains half of a surrogate pair, which is no character",
                    reason_code="unprintable",
                )
    message = str(error)
    code, field = _objection(message)
    if code == "missing":
        return InvalidValueError(field, None, "is required", reason_code=code)
    return InvalidValueError(
        field, value.get(field), _FIELD_RULES.get(field, message), reason_code=code
    )


def _of_a_large_one(raw: bytes, error: Exception) -> InvalidValueError:
    """The same by what is said alone; the value is the beginning of the record."""
    if not isinstance(error, msgspec.ValidationError):
        return _malformed(raw, error)
    code, field = _objection(str(error))
    rule = "is required" if code == "missing" else _FIELD_RULES.get(field, str(error))
    return InvalidValueError(field, _beginning(raw), rule, reason_code=code)


def _objection(message: str) -> tuple[str, str]:
    """The code of what typed decoding says, and the field of which it says it."""
    code = next((c for words, c in _REASON_CODES if words in message), "invalid")
    if code == "missing":
        return code, message.rsplit("`", 2)[1]
    found = re.search(r"`\$\.(\w+)", message)
    return code, found[1] if found else "record"


def _malformed(raw: bytes, reason: Exception) -> InvalidValueError:
    return InvalidValueError(
        "record", _beginning(raw), f"is not JSON: {reason}", reason_code="malformed_json"
    )


def _beginning(raw: bytes) -> str:
    return raw[:200].decode("utf-8", "replace")

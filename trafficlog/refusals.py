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

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


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
    try:
        # The standard decoder lets lone surrogates through, so that the field
        # they stand in can be named.
        value: Any = json.loads(raw)
    except (ValueError, RecursionError) as reason:
        return InvalidValueError(
            "record",
            raw[:200].decode("utf-8", "replace"),
            f"is not JSON: {reason}",
            reason_code="malformed_json",
        )
    if not isinstance(value, dict):
        return InvalidValueError("record", value, "must be a JSON object", reason_code="wrong_type")
    for name, content in value.items():
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        if _SURROGATE.search(text):
            return InvalidValueError(
                name if name in _FIELD_RULES else "record",
                text[:200].encode("utf-8", "backslashreplace").decode(),
                "contains half of a surrogate pair, which is no character",
                reason_code="unprintable",
            )
    message = str(error)
    code = next((c for words, c in _REASON_CODES if words in message), "invalid")
    if code == "missing":
        field = message.rsplit("`", 2)[1]
        return InvalidValueError(field, None, "is required", reason_code=code)
    found = re.search(r"`\$\.(\w+)", message)
    field = found[1] if found else "record"
    return InvalidValueError(
        field, value.get(field), _FIELD_RULES.get(field, message), reason_code=code
    )

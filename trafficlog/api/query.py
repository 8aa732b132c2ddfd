"""Query parameters and JSON objects of requests, checked one by one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from trafficlog.clock import parse_instant
from trafficlog.errors import BodyUnreadableError, InvalidValueError
from trafficlog.selector import Selector

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime


# Not all that int() takes: no underscore, no digits of other scripts, no endless text.
_WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,19}\Z")


def only(given: Collection[str], known: Collection[str], what: str = "parameter") -> None:
    """Refuses names that mean nothing here, so that a misspelt one is not ignored.

    Raises:
        InvalidValueError: naming the first.
    """
    for name in given:
        if name not in known:
            raise InvalidValueError(
                name,
                name,
                f"is no {what} of this request; known are {', '.join(sorted(known)) or 'none'}",
                reason_code="unknown",
            )


def one_of(query: Mapping[str, str], name: str, known: Collection[str]) -> str | None:
    """A parameter of a closed set."""
    value = query.get(name)
    if value is not None and value not in known:
        raise InvalidValueError(
            name, value, f"must be one of {', '.join(known)}", reason_code="not_in_set"
        )
    return value


def instant(query: Mapping[str, str], name: str) -> datetime | None:
    """A parameter that is a time."""
    value = query.get(name)
    # A plus sign in a query is a space once decoded.
    return None if value is None else parse_instant(value.replace(" ", "+"), name)


def whole_number(query: Mapping[str, str], name: str, default: int, high: int) -> int:
    """A parameter from 1 to ``high``."""
    text = query.get(name)
    if text is None:
        return default
    if not _WHOLE_NUMBER.match(text):
        raise InvalidValueError(name, text, "must be a whole number", reason_code="wrong_type")
    value = int(text)
    if not 1 <= value <= high:
        raise InvalidValueError(name, text, f"must be from 1 to {high}", reason_code="out_of_range")
    return value


def json_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        BodyUnreadableError: it is none.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BodyUnreadableError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BodyUnreadableError("the body must be a JSON object")
    return value


def text_field(value: Mapping[str, Any], name: str) -> str | None:
    """A text of a JSON object; None when it is absent or null."""
    text = value.get(name)
    if text is not None and (not isinstance(text, str) or "\0" in text):
        raise InvalidValueError(name, text, "must be a text", reason_code="wrong_type")
    return text


def required_text(value: Mapping[str, Any], name: str) -> str:
    """A text of a JSON object that must be there."""
    text = text_field(value, name)
    if text is None:
        raise InvalidValueError(name, None, "is required", reason_code="missing")
    return text


def instant_field(value: Mapping[str, Any], name: str) -> datetime | None:
    """A time of a JSON object; None when it is absent or null."""
    text = text_field(value, name)
    return None if text is None else parse_instant(text, name)


def parse_selector(wanted: Mapping[str, Any]) -> Selector:
    """What a hold is to cover, or a disclosure; ``record`` is written ``ACCOUNT/ID``."""
    account, record = text_field(wanted, "account"), text_field(wanted, "record")
    if record is not None:
        named, slash, record = record.partition("/")
        if not slash or not record or account not in (None, named):
            raise InvalidValueError(
                "record", wanted["record"], "must be ACCOUNT/ID", reason_code="bad_format"
            )
        account = named
    return Selector(
        account=account,
        number=text_field(wanted, "number"),
        ip=text_field(wanted, "ip"),
        record=record,
        created_from=instant_field(wanted, "created_from"),
        created_to=instant_field(wanted, "created_to"),
    )

"""The shapes of what the API reads and answers, where they stand in no type of the domain.

The description of the API is made from them, and the tests hold each answer against them. Each
field has an example: the examples of whole answers are put together from those.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trafficlog.records import CALL_STATUSES, MESSAGE_STATUSES
from trafficlog.values import NAME_PATTERN, USER_AGENT_CHARS_MAX

Instant = Annotated[datetime, Meta(tz=True)]
Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Kind = Literal["sms", "mms", "call"]
Direction = Literal["incoming", "outgoing", "outgoing-reply"]
Status = Literal[
    "created",
    "sent",
    "delivered",
    "failed",
    "received",
    "ongoing",
    "success",
    "busy",
    "no-answer",
]
RecordIdField = Annotated[str, Meta(description="The gateway's id.", examples=["m1"])]
AccountField = Annotated[str, Meta(description="The account's name.", examples=["acme"])]
At = Annotated[Instant, Meta(examples=["2026-11-22T00:04:00Z"])]
NextCursor = Annotated[
    str | None,
    Meta(
        description="Give it as `cursor` for the page that follows; null: this is the last.",
        examples=["MK2U2S3NtwGNVUEnAAZg0KWoU0A"],
    ),
]
Count = Annotated[int, Meta(ge=0)]


# What every error has, and what comes with some.


class Problem(Struct):
    """An error, as RFC 9457 puts it; `code` is stable, and what a program goes by."""

    type: Literal["about:blank"]
    title: Annotated[str, Meta(description="The status in words.", examples=["Bad request"])]
    status: Annotated[int, Meta(description="The HTTP status.", examples=[400])]
    code: Annotated[
        str, Meta(description="What went wrong, for programs.", examples=["invalid_value"])
    ]
    detail: Annotated[
        str,
        Meta(
            description="What went wrong, for people.",
            examples=["limit: must be from 1 to 1000 (got '5000')"],
        ),
    ]
    request_id: (
        Annotated[
            str,
            Meta(
                description="The request's id, as in the header `X-Request-Id` and in the log.",
                examples=["9f2d5c0a8b1e4f37"],
            ),
        ]
        | UnsetType
    ) = UNSET
    field: (
        Annotated[str, Meta(description="With `invalid_value`: what is wrong.", examples=["limit"])]
        | UnsetType
    ) = UNSET
    value: (
        Annotated[
            str,
            Meta(
                description="With `invalid_value`: what was given, shortened.", examples=["'5000'"]
            ),
        ]
        | UnsetType
    ) = UNSET
    reason: (
        Annotated[
            str,
            Meta(description="With `invalid_value`: why, for programs.", examples=["out_of_range"]),
        ]
        | UnsetType
    ) = UNSET


# Records in.


class Rejection(Struct):
    """A record or line that was refused; those beside it are stored."""

    index: Annotated[int, Meta(ge=0, description="Its place in the request, from 0.")]
    field: Annotated[str | None, Meta(description="What is wrong.", examples=["created"])]
    code: Annotated[str, Meta(description="Why, for programs.", examples=["too_late"])]
    detail: Annotated[
        str,
        Meta(
            description="Why, for people.",
            examples=["created: lies in the future (got '2097-01-01T00:00:00+00:00')"],
        ),
    ]


class RecordRejection(Rejection):
    """A record that was refused; those beside it are stored."""

    id: Annotated[str | None, Meta(description="Its id, if it has one.", examples=["m3"])]


class Ingested(Struct):
    """What became of the records of a request."""

    accepted: Annotated[Count, Meta(description="Stored, and new.", examples=[3])]
    updated: Annotated[Count, Meta(description="Later states of records that were there.")]
    duplicates: Annotated[Count, Meta(description="Known already.")]
    rejected: Annotated[list[RecordRejection], Meta(description="Refused, each with the reason.")]


class LinesTaken(Struct):
    """What became of the debug lines of a request."""

    accepted: Annotated[Count, Meta(description="Stored.", examples=[1])]
    rejected: Annotated[list[Rejection], Meta(description="Refused, each with the reason.")]


class InTransitKept(Struct):
    """What is kept until the communication is delivered."""

    id: RecordIdField
    expires: Annotated[At, Meta(description="When it goes if it is not removed before.")]


# For machines.


class Health(Struct):
    """The process answers."""

    status: Literal["ok"]


class Readiness(Struct):
    """Records can be stored."""

    status: Literal["ready"]
    schema_version: Annotated[int, Meta(examples=[10])]


# What a record in a request is comes from the type that reads it; here is what its fields mean.

_NUMBER_TEXT: Final = (
    "1 to 64 printable characters; numbers lose their separators, a leading `00` becomes `+`"
)
RECORD_FIELDS: Final[dict[str, tuple[str, Any, dict[str, Any]]]] = {
    "id": ("The gateway's id; a SIP Call-ID fits.", "m1", {"pattern": NAME_PATTERN}),
    "account": (
        "One that is not known is made, with the default period.",
        "acme",
        {"pattern": NAME_PATTERN},
    ),
    "kind": ("", "sms", {}),
    "direction": ("", "outgoing", {}),
    "from": (f"Who sent or called: {_NUMBER_TEXT}.", "Acme", {"minLength": 1, "maxLength": 64}),
    "to": (f"Who is reached: {_NUMBER_TEXT}.", "+46701234567", {"minLength": 1, "maxLength": 64}),
    "created": (
        "RFC 3339, without a zone UTC; at most 10 minutes ahead, not older than the legal period.",
        "2026-11-22T00:04:00Z",
        {"format": "date-time"},
    ),
    "updated": (
        "Absent in the first report; of later reports of the same record the newest wins.",
        ...,
        {"format": "date-time"},
    ),
    "status": (
        " ".join(
            [
                f"Of messages: {', '.join(sorted(MESSAGE_STATUSES))};",
                f"of calls: {', '.join(sorted(CALL_STATUSES))}.",
            ]
        ),
        "created",
        {},
    ),
    "delivered": ("When.", ..., {"format": "date-time"}),
    "duration": ("Seconds, of a call.", ..., {}),
    "parts": ("Of a message.", 1, {}),
    "cost": ("In 1/10000 of the account's currency.", 3500, {}),
    "ip": ("Who initiated it: kept in the legal record only.", "203.0.113.7", {}),
    "user_agent": (
        "The program that initiated it: kept in the legal record only.",
        "acme-crm/2.1",
        {"maxLength": USER_AGENT_CHARS_MAX},
    ),
    "message": ("Kept in history only.", "Your code is 482913", {}),
    "dontlog": ("History keeps the record without these fields.", ..., {}),
    "owner": ("A sub-account; kept in history only.", ..., {"minLength": 1, "maxLength": 64}),
    "tags": ("Kept in history only.", ["login"], {}),
}


def names_of(shape: type[Struct]) -> tuple[str, ...]:
    """The names of a shape's fields, as they stand in JSON."""
    return tuple(each.encode_name for each in msgspec.structs.fields(shape))

"""The shapes of what staff read and send: holds, disclosures, debug lines, certificates."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trafficlog.api.schemas import (
    AccountField,
    At,
    Count,
    Direction,
    Instant,
    Kind,
    NextCursor,
    RecordIdField,
)
from trafficlog.certificate import Certificate
from trafficlog.holds import REASON_CHARS_MAX
from trafficlog.values import ADDRESS_CHARS_MAX

Reason = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=REASON_CHARS_MAX,
        description="Why; it stays with what is done.",
        examples=["reported as spam"],
    ),
]
CaseRef = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=REASON_CHARS_MAX,
        description="Which case it belongs to.",
        examples=["ABUSE-117"],
    ),
]
HoldId = Annotated[str, Meta(description="The hold's id.", examples=["123cc32943aa"])]
Actor = Annotated[str, Meta(description="Which key or person did it.", examples=["key:9f3c2a"])]


class _SelectorFields(Struct):
    """What a hold or a disclosure covers: exactly one of account, record, number, IP."""

    account: AccountField | UnsetType = UNSET
    number: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=ADDRESS_CHARS_MAX,
                description="A number, as sender or recipient.",
            ),
        ]
        | UnsetType
    ) = UNSET
    ip: Annotated[str, Meta(description="An IPv4 or IPv6 address.")] | UnsetType = UNSET
    record: Annotated[str, Meta(description="One record: `ACCOUNT/ID`.")] | UnsetType = UNSET
    created_from: Annotated[Instant, Meta(description="Created then or later.")] | UnsetType = UNSET
    created_to: Annotated[Instant, Meta(description="Created before.")] | UnsetType = UNSET


class NewHold(Struct, forbid_unknown_fields=True):
    """A hold to place. Exactly one of `account`, `record`, `number`, `ip` says what it covers."""

    reason: Reason
    case_ref: CaseRef
    until: Annotated[Instant, Meta(description="When it ends.", examples=["2027-06-01T00:00:00Z"])]
    account: Annotated[str | None, Meta(examples=["acme"])] | UnsetType = UNSET
    number: str | UnsetType | None = UNSET
    ip: str | UnsetType | None = UNSET
    record: Annotated[str | None, Meta(description="One record: `ACCOUNT/ID`.")] | UnsetType = UNSET
    created_from: Instant | UnsetType | None = UNSET
    created_to: Instant | UnsetType | None = UNSET


class NewEnd(Struct, forbid_unknown_fields=True):
    """When a hold is to end."""

    until: Annotated[Instant, Meta(examples=["2027-09-01T00:00:00Z"])]


class Hold(_SelectorFields, kw_only=True):
    """A hold: what it covers is kept from destruction until it ends or is released."""

    id: HoldId
    reason: Reason
    case_ref: CaseRef
    placed_by: Actor
    placed_at: Annotated[Instant, Meta(examples=["2026-11-22T08:00:00Z"])]
    until: Annotated[Instant, Meta(examples=["2027-06-01T00:00:00Z"])]
    released_at: Instant | None
    released_by: str | None
    active: Annotated[bool, Meta(examples=[True])]


class HoldList(Struct):
    """All holds, newest first."""

    data: list[Hold]


class HoldWithCopies(Hold, kw_only=True):
    """A hold, with how many copies it covers by class."""

    held: Annotated[dict[str, int], Meta(examples=[{"history_record": 22, "traffic_record": 22}])]


class HeldCopy(Struct):
    """A copy that a hold keeps."""

    key: Annotated[int, Meta(examples=[17])]
    data_class: Annotated[str, Meta(examples=["history_record"])]
    record: Annotated[str, Meta(examples=["m1"])]
    created_at: At
    expires_at: Annotated[Instant, Meta(description="From then on only the hold keeps it.")]
    copied_at: Instant
    content: Annotated[dict[str, Any], Meta(description="The row as it was.")]


class HeldCopies(Struct):
    """A page of the copies that a hold keeps."""

    data: list[HeldCopy]
    next: Annotated[int | None, Meta(description="Give it as `after` for the page that follows.")]


class DebugLine(Struct):
    """A debug line."""

    at: At
    level: Literal["debug", "info", "warning", "error"]
    source: Annotated[str, Meta(examples=["gateway"])]
    line: Annotated[str, Meta(examples=["m1: handed to the operator"])]
    account: Annotated[str | None, Meta(examples=["acme"])]
    record: Annotated[str | None, Meta(examples=["m1"])]


class DebugLines(Struct):
    """Debug lines, newest first."""

    data: list[DebugLine]


class DisclosureRequest(Struct, forbid_unknown_fields=True):
    """What is to be disclosed, and why.

    Exactly one of `account`, `record`, `number`, `ip` says of whom; both times are needed.
    """

    reason: Reason
    case_ref: CaseRef
    created_from: Annotated[
        Instant, Meta(description="Created then or later.", examples=["2026-11-01T00:00:00Z"])
    ]
    created_to: Annotated[
        Instant, Meta(description="Created before.", examples=["2026-11-22T00:00:00Z"])
    ]
    account: str | UnsetType | None = UNSET
    number: Annotated[str | None, Meta(examples=["+46701234567"])] | UnsetType = UNSET
    ip: str | UnsetType | None = UNSET
    record: Annotated[str | None, Meta(description="One record: `ACCOUNT/ID`.")] | UnsetType = UNSET
    limit: (
        Annotated[int, Meta(ge=1, description="How many to list in one page.")] | UnsetType | None
    ) = UNSET
    cursor: (
        Annotated[str | None, Meta(description="Where the page begins: `next` of the one before.")]
        | UnsetType
    ) = UNSET


class TrafficRecord(Struct):
    """A row of the legal record; what is not known is absent."""

    account: AccountField
    id: RecordIdField
    created: At
    kind: Kind
    direction: Annotated[Direction, Meta(examples=["outgoing"])]
    expires: Annotated[
        Instant, Meta(description="When it must be gone.", examples=["2027-01-21T00:04:00Z"])
    ]
    sender: Annotated[str, Meta(examples=["Acme"])] = msgspec.field(name="from")
    recipient: Annotated[str, Meta(examples=["+46701234567"])] = msgspec.field(name="to")
    updated: At | UnsetType = UNSET
    duration: Annotated[Count, Meta(description="Seconds, of a call.")] | UnsetType = UNSET
    ip: Annotated[str, Meta(examples=["203.0.113.7"])] | UnsetType = UNSET
    user_agent: Annotated[str, Meta(examples=["acme-crm/2.1"])] | UnsetType = UNSET


class Disclosure(Struct):
    """A page of the legal record, oldest first."""

    data: list[TrafficRecord]
    next: NextCursor


class AccessEntry(Struct):
    """One access to personal data by staff."""

    at: At
    actor: Actor
    action: Annotated[str, Meta(examples=["disclosure"])]
    subject: Annotated[str, Meta(examples=["number +46701234567"])]
    reason: Annotated[str, Meta(examples=["court order 4711"])]
    case_ref: Annotated[str | None, Meta(examples=["K 1234-26"])]
    rows: Annotated[Count, Meta(description="How many rows it gave.", examples=[2])]


class AccessPage(Struct):
    """A page of the access log, newest first."""

    data: list[AccessEntry]
    next: NextCursor


class Signature(Struct):
    """A signature, and the key to check it with."""

    algorithm: Literal["Ed25519"]
    key_id: Annotated[str, Meta(examples=["ed34b96baf798139"])]
    public_key: Annotated[str, Meta(description="Its DER form in base64.")]
    value: Annotated[str, Meta(description="The signature in base64.")]


class SignedCertificate(Struct):
    """A certificate of destruction; what is signed is its canonical form (RFC 8785)."""

    certificate: Certificate
    signature: Signature

"""The shapes of erasures by filter or of everything; see ``trafficlog.api.schemas``."""

from datetime import date
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from trafficlog.api.customer_schemas import ErasedRows, Remaining
from trafficlog.api.schemas import At, Count, Direction, Instant, Kind, NextCursor, Status

FilterTime = Annotated[
    str, Meta(description="A date or time as RFC 3339 has it.", examples=["2026-11-01T00:00:00Z"])
]
Text = Annotated[str, Meta(min_length=1)]
Scope = Annotated[Literal["filter", "everything"], Meta(examples=["filter"])]
State = Annotated[
    Literal["queued", "running", "done", "cancelled", "failed"], Meta(examples=["running"])
]


class ErasureFilter(Struct, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Which records: those that the same parameters list in the history. At least one."""

    kind: Kind | UnsetType = UNSET
    direction: Direction | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    from_: Annotated[Text, Meta(examples=["Acme"])] | UnsetType = UNSET
    to: Annotated[Text, Meta(examples=["+46701234567"])] | UnsetType = UNSET
    tag: Annotated[Text, Meta(examples=["login"])] | UnsetType = UNSET
    after: FilterTime | UnsetType = UNSET
    before: FilterTime | UnsetType = UNSET


class WantedErasure(Struct, forbid_unknown_fields=True):
    """What to erase: `filter`, or `everything`."""

    filter: ErasureFilter | UnsetType = UNSET
    everything: (
        Annotated[bool, Meta(description="All of the history.", examples=[False])] | UnsetType
    ) = UNSET
    reports: (
        Annotated[
            bool,
            Meta(description="With everything: the monthly reports as well.", examples=[False]),
        ]
        | UnsetType
    ) = UNSET
    dry_run: (
        Annotated[bool, Meta(description="Count, and erase nothing.", examples=[False])] | UnsetType
    ) = UNSET


class ErasurePreview(Struct):
    """What an erasure would mean."""

    dry_run: Literal[True]
    records: Annotated[Count, Meta(examples=[120])]
    oldest: Annotated[Instant | None, Meta(description="When the oldest of them was created.")]
    newest: Annotated[Instant | None, Meta(description="When the newest of them was created.")]
    reports: Annotated[Count, Meta(description="Monthly reports.", examples=[0])]
    created_up_to: At


class Erasure(Struct):
    """An erasure, and how far it has come."""

    id: Annotated[str, Meta(examples=["5f0c7d7e2d3a9b10"])]
    state: State
    scope: Scope
    filter: Annotated[
        ErasureFilter | None, Meta(description="Null for everything, and when it is finished.")
    ]
    reports: Annotated[bool, Meta(examples=[False])]
    found: Annotated[Count, Meta(description="Records meant when accepted.", examples=[120])]
    erased: Annotated[Count, Meta(examples=[100])]
    remaining: Annotated[Count, Meta(examples=[20])]
    reports_erased: Annotated[Count, Meta(examples=[0])]
    accepted_at: At
    started_at: Instant | None
    finished_at: Instant | None


class ErasureList(Struct):
    """Erasures, newest first."""

    data: list[Erasure]
    next: NextCursor


class ErasedHistory(ErasedRows):
    """How much was erased of a class; of history by kind, and on which days it was created."""

    kinds: Annotated[dict[str, int], Meta(examples=[{"sms": 120}])] | UnsetType = UNSET
    oldest_day: date | UnsetType | None = UNSET
    newest_day: date | UnsetType | None = UNSET


class RemainingClass(Remaining):
    """What is kept all the same, how long, until when at the latest, and on what basis."""

    period_hours: Annotated[Count, Meta(examples=[1440])]


class ErasureReceipt(Struct):
    """What was erased, what is kept and why, and when the last trace is gone."""

    receipt: Annotated[str, Meta(description="Its number.", examples=["5f0c7d7e2d3a9b10"])]
    state: State
    scope: Scope
    fields: Annotated[
        list[str], Meta(description="What the filter named, without values.", examples=[["to"]])
    ]
    accepted_at: At
    started_at: Instant | None
    finished_at: At
    erased: list[ErasedHistory]
    remaining: Annotated[Count, Meta(description="Left, when cancelled.", examples=[0])]
    last_trace_gone_by: Annotated[
        Instant | None,
        Meta(
            description="By then its bytes are gone from the tables; null: nothing was erased.",
            examples=["2027-02-22T01:00:00Z"],
        ),
    ]
    backups_gone_by: Annotated[
        Instant | None,
        Meta(description="By then no backup has it.", examples=["2027-03-24T01:00:00Z"]),
    ]
    remains: list[RemainingClass]
    statements: list[str]

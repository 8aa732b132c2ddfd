"""The shapes of what customers read and send: history, settings, usage, reports."""

from datetime import date
from typing import Annotated, Literal

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
    Status,
)
from trafficlog.records import WithheldField
from trafficlog.retention import HISTORY_DAYS_MAX


class HistoryRecord(Struct):
    """A record of the history; what is not known, or was not to be logged, is absent."""

    id: RecordIdField
    created: Annotated[At, Meta(description="When the communication was initiated.")]
    kind: Kind
    direction: Annotated[Direction, Meta(examples=["outgoing"])]
    expires: Annotated[
        Instant,
        Meta(description="When it goes from the history.", examples=["2027-02-20T00:04:00Z"]),
    ]
    sender: (
        Annotated[str, Meta(description="Who sent or called.", examples=["Acme"])] | UnsetType
    ) = msgspec.field(default=UNSET, name="from")
    recipient: (
        Annotated[str, Meta(description="Who was reached.", examples=["+46701234567"])] | UnsetType
    ) = msgspec.field(default=UNSET, name="to")
    status: Annotated[Status, Meta(examples=["delivered"])] | UnsetType = UNSET
    updated: Annotated[At, Meta(description="When this state of it was reported.")] | UnsetType = (
        UNSET
    )
    delivered: (
        Annotated[Instant, Meta(description="When.", examples=["2026-11-22T00:04:09Z"])] | UnsetType
    ) = UNSET
    duration: Annotated[Count, Meta(description="Seconds, of a call.")] | UnsetType = UNSET
    parts: Annotated[Count, Meta(description="Of a message.", examples=[1])] | UnsetType = UNSET
    cost: (
        Annotated[Count, Meta(description="In 1/10000 of the account's currency.", examples=[3500])]
        | UnsetType
    ) = UNSET
    owner: Annotated[str, Meta(description="A sub-account.", examples=["crm"])] | UnsetType = UNSET
    tags: Annotated[list[str], Meta(examples=[["login"]])] | UnsetType = UNSET
    message: Annotated[str, Meta(examples=["Your code is 482913"])] | UnsetType = UNSET


class HistoryTotal(Struct):
    """How many records the filter chooses, on this page and on all others."""

    estimate: Annotated[Count, Meta(examples=[48_000])]
    exact: Annotated[bool, Meta(description="Whether they were counted.", examples=[False])]


class HistoryPage(Struct):
    """A page of the history, newest first."""

    data: list[HistoryRecord]
    next: NextCursor
    total: HistoryTotal | UnsetType = UNSET


class ErasedRows(Struct):
    """What an erasure removed of one class."""

    data_class: Annotated[str, Meta(examples=["history_record"])]
    rows: Annotated[Count, Meta(examples=[1])]


class Remaining(Struct):
    """What the law keeps of what was erased."""

    data_class: Annotated[str, Meta(examples=["traffic_record"])]
    until: Annotated[Instant, Meta(examples=["2027-01-21T00:04:00Z"])]
    legal_basis: Annotated[str, Meta(examples=["Traffic data rules, section 4"])]


class Receipt(Struct):
    """What was erased, what remains by law, and when the last trace of it is gone."""

    receipt: Annotated[str, Meta(description="Its number.", examples=["5f0c7d7e2d3a9b10"])]
    erased_at: Annotated[Instant, Meta(examples=["2026-11-22T08:00:00Z"])]
    erased: list[ErasedRows]
    last_trace_gone_by: Annotated[
        Instant,
        Meta(
            description="By then its bytes are gone from the tables; backups come on top.",
            examples=["2027-02-22T01:00:00Z"],
        ),
    ]
    remains: list[Remaining]


class HistorySettings(Struct):
    """Whether a history is kept, and how long."""

    enabled: Annotated[bool, Meta(examples=[True])]
    days: Annotated[int | None, Meta(description="Null: it is off.", examples=[90])]


Dontlog = Annotated[
    list[WithheldField],
    Meta(
        description="Fields that history omits of every record, beside those a record names.",
        examples=[["message"]],
    ),
]


class Settings(Struct):
    """An account's settings."""

    history: HistorySettings
    monthly_reports: Annotated[bool, Meta(examples=[True])]
    dontlog: Dontlog
    applying_since: Annotated[
        Instant | None,
        Meta(description="Since when a change is moving rows; null: all are where they belong."),
    ]


class WantedHistory(Struct, forbid_unknown_fields=True):
    """Whether a history is to be kept, and how long."""

    enabled: Annotated[bool, Meta(examples=[True])] | UnsetType = UNSET
    days: Annotated[int, Meta(ge=1, le=HISTORY_DAYS_MAX, examples=[30])] | UnsetType | None = UNSET


class WantedSettings(Struct, forbid_unknown_fields=True):
    """Settings to be; what is left out stays as it is."""

    history: WantedHistory | UnsetType = UNSET
    monthly_reports: Annotated[bool, Meta(examples=[True])] | UnsetType = UNSET
    dontlog: Dontlog | WithheldField | UnsetType = UNSET


class Effect(Struct):
    """One thing that a change would do."""

    code: Annotated[str, Meta(description="For programs.", examples=["history_hidden"])]
    text: Annotated[
        str,
        Meta(
            description="For people.",
            examples=[
                "1204 of the records that are there are hidden at once, and gone soon after."
            ],
        ),
    ]


class SettingsTrial(Struct):
    """What setting them would do; nothing was changed."""

    dry_run: Literal[True]
    rows_hidden: Annotated[
        Count, Meta(description="Records that would be seen no more.", examples=[1204])
    ]
    rows_moved: Annotated[
        Count, Meta(description="Records that would be kept another time.", examples=[310])
    ]
    effects: list[Effect]


class Usage(Struct):
    """What an account used in a day or month with one kind, direction and status."""

    first_day: Annotated[
        date, Meta(description="The day, or the month's first.", examples=["2026-11-21"])
    ]
    kind: Kind
    direction: Annotated[Direction, Meta(examples=["outgoing"])]
    status: Annotated[Status | None, Meta(examples=["delivered"])]
    records: Annotated[Count, Meta(examples=[310])]
    parts: Annotated[Count, Meta(examples=[402])]
    seconds: Annotated[Count, Meta(description="Of calls.")]
    cost: Annotated[Count, Meta(description="In 1/10000 of the currency.", examples=[1407000])]


class UsageList(Struct):
    """Usage statistics of a span of days."""

    by: Literal["day", "month"]
    first: Annotated[date, Meta(examples=["2026-10-23"])]
    last: Annotated[date, Meta(examples=["2026-11-21"])]
    data: list[Usage]


class UsedInAll(Struct):
    """Sums over records."""

    records: Annotated[Count, Meta(examples=[310])]
    parts: Annotated[Count, Meta(examples=[402])]
    seconds: Annotated[Count, Meta(description="Of calls.")]
    cost: Annotated[Count, Meta(description="In 1/10000 of the currency.", examples=[1407000])]


class ReportLine(UsedInAll):
    """What was used with one kind, direction and status."""

    kind: Kind
    direction: Annotated[Direction, Meta(examples=["outgoing"])]
    status: Annotated[Status | None, Meta(examples=["delivered"])]


class ReportDay(UsedInAll):
    """What was used on one day."""

    day: Annotated[date, Meta(description="In UTC, of creation.", examples=["2026-10-21"])]


class ReportSummary(Struct, kw_only=True):
    """A monthly report in all."""

    month: Annotated[str, Meta(examples=["2026-10"])]
    made_at: Annotated[Instant, Meta(examples=["2026-11-01T00:00:04Z"])]
    covers: Annotated[
        str,
        Meta(
            description="Which records are counted.",
            examples=["records stored until 2026-11-01T00:00:04Z"],
        ),
    ]
    final: Annotated[bool, Meta(description="Whether it never changes again.", examples=[False])]
    final_from: Annotated[
        Instant,
        Meta(
            description="When it becomes final; late records are counted until then.",
            examples=["2027-01-01T00:00:00Z"],
        ),
    ]
    currency: Annotated[str | None, Meta(description="ISO 4217, if known.", examples=["SEK"])]
    total: UsedInAll


class ReportList(Struct):
    """Monthly reports, the newest month first."""

    data: list[ReportSummary]


class MonthlyReport(ReportSummary, kw_only=True):
    """A monthly report: totals alone, without any number, address or text."""

    account: AccountField
    display_name: Annotated[str | None, Meta(examples=["Acme AB"])]
    lines: list[ReportLine]
    days: list[ReportDay]


class RemainingTotals(Struct):
    """What a deleted report was made from, which stays."""

    data_class: Literal["usage_statistic"]
    why: Annotated[str, Meta(examples=["the totals by day that it was made from"])]


class DeletedReport(Struct):
    """That a report is deleted and does not come back."""

    receipt: Annotated[str, Meta(description="Its number.", examples=["5f0c7d7e2d3a9b10"])]
    month: Annotated[str, Meta(examples=["2026-10"])]
    erased_at: Annotated[Instant, Meta(examples=["2026-11-22T08:00:00Z"])]
    erased: list[ErasedRows]
    remains: list[RemainingTotals]

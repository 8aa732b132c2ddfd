"""A few new records: one statement stores them, in place of a transaction of five messages.

To encode by column costs as much for one record as for hundreds, and so do the messages of a
transaction with two COPYs. For few records it is cheaper to hand the server arrays and have it do
the rest (measured of the service's time, in groups of 31: 15 us a record so, and 65 by COPY; in
groups of 160 6 and 20. The server takes 25 us and 32, then 14 and 15; in groups of 320 18 and 11,
so from there on COPY is the better road).

The arrays go as text: asyncpg asks of each element of a list whether it is a list itself, which
takes longer than all the rest (measured in groups of 160: 12 us a record).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import orjson

from trafficlog.errors import StaleSettingsError
from trafficlog.queries import queries
from trafficlog.records import DIRECTION_CODES, KIND_CODES
from trafficlog.retention import DataClass, HistoryDays
from trafficlog.store.columns import STATUS_CODES_OR_NONE
from trafficlog.store.expiry import HOUR, instant, micros

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import asyncpg

    from trafficlog.records import Report
    from trafficlog.store.settings import KnownAccount, SettingsCache

AN_HOUR: Final = timedelta(hours=1)
DAY_HOURS: Final = 24
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_NONE: Final = "\ud800"


@dataclass(frozen=True, slots=True)
class FewRoad:
    """A few records not seen before, as the arrays that the statement takes."""

    epoch: int
    arrays: dict[str, str]
    partitions: dict[DataClass, set[datetime]]

    @classmethod
    def of(cls, reports: Sequence[Report], settings: SettingsCache, now: datetime) -> Self:
        """Reports, one or more, whose accounts are known, by the settings of the present epoch."""
        accounts = {
            name: _kept(settings.accounts[name], now) for name in {r.account for r in reports}
        }
        kept = [accounts[r.account] for r in reports]
        created = [micros(r.created) for r in reports]
        traffic_hours = _traffic_hours(reports, settings)
        history_hours = [
            k.hours if r.created > k.after else None for k, r in zip(kept, reports, strict=True)
        ]
        arrays = {
            "account_keys": _numbers([k.key for k in kept]),
            "created": _numbers(created),
            "traffic_hours": _numbers(traffic_hours),
            "history_hours": _numbers(history_hours),
            "delivered": _numbers(
                [None if r.delivered is None else micros(r.delivered) for r in reports]
            ),
            "durations": _numbers([r.duration for r in reports]),
            "parts": _numbers([r.parts for r in reports]),
            "costs": _numbers([r.cost for r in reports]),
            "kinds": _numbers([KIND_CODES[r.kind] for r in reports]),
            "directions": _numbers([DIRECTION_CODES[r.direction] for r in reports]),
            "statuses": _numbers([STATUS_CODES_OR_NONE[r.status] for r in reports]),
            "withheld": _numbers(
                [
                    k.withheld if r.dontlog is None else k.withheld | r.withheld
                    for k, r in zip(kept, reports, strict=True)
                ]
            ),
            "ids": array_of_texts([r.id for r in reports]),
            "senders": array_of_texts([r.sender for r in reports]),
            "recipients": array_of_texts([r.recipient for r in reports]),
            "ips": array_of_texts([r.ip for r in reports]),
            "user_agents": array_of_texts([r.user_agent for r in reports]),
            "owners": array_of_texts([r.owner for r in reports]),
            "tags": array_of_texts([None if r.tags is None else _json(r.tags) for r in reports]),
            "messages": array_of_texts([r.message for r in reports]),
        }
        return cls(
            settings.epoch,
            arrays,
            {
                DataClass.TRAFFIC: _hours(zip(created, traffic_hours, strict=True)),
                DataClass.HISTORY: _hours(zip(created, history_hours, strict=True)),
            },
        )

    def is_of(self, epoch: int) -> bool:
        """Whether they are as the settings of this epoch have them."""
        return self.epoch == epoch

    async def write(self, connection: asyncpg.Connection) -> None:
        """Stores and counts them, in a transaction of their own if there is none.

        Raises:
            StaleSettingsError: a setting has changed since; nothing was stored.
        """
        if await queries.store_few(connection, epoch=self.epoch, **self.arrays) != self.epoch:
            raise StaleSettingsError


class _Kept(NamedTuple):
    """What of an account's records goes into history: those created later than ``after``."""

    key: int
    withheld: int
    after: datetime
    hours: int | None


def _kept(account: KnownAccount, now: datetime) -> _Kept:
    setting, after = account.rule.setting, account.rule.visible_after(now)
    if not isinstance(setting, HistoryDays) or after is None:
        return _Kept(account.key, account.withheld, _NEVER, None)
    return _Kept(account.key, account.withheld, after, setting.days * DAY_HOURS)


def _traffic_hours(reports: Sequence[Report], settings: SettingsCache) -> list[int]:
    """For how long each legal record is kept: by the policy it was created under."""
    policies = settings.policies
    if not policies.has_changed(DataClass.TRAFFIC):
        [policy] = policies.of(DataClass.TRAFFIC)
        return [policy.retention_period // AN_HOUR] * len(reports)
    return [
        policies.in_force(DataClass.TRAFFIC, r.created).retention_period // AN_HOUR for r in reports
    ]


def _numbers(values: Sequence[int | None]) -> str:
    """An array of PostgreSQL, as text."""
    if _says_nothing(values):
        return "{}"
    # That of JSON but for the brackets, and the quickest way to make text of numbers.
    return f"{{{orjson.dumps(values)[1:-1].decode()}}}"


def array_of_texts(values: Sequence[str | None]) -> str:
    """The same of texts, in which anything may stand but the character NUL.

    Raises:
        ValueError: NUL stands in one.
    """
    if _says_nothing(values):
        return "{}"
    # One text, in which NUL stands between two and a surrogate, which is no character, for none.
    joined = "\0".join([_NONE if value is None else value for value in values])
    if joined.count("\0") != len(values) - 1:
        raise ValueError("a text holds the character NUL")
    quoted = joined.replace("\\", "\\\\").replace('"', '\\"').replace("\0", '","')
    return f'{{"{quoted}"}}'.replace(f'"{_NONE}"', "NULL")


def _says_nothing(values: Sequence[object]) -> bool:
    """Whether an empty array does as well: the statement makes up for what is missing."""
    return values.count(None) == len(values)


def _json(tags: list[str]) -> str:
    # As an array of arrays they would all have to be of one length.
    return orjson.dumps(tags).decode()


def _hours(kept: Iterable[tuple[int, int | None]]) -> set[datetime]:
    """The hours in which something ends that began at an instant and is kept for so many."""
    ends = {began // HOUR + hours for began, hours in kept if hours is not None}
    return {instant(end * HOUR) for end in ends}

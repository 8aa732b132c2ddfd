"""Erasures of a customer's history by filter or of all of it: preview, acceptance, progress.

What is accepted here is carried out by ``trafficlog.store.erasing``, in the jobs. All of this
runs in the role that serves customers: row-level security shows it one account.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from dataclasses import fields as dataclass_fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from trafficlog.erasures import Erasure, ErasureState, receipt
from trafficlog.errors import ConflictError, InvalidValueError, KeyReusedError, NotFoundError
from trafficlog.queries import queries, rows
from trafficlog.records import DIRECTION_CODES, KIND_CODES, STATUS_CODES
from trafficlog.retention import AHEAD_MAX
from trafficlog.store.accounts import load_account
from trafficlog.store.history_list import HistoryFilter
from trafficlog.store.retrying import tried_again
from trafficlog.store.settings import policy_book

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trafficlog.records import AccountKey
    from trafficlog.store.database import Database

# Names of the fields as a history request has them.
FIELDS: Final = {
    "kind": "kind",
    "direction": "direction",
    "status": "status",
    "sender": "from",
    "recipient": "to",
    "tag": "tag",
    "after": "after",
    "before": "before",
}
TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be erased: what a filter means, or everything (``chosen`` is None).

    Everything is all of the account's history, with ``reports`` its monthly reports as well.
    An empty filter is refused: who means everything says so.
    """

    chosen: HistoryFilter | None
    reports: bool = False

    def __post_init__(self) -> None:
        if self.chosen == HistoryFilter():
            raise InvalidValueError(
                "filter",
                {},
                'must have at least one field; to erase everything say {"everything": true}',
                reason_code="ambiguous",
            )
        if self.chosen is not None and self.reports:
            raise InvalidValueError(
                "reports",
                self.reports,
                "goes with everything: no filter applies to monthly reports",
                reason_code="not_together",
            )

    @property
    def fields(self) -> dict[str, str]:
        """The filter's fields as text, as a history request names them."""
        if self.chosen is None:
            return {}
        # By the filter's own fields: one that is not known here must not pass for none.
        given = {
            FIELDS[f.name]: getattr(self.chosen, f.name) for f in dataclass_fields(self.chosen)
        }
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in given.items()
            if value is not None
        }


@dataclass(frozen=True, slots=True)
class Preview:
    """What an erasure accepted now would mean: how many records, created from when to when.

    With everything, ``newest`` may lie after ``created_up_to``: a gateway's clock was ahead.
    """

    records: int
    oldest: datetime | None
    newest: datetime | None
    reports: int
    created_up_to: datetime


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the list of erasures: what follows was accepted before, or has a smaller id."""

    accepted_at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class ErasurePage:
    """Erasures of one page, and where the next one begins (None: there is none)."""

    erasures: list[Erasure] = field(default_factory=list)
    next: Place | None = None


class Erasures:
    """The erasures of one account at a time.

    Args:
        database: the pools.
        secret: what digests of repeated requests are keyed with.
    """

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database = database
        self._secret = secret

    async def preview(self, key: AccountKey, wanted: Wanted, now: datetime) -> Preview:
        """What an erasure would mean if it were accepted at ``now``; nothing is changed."""
        async with self._database.as_account(key, snapshot=True) as connection:
            scope = await _scope(connection, key, wanted, now)
            return await _preview(connection, key, wanted, scope)

    @tried_again
    async def start(
        self, key: AccountKey, wanted: Wanted, now: datetime, *, repeat_key: str | None = None
    ) -> Erasure:
        """Accepts an erasure; it means what is there at ``now``, and is carried out by the jobs.

        A ``repeat_key`` that was given before, for the same, gives the erasure accepted then.

        Raises:
            KeyReusedError: it was given for something else.
            ConflictError: as many erasures of the account as may be are under way.
        """
        erasure_id = secrets.token_hex(8)
        key_digest, body_digest = self._digests(key, repeat_key, wanted)
        async with self._database.as_account(key) as connection:
            if known := await _known(connection, key, key_digest, body_digest):
                return known
            scope = await _scope(connection, key, wanted, now)
            # Before the lock: counting a long history takes its time.
            preview = await _preview(connection, key, wanted, scope)
            await queries.lock_erasures(connection, account_key=key)
            if known := await _known(connection, key, key_digest, body_digest):
                return known
            config = self._database.config
            if await queries.erasures_open_of(connection, account_key=key) >= (
                config.erasures_open_max
            ):
                raise ConflictError(
                    f"{config.erasures_open_max} erasures of this account are under way; wait for "
                    "one to end, or cancel one"
                )
            await queries.add_erasure(
                connection,
                erasure_id=erasure_id,
                account_key=key,
                accepted_at=now,
                everything=wanted.chosen is None,
                fields=list(wanted.fields),
                filter=orjson.dumps(wanted.fields).decode(),
                created_after=scope.lower,
                created_up_to=scope.upper,
                ahead_to=scope.ahead_to,
                **scope.expiries(scope.upper),
                found=preview.records,
                reports=wanted.reports,
                run_seconds=config.retention_interval_seconds,
                backup_days=config.backup_days,
                repeat_key=key_digest,
                repeat_body=body_digest,
            )
            return await _get(connection, key, erasure_id)

    async def get(self, key: AccountKey, erasure_id: str) -> Erasure:
        """One erasure and how far it has come.

        Raises:
            NotFoundError: the account has none of this id, or has none any more.
        """
        async with self._database.as_account(key) as connection:
            return await _get(connection, key, erasure_id)

    async def page(self, key: AccountKey, *, limit: int, start: Place | None = None) -> ErasurePage:
        """At most ``limit`` erasures from ``start`` on, newest first."""
        async with self._database.as_account(key) as connection:
            found = await rows(
                queries.erasures(
                    connection,
                    account_key=key,
                    before_at=start and start.accepted_at,
                    before_id=start and start.id,
                    limit=limit + 1,
                )
            )
        erasures = [_erasure(row) for row in found[:limit]]
        more = len(found) > limit
        return ErasurePage(
            erasures, Place(erasures[-1].accepted_at, erasures[-1].id) if more else None
        )

    @tried_again
    async def cancel(self, key: AccountKey, erasure_id: str, now: datetime) -> Erasure:
        """Ends an erasure that is under way; from the return on nothing more of it is erased.

        What has been erased stays so. To cancel one that was cancelled changes nothing.

        Raises:
            NotFoundError: the account has none of this id.
            ConflictError: it is done, or was given up.
        """
        async with self._database.as_account(key) as connection:
            await queries.cancel_erasure(connection, erasure_id=erasure_id, at=now)
            erasure = await _get(connection, key, erasure_id)
        if erasure.state is not ErasureState.CANCELLED:
            raise ConflictError(f"the erasure is {erasure.state}: there is nothing to cancel")
        return erasure

    async def receipt(self, key: AccountKey, erasure_id: str) -> dict[str, Any]:
        """The receipt of an erasure that is finished; see ``trafficlog.erasures.receipt``.

        Raises:
            NotFoundError: the account has none of this id.
            ConflictError: it is under way.
        """
        async with self._database.as_account(key) as connection:
            erasure = await _get(connection, key, erasure_id)
            if not erasure.is_finished:
                raise ConflictError(f"the erasure is {erasure.state}: its receipt comes at its end")
            policies = policy_book(await rows(queries.policies(connection)))
        return receipt(erasure, policies)

    def _digests(
        self, key: AccountKey, repeat_key: str | None, wanted: Wanted
    ) -> tuple[bytes | None, bytes | None]:
        """What a repeated request is known by: neither its key nor a number can be read from it.

        The key takes part in both, so that few numbers cannot be tried one after the other.
        """
        if repeat_key is None:
            return None, None
        asked: Mapping[str, Any] = {
            "everything": wanted.chosen is None,
            "filter": wanted.fields,
            "reports": wanted.reports,
        }
        body = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
        named = f"erasure:{key}:{repeat_key}".encode()
        digest = hmac.digest(self._secret, named, hashlib.sha256)
        return digest, hmac.digest(self._secret + named, body, hashlib.sha256)


@dataclass(frozen=True, slots=True)
class _Scope:
    """The creation times ``(lower, upper]`` that are meant, and up to ``ahead_to`` what is stored.

    ``days_min`` and ``days_max`` are the periods that such rows can stand under.
    """

    lower: datetime
    upper: datetime
    ahead_to: datetime
    days_min: timedelta
    days_max: timedelta

    def expiries(self, lower: datetime) -> dict[str, datetime]:
        """The expiries of what is meant and was created later than ``lower``."""
        return {
            "expires_from": lower + self.days_min,
            "expires_to": self.ahead_to + self.days_max,
        }


async def _scope(connection: Any, key: AccountKey, wanted: Wanted, now: datetime) -> _Scope:
    """What can be seen at ``now`` and was created up to then, within the filter's times."""
    account = await load_account(connection, key)
    chosen = wanted.chosen or HistoryFilter()
    # Nothing is meant where no history is to be seen.
    shown_after = account.rule.visible_after(now)
    lower = shown_after or now
    if chosen.after is not None:
        lower = min(max(lower, chosen.after), now)
    upper = now
    if chosen.before is not None:
        upper = min(now, chosen.before - TICK) if chosen.before > lower else lower
    # Everything is also what is stored of a gateway whose clock is ahead.
    everything = wanted.chosen is None and shown_after is not None
    return _Scope(
        lower,
        upper,
        upper + AHEAD_MAX if everything else upper,
        timedelta(days=account.days_min),
        timedelta(days=account.days_max),
    )


async def _preview(connection: Any, key: AccountKey, wanted: Wanted, scope: _Scope) -> Preview:
    chosen = wanted.chosen or HistoryFilter()
    found = await queries.erasable(
        connection,
        account_key=key,
        lower=scope.lower,
        upper=scope.ahead_to,
        **scope.expiries(scope.lower),
        kind=None if chosen.kind is None else KIND_CODES[chosen.kind],
        direction=None if chosen.direction is None else DIRECTION_CODES[chosen.direction],
        status=None if chosen.status is None else STATUS_CODES[chosen.status],
        sender=chosen.sender,
        recipient=chosen.recipient,
        tag=chosen.tag,
    )
    reports = 0
    if wanted.reports:
        reports = await queries.erasable_reports(connection, account_key=key, at=scope.upper)
    return Preview(found["records"], found["oldest"], found["newest"], reports, scope.upper)


async def _get(connection: Any, key: AccountKey, erasure_id: str) -> Erasure:
    row = await queries.erasure(connection, account_key=key, erasure_id=erasure_id)
    if row is None:
        raise NotFoundError("there is no such erasure of this account")
    return _erasure(row)


async def _known(
    connection: Any, key: AccountKey, key_digest: bytes | None, body_digest: bytes | None
) -> Erasure | None:
    """The erasure that was accepted for a repeated request."""
    if key_digest is None:
        return None
    row = await queries.erasure_repeated(connection, account_key=key, repeat_key=key_digest)
    if row is None:
        return None
    if row["repeat_body"] != body_digest:
        raise KeyReusedError
    return await _get(connection, key, row["erasure_id"])


def _erasure(row: Any) -> Erasure:
    """An erasure from its row."""
    given = dict(row)
    told = given.pop("filter")
    return Erasure(
        id=given.pop("erasure_id"),
        state=ErasureState(given.pop("state")),
        fields=tuple(given.pop("fields")),
        kinds=orjson.loads(given.pop("kinds")),
        filter=None if told is None or given["everything"] else orjson.loads(told),
        **given,
    )

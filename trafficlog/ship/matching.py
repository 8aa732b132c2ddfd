"""Which message a delivery report is about.

A report carries neither the time nor the id of the message it reports on. It is
matched by SMSC and FID, and where the ``Sent SMS`` line has no FID, by service,
sender and recipient (the *route*). What Kannel writes, and what follows from it:

- A report may stand before its message, since the centre can be faster than
  Kannel's own thread. It waits, within bounds, and is posted after the message.
- A message logged without FID has one at the centre all the same, and the
  centre's reports carry it: a report with a FID that is on no message's line.
  Such a report waits ``settle_seconds`` of log time for the line it may belong
  to, and then goes to the oldest message of its route that has no FID, no final
  state and no other FID bound to it. That FID is then bound to that message.
- Kannel's own reports, 8 (accepted) and 16 (refused), have the FID of the line
  they follow, so an empty one goes to the oldest message of the route without
  FID that has not had its answer: 8 to a sent one, 16 to a failed one first.

Two messages of one route that both lack a FID cannot be told apart: first in,
first out is then a convention, and may exchange the times of delivery of two
messages between the same two numbers. No report is used for two of them.

Nothing that comes after a final state undoes it: a report that is not final, or
the same final state once more, is dropped (``superseded``); another final state
counts when it is later. So which reports are posted depends on the lines alone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, TypeVar

from trafficlog.records import AccountId
from trafficlog.ship.kannel import LineUnreadableError, Remark, Report, ReportKind
from trafficlog.ship.open_messages import (
    ForeignKey,
    LogTime,
    MatchingLimits,
    OpenMessage,
    OpenMessages,
    Route,
    foreign_of,
    route_of,
)
from trafficlog.ship.records import (
    Record,
    RecordIds,
    RecordKey,
    message_record,
    report_record,
    status_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trafficlog.ship.kannel import Line, Message

_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class Post:
    """A record to be posted, and the number of the line it comes from."""

    line: int
    record: Record


@dataclass(slots=True, eq=False)
class _Waiting:
    """A report whose message has not been read."""

    line: int
    report: Report
    done: bool = False

    @property
    def since(self) -> datetime:
        """The time that its line says."""
        return self.report.at


class Matcher:
    """Turns lines, in their order, into records to post. Pure: no clock, no I/O.

    ``unmatched`` counts the reports given up because no message came for them,
    ``superseded`` those that a final state had already overtaken.
    """

    def __init__(self, incoming_account: AccountId, limits: MatchingLimits | None = None) -> None:
        self._incoming_account = incoming_account
        self._limits = limits or MatchingLimits()
        self._ids = RecordIds()
        self._time = LogTime()
        self._messages = OpenMessages(self._limits)
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()
        self._waiting_by_foreign: dict[ForeignKey, list[_Waiting]] = {}
        self._waiting_by_route: dict[Route, list[_Waiting]] = {}
        self._unsettled: deque[_Waiting] = deque()
        self.unmatched = 0
        self.superseded = 0

    @property
    def waiting(self) -> int:
        """The reports that wait for their message."""
        return len(self._waiting)

    @property
    def open(self) -> int:
        """The messages that are remembered for reports to come."""
        return len(self._messages)

    def feed(self, number: int, line: Line) -> list[Post]:
        """The records that follow from line ``number``.

        Raises:
            LineUnreadableError: the line says of no account that it is its own.
        """
        if isinstance(line, Remark):
            return []
        if isinstance(line, Report):
            return [*self._advance(line.at), *self._report(number, line)]
        if line.outcome == "received":
            key = self._key(line, self._incoming_account)
            return [*self._advance(line.at), Post(number, message_record(line, key))]
        if not line.service:
            raise LineUnreadableError("the message has no service (SVC), which is its account")
        return [*self._advance(line.at), *self._message(number, line)]

    def settle(self) -> list[Post]:
        """Lets every waiting report go by its route now: no line is about to come."""
        posts: list[Post] = []
        while self._unsettled:
            posts += self._settle_oldest()
        return posts

    def give_up(self) -> None:
        """Counts the reports that still wait as unmatched: no line comes any more."""
        while self._waiting:
            self._give_up_oldest()

    def _advance(self, at: datetime) -> Iterator[Post]:
        if not self._time.move(at):
            return
        limits = self._limits
        while self._unsettled and self._is_past(self._unsettled[0], limits.settle_seconds):
            yield from self._settle_oldest()
        while self._waiting and self._is_past(
            next(iter(self._waiting.values())), limits.waiting_seconds
        ):
            self._give_up_oldest()
        self._messages.forget_past(self._time)

    def _is_past(self, waiting: _Waiting, seconds: int) -> bool:
        return self._time.is_past(waiting.since, seconds)

    # Messages

    def _key(self, message: Message, account: AccountId) -> RecordKey:
        return RecordKey(
            id=self._ids.name(message, account),
            account=account,
            created=message.at,
            sender=message.sender,
            recipient=message.recipient,
        )

    def _message(self, number: int, message: Message) -> Iterator[Post]:
        key = self._key(message, AccountId(message.service))
        foreign = foreign_of(message)
        yield Post(number, message_record(message, key))
        known = self._messages.by_foreign(foreign) if foreign is not None else None
        if known is not None and known.key == key:
            return  # the same line again: what is known of it stays
        opened = OpenMessage(
            key=key,
            since=message.at,
            route=route_of(message),
            foreign=foreign,
            failed=message.outcome == "failed",
        )
        if opened.failed:
            self._messages.finish(opened, "failed", message.at)
        self._messages.add(opened)
        if foreign is not None:
            yield from self._resume_foreign(foreign, opened)
        else:
            yield from self._adopt_early(opened)

    def _adopt_early(self, opened: OpenMessage) -> Iterator[Post]:
        """Takes the reports of the route that stand shortly before the message."""
        for waiting in self._early(opened):
            if waiting.done:
                continue
            foreign = foreign_of(waiting.report)
            if foreign is not None:
                if opened.unbound:
                    yield from self._bind(foreign, opened)
            elif not waiting.report.kind.by_gateway:
                if opened.unbound:
                    yield from self._resume(waiting, opened)
            elif not opened.answered:
                opened.answered = True
                yield from self._resume(waiting, opened)

    def _early(self, opened: OpenMessage) -> list[_Waiting]:
        earliest = opened.since - timedelta(seconds=self._limits.early_seconds)
        # The list is in the order of time but for the reports that settled, which joined it late.
        disorder = timedelta(seconds=self._limits.settle_seconds)
        waiting = reversed(self._waiting_by_route.get(opened.route, []))
        late = [*takewhile(lambda each: each.since >= earliest - disorder, waiting)]
        return [each for each in reversed(late) if each.since >= earliest]

    # Reports

    def _report(self, number: int, report: Report) -> Iterator[Post]:
        foreign = foreign_of(report)
        opened = self._messages.by_foreign(foreign) if foreign else self._by_route(report)
        if opened is not None:
            yield from self._apply(number, report, opened)
        else:
            self._wait(_Waiting(number, report), foreign)

    def _by_route(self, report: Report) -> OpenMessage | None:
        """The message that a report with an empty FID is about."""
        route = route_of(report)
        if not report.kind.by_gateway:
            return self._messages.oldest_unbound(route)
        opened = None
        if report.kind is ReportKind.REFUSED:
            opened = self._messages.oldest_unanswered(route, failed=True)
        opened = opened or self._messages.oldest_unanswered(route, failed=False)
        if opened is not None:
            opened.answered = True
        return opened

    def _wait(self, waiting: _Waiting, foreign: ForeignKey | None) -> None:
        self._waiting[id(waiting)] = waiting
        if foreign is None:
            self._waiting_by_route.setdefault(route_of(waiting.report), []).append(waiting)
        else:
            self._waiting_by_foreign.setdefault(foreign, []).append(waiting)
            if not waiting.report.kind.by_gateway:
                self._unsettled.append(waiting)
        if len(self._waiting) > self._limits.waiting_reports_max:
            self._give_up_oldest()

    def _settle_oldest(self) -> Iterator[Post]:
        """A report that has waited for the line of its FID goes by its route instead."""
        waiting = self._unsettled.popleft()
        foreign = foreign_of(waiting.report)
        if waiting.done or foreign is None:
            return
        route = route_of(waiting.report)
        opened = self._messages.oldest_unbound(route)
        if opened is not None:
            yield from self._bind(foreign, opened)
        else:
            self._waiting_by_route.setdefault(route, []).append(waiting)

    def _bind(self, foreign: ForeignKey, opened: OpenMessage) -> Iterator[Post]:
        self._messages.bind(opened, foreign)
        yield from self._resume_foreign(foreign, opened)

    def _resume_foreign(self, foreign: ForeignKey, opened: OpenMessage) -> Iterator[Post]:
        for waiting in list(self._waiting_by_foreign.get(foreign, ())):
            yield from self._resume(waiting, opened)

    def _resume(self, waiting: _Waiting, opened: OpenMessage) -> Iterator[Post]:
        self._stop_waiting(waiting)
        yield from self._apply(waiting.line, waiting.report, opened)

    def _give_up_oldest(self) -> None:
        self._stop_waiting(next(iter(self._waiting.values())))
        self.unmatched += 1

    def _stop_waiting(self, waiting: _Waiting) -> None:
        waiting.done = True
        del self._waiting[id(waiting)]
        foreign = foreign_of(waiting.report)
        if foreign is not None:
            _remove(self._waiting_by_foreign, foreign, waiting)
        _remove(self._waiting_by_route, route_of(waiting.report), waiting)

    def _apply(self, number: int, report: Report, opened: OpenMessage) -> Iterator[Post]:
        # A report may stand before its message, and a record is never updated before it is made.
        updated = max(report.at, opened.key.created)
        status = status_of(report.kind)
        if opened.final is not None and opened.final_at is not None:
            other = report.kind.final and status != opened.final
            if not (other and updated > opened.final_at):
                self.superseded += 1
                return
        if report.kind.final:
            self._messages.finish(opened, status, updated)
        yield Post(number, report_record(opened.key, report.kind, updated))


def _remove(index: dict[_K, list[_Waiting]], key: _K, waiting: _Waiting) -> None:
    """Takes ``waiting`` out of ``index``, where it may be."""
    here = index.get(key)
    if here is not None and waiting in here:
        here.remove(waiting)
        if not here:
            del index[key]

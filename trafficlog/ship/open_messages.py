"""The messages that more reports may come for, within bounds.

Everything here goes by the log's own time, which is what its lines say.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from trafficlog.ship.kannel import Message, Report
    from trafficlog.ship.records import RecordKey

Route = tuple[str, str, str]
"""Service, sender and recipient: what a report without a known FID is matched by."""

ForeignKey = tuple[str, str]
"""SMSC and FID: an SMSC gives out its own ids, so two of them may give the same."""


@dataclass(frozen=True, slots=True)
class MatchingLimits:
    """How much is remembered, and for how long, in the log's own time.

    ``settle_seconds``: how long a report with an unknown FID waits for the line
    of that FID. ``early_seconds``: how long before a message without FID its
    report may stand. ``waiting_*``: reports without a message. ``open_*``:
    messages that more reports may come for, ``final_seconds``: how long those
    with a final state are kept among them, ``route_messages_max``: how many
    without FID there may be between the same two numbers.
    """

    settle_seconds: int = 5
    early_seconds: int = 10
    waiting_seconds: int = 3600
    waiting_reports_max: int = 100_000
    open_seconds: int = 7 * 86_400
    open_messages_max: int = 200_000
    final_seconds: int = 600
    route_messages_max: int = 1000


class LogTime:
    """How far the log has come, by what its lines say.

    One line that is more than a day off, such as after a clock was set wrongly,
    moves nothing; a second one near it does. So no single line makes all that is
    remembered seem old.
    """

    _LEAP: Final = timedelta(days=1)

    def __init__(self) -> None:
        self._now: datetime | None = None
        self._stray: datetime | None = None

    def move(self, at: datetime) -> bool:
        """Takes the time of one more line; says whether the log has come on by it."""
        if self._now is None or self._near(at, self._now):
            self._stray = None
            if self._now is not None and at <= self._now:
                return False
        elif self._stray is None or not self._near(at, self._stray):
            self._stray = at
            return False
        self._now = at
        return True

    def is_past(self, since: datetime, seconds: int) -> bool:
        """Whether something of the time ``since`` is older than so many seconds, or a stray."""
        if self._now is None:
            return False
        return since < self._now - timedelta(seconds=seconds) or since > self._now + self._LEAP

    def _near(self, one: datetime, other: datetime) -> bool:
        return abs(one - other) <= self._LEAP


def foreign_of(line: Message | Report) -> ForeignKey | None:
    """The SMSC and FID of a line, if it has a FID."""
    return (line.smsc, line.foreign_id) if line.foreign_id else None


def route_of(line: Message | Report) -> Route:
    """The route of a line."""
    return (line.service, line.sender, line.recipient)


@dataclass(slots=True, eq=False)
class OpenMessage:
    """A message that went out, or failed to, and what its reports have said so far.

    ``foreign`` is the FID of its line or, without one, that of the reports which
    were found to be its own. ``answered``: Kannel's own report on it has been read.
    """

    key: RecordKey
    since: datetime
    route: Route
    foreign: ForeignKey | None
    failed: bool
    answered: bool = False
    final: str | None = None
    final_at: datetime | None = None
    gone: bool = False

    @property
    def unbound(self) -> bool:
        """Whether a report with a FID that is on no line may be about this message."""
        return self.foreign is None and self.final is None and not self.gone


class OpenMessages:
    """Finds the message a report is about, and forgets the oldest beyond the limits."""

    def __init__(self, limits: MatchingLimits) -> None:
        self._limits = limits
        self._all: OrderedDict[int, OpenMessage] = OrderedDict()
        self._finals: deque[OpenMessage] = deque()
        self._by_foreign: dict[ForeignKey, OpenMessage] = {}
        self._by_route: dict[Route, dict[int, OpenMessage]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, opened: OpenMessage) -> None:
        """Remembers one more; the oldest goes when there are too many, final ones first."""
        self._all[id(opened)] = opened
        if opened.foreign is not None:
            self._by_foreign[opened.foreign] = opened
        else:
            same_route = self._by_route.setdefault(opened.route, {})
            same_route[id(opened)] = opened
            if len(same_route) > self._limits.route_messages_max:
                self._forget(next(iter(same_route.values())))
        while len(self._all) > self._limits.open_messages_max:
            oldest = self._finals.popleft() if self._finals else next(iter(self._all.values()))
            self._forget(oldest)

    def bind(self, opened: OpenMessage, foreign: ForeignKey) -> None:
        """Gives a message that was logged without FID the one that its reports have."""
        opened.foreign = foreign
        self._by_foreign[foreign] = opened

    def finish(self, opened: OpenMessage, status: str, at: datetime) -> None:
        """Notes the final state of a message, which it keeps for ``final_seconds`` more."""
        opened.final, opened.final_at = status, at
        self._finals.append(opened)

    def by_foreign(self, foreign: ForeignKey) -> OpenMessage | None:
        """The message of this FID."""
        return self._by_foreign.get(foreign)

    def oldest_unbound(self, route: Route) -> OpenMessage | None:
        """The oldest of the route that has no FID and no final state."""
        return next((each for each in self._on(route) if each.unbound), None)

    def oldest_unanswered(self, route: Route, *, failed: bool) -> OpenMessage | None:
        """The oldest of the route without FID that Kannel's own report is still to come for."""
        return next(
            (each for each in self._on(route) if each.failed is failed and not each.answered), None
        )

    def forget_past(self, time: LogTime) -> None:
        """Forgets what is past its time."""
        limits = self._limits
        while self._finals and _is_done(self._finals[0], time, limits.final_seconds):
            self._forget(self._finals.popleft())
        while self._all:
            oldest = next(iter(self._all.values()))
            if not time.is_past(oldest.since, limits.open_seconds):
                break
            self._forget(oldest)

    def _on(self, route: Route) -> list[OpenMessage]:
        return list(self._by_route.get(route, {}).values())

    def _forget(self, opened: OpenMessage) -> None:
        if opened.gone:
            return
        opened.gone = True
        del self._all[id(opened)]
        if opened.foreign is not None and self._by_foreign.get(opened.foreign) is opened:
            del self._by_foreign[opened.foreign]
        same_route = self._by_route.get(opened.route)
        if same_route is not None and id(opened) in same_route:
            del same_route[id(opened)]
            if not same_route:
                del self._by_route[opened.route]


def _is_done(opened: OpenMessage, time: LogTime, final_seconds: int) -> bool:
    return opened.final_at is None or time.is_past(opened.final_at, final_seconds)

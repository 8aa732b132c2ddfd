"""Makes a gateway's traffic: what is reported, and when, for a seed always the same.

Reports come at random moments (a Poisson process) of the chosen rate. A moment goes to
a later report that is due, such as a delivery report; else something new begins.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from trafficlog.simulate.pools import USER_AGENTS, Pools, account_id, tail_weights
from trafficlog.simulate.spoiling import spoiled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from trafficlog.simulate.options import Mix

Record = dict[str, Any]

RECENT: Final = 1_000
LATE_SECONDS: Final = (60.0, 86_400.0)
REPORT_SECONDS_MAX: Final = 60.0
_IDENTITY: Final = ("id", "account", "kind", "direction", "from", "to", "created")


class Sort(StrEnum):
    """Why a report is sent."""

    NEW = "new"
    LATER = "later"
    LATE = "late"
    DUPLICATE = "duplicate"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Planned:
    """A report and when it is due, in seconds from the start."""

    due: float
    sort: Sort
    record: Record


class Traffic:
    """The traffic of ``accounts`` customers for ``seconds`` from ``start`` on, ``rate`` a second.

    Delivery reports and the ends of calls come some seconds after what they
    report on, at most half of ``seconds``. ``unreported`` are those that would have
    come after the end.
    """

    def __init__(
        self, *, rate: float, accounts: int, seconds: float, seed: int, mix: Mix, start: datetime
    ) -> None:
        self._rate = rate
        self._seconds = seconds
        self._mix = mix
        self._start = start
        self._later_max = min(REPORT_SECONDS_MAX, seconds / 2)
        self._random = random.Random(seed)  # noqa: S311 - traffic guards nothing
        self._pools = Pools(self._random)
        self._accounts = range(accounts)
        self._weights = tail_weights(accounts)
        self._later: list[tuple[float, int, Record]] = []
        self._later_made = 0
        self._recent: deque[Record] = deque(maxlen=RECENT)
        self._received: deque[Record] = deque(maxlen=RECENT)

    @property
    def unreported(self) -> int:
        """Later reports that are still to come."""
        return len(self._later)

    def reports(self) -> Iterator[Planned]:
        """All of it, in the order in which it is due; to be read once."""
        due = 0.0
        while (due := due + self._random.expovariate(self._rate)) < self._seconds:
            sort, record = self._next(due)
            if sort is not Sort.BAD:
                self._recent.append(record)
            yield Planned(due, sort, record)

    def _next(self, due: float) -> tuple[Sort, Record]:
        draw, mix = self._random, self._mix
        dice = draw.random()
        if dice < mix.duplicates and self._recent:
            return Sort.DUPLICATE, draw.choice(self._recent)
        dice -= mix.duplicates
        if 0 <= dice < mix.bad:
            record = self._base("sms", due)
            return Sort.BAD, spoiled(record, self._at(due), draw)
        dice -= mix.bad
        if 0 <= dice < mix.late:
            return Sort.LATE, self._late(due)
        if self._later and self._later[0][0] <= due:
            return Sort.LATER, heapq.heappop(self._later)[2]
        dice = draw.random()
        if dice < mix.calls:
            return Sort.NEW, self._call(due)
        return Sort.NEW, self._message("mms" if dice < mix.calls + mix.mms else "sms", due)

    def _message(self, kind: str, due: float) -> Record:
        draw, mix = self._random, self._mix
        if draw.random() < mix.incoming:
            record = self._base(kind, due, incoming=True) | {"status": "received"}
            record |= self._content(kind)
            self._received.append(record)
            return record
        record = self._base(kind, due) | {"status": "created"} | self._content(kind)
        if draw.random() < mix.replies and self._received:
            answered = draw.choice(self._received)
            record |= {
                "direction": "outgoing-reply",
                "account": answered["account"],
                "from": answered["to"],
                "to": answered["from"],
            }
        if draw.random() < mix.reports:
            self._delivery(record, due)
        return record

    def _delivery(self, record: Record, due: float) -> None:
        """Lets a message be sent within a second, and delivered or failed some seconds later."""
        draw = self._random
        sent = due + min(draw.uniform(0.05, 1.0), self._later_max / 2)
        ended = sent + min(draw.lognormvariate(math.log(3.0), 1.0), self._later_max / 2)
        self._report(record, sent, {"status": "sent"})
        if draw.random() < self._mix.failed:
            self._report(record, ended, {"status": "failed"})
        else:
            self._report(record, ended, {"status": "delivered", "delivered": self._time(ended)})

    def _call(self, due: float) -> Record:
        """A call that begins now, or, if it lasts longer than the traffic, one that ended now."""
        draw = self._random
        incoming = draw.random() < self._mix.incoming
        status = draw.choices(("success", "no-answer", "busy", "failed"), (75, 15, 7, 3))[0]
        rings = draw.uniform(2.0, 25.0)
        seconds = draw.lognormvariate(math.log(90.0), 1.1) if status == "success" else 0.0
        end: Record = {"status": status}
        if status == "success":
            duration = round(seconds)
            end |= {"duration": duration, "cost": 900 * math.ceil(duration / 60)}
        lasts = rings + seconds
        if lasts > self._later_max:
            return self._base("call", due - lasts, incoming=incoming) | end
        record = self._base("call", due, incoming=incoming) | {"status": "ongoing"}
        self._report(record, due + lasts, end)
        return record

    def _late(self, due: float) -> Record:
        """A message of hours ago that is reported for the first time, and once."""
        created = due - math.exp(self._random.uniform(*map(math.log, LATE_SECONDS)))
        delivered = self._time(created + self._random.uniform(1.0, 20.0))
        state = {"status": "delivered", "delivered": delivered}
        return self._base("sms", created) | self._content("sms") | state

    def _report(self, record: Record, due: float, state: Record) -> None:
        report = {name: record[name] for name in _IDENTITY} | {"updated": self._time(due)} | state
        self._later_made += 1
        heapq.heappush(self._later, (due, self._later_made, report))

    def _base(self, kind: str, created: float, *, incoming: bool = False) -> Record:
        draw, pools = self._random, self._pools
        account = draw.choices(self._accounts, cum_weights=self._weights)[0]
        # A customer has a few senders of its own.
        ours = pools.senders[(account * 7 + draw.randrange(3)) % len(pools.senders)]
        theirs = draw.choice(pools.numbers)
        record: Record = {
            "id": f"{kind[0]}{draw.getrandbits(128):032x}",
            "account": account_id(account),
            "kind": kind,
            "direction": "incoming" if incoming else "outgoing",
            "from": theirs if incoming else ours,
            "to": ours if incoming else theirs,
            "created": self._time(created),
        }
        if not incoming:
            record |= {
                "ip": pools.ips[(account * 5 + draw.randrange(2)) % len(pools.ips)],
                "user_agent": USER_AGENTS[account % len(USER_AGENTS)],
            }
        if draw.random() < 0.4:  # noqa: PLR2004 - some customers tell their users apart
            record["owner"] = f"user-{draw.randrange(50)}"
        return record

    def _content(self, kind: str) -> Record:
        draw = self._random
        text = draw.choice(self._pools.texts)
        parts = 1 if kind == "mms" else -(-len(text) // 153)
        content: Record = {"message": text, "parts": parts, "cost": 3500 * parts}
        dice = draw.random()
        if dice < 0.1:  # noqa: PLR2004 - the rarer fields
            content["tags"] = [f"campaign-{draw.randrange(20)}"]
        elif dice < 0.12:  # noqa: PLR2004
            content["dontlog"] = "message"
        return content

    def _at(self, seconds: float) -> datetime:
        return self._start + timedelta(seconds=seconds)

    def _time(self, seconds: float) -> str:
        return self._at(seconds).isoformat(timespec="microseconds").replace("+00:00", "Z")

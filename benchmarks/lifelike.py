"""Lifelike traffic for measurements: accounts with a long tail, numbers, texts, later reports."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from trafficlog.simulate.pools import USER_AGENTS, Pools, account_id, tail_weights

Record = dict[str, Any]

# Most customers keep the default; with these a batch meets about ten settings at once.
HISTORY_DAYS = (90, 90, 90, 90, 30, 90, 7, 14, 60, 90, 120, 180, 365, 730, 1095, None)
CREATED_WITHIN = timedelta(minutes=5)

_KINDS = ("sms", "sms", "sms", "sms", "sms", "sms", "sms", "sms", "mms", "call")


@dataclass(frozen=True)
class Lot:
    """Records of one round: their NDJSON lines, and how many of them history keeps."""

    records: list[Record]
    lines: list[bytes]
    kept: int

    @property
    def line_bytes(self) -> float:
        """The mean length of a record's line, its end included."""
        return sum(map(len, self.lines)) / len(self.lines) + 1


def history_days(number: int) -> int | None:
    """How long the account of this rank keeps its history; None: not at all."""
    return HISTORY_DAYS[number % len(HISTORY_DAYS)]


class Traffic:
    """Makes lots; the same seed makes the same traffic but for the time and the ids."""

    def __init__(self, accounts: int, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._pools = Pools(self._random)
        self._accounts = [account_id(n) for n in range(accounts)]
        self._weights = tail_weights(accounts)
        self._without_history = {account_id(n) for n in range(accounts) if not history_days(n)}

    def lot(self, count: int, within: timedelta = CREATED_WITHIN) -> Lot:
        """Records never seen before, created ``within`` such a time, in order of creation."""
        draw = self._random
        now = datetime.now(UTC)
        ages = sorted((draw.random() * within.total_seconds() for _ in range(count)), reverse=True)
        accounts = draw.choices(self._accounts, cum_weights=self._weights, k=count)
        records = [
            self._record(account, now - timedelta(seconds=age))
            for account, age in zip(accounts, ages, strict=True)
        ]
        return self._as_lot(records)

    def later(self, lot: Lot) -> Lot:
        """A later report of each record, in no order, as networks send them."""
        reports = [self.later_of(record) for record in lot.records]
        self._random.shuffle(reports)
        return self._as_lot(reports)

    def shuffle(self, lines: list[bytes]) -> None:
        """Puts lines in no order."""
        self._random.shuffle(lines)

    def _as_lot(self, records: list[Record]) -> Lot:
        kept = sum(record["account"] not in self._without_history for record in records)
        return Lot(records, [orjson.dumps(record) for record in records], kept)

    def _record(self, account: str, created: datetime) -> Record:
        draw = self._random
        kind = draw.choice(_KINDS)
        incoming = draw.random() < 0.3
        ours, theirs = draw.choice(self._pools.senders), draw.choice(self._pools.numbers)
        record: Record = {
            "id": f"{kind[0]}{draw.getrandbits(128):032x}",
            "account": account,
            "kind": kind,
            "direction": "incoming" if incoming else "outgoing",
            "from": theirs if incoming else ours,
            "to": ours if incoming else theirs,
            "created": _time(created),
            "ip": draw.choice(self._pools.ips),
            "user_agent": draw.choice(USER_AGENTS),
        }
        if kind == "call":
            record |= {"status": "ongoing", "owner": f"trunk-{draw.randrange(8)}"}
            return record
        record |= {
            "status": "received" if incoming else "sent",
            "parts": draw.choice((1, 1, 1, 2, 3)),
            "cost": draw.choice((3500, 5200, 7000, 10500)),
            "message": draw.choice(self._pools.texts),
        }
        if draw.random() < 0.5:
            record["owner"] = f"user-{draw.randrange(500)}"
        if draw.random() < 0.1:
            record["tags"] = [f"campaign-{draw.randrange(20)}"]
        if draw.random() < 0.01:
            record["dontlog"] = "message"
        return record

    def later_of(self, record: Record) -> Record:
        """A later report of one record."""
        draw = self._random
        created = datetime.fromisoformat(record["created"])
        updated = _time(min(created + timedelta(seconds=draw.uniform(1, 120)), datetime.now(UTC)))
        same = ("id", "account", "kind", "direction", "from", "to", "created")
        report: Record = {name: record[name] for name in same} | {"updated": updated}
        if record["kind"] == "call":
            return report | {"status": "success", "duration": draw.randrange(1, 1800)}
        if record["direction"] == "outgoing" and draw.random() < 0.05:
            return report | {"status": "failed"}
        return report | {"status": "delivered", "delivered": updated}


def _time(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")

"""Anything that may happen, in any order, against an oracle in plain Python.

hypothesis draws a sequence of commands; each is carried out on a real database and on the
oracle, and after each what customers see, what is stored, what is held and what the ledger
says must be the same. ``TRAFFICLOG_STATE_MACHINE_EXAMPLES`` sets how many sequences are tried.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import singledispatchmethod
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import pytest_asyncio
from asyncpg import LockNotAvailableError, ObjectNotInPrerequisiteStateError
from hypothesis import HealthCheck, example, given, settings

from tests.jobs import commands as c
from tests.jobs.oracle import DAY, HISTORY, TRAFFIC, Erasure, Hold, Key, Oracle, Row, Told
from tests.jobs.stock import START, TICK, Stock, config
from trafficlog.errors import ConflictError, NotFoundError
from trafficlog.queries import queries
from trafficlog.records import STATUS_CODES, Report
from trafficlog.retention import DataClass, HistoryDays, HistoryOff, RetentionPolicy
from trafficlog.selector import Selector
from trafficlog.store.accounts import Accounts
from trafficlog.store.erasures import Erasures, Wanted
from trafficlog.store.history import History
from trafficlog.store.history_list import HistoryFilter
from trafficlog.store.holds import Holds
from trafficlog.store.ingest import Batch, RecordWriter
from trafficlog.store.retention import Retention
from trafficlog.store.verify import verify, verify_ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

EXAMPLES = int(os.environ.get("TRAFFICLOG_STATE_MACHINE_EXAMPLES", "60"))
MINUTE = timedelta(minutes=1)
FIRST = datetime.min.replace(tzinfo=UTC)
NUMBERS = ("+46701", "+46702", "+46703")
WITHHELD_BITS = {"message": 1, "from": 2, "to": 4}
ADDRESSES = (None, "192.0.2.1", "192.0.2.2")

# As a fresh database, without the time it takes to make one. Partitions, also detached ones,
# go, and all rows that a sequence made.
EMPTY = """
DO $$
DECLARE
    part record;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR part IN SELECT c.relname AS name FROM pg_class c
                JOIN retained_table t ON c.relname ~ ('^' || t.table_name || '_[0-9]+_*$')
                WHERE c.relnamespace = 'trafficlog'::regnamespace AND c.relkind = 'r'
    LOOP
        EXECUTE format('DROP TABLE %I', part.name);
    END LOOP;
    DELETE FROM partition_register;
    DELETE FROM partition_drop;
    DELETE FROM abuse_hold;
    DELETE FROM held_record;
    DELETE FROM purge_ledger;
    UPDATE purge_ledger_head SET seq = 0, hash = sha256('trafficlog purge ledger');
    DELETE FROM history_move;
    DELETE FROM erasure;
    DELETE FROM account_setting_change;
    DELETE FROM account;
    DELETE FROM retention_policy WHERE effective_from > '-infinity';
    UPDATE settings_epoch SET epoch = 1;
END
$$
"""
DETACHED = """
SELECT d.table_name, d.name FROM partition_drop d
WHERE NOT EXISTS (SELECT 1 FROM pg_inherits i
                  WHERE i.inhrelid = d.table_oid AND NOT i.inhdetachpending)
"""


@dataclass
class Machine:
    """A store and its oracle, side by side."""

    stock: Stock
    retention: Retention
    oracle: Oracle = field(default_factory=lambda: Oracle(START))
    writers: list[RecordWriter] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    hold_ids: list[str] = field(default_factory=list)
    erasure_ids: list[tuple[Any, str]] = field(default_factory=list)
    # What somebody could not see any more: it must not come back.
    hidden: set[Key] = field(default_factory=set)

    @property
    def erasures(self) -> Erasures:
        """What customers want erased."""
        return Erasures(self.stock.database, b"secret" * 6)

    @property
    def now(self) -> datetime:
        """The time, which only commands let pass."""
        return self.oracle.now

    async def begin(self) -> None:
        """An empty store at the starting time."""
        await self.stock.admin.execute(EMPTY)
        self.writers = [await self._new_writer(), await self._new_writer()]

    async def _new_writer(self) -> RecordWriter:
        writer = RecordWriter(self.stock.database, config())
        await writer.start()
        return writer

    async def _known(self, account: str) -> Any:
        """The key of an account, which is made when it is not there."""
        self.oracle.account(account)
        accounts = Accounts(self.stock.database)
        try:
            return await accounts.key_of(account)
        except NotFoundError:
            return await accounts.create(account, self.now, None)

    # What happens.

    @singledispatchmethod
    async def do(self, command: c.Command) -> None:
        """Carries a command out on both."""
        raise TypeError(f"no command: {command}")

    @do.register
    async def _(self, command: c.Ingest) -> None:
        told = [
            Told(
                (s.account, self.now - s.minutes * MINUTE + s.ticks * TICK, s.record),
                NUMBERS[s.number],
                NUMBERS[(s.number + 1) % 3],
                ADDRESSES[s.ip],
                message=f"text of {s.record}",
                dontlog=s.dontlog,
            )
            for s in command.records
        ]
        await self._send(told, command.writer)

    @do.register
    async def _(self, command: c.SendAgain) -> None:
        if self.told:
            first = command.which % len(self.told)
            await self._send(self.told[first : first + command.count], command.writer)

    @do.register
    async def _(self, command: c.Later) -> None:
        if not self.told:
            return
        known = self.told[command.which % len(self.told)]
        told = Told(
            known.key,
            known.sender,
            known.recipient,
            ADDRESSES[command.ip],
            known.key[1] + command.minutes * MINUTE,
            command.status,
            f"later text of {known.key[2]}" if command.message else None,
            command.dontlog,
        )
        await self._send([told], command.writer)

    async def _send(self, told: Sequence[Told], writer: int) -> None:
        """Sends what may still be sent; a gateway says the same of a record each time."""
        accepted, parties = [], {t.key: (t.sender, t.recipient) for t in self.told}
        for each in told:
            same = parties.setdefault(each.key, (each.sender, each.recipient))
            if self.oracle.accepts(each) and (each.sender, each.recipient) == same:
                accepted.append(each)
        if not accepted:
            return
        self.told += accepted
        expected = [self.oracle.write(each) for each in accepted]
        outcome = (
            await self.writers[writer].write([Batch([_report(t) for t in accepted])], self.now)
        )[0]
        assert outcome.accepted == expected.count("new")
        assert outcome.updated + outcome.duplicates == expected.count("known")

    @do.register
    async def _(self, command: c.Setting) -> None:
        key = await self._known(command.account)
        change = Accounts(self.stock.database).change(
            key,
            HistoryOff() if command.days is None else HistoryDays(command.days),
            monthly_reports=True,
            now=self.now,
            by="test",
        )
        if self.oracle.account(command.account).closed:
            with pytest.raises(ConflictError):
                await change
        else:
            self.oracle.change(command.account, command.days)
            await change

    @do.register
    async def _(self, command: c.Close) -> None:
        key = await self._known(command.account)
        self.oracle.close(command.account)
        await Accounts(self.stock.database).close(key, self.now, "test")

    @do.register
    async def _(self, command: c.Step) -> None:
        key = await self._known(command.account)
        self.oracle.step(command.account, command.rows)
        await queries.move_step(
            self.retention.connection, account_key=key, at=self.now, rows_max=command.rows
        )

    @do.register
    async def _(self, _: c.Move) -> None:
        for name in self.oracle.accounts:
            while self.oracle.accounts[name].moving:
                self.oracle.step(name, 1000)
        assert (await self.retention.move(self.now, guard_clock=False)).failures == []

    @do.register
    async def _(self, command: c.Place) -> None:
        account = number = ip = record = None
        match command.selector:
            case "account":
                account = "abc"[command.which % 3]
            case "number":
                number = NUMBERS[command.which % 3]
            case "ip":
                ip = ADDRESSES[1 + command.which % 2]
            case _ if self.told:
                account, _, record = self.told[command.which % len(self.told)].key
        if account is not None:
            await self._known(account)
        elif number is None and ip is None:
            return
        start, end = (None if days is None else self.now - days * DAY for days in command.window)
        ends_at = self.now + command.days * DAY
        self.oracle.holds.append(Hold(account, number, ip, record, start, end, ends_at))
        hold = await self.stock.hold(
            Selector(account, number, ip, record, start, end), self.now, command.days
        )
        self.hold_ids.append(hold.id)

    @do.register
    async def _(self, command: c.Release) -> None:
        if not self.hold_ids:
            return
        which = command.which % len(self.hold_ids)
        hold = self.oracle.holds[which]
        release = Holds(self.stock.database).release(self.hold_ids[which], by="test", now=self.now)
        if hold.released or hold.ends_at <= self.now:
            with pytest.raises(NotFoundError):
                await release
        else:
            hold.released = True
            await release

    @do.register
    async def _(self, command: c.Extend) -> None:
        if not self.hold_ids:
            return
        which = command.which % len(self.hold_ids)
        hold = self.oracle.holds[which]
        ends_at = self.now + command.days * DAY
        extend = Holds(self.stock.database).extend(
            self.hold_ids[which], ends_at, by="test", now=self.now
        )
        if hold.released or hold.ends_at <= self.now:
            with pytest.raises(NotFoundError):
                await extend
        else:
            hold.ends_at = ends_at
            await extend

    @do.register
    async def _(self, command: c.Erase) -> None:
        key = await self._known(command.account)
        erase = History(self.stock.database).erase(key, command.record, self.now)
        if expected := self.oracle.erase(command.account, command.record):
            erased = await erase
            assert (len(erased.records), erased.rows) == (expected, expected)
        else:
            with pytest.raises(NotFoundError):
                await erase

    @do.register
    async def _(self, command: c.Want) -> None:
        key = await self._known(command.account)
        if sum(not e.over for e in self.oracle.erasures) >= config().erasures_open_max:
            return
        wanted = Erasure(command.account, FIRST, self.now)
        chosen = None
        match command.what:
            case "everything":
                wanted.everything = True
            case "from":
                wanted.sender = NUMBERS[command.which % 3]
                chosen = HistoryFilter(sender=wanted.sender)
            case "status":
                wanted.status = ("sent", "delivered")[command.which % 2]
                chosen = HistoryFilter(status=wanted.status)
            case "days":
                wanted.start = self.now - command.which * 7 * DAY
                before = self.now - command.which * DAY
                wanted.end = before - TICK
                chosen = HistoryFilter(after=wanted.start, before=before)
        found = self.oracle.want(wanted)
        erasure = await self.erasures.start(key, Wanted(chosen), self.now)
        assert erasure.found == found
        self.oracle.erasures.append(wanted)
        self.erasure_ids.append((key, erasure.id))

    def _erasure(self, which: int) -> tuple[Erasure, Any, str] | None:
        """One of those that are under way: for the oracle, of which account, and its id."""
        known = [
            (wanted, *ids)
            for wanted, ids in zip(self.oracle.erasures, self.erasure_ids, strict=True)
            if not wanted.over
        ]
        return known[which % len(known)] if known else None

    @do.register
    async def _(self, command: c.Work) -> None:
        found = self._erasure(command.which)
        if found is None:
            return
        wanted, key, erasure_id = found
        for _ in range(command.steps):
            if wanted.over:
                break
            self.oracle.erase_step(wanted, command.rows)
            row = await queries.erase_step(
                self.retention.connection,
                erasure_id=erasure_id,
                at=self.now,
                rows_max=command.rows,
                width=2048 * DAY,
            )
            assert row["state"] == ("done" if wanted.over else "running")
        assert (await self.erasures.get(key, erasure_id)).erased == wanted.erased

    @do.register
    async def _(self, command: c.Cancel) -> None:
        found = self._erasure(command.which)
        if found is not None:
            wanted, key, erasure_id = found
            wanted.over = True
            await self.erasures.cancel(key, erasure_id, self.now)

    @do.register
    async def _(self, _: c.Run) -> None:
        self.oracle.run()
        result = await self.retention.run(self.now, guard_clock=False)
        assert result.failures == []
        assert (await verify(self.retention.connection, self.now, config())).findings == []
        await self._assert_nothing_overdue()

    @do.register
    async def _(self, command: c.Begin) -> None:
        due = self.oracle.due()
        if not due:
            return
        table, lower = due[command.which % len(due)]
        name = await self.stock.partition(table, lower, 0)
        begin = queries.begin_drop(
            self.retention.connection, table_name=table, name=name, at=self.now
        )
        if self.oracle.is_to_be_moved(table, lower):
            with pytest.raises(ObjectNotInPrerequisiteStateError):
                await begin
            return
        after = command.after
        if after == "pending" and await self._has_pending(table):
            # A table has one at the most.
            after = "begun"
        self.oracle.begin(table, lower, after=after)
        await begin
        if after == "begun":
            return
        if after == "pending":
            await self._leave_pending(table, name)
            return
        await self.retention.drops.detach(table, name, pending=False)
        if after == "detached":
            return
        count = await queries.settle_drop(self.retention.connection, name=name, at=self.now)
        if after == "settled":
            return
        last = self.retention.connection.transaction()
        await last.start()
        await queries.finish_drop(self.retention.connection, name=name, at=self.now, rows=count)
        await (last.commit() if after == "dropped" else last.rollback())

    async def _has_pending(self, table: str) -> bool:
        return await self.stock.admin.fetchval(
            "SELECT coalesce(bool_or(detach_pending), false) FROM partition_catalogue"
            " WHERE table_name = $1",
            table,
        )

    async def _leave_pending(self, table: str, name: str) -> None:
        """A detach that is killed while it waits for a reader."""
        async with self.stock.transaction(f"SELECT FROM {table}"):
            await self.retention.connection.execute("SET lock_timeout = '5ms'")
            with pytest.raises(LockNotAvailableError):
                await self.retention.connection.execute(
                    f"ALTER TABLE trafficlog.{table}"
                    f" DETACH PARTITION trafficlog.{name} CONCURRENTLY"
                )
            await self.retention.connection.execute(
                f"SET lock_timeout = '{config().lock_timeout_ms}ms'"
            )

    @do.register
    async def _(self, command: c.Destroy) -> None:
        due = set(self.oracle.copies_due())
        before = await self._copies()
        gone = await queries.destroy_released(
            self.retention.connection, at=self.now, rows_max=command.rows
        )
        went = before.keys() - (await self._copies()).keys()
        # Which ones of them is up to the store.
        assert len(went) == gone == min(command.rows, len(due))
        for data_class, *key in went:
            self.oracle.destroy_copy(data_class, tuple(key))

    @do.register
    async def _(self, command: c.Pass) -> None:
        self.oracle.now += command.minutes * MINUTE

    @do.register
    async def _(self, command: c.Reach) -> None:
        if ahead := self.oracle.boundaries(command.what):
            self.oracle.now = max(
                self.now, ahead[command.which % len(ahead)] + command.ticks * TICK
            )

    @do.register
    async def _(self, _: c.Ripen) -> None:
        self.oracle.now = self.oracle.next_due() or self.now

    @do.register
    async def _(self, command: c.Policy) -> None:
        start, kept = self.now + command.minutes * MINUTE, command.days * DAY
        known = self.oracle.policies[command.data_class]
        known[:] = sorted([*(p for p in known if p[0] != start), (start, kept)])
        policy = RetentionPolicy(DataClass(command.data_class), start, kept, "a statute")
        await Accounts(self.stock.database).set_policy(policy, self.now, "test")

    @do.register
    async def _(self, command: c.Restart) -> None:
        self.writers[command.writer] = await self._new_writer()

    # What must be so.

    async def check(self) -> None:
        """The store is as the oracle says."""
        await self._check_what_is_stored()
        await self._check_what_customers_see()
        await self._check_what_is_held()
        await self._check_the_ledger()

    async def _check_what_customers_see(self) -> None:
        history = History(self.stock.database)
        # Of an account without a stored row there is nothing that could be seen.
        for name in sorted({key[0] for key in self.oracle.history}):
            key = await self.stock.account_key(name)
            page = await history.page(key, HistoryFilter(), self.now, limit=1000)
            seen = {
                (name, r.created, r.id): (r.status, r.message, r.sender, r.recipient, r.expires)
                for r in page.records
            }
            visible = self.oracle.visible(name)
            days = self.oracle.accounts[name].days or 0
            assert seen == {
                k: (r.status, r.message, r.sender, r.recipient, k[1] + days * DAY)
                for k, r in visible.items()
            }
            assert [(r.created, r.id) for r in page.records] == sorted(
                (k[1:] for k in visible), reverse=True
            )
            # Whatever the oracle thinks: what was hidden once is never seen again.
            assert not self.hidden & seen.keys()
            self.hidden |= {k for k in self.oracle.traffic if k[0] == name} - seen.keys()

    async def _check_what_is_stored(self) -> None:
        traffic = await self._rows(TRAFFIC, "r.created_at, id, expires_at, ip")
        assert {k: tuple(r)[3:5] for k, r in traffic.items()} == {
            k: (r.expires, r.ip) for k, r in self.oracle.traffic.items()
        }
        history = await self._rows(HISTORY, "r.created_at, id, expires_at, status, message")
        assert {k: tuple(r)[3:6] for k, r in history.items()} == {
            k: (r.expires, r.status and STATUS_CODES[r.status], r.message)
            for k, r in self.oracle.history.items()
        }

    async def _rows(self, table: str, columns: str) -> dict[Key, Any]:
        """All rows of a class, also of partitions that are detached and not dropped yet."""
        sources = [table] + [
            r["name"] for r in await self.stock.admin.fetch(DETACHED) if r["table_name"] == table
        ]
        found = [
            row
            for source in sources
            for row in await self.stock.admin.fetch(
                f"SELECT account_id, {columns} FROM {source} r JOIN account a USING (account_key)"
            )
        ]
        rows = {(r["account_id"], r["created_at"], r["id"]): r for r in found}
        assert len(rows) == len(found), "stored twice"
        return rows

    async def _check_what_is_held(self) -> None:
        assert await self._copies() == {
            (data_class, *key): (row.expires, _content(data_class, row))
            for (data_class, key), row in self.oracle.copies.items()
        }

    async def _copies(self) -> dict[tuple[Any, ...], tuple[datetime, dict[str, Any]]]:
        """From when on only a hold keeps each copy, and all that it says."""
        found = await self.stock.admin.fetch(
            "SELECT data_class, account_id, r.created_at, record_id, expires_at, content"
            " FROM held_record r JOIN account USING (account_key)"
        )
        copies = {}
        for row in found:
            content = orjson.loads(row["content"])
            if told := content.get("updated_at"):
                content["updated_at"] = datetime.fromisoformat(told)
            copies[tuple(row)[:4]] = (row["expires_at"], content)
        return copies

    async def _check_the_ledger(self) -> None:
        rows, held = Counter(), Counter()
        for entry in await self.stock.ledger():
            if entry["data_class"] not in (TRAFFIC, HISTORY):
                # Lines of the access log, which the holds left.
                continue
            rows[entry["data_class"], entry["reason"]] += entry["rows"]
            held[entry["data_class"], entry["reason"]] += entry["held"]
        assert +rows == +self.oracle.ledger
        assert +held == +self.oracle.ledger_held
        for data_class in (TRAFFIC, HISTORY):
            there = len(self.oracle.table(data_class))
            gone = sum(rows[data_class, reason] for reason in ("expired", "erased", "setting"))
            assert self.oracle.inserted[data_class] == there + gone
        assert (await verify_ledger(self.stock.admin)).faults == ()

    async def check_rows(self) -> None:
        """Verification finds no row whose expiry is wrong, whatever was left undone."""
        found = await verify(self.retention.connection, self.now, config(), deep=True)
        assert [f for f in found.findings if not f.startswith(("overdue", "unfinished"))] == []

    async def _assert_nothing_overdue(self) -> None:
        """After a run: what no row may be, told from the database alone."""
        assert not await self.stock.admin.fetch(
            "SELECT 1 FROM traffic_record WHERE expires_at + interval '24 hours' <= $1", self.now
        )
        assert not await self.stock.admin.fetch(
            "SELECT 1 FROM history_record h JOIN account a USING (account_key)"
            " WHERE h.expires_at + interval '24 hours' <= $1 OR a.history_days IS NULL"
            " OR h.created_at + a.history_days * interval '24 hours' <> h.expires_at",
            self.now,
        )
        assert not await self.stock.admin.fetch("SELECT 1 FROM history_move")
        assert not await self.stock.admin.fetch("SELECT 1 FROM partition_drop")


def _content(data_class: str, row: Row) -> dict[str, Any]:
    """What a copy says of a row: all that was stored of it."""
    content = {
        "kind": 1,
        "direction": 2,
        "sender": row.sender,
        "recipient": row.recipient,
        "updated_at": row.updated,
    }
    if data_class == TRAFFIC:
        content["ip"] = row.ip
    else:
        content |= {
            "status": row.status and STATUS_CODES[row.status],
            "message": row.message,
            "withheld": sum(WITHHELD_BITS[name] for name in row.withheld),
        }
    return {name: value for name, value in content.items() if value is not None}


def _report(told: Told) -> Report:
    account, created, record = told.key
    return Report(
        id=record,
        account=account,
        kind="sms",
        direction="outgoing",
        sender=told.sender,
        recipient=told.recipient,
        created=created,
        updated=told.updated,
        status=told.status,
        ip=told.ip,
        message=told.message,
        dontlog=list(told.dontlog) or None,
    )


@pytest_asyncio.fixture
async def retention(stock: Stock) -> AsyncIterator[Retention]:
    """The connection of the jobs."""
    async with Retention(stock.dsn, config()) as jobs:
        assert await jobs.lead()
        yield jobs


async def play(stock: Stock, retention: Retention, sequence: Sequence[c.Command]) -> None:
    """Carries out a sequence on an empty store, comparing after each command."""
    machine = Machine(stock, retention)
    await machine.begin()
    for command in sequence:
        await machine.do(command)
        await machine.check()
    await machine.check_rows()


ONE = c.Ingest((c.Sent("a", "m1", 0),))


@settings(
    max_examples=EXAMPLES,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(c.sequences)
# A row that has to be moved at the very instant at which it is over.
@example([ONE, c.Setting("a", 7), c.Reach("shown", 0, 0), c.Step("a", 2), c.Run()])
# The first record of an account, from a writer that has not learnt of a new default.
@example([c.Policy("history_record", 11, 7), c.Pass(20), ONE])
# A hold that ends at the very instant of the run.
@example(
    [ONE, c.Place("account", 0, 200), c.Ripen(), c.Run(), c.Reach("hold", 0, 0), c.Run()],
)
# What comes in late behind the place that an erasure has reached goes as well.
@example(
    [
        *(ONE, c.Want("a", "everything", 0), c.Work(0, 3, 2)),
        *(c.Ingest((c.Sent("a", "m2", 5),)), c.Work(0, 3, 3)),
    ],
)
# A report that comes in when the drop of its history has begun: the copy has it.
@example(
    [
        *(ONE, c.Setting("a", 7), c.Move(), c.Place("account", 0, 200), c.Ripen()),
        *(c.Begin(0, "begun"), c.Later(0, 1, "delivered", message=True), c.Run()),
    ],
)
# Of two drops that were begun the newer one's detach is pending.
@example(
    [
        *(c.Ingest((c.Sent("a", "m1", 0), c.Sent("a", "m2", 24 * 60))), c.Pass(62 * 24 * 60)),
        *(c.Begin(0, "begun"), c.Begin(1, "pending"), c.Run()),
    ],
)
async def test_whatever_happens_the_store_is_as_the_oracle_says(stock, retention, sequence):
    """What is seen, stored, held and in the ledger follows from the rules, whatever the order."""
    await play(stock, retention, sequence)

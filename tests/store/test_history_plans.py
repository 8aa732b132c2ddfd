"""What a page of history costs, by the server's own count of what it read."""

import itertools
import json
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import pytest

from tests.sql.roles import as_role
from tests.store.helpers import NOW
from trafficlog.queries import queries, rows
from trafficlog.retention import AHEAD_MAX
from trafficlog.store.accounts import load_account
from trafficlog.store.history_list import HistoryFilter, Position
from trafficlog.store.history_windows import FIRST_WINDOW, WIDEST_WINDOW, windows

DAY = timedelta(days=1)
BIG, TIED, SMALL = 1, 2, 3
LIMIT = 101
EVERYTHING = HistoryFilter()
BOUNDS = ("account_key", "lower", "before_created", "before_id", "expires_from", "expires_to")
STOCK = """
    INSERT INTO account (account_id, created_at, history_days, history_days_min, history_days_max)
    SELECT name, now(), 90, 90, 90 FROM unnest(ARRAY['big', 'tied', 'small']) name;
    SELECT ensure_partition('history_record', day, day + interval '1 day')
    FROM generate_series('2027-01-19Z'::timestamptz, '2027-02-20Z', '1 day') day;
    INSERT INTO history_record (account_key, created_at, expires_at, kind, direction, withheld, id)
    SELECT account_key, at, at + interval '90 days', 1, 2, 0, id FROM (
        SELECT 1 AS account_key, '2026-11-21T12:00Z'::timestamptz - n * interval '2 minutes' AS at,
               'b' || n AS id FROM generate_series(0, 21000) n
        UNION ALL SELECT 2, '2026-11-21T11:00Z', 't' || n FROM generate_series(1, 4000) n
        UNION ALL SELECT 3, '2026-11-21T12:00Z'::timestamptz - n * interval '3 days', 's' || n
        FROM generate_series(0, 9) n
    ) r;
"""
# What the connection has read of each partition of history, and not reported yet.
READ = """
    SELECT relname, coalesce(seq_scan, 0) AS whole, coalesce(idx_scan, 0) AS by_index,
           coalesce(idx_tup_fetch, 0) AS rows
    FROM pg_stat_xact_user_tables WHERE relname LIKE 'history\\_record\\_%'
"""


@dataclass(frozen=True)
class Cost:
    """Partitions that were looked into, those read as a whole, and rows fetched by an index."""

    partitions: int
    whole: int
    rows: int


@pytest.fixture(params=["as they are", "analysed"])
async def customer(request, database):
    """A customer's connection to a store with a large account, one of ties, and a small one."""
    superuser = await asyncpg.connect(database, server_settings={"search_path": "trafficlog"})
    await superuser.execute(STOCK)
    if request.param == "analysed":
        await superuser.execute("ANALYZE history_record")
    await superuser.close()
    async with as_role(database, "trafficlog_customer") as connection:
        yield connection


async def window_of(connection, account, position, wanted=EVERYTHING):
    """The first window in which what follows a place is looked for."""
    async with connection.transaction():
        await queries.see_account(connection, account_key=str(account))
        return next(windows(await load_account(connection, account), wanted, NOW, position))


async def read(connection, work):
    """What ``work`` gives, and what it cost."""
    async with connection.transaction():
        before = {r["relname"]: r for r in await connection.fetch(READ)}
        found = await work()
        partitions = whole = fetched = 0
        for after in await connection.fetch(READ):
            earlier = before.get(after["relname"], {"whole": 0, "by_index": 0, "rows": 0})
            read_whole = after["whole"] - earlier["whole"]
            partitions += read_whole + after["by_index"] > earlier["by_index"]
            whole += read_whole
            fetched += after["rows"] - earlier["rows"]
    return found, Cost(partitions, whole, fetched)


async def page(connection, account, position):
    """A page of everything, and what it cost."""
    window = await window_of(connection, account, position)
    bounds = {name: window[name] for name in BOUNDS}
    return await read(
        connection,
        lambda: rows(
            queries.history_page(connection, visible_key=account, **bounds, epoch=0, limit=LIMIT)
        ),
    )


async def test_the_last_page_costs_what_the_first_does(customer):
    """A day is found by its expiry and a page by the key: nothing is read but the page."""
    for position in (Position(), Position(NOW - 14 * DAY, "x"), Position(NOW - 28 * DAY, "x")):
        found, cost = await page(customer, BIG, position)
        assert len(found) == LIMIT
        assert cost.whole == 0
        assert cost.partitions <= 3
        # A row beyond the page from each partition that is merged.
        assert cost.rows <= LIMIT + cost.partitions


async def test_a_page_amid_many_of_one_instant_costs_no_more(customer):
    """The place in the list is found by time and id together, wherever among the ties it is."""
    position = Position()
    for _ in range(3):
        found, cost = await page(customer, TIED, position)
        assert len(found) == LIMIT
        assert cost.whole == 0
        assert cost.rows <= LIMIT + cost.partitions
        middle = sorted(f"t{n}" for n in range(1, 4001))[1500]
        position = Position(found[-1]["created_at"], middle)


async def test_a_filter_that_fits_nothing_looks_at_so_many_records(customer):
    """What is looked at is bounded and in order: not sorted, and no partition is read whole."""
    window = await window_of(customer, BIG, Position(), HistoryFilter(status="failed"))

    async def scan():
        await queries.take_in_order(customer)
        return await rows(queries.history_scan(customer, **window, rows_max=300, limit=LIMIT))

    async with customer.transaction():
        await queries.see_account(customer, account_key=str(BIG))
        found, cost = await read(customer, scan)
        assert [(r["fits"], r["place"], r["is_last"]) for r in found] == [(False, 300, False)]
        assert cost.whole == 0
        # One more tells whether there are more.
        assert cost.rows <= 301 + cost.partitions
        order = queries.driver_adapter.var_sorted["history_scan"]
        arguments = window | {"rows_max": 300, "limit": LIMIT}
        plan = await customer.fetchval(
            f"EXPLAIN (FORMAT JSON) {queries.history_scan.sql}", *(arguments[n] for n in order)
        )
    found = set(nodes(json.loads(plan)[0]["Plan"]))
    assert found <= {"Limit", "Subquery Scan", "WindowAgg", "Merge Append", "Result", "Index Scan"}
    assert "Index Scan" in found


def nodes(plan):
    """The kinds of all nodes of a plan."""
    yield plan["Node Type"]
    for below in plan.get("Plans", ()):
        yield from nodes(below)


async def test_a_record_by_its_id_is_found_by_the_key(customer):
    """On days that are not sealed an id is looked for in the key of its account alone."""
    account_days = {"lower": NOW - 90 * DAY, "upper": NOW + AHEAD_MAX}

    async def by_id():
        await queries.see_account(customer, account_key=str(SMALL))
        return await rows(
            queries.history_by_id(
                customer,
                account_key=SMALL,
                id="s5",
                **account_days,
                expires_from=NOW,
                expires_to=NOW + 91 * DAY,
            )
        )

    found, cost = await read(customer, by_id)
    assert [r["id"] for r in found] == ["s5"]
    assert cost.rows <= 1


async def test_windows_grow_and_leave_no_gap(customer):
    """Three years are a few windows, each from where the last ended, to a largest width."""
    async with customer.transaction():
        await queries.see_account(customer, account_key=str(SMALL))
        account = await load_account(customer, SMALL)
    found = list(windows(account, HistoryFilter(), NOW, Position()))
    assert found[0]["before_created"] == NOW + AHEAD_MAX
    assert found[0]["lower"] == NOW + AHEAD_MAX - FIRST_WINDOW
    for newer, older in itertools.pairwise(found):
        assert older["before_created"] == newer["lower"]
        assert older["before_created"] - older["lower"] <= WIDEST_WINDOW
    assert found[-1]["lower"] == NOW - 90 * DAY
    assert len(found) == 7


async def test_the_tenth_page_opens_no_more_partitions_than_the_first(customer):
    """The server, which after some times tries a plan for all partitions, does not do so here."""
    window = await window_of(customer, BIG, Position(NOW - 9 * DAY, "x"), HistoryFilter(kind="sms"))
    bounds = {name: window[name] for name in BOUNDS}
    for _ in range(10):
        for query, arguments in (
            (queries.history_page, bounds | {"visible_key": BIG, "epoch": 0}),
            (queries.history_scan, window | {"rows_max": 200}),
        ):
            async with customer.transaction():
                await queries.see_account(customer, account_key=str(BIG))
                assert len(await rows(query(customer, **arguments, limit=LIMIT))) == LIMIT
                opened = await customer.fetchval(
                    "SELECT count(*) FROM pg_locks JOIN pg_class c ON c.oid = relation"
                    " WHERE pid = pg_backend_pid() AND c.relkind = 'r'"
                    " AND relname LIKE 'history\\_record\\_%'"
                )
                assert opened <= 3

"""The order and grouping in which reports arrive does not show in what is stored."""

import itertools
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.helpers import NOW, at, counted, report
from trafficlog.store.ingest import Batch

STATES = ("created", "sent", "delivered", "failed")
_accounts = itertools.count()


@st.composite
def lives(draw):
    """A record's reports as a gateway makes them: each tells all that the one before it told."""
    identity = {
        "record_id": draw(st.sampled_from(["m1", "m2"])),
        "created": NOW - timedelta(days=draw(st.sampled_from([0, 1]))),
    }
    known = {"ip": "192.0.2.1", "message": "hello"}
    reports = [{**identity, **known}]
    minute = 0
    for rank, status in enumerate(STATES[: draw(st.integers(0, len(STATES)))]):
        # Two states may be reported for one instant.
        minute += draw(st.integers(0, 1))
        known |= {"status": status, "updated": at(minute)}
        known |= draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "cost": st.just(rank * 10),
                    "parts": st.just(2),
                    "delivered": st.just(at(0)),
                    "duration": st.just(rank),
                    "tags": st.just(["a"]),
                },
            )
        )
        # What only the first report knows need not be said again.
        told = {n: v for n, v in known.items() if n not in ("ip", "message") or draw(st.booleans())}
        withheld = draw(st.sampled_from([None, None, "message", "to", ["from", "message"]]))
        reports.append({**identity, **told, "dontlog": withheld})
    return reports


@st.composite
def arrivals(draw):
    """Some records' reports, some of them twice, in any order and cut into groups of batches."""
    each = draw(st.lists(lives(), min_size=1, max_size=2))
    # Two lives of one identity would be two stories of one record.
    stories = {(r[0]["record_id"], r[0]["created"]): r for r in each}
    reports = [r for story in stories.values() for r in story]
    repeated = draw(st.lists(st.sampled_from(reports), max_size=3))
    order = draw(st.permutations(reports + repeated))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=4)) | {0, len(order)})
    groups = []
    for start, end in itertools.pairwise(cuts):
        middle = draw(st.integers(start, end))
        groups.append([order[start:middle], order[middle:end]])
    return reports, groups


def rows_without_keys(rows):
    """Rows as they are but for the account, so that two accounts' can be compared."""
    return [{name: value for name, value in row.items() if name != "account_key"} for row in rows]


@settings(max_examples=120)
@given(arrivals())
async def test_any_order_and_grouping_ends_in_the_same_rows(store, case):
    """Any permutation, repetition and grouping of reports gives the rows of their true order.

    What is answered adds up: each report was accepted, an update or a duplicate.
    """
    reports, groups = case
    ordered, shuffled = (f"{kind}{next(_accounts)}" for kind in ("ordered", "shuffled"))
    for fields in reports:
        await store.write(report(account=ordered, **fields))
    for group in groups:
        batches = [Batch([report(account=shuffled, **f) for f in batch]) for batch in group]
        outcomes = await store.writer.write(batches, NOW)
        assert [sum(counted(o)) for o in outcomes] == [len(b.reports) for b in batches]
    identities = {(r["record_id"], r["created"]) for r in reports}
    for rows in (store.traffic, store.history):
        mine, theirs = [
            await rows(f"account_key = {await store.account_key(account)}")
            for account in (shuffled, ordered)
        ]
        assert rows_without_keys(mine) == rows_without_keys(theirs)
        assert len(mine) == len(identities)


@settings(max_examples=60)
@given(arrivals())
async def test_each_record_is_accepted_exactly_once(store, case):
    """However its reports arrive, a record is counted as new once."""
    reports, groups = case
    account = f"counted{next(_accounts)}"
    accepted = 0
    for group in groups:
        batches = [Batch([report(account=account, **f) for f in batch]) for batch in group]
        accepted += sum(o.accepted for o in await store.writer.write(batches, NOW))
    assert accepted == len({(r["record_id"], r["created"]) for r in reports})


@settings(max_examples=100)
@given(arrivals())
async def test_what_each_batch_is_told_does_not_depend_on_its_company(store, case):
    """Accepted, updated, duplicate: as if each report had come by itself, in the same order."""
    _, groups = case
    alone, together = (f"{kind}{next(_accounts)}" for kind in ("alone", "together"))
    for group in groups:
        told = []
        for batch in group:
            each = [await store.write(report(account=alone, **fields)) for fields in batch]
            told.append(tuple(map(sum, zip(*each, strict=True))) if each else (0, 0, 0))
        batches = [Batch([report(account=together, **f) for f in batch]) for batch in group]
        assert [counted(o) for o in await store.writer.write(batches, NOW)] == told

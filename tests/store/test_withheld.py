"""A field that any report asked not to log is in history after none of them."""

import itertools

import pytest

from tests.store.helpers import at, opened, report
from trafficlog.store.debug_log import DebugLine, RefusedRecord
from trafficlog.store.ingest import Batch

SECRET = "top secret"
COLUMN = {"message": "message", "from": "sender", "to": "recipient"}


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "three batches"])
async def test_a_withheld_field_never_appears(store, together):
    """Whichever report asks, and whenever it comes, the field is not in the row from then on."""
    for field, order in itertools.product(COLUMN, itertools.permutations(range(3))):
        record = f"{field}-{order[0]}{order[1]}{order[2]}"
        secret = {field: SECRET}
        reports = [
            report(record, **secret),
            report(record, **secret, updated=at(1), status="sent", dontlog=field),
            report(record, **secret, updated=at(2), status="delivered"),
        ]
        asked = False
        arriving = [reports[n] for n in order]
        for batch in [arriving] if together else [[r] for r in arriving]:
            await store.write(*batch)
            asked = asked or any(r.dontlog for r in batch)
            [row] = await store.history(f"id = '{record}'")
            assert row[COLUMN[field]] == (None if asked else SECRET)
        assert row["status"] == 5
        [traffic] = await store.traffic(f"id = '{record}'")
        if field != "message":
            assert traffic[COLUMN[field]] == SECRET


@pytest.mark.parametrize("updated", [None, at(1)], ids=["first road", "second road"])
async def test_several_fields_withheld_at_once(store, updated):
    """A list names several; the rows beside it keep theirs, and the legal row has the parties."""
    await store.write(
        report("m1", message=SECRET, dontlog=["message", "from", "to"], updated=updated),
        report("m2", message="shown", updated=updated),
    )
    hidden, shown = await store.history()
    assert [hidden[n] for n in ("sender", "recipient", "message")] == [None, None, None]
    assert [shown[n] for n in ("sender", "recipient", "message")] == [
        "Acme",
        "+46701234567",
        "shown",
    ]
    assert {r["sender"] for r in await store.traffic()} == {"Acme"}


async def test_requests_add_up(store):
    """One report withholds one field, the next another: both stay away."""
    for turn, field in enumerate(("message", "to")):
        await store.write(report("m1", message=SECRET, updated=at(turn), dontlog=field))
    await store.write(report("m1", message=SECRET, updated=at(5)))
    [row] = await store.history()
    assert (row["withheld"], row["message"], row["recipient"], row["sender"]) == (
        5,
        None,
        None,
        "Acme",
    )


async def test_a_request_alone_counts_as_an_update(store):
    """A report that only withholds changes the row, and says so; said twice it is known."""
    await store.write(report("m1", message=SECRET))
    asking = report("m1", message=SECRET, dontlog="message")
    assert await store.write(asking) == (0, 1, 0)
    assert await store.write(asking) == (0, 0, 1)
    assert [r["message"] for r in await store.history()] == [None]


async def test_a_refused_record_goes_by_the_setting_that_is_in_force_when_it_is_written(database):
    """Another process changes the setting, which this one does not know of yet."""
    made = []

    def line(bits):
        made.append(bits)
        return DebugLine(at(0), "warning", "ingest", f"refused, without {bits}")

    async with opened(database) as store, opened(database) as other:
        await store.write(report("m1"))
        await store.write(report("m2"))
        await other.set_withheld(1)
        refused = [RefusedRecord("acme", line), RefusedRecord("nobody", line)]
        await store.writer.write([Batch([], refused=refused)], at(0))
        kept = await store.superuser.fetch("SELECT line FROM debug_log ORDER BY line")
        assert [r["line"] for r in kept] == ["refused, without 0", "refused, without 1"]
        assert made[0] == 0
        accounts = await store.superuser.fetchval("SELECT array_agg(account_id) FROM account")
        assert accounts == ["acme"]

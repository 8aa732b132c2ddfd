"""What somebody does by hand during a drop: nothing is lost in silence, the rest goes on."""

from __future__ import annotations

import asyncpg
import pytest

from tests.jobs.stock import DAY, HISTORY_GONE, START, TRAFFIC_GONE, config
from tests.jobs.test_interrupted import assert_finished_once, stocked
from trafficlog.partitions import Bounds, Partition
from trafficlog.queries import queries
from trafficlog.store.retention import Retention

TRAFFIC = "traffic_record"


async def at_step(stock, step: str) -> str:
    """A drop that was broken off after a step; the partition's name."""
    name = await stocked(stock)
    async with Retention(stock.dsn, config()) as retention:
        await queries.begin_drop(
            retention.connection, table_name=TRAFFIC, name=name, at=TRAFFIC_GONE
        )
        if step != "begun":
            await retention.drops.detach(TRAFFIC, name, pending=False)
        if step == "settled":
            await queries.settle_drop(retention.connection, name=name, at=TRAFFIC_GONE)
    return name


@pytest.mark.parametrize("how", ["", "CONCURRENTLY"])
async def test_a_partition_detached_by_hand_after_its_drop_began_is_dropped_whole(stock, how):
    """The intent names the table: what is held in it is copied, what is in it is counted."""
    name = await at_step(stock, "begun")
    await stock.admin.execute(f"ALTER TABLE {TRAFFIC} DETACH PARTITION {name} {how}")
    assert (await stock.run(TRAFFIC_GONE)).failures == []
    await assert_finished_once(stock, name)


@pytest.mark.parametrize("step", ["begun", "detached", "settled"])
async def test_a_partition_dropped_by_hand_during_its_drop_is_told_of(stock, step):
    """Nobody can say any more what it held: each run and verification name it; the rest is done."""
    name = await at_step(stock, step)
    await stock.admin.execute(f"DROP TABLE {name}")
    for _ in range(2):
        result = await stock.run(HISTORY_GONE)
        assert [name in failure for failure in result.failures] == [True]
    assert await stock.ids("history_record") == []
    assert [e["object"] for e in await stock.ledger("expired") if e["rows"]] == [
        await _history_partition(stock)
    ]
    findings = (await stock.verify(HISTORY_GONE + DAY)).findings
    assert any(f.startswith("unfinished") and name in f for f in findings)
    # What a hold had been given a copy of by then is there.
    kept = {("history_record", "b1")} | ({(TRAFFIC, "b1")} if step == "settled" else set())
    assert await stock.held() == kept


async def _history_partition(stock) -> str:
    return next(
        e["object"] for e in await stock.ledger("expired") if e["data_class"] == "history_record"
    )


async def test_a_partition_dropped_by_hand_just_before_its_drop_is_told_of(stock):
    """A run that planned it finds it gone, and says so."""
    name = await stocked(stock)
    upper = (START + 61 * DAY).replace(hour=0)
    planned = Partition(TRAFFIC, name, Bounds(upper - DAY, upper))
    await stock.admin.execute(f"DROP TABLE {name}")
    async with Retention(stock.dsn, config()) as retention:
        with pytest.raises(asyncpg.UndefinedTableError, match=name):
            await retention.drops.drop(planned, TRAFFIC_GONE)
    assert await stock.ledger() == []
    assert any(f.startswith("missing") and name in f for f in (await stock.verify(upper)).findings)


@pytest.mark.parametrize("step", ["begun", "detached", "settled"])
async def test_another_table_of_the_same_name_is_not_taken_for_the_partition(stock, step):
    """Restored by hand under the old name, it is not the table whose drop began."""
    name = await at_step(stock, step)
    await stock.admin.execute(
        f"CREATE TABLE restored AS SELECT * FROM {name} WHERE id <> 'm1';"
        f" DROP TABLE {name}; ALTER TABLE restored RENAME TO {name};"
        f" ALTER TABLE {name} OWNER TO trafficlog_owner"
    )
    result = await stock.run(TRAFFIC_GONE)
    assert ["not the table whose drop began" in f for f in result.failures] == [True]
    assert await stock.admin.fetchval(f"SELECT count(*) FROM {name}") == 2
    assert await stock.ledger() == []


@pytest.mark.parametrize("step", ["detached", "settled"])
async def test_a_detached_table_renamed_by_hand_is_told_of(stock, step):
    """Nothing is dropped under another name; under its own again it is."""
    name = await at_step(stock, step)
    await stock.admin.execute(f"ALTER TABLE {name} RENAME TO mine")
    assert [name in f for f in (await stock.run(TRAFFIC_GONE)).failures] == [True]
    await stock.admin.execute(f"ALTER TABLE mine RENAME TO {name}")
    assert (await stock.run(TRAFFIC_GONE)).failures == []
    await assert_finished_once(stock, name)


@pytest.mark.parametrize("is_begun", [False, True])
async def test_an_attached_partition_renamed_by_hand_is_dropped_and_not_missed(stock, is_begun):
    """The catalogue says what it is: its drop is finished, and nothing of the old name is left."""
    name = await (at_step(stock, "begun") if is_begun else stocked(stock))
    await stock.admin.execute(f"ALTER TABLE {name} RENAME TO mine")
    result = await stock.run(TRAFFIC_GONE)
    assert [name in f for f in result.failures] == [True] * is_begun
    assert [(e["object"], e["rows"], e["held"]) for e in await stock.ledger()] == [("mine", 3, 1)]
    assert (await stock.run(TRAFFIC_GONE)).failures == []
    assert (await stock.verify(TRAFFIC_GONE + DAY)).findings == []

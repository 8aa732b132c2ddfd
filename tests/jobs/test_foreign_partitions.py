"""Partitions and tables that somebody made by hand do not stop retention, and are told of."""

from __future__ import annotations

from tests.jobs.stock import HISTORY_GONE, START, report


async def test_a_default_partition_is_told_of_and_the_drops_go_on(stock):
    """What is in it would never be dropped; partitions beside it go by a plain detach."""
    await stock.admin.execute(
        "CREATE TABLE traffic_record_rest PARTITION OF traffic_record DEFAULT"
    )
    await stock.write(report("m1"))
    result = await stock.run(HISTORY_GONE)
    assert result.failures == []
    assert [(d.table, d.rows) for d in result.dropped if d.rows] == [
        ("traffic_record", 1),
        ("history_record", 1),
    ]
    findings = (await stock.verify(HISTORY_GONE)).findings
    assert findings == [
        "unbounded: traffic_record_rest (DEFAULT) takes rows that nothing ever drops"
    ]


async def test_a_partition_without_a_lower_bound_is_told_of(stock):
    """It is none of ours: it is neither dropped nor taken for the partition of a day."""
    await stock.admin.execute(
        "CREATE TABLE debug_log_old PARTITION OF debug_log"
        " FOR VALUES FROM (MINVALUE) TO ('2020-01-01')"
    )
    assert (await stock.run(START)).failures == []
    (finding,) = (await stock.verify(START)).findings
    assert finding.startswith("unbounded: debug_log_old (FOR VALUES FROM (MINVALUE)")


async def test_a_partitioned_table_beside_ours_is_left_alone(stock):
    """Retention goes by the tables it keeps, not by whatever lies in the schema."""
    await stock.admin.execute(
        "CREATE TABLE elsewhere (expires_at timestamptz) PARTITION BY RANGE (expires_at);"
        "CREATE TABLE elsewhere_1 PARTITION OF elsewhere FOR VALUES FROM ('2020-01-01')"
        " TO ('2020-01-02');"
        "CREATE TABLE elsewhere_rest PARTITION OF elsewhere DEFAULT"
    )
    assert (await stock.run(START)).failures == []
    assert (await stock.verify(START)).findings == []
    assert (
        await stock.admin.fetchval(
            "SELECT count(*) FROM pg_inherits i JOIN pg_class c"
            " ON c.oid = i.inhparent WHERE c.relname = 'elsewhere'"
        )
        == 2
    )

"""Few new records are stored by one statement: the same rows as COPY makes of them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.helpers import NOW, report
from trafficlog.store import ingest
from trafficlog.store.arrays import array_of_texts
from trafficlog.store.few import FewRoad

# What is odd in a text or an array, for JSON, for SQL and for COPY.
ODD = "quote \" apostrophe ' backslash \\ braces {a,b} null NULL \N{SNOWMAN}\N{NO-BREAK SPACE}"


def reports(prefix: str) -> list:
    """Reports of every kind that can be new, with ids of their own."""
    said = [
        {},
        {"message": ODD + "\nand a second line\t", "status": "sent", "parts": 2, "cost": 3500},
        {"message": "", "user_agent": ODD, "ip": "2001:db8::1", "owner": ODD[:64]},
        {"kind": "call", "status": "success", "duration": 2**31 - 1, "cost": 0},
        {"kind": "mms", "direction": "incoming", "delivered": NOW + timedelta(minutes=1)},
        {"direction": "outgoing-reply", "tags": []},
        {"tags": [ODD[:64], "b", "a", "b"], "message": "tagged"},
        {"dontlog": ["message", "from"], "message": "secret", "parts": 1},
        {"dontlog": "to"},
        {"account": "off", "message": "kept nowhere"},
        {"account": "short", "created": NOW - timedelta(days=1, microseconds=-1)},
        {"account": "short", "created": NOW - timedelta(days=1)},
        {"account": "erased", "created": NOW - timedelta(hours=1)},
        {"account": "erased", "created": NOW - timedelta(hours=1) + timedelta(microseconds=1)},
        {"account": "discreet", "message": "secret", "dontlog": "from"},
        {"created": NOW - timedelta(days=59, hours=23)},
        {"created": NOW + timedelta(minutes=10)},
        {"account": "never-seen"},
    ]
    return [report(f"{prefix}{n}", **fields) for n, fields in enumerate(said)]


async def prepare(store) -> None:
    """Accounts with every kind of setting, and a policy that has changed."""
    await store.write(*[report("x", account=a) for a in ("off", "short", "erased", "discreet")])
    await store.set_history(None, account="off")
    await store.set_history(1, account="short")
    await store.set_history(30, account="erased")
    await store.set_withheld(1, account="discreet")
    await store.superuser.execute(
        "UPDATE account SET history_after = $1, settings_epoch = settings_epoch + 100"
        " WHERE account_id = 'erased'",
        NOW - timedelta(hours=1),
    )
    await store.superuser.execute("UPDATE settings_epoch SET epoch = epoch + 200")
    await store.writer.settings.refresh()


@pytest.mark.parametrize("changed", [False, True], ids=["one policy", "changed policy"])
async def test_one_statement_stores_what_copy_stores(store, monkeypatch, changed):
    """Row by row and column by column, in both tables and in what is counted."""
    await prepare(store)
    if changed:
        await store.superuser.execute(
            "INSERT INTO retention_policy"
            " (data_class, effective_from, period_hours, legal_basis, set_by)"
            " VALUES ('traffic_record', $1, 1000, 'test', 'test')",
            NOW,
        )
        await store.writer.settings.refresh()
    roads = []

    def noted(*args, of=FewRoad.of):
        roads.append("few")
        return of(*args)

    monkeypatch.setattr(FewRoad, "of", noted)
    found = {}
    for prefix, few_max in (("few-", 300), ("copy-", 0)):
        monkeypatch.setattr(ingest, "FEW_MAX", few_max)
        await store.superuser.execute("TRUNCATE usage_delta")
        batch = reports(prefix)
        assert await store.write(*batch) == (len(batch), 0, 0)
        where = f"id LIKE '{prefix}%'"
        found[prefix] = (
            {row["id"].removeprefix(prefix): _bare(row) for row in await store.traffic(where)},
            {row["id"].removeprefix(prefix): _bare(row) for row in await store.history(where)},
            sorted(map(repr, await usage(store))),
        )
    assert roads == ["few"]
    assert found["few-"] == found["copy-"]
    traffic, history, _ = found["few-"]
    assert len(traffic) == len(batch)
    assert traffic.keys() - history.keys() == {"9", "11", "12"}
    assert history["6"]["tags"] == [ODD[:64], "b", "a", "b"]
    assert (history["5"]["tags"], history["0"]["tags"]) == ([], None)


async def test_it_is_all_or_nothing(store):
    """A row that cannot be stored takes the others and the count along."""
    await store.write(report("known"))
    before = len(await usage(store))
    road = FewRoad.of([report("new"), report("known")], store.writer.settings, NOW)
    async with store.database.ingest() as connection:
        with pytest.raises(Exception, match="duplicate key"):
            await road.write(connection)
    assert [row["id"] for row in await store.traffic()] == ["known"]
    assert len(await usage(store)) == before


async def test_a_changed_setting_stores_nothing_of_it(store):
    """What was encoded by settings that are no longer in force is not stored by them."""
    await store.write(report("m1"))
    road = FewRoad.of([report("m2")], store.writer.settings, NOW)
    await store.set_history(None)
    async with store.database.ingest() as connection:
        with pytest.raises(ingest.StaleSettingsError):
            await road.write(connection)
    assert len(await store.traffic()) == 1
    assert await store.write(report("m3")) == (1, 0, 0)
    assert [row["id"] for row in await store.history()] == ["m1"]


async def test_a_partition_that_is_missing_is_made(store):
    """Of the hours that few records end in, some may have none yet."""
    await store.write(report("m1", created=NOW - timedelta(days=58)))
    made = await store.superuser.fetchval(
        "SELECT count(*) FROM partition_catalogue WHERE table_name = 'traffic_record'"
        " AND lower = $1",
        (NOW + timedelta(days=2)).replace(hour=0),
    )
    assert made == 1


@given(
    texts=st.lists(
        st.none()
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
        | st.text(st.sampled_from('\\"nu\n\t,{}NUL0')),
        max_size=8,
    )
)
@settings(max_examples=200)
async def test_an_array_of_texts_is_read_as_it_was_written(store, texts):
    """Quotes, commas, braces, backslashes, NULL as a word: each stays what it is."""
    read = await store.superuser.fetchval("SELECT $1::text::text[]", array_of_texts(texts))
    assert read == (texts if any(text is not None for text in texts) else [])


def test_an_array_does_not_come_apart():
    """What would make two texts of one is no text that PostgreSQL can store."""
    with pytest.raises(ValueError, match="NUL"):
        array_of_texts(["a\0b"])


def _bare(row: dict) -> dict:
    return {name: value for name, value in row.items() if name != "id"}


async def usage(store) -> list[tuple]:
    """What is counted and not summed up yet, by what it is counted by."""
    rows = await store.superuser.fetch(
        "SELECT account_key, day, kind, direction, status, sum(records), sum(parts), sum(seconds),"
        " sum(cost) FROM usage_delta GROUP BY 1, 2, 3, 4, 5"
    )
    return [tuple(row) for row in rows]

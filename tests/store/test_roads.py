"""Which reports take which road: a known record sends itself on the second, and no other."""

import pytest

from tests.store.helpers import NOW, at, counted, report
from trafficlog.store import ingest
from trafficlog.store.ingest import Batch


@pytest.fixture
def folded(monkeypatch):
    """The ids of the reports that took the second road, a list for each try."""
    tries = []

    def noted(reports, omitted, fold=ingest.fold):
        if reports:
            tries.append([r.id for r in reports])
        return fold(reports, omitted)

    monkeypatch.setattr(ingest, "fold", noted)
    return tries


async def test_a_later_report_alone_takes_the_second_road(store, folded):
    """Those beside it in the same request are copied, and all are counted as they are."""
    await store.write(report("known"))
    mixed = [report("new"), report("known", updated=at(1), status="sent"), report("newer")]
    assert await store.write(*mixed) == (2, 1, 0)
    assert folded == [["known"]]
    assert [r["status"] for r in await store.history("id = 'known'")] == [3]


async def test_a_first_report_goes_with_a_later_one_of_its_record(store, folded):
    """Both in one request, in either order, are one record, and the first to come made it."""
    one = report("one", message="hello")
    assert await store.write(one, report("one", updated=at(1), status="sent")) == (1, 1, 0)
    two = report("two", updated=at(1), status="sent")
    assert await store.write(two, report("two"), report("other")) == (2, 0, 1)
    assert folded == [["one", "one"], ["two", "two"]]


async def test_a_known_record_takes_no_other_of_its_group_along(store, folded):
    """A retry of one request: it alone is merged, the other requests are copied as ever."""
    await store.write(report("known"))
    batches = [Batch([report(f"a{n}") for n in range(600)])]
    batches += [Batch([report("known"), report("b")])]
    batches += [Batch([report("c"), report("c")]), Batch([report("a7")])]
    outcomes = await store.writer.write(batches, NOW)
    assert [counted(o) for o in outcomes] == [(600, 0, 0), (1, 0, 1), (1, 0, 1), (0, 0, 1)]
    # The first try met the unique key; the second knew why.
    assert folded == [["a7", "known", "c", "c", "a7"]]
    assert len(await store.traffic()) == len(await store.history()) == 603


async def test_a_record_that_only_history_knows_is_stored_all_the_same(store, folded):
    """When what is known cannot be told, all take the second road."""
    await store.write(report("m1"))
    await store.superuser.execute("DELETE FROM traffic_record")
    assert await store.write(report("m1"), report("m2")) == (2, 0, 0)
    assert folded[-1] == ["m1", "m2"]
    assert len(await store.traffic()) == len(await store.history()) == 2

"""Pages of history against a model: whatever happens between two of them, nothing is lost."""

import itertools
from datetime import timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.helpers import NOW, report
from trafficlog.errors import NotFoundError
from trafficlog.store.history import History
from trafficlog.store.history_list import HistoryFilter

DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
# Few instants, so that many records share one.
AGES = (0 * DAY, TICK, DAY / 24, DAY, 3 * DAY, 7 * DAY - TICK, 7 * DAY, 20 * DAY)
KINDS = ("sms", "mms")
_accounts = itertools.count()

records = st.tuples(
    st.sampled_from(AGES), st.sampled_from([f"m{n}" for n in range(9)]), st.sampled_from(KINDS)
)
happenings = st.one_of(
    st.tuples(st.just("write"), st.lists(records, min_size=1, max_size=4)),
    st.tuples(st.just("erase"), st.sampled_from([f"m{n}" for n in range(9)])),
    st.tuples(st.just("wait"), st.sampled_from([TICK, DAY / 24, DAY, 5 * DAY])),
    st.tuples(st.just("set"), st.sampled_from([1, 7, 30, 90])),
    st.tuples(st.just("nothing"), st.none()),
)


class Model:
    """What an account's history has: kinds by identity, and what may be seen of them."""

    def __init__(self):
        self.kinds = {}
        self.known = set()
        self.now = NOW
        self.days = 90
        self.gone_up_to = NOW - 1000 * DAY

    def visible(self, wanted):
        """The identities that a page may show now."""
        after = max(self.gone_up_to, self.now - self.days * DAY)
        return {
            identity
            for identity, kind in self.kinds.items()
            if identity[0] > after and wanted.kind in (None, kind)
        }


async def happen(store, history, account, model, what, how):
    """Lets something happen, in the store and in the model."""
    if what == "write":
        for age, record, kind in how:
            created = model.now - age
            sent = msgspec.structs.replace(
                report(record), account=account, created=created, kind=kind
            )
            await store.write(sent, now=model.now)
            # The same one again, even when it was erased meanwhile, is stored once.
            if (created, record) not in model.known:
                model.known.add((created, record))
                model.kinds[created, record] = kind
    elif what == "erase":
        key = await store.account_key(account)
        mine = {i for i in model.visible(HistoryFilter()) if i[1] == how}
        try:
            erased = (await history.erase(key, how, model.now)).records
        except NotFoundError:
            erased = []
        assert {(r.created, r.id) for r in erased} == mine
        for identity in mine:
            del model.kinds[identity]
    elif what == "wait":
        model.now += how
    elif what == "set":
        await store.set_history(how, model.now, account)
        if how != model.days:
            after = model.now - min(how, model.days) * DAY
            model.gone_up_to, model.days = max(model.gone_up_to, after), how


@settings(max_examples=50)
@given(
    first=st.lists(records, min_size=3, max_size=25),
    between=st.lists(happenings, max_size=8),
    limit=st.integers(1, 4),
    rows_max=st.sampled_from([None, 1, 2, 5]),
    kind=st.sampled_from([None, "sms"]),
)
async def test_a_walk_shows_what_stays_once_and_what_is_gone_never(
    store, first, between, limit, rows_max, kind
):
    """From the first page to the last: in order, no record twice, none that is gone or unwanted.

    And every record that was there at the start and is there at the end, which is what a
    customer relies on, while others are written, erased, expire or are hidden by a setting.
    """
    account = f"walk{next(_accounts)}"
    history, wanted, model = History(store.database), HistoryFilter(kind=kind), Model()
    # A record comes in while the legal record takes it.
    await happen(store, history, account, model, "write", first)
    key = await store.account_key(account)
    # A page before makes the history remember how the account was.
    await history.page(key, HistoryFilter(), model.now, limit=1)
    steady = model.visible(wanted)
    seen, start = [], None
    for what, how in itertools.chain(between, itertools.repeat(("nothing", None))):
        page = await history.page(
            key, wanted, model.now, limit=limit, start=start, rows_max=rows_max
        )
        shown = [(r.created, r.id) for r in page.records]
        assert len(shown) <= limit
        assert set(shown) <= model.visible(wanted)
        seen += shown
        if page.next is None:
            break
        assert len(shown) == limit or (rows_max is not None and kind is not None)
        start = page.next
        await happen(store, history, account, model, what, how)
        steady &= model.visible(wanted)
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == len(set(seen))
    assert steady <= set(seen)

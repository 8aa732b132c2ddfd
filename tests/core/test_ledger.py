"""The purge ledger's chain: nothing in it can be changed without being found."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import asyncpg
import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trafficlog.errors import InvalidValueError
from trafficlog.ledger import GENESIS, LedgerEntry, verify_chain, verify_export

instants = st.datetimes(
    datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
words = st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), min_size=1, max_size=20)
contents = st.tuples(
    instants,
    words,
    words,
    st.sampled_from(["expired", "erased", "setting", "completed", "hold-ended"]),
    st.none() | instants,
    st.none() | instants,
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
)


def chain_of(facts) -> list[LedgerEntry]:
    """A ledger with these contents, linked as it must be."""
    entries: list[LedgerEntry] = []
    for seq, content in enumerate(facts, 1):
        previous = entries[-1].hash if entries else GENESIS
        bare = LedgerEntry(seq, *content, previous, b"")
        entries.append(replace(bare, hash=bare.computed_hash()))
    return entries


chains = st.lists(contents, min_size=1, max_size=6).map(chain_of)


@given(chains)
def test_an_untouched_chain_has_no_fault(entries):
    """What was written as it must be is found right, and its end is told."""
    report = verify_chain(entries)
    assert report.faults == ()
    assert (report.entries, report.head) == (len(entries), entries[-1].hash)


def test_an_empty_ledger_is_right():
    """Nothing destroyed yet: the chain ends where it begins."""
    report = verify_chain([])
    assert (report.entries, report.head, report.faults) == (0, GENESIS, ())


@given(chains, st.data())
def test_any_change_of_an_entry_is_found(entries, data):
    """Of every field, and also when the entry's own hash is made to fit."""
    place = data.draw(st.integers(0, len(entries) - 1))
    old = entries[place]
    name, values = data.draw(
        st.sampled_from(
            [
                ("at", instants),
                ("data_class", words),
                ("object", words),
                ("reason", words),
                ("lower", st.none() | instants),
                ("upper", st.none() | instants),
                ("rows", st.integers(0, 2**63 - 1)),
                ("held", st.integers(0, 2**63 - 1)),
                ("seq", st.integers(1, 100)),
                ("previous", st.binary(min_size=32, max_size=32)),
                ("hash", st.binary(min_size=32, max_size=32)),
            ]
        )
    )
    value = data.draw(values)
    assume(value != getattr(old, name))
    changed = replace(old, **{name: value})
    forged = [*entries[:place], changed, *entries[place + 1 :]]
    assert verify_chain(forged).faults
    fitted = replace(changed, hash=changed.computed_hash())
    forged = [*entries[:place], fitted, *entries[place + 1 :]]
    report = verify_chain(forged)
    # A forged end of the chain is told by its head, which is kept apart.
    assert report.faults or report.head != entries[-1].hash or fitted == old


@given(chains, st.data())
def test_a_missing_entry_is_found(entries, data):
    """From within by the chain; from the end by the count and the head."""
    place = data.draw(st.integers(0, len(entries) - 1))
    report = verify_chain(entries[:place] + entries[place + 1 :])
    if place < len(entries) - 1:
        assert report.faults
    else:
        assert (report.entries, report.head) != (len(entries), entries[-1].hash)


@given(chains, contents, st.data())
def test_an_entry_put_in_is_found(entries, content, data):
    """Wherever it stands but at the end, where the head tells it."""
    place = data.draw(st.integers(0, len(entries) - 1))
    previous = entries[place - 1].hash if place else GENESIS
    bare = LedgerEntry(place + 1, *content, previous, b"")
    extra = replace(bare, hash=bare.computed_hash())
    assert verify_chain([*entries[:place], extra, *entries[place:]]).faults


@given(chains, st.randoms())
def test_another_order_is_found(entries, random):
    """The order of entries is part of what is proved."""
    shuffled = list(entries)
    random.shuffle(shuffled)
    assume(shuffled != entries)
    assert verify_chain(shuffled).faults


async def test_the_text_that_is_hashed_is_the_same_here_and_in_the_database(database):
    """An export can be verified without the database that wrote it."""
    at = datetime(2026, 3, 29, 1, 30, 0, 5, tzinfo=UTC)
    entries = chain_of(
        [
            (at, "traffic_record", "traffic_record_20260329", "expired", at, at, 2**40, 7),
            (
                at + timedelta(days=9999),
                "history_record",
                "räksmörgås 🙂",
                "erased",
                None,
                None,
                0,
                0,
            ),
            (datetime(2027, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "x", "y", "z", None, at, 1, 1),
        ]
    )
    connection = await asyncpg.connect(database)
    try:
        for zone in ("UTC", "America/Sao_Paulo"):
            await connection.execute(f"SET timezone = '{zone}'")
            for e in entries:
                text, digest = await connection.fetchrow(
                    "SELECT t, sha256(convert_to(t, 'UTF8')) FROM trafficlog.ledger_text("
                    "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10) AS t",
                    *(e.seq, e.at, e.data_class, e.object, e.reason),
                    *(e.lower, e.upper, e.rows, e.held, e.previous),
                )
                assert (text, digest) == (e.text(), e.hash)
        genesis = await connection.fetchval("SELECT hash FROM trafficlog.purge_ledger_head")
        assert genesis == GENESIS
    finally:
        await connection.close()


def exported(entries):
    """The entries as ``ledger export --json`` writes them."""
    return orjson.dumps(
        {
            "entries": [
                asdict(e) | {"previous": e.previous.hex(), "hash": e.hash.hex()} for e in entries
            ]
        },
        option=orjson.OPT_UTC_Z,
    )


def test_an_export_is_verified_without_its_database():
    """The file alone shows that nothing in it was changed, and what its head is."""
    at = datetime(2026, 11, 22, tzinfo=UTC)
    facts = [(at, "debug_log", f"p{n}", "expired", at, at, 1, 0) for n in range(3)]
    entries = chain_of(facts)
    report = verify_export(exported(entries))
    assert (report.entries, report.head, report.faults) == (3, entries[-1].hash, ())
    changed = exported(entries).replace(b'"rows":1', b'"rows":9', 1)
    assert verify_export(changed).faults


@pytest.mark.parametrize("content", [b"", b"{}", b'{"entries":[{}]}', b"\xff", b'{"entries":5}'])
def test_what_is_no_export_is_refused(content):
    """Another file is not called a broken ledger."""
    with pytest.raises(InvalidValueError, match="--file"):
        verify_export(content)

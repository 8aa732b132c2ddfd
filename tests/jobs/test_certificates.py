"""Certificates of a real store: what its runs destroyed, and what is wrong with it."""

from __future__ import annotations

import asyncio
from dataclasses import astuple

import orjson
import pytest

from tests.core.test_ledger import chain_of
from tests.jobs.stock import DAY, HISTORY_GONE, TICK, config, report
from trafficlog.certificate import Period, disagreements
from trafficlog.errors import DatabaseUnavailableError, InvalidValueError, SigningKeyError
from trafficlog.queries import queries
from trafficlog.selector import Selector
from trafficlog.signature import read_signed
from trafficlog.signing import signing_key
from trafficlog.store.certificates import Certificates
from trafficlog.store.retention import Retention
from trafficlog.store.verify import read_ledger

NUMBER = "+46709999999"
RUN = HISTORY_GONE
PERIOD = Period(RUN, RUN + DAY)


@pytest.fixture
def certificates(stock, tmp_path):
    """Issues certificates of the store."""
    return Certificates(stock.dsn, config(), tmp_path / "key.pem", "Example Telecom")


async def destroyed(stock):
    """A store of which a run has dropped partitions, with one account's rows held."""
    await stock.write(
        report("record-1", recipient=NUMBER),
        report("record-2"),
        report("record-3", account="held-account"),
    )
    await stock.hold(Selector(account="held-account"))
    await stock.run(RUN)


async def entries_of(stock):
    """The whole ledger."""
    async with Retention(stock.dsn, config()) as retention:
        return [entry async for entry in read_ledger(retention.connection)]


async def test_a_certificate_says_what_a_run_destroyed(stock, certificates, tmp_path):
    """Rows and held copies of each class, with no fault, signed with the key in the file."""
    await destroyed(stock)
    signed = await certificates.issue(PERIOD, RUN + DAY)
    read = read_signed(signed.text, signing_key(tmp_path / "key.pem").public_key()).certificate
    assert read == signed.certificate
    totals = {t.data_class: (t.reason, t.rows, t.held) for t in read.destruction.totals if t.rows}
    assert totals == {
        "traffic_record": ("expired", 3, 1),
        "history_record": ("expired", 3, 1),
    }
    assert {p.object for p in read.destruction.partitions if p.rows} == {
        row["object"] for row in await stock.ledger() if row["rows"]
    }
    assert (read.issuer, read.issued_at, read.period) == ("Example Telecom", RUN + DAY, PERIOD)
    assert (read.verification.count, read.verification.ledger_holds) == (0, True)
    entries = await entries_of(stock)
    assert read.destruction.head.seq == read.verification.ledger_entries == len(entries)
    assert disagreements(read, entries) == []


async def test_an_entry_is_of_the_period_by_its_own_time(stock, certificates):
    """Of the period that begins at the run, not of the one that ends with it."""
    await destroyed(stock)

    async def entries(lower, upper):
        signed = await certificates.issue(Period(lower, upper), RUN + DAY)
        return sum(t.entries for t in signed.certificate.destruction.totals)

    every = len(await stock.ledger())
    assert await entries(RUN, RUN + TICK) == every
    assert await entries(RUN - DAY, RUN) == 0
    assert await entries(RUN + TICK, RUN + DAY) == 0


async def test_a_certificate_holds_no_personal_data(stock, certificates):
    """No account, number, text or id, even where a fault is about one customer's history."""
    await destroyed(stock)
    await stock.write(report("record-4", RUN, account="moved-account"), now=RUN)
    await stock.set_days(30, RUN, account="moved-account")
    late = RUN + 3 * DAY
    signed = await certificates.issue(PERIOD, late)
    findings = signed.certificate.verification.listed
    assert any("was to be moved" in finding for finding in findings)
    # Each is longer than what a key or a signature in base64 has by chance, or cannot be in one.
    for word in ("acme", 'account"', "held-account", "moved-account", NUMBER, "record-", "text of"):
        assert word.encode() not in signed.text.replace(b"of 1 accounts", b"")


async def test_a_fault_is_stated(stock, certificates):
    """A partition that went without the ledger, and an entry that was rewritten."""
    await destroyed(stock)
    name = await stock.admin.fetchval(
        "SELECT name FROM partition_catalogue WHERE table_name = 'traffic_record'"
        " ORDER BY lower DESC LIMIT 1"
    )
    await stock.admin.execute(f"DROP TABLE {name}")
    missing = (await certificates.issue(PERIOD, RUN + TICK)).certificate.verification
    assert (missing.count, missing.ledger_holds) == (1, True)
    assert name in missing.listed[0]
    await stock.admin.execute(
        "SET session_replication_role = replica; UPDATE purge_ledger SET rows = 9"
        " WHERE seq = (SELECT max(seq) FROM purge_ledger);"
    )
    broken = (await certificates.issue(PERIOD, RUN + TICK)).certificate.verification
    assert (broken.count, broken.ledger_holds) == (2, False)
    assert any(finding.startswith("ledger: ") for finding in broken.listed)


async def test_findings_are_all_counted_and_a_hundred_are_listed(stock, certificates):
    """A certificate of a store in ruins stays one that can be read."""
    await destroyed(stock)
    await stock.admin.execute(
        "SET session_replication_role = replica;"
        " INSERT INTO purge_ledger SELECT 1000 + n, at, data_class, object, reason, lower, upper,"
        " rows, held, previous, hash FROM purge_ledger, generate_series(1, 60) n WHERE seq = 1"
    )
    verification = (await certificates.issue(PERIOD, RUN + TICK)).certificate.verification
    assert verification.count > 100
    assert len(verification.listed) == 100


async def test_an_installation_is_told_from_another_and_its_secret_is_not(stock, certificates):
    """The same in every certificate; nothing of what signs cursors is in it."""
    first, second = await asyncio.gather(
        certificates.issue(PERIOD, RUN + DAY), certificates.issue(PERIOD, RUN + DAY)
    )
    assert first.certificate.installation == second.certificate.installation
    secret = await stock.admin.fetchval("SELECT cursor_secret FROM installation")
    assert first.certificate.installation not in secret.hex()
    await stock.admin.execute("UPDATE installation SET cursor_secret = sha256('other')")
    other = await certificates.issue(PERIOD, RUN + DAY)
    assert other.certificate.installation != first.certificate.installation


async def test_the_key_is_nowhere_in_the_database(stock, certificates, tmp_path):
    """Who can rewrite the ledger cannot sign what they wrote."""
    await destroyed(stock)
    await certificates.issue(PERIOD, RUN + DAY)
    key = "".join((tmp_path / "key.pem").read_text().splitlines()[1:-1])
    tables = await stock.admin.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'trafficlog'::regnamespace"
        " AND relkind = 'r'"
    )
    for row in tables:
        found = await stock.admin.fetch(f"SELECT t::text FROM {row['relname']} t")
        assert not any(key in (each["t"] or "") for each in found)


async def test_nothing_is_signed_without_a_key_or_a_database(stock, tmp_path):
    """Each is told as what it is; no key is made when none was named."""
    without = Certificates(stock.dsn, config(), None, None)
    with pytest.raises(SigningKeyError, match="TRAFFICLOG_SIGNING_KEY_FILE"):
        await without.issue(PERIOD, RUN + DAY)
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    away = Certificates(nowhere, config(), tmp_path / "key.pem", None)
    with pytest.raises(DatabaseUnavailableError):
        await away.issue(PERIOD, RUN + DAY)


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "line\nbreak", "\x1b[2J"])
def test_an_issuer_has_a_name_that_can_be_printed(name):
    """1 to 200 characters; without one there is none."""
    Certificates("", config(), None, "x" * 200)
    with pytest.raises(InvalidValueError, match="--issuer"):
        Certificates("", config(), None, name)


async def test_a_certificate_is_no_larger_than_what_it_says(stock, certificates):
    """An erasure is summed, not listed: a million of them make no longer certificate."""
    await stock.admin.execute(
        "DO $$ BEGIN FOR n IN 1..300 LOOP PERFORM ledger_append("
        f"'{RUN}', 'history_record', 'record', 'erased', NULL, NULL, 1, 0); END LOOP; END $$"
    )
    signed = await certificates.issue(PERIOD, RUN + DAY)
    [total] = signed.certificate.destruction.totals
    assert (total.entries, total.rows) == (300, 300)
    assert len(signed.text) < 2_000
    assert orjson.loads(signed.text)["certificate"]["version"] == 1


async def test_a_long_ledger_is_verified_in_time_that_grows_with_it_and_not_faster(stock):
    """What was dropped early is looked for in one pass: of 20,000 entries in seconds."""
    entries = chain_of([(RUN, "in_transit", "x", "completed", None, None, 1, 0)] * 20_000)
    await stock.admin.copy_records_to_table("purge_ledger", records=map(astuple, entries))
    await stock.admin.execute("SET statement_timeout = '8s'")
    found = queries.ledger_early(stock.admin, clock=RUN, skew=DAY)
    assert [row async for row in found] == []

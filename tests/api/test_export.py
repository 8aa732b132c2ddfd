"""Exports: every field in every format, filters, accounts, what changes meanwhile, the archive."""

import asyncio
import csv
import hashlib
import io
import json
import re
import zipfile
from datetime import datetime, timedelta

import pytest
from pyarrow import parquet

from tests.api.helpers import history, ids, refused, superuser, until
from tests.serving import utc
from trafficlog.records import AccountKey
from trafficlog.store import export
from trafficlog.store.database import Database
from trafficlog.store.export import Exports
from trafficlog.store.history_list import HistoryFilter

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
EXPORT = "/v1/accounts/acme/export"
TEXT = "=1+1\tåäö 🙂\r\n\"q\" 'a' \\ ,;\u2028\x01</script>"


@pytest.fixture
async def keys(service):
    """Keys for ingest and for the customer acme."""
    return await service.key("ingest"), await service.key("customer", "acme")


async def exported(service, key, query="", account="acme"):
    """Content (decompressed) and headers of an export."""
    async with service.http.get(
        f"{service.url}/v1/accounts/{account}/export?{query}",
        headers={"Authorization": f"Bearer {key}"},
    ) as answer:
        content = await answer.read()
        assert answer.status == 200, content
        return content, answer.headers


async def lines(service, key, query="", account="acme"):
    """The records of an export in NDJSON."""
    content, _ = await exported(service, key, query, account)
    return [json.loads(line) for line in content.decode().split("\n")[:-1]]


def known(row):
    """What is known of a record, its instants in the form of the pages of history."""
    return {
        name: f"{value:%Y-%m-%dT%H:%M:%S.%fZ}".replace(".000000Z", "Z")
        if isinstance(value, datetime)
        else value
        for name, value in row.items()
        if value is not None
    }


def from_csv(row):
    """A row of CSV as the pages of history have the record."""
    record = {name: re.sub(r"\A'('*[=+\-@\t\r\n])", r"\1", text) for name, text in row.items()}
    record = {name: text for name, text in record.items() if text}
    whole = {n: int(record[n]) for n in ("duration", "parts", "cost") if n in record}
    tags = {"tags": json.loads(record["tags"])} if "tags" in record else {}
    return record | whole | tags


async def test_every_field_is_the_same_in_pages_and_in_each_format(service, keys):
    """Whatever a record holds, or does not, all ways out show it alike."""
    ingest, customer = keys
    at = service.clock.now()
    full = {
        "status": "delivered",
        "updated": (at - timedelta(seconds=1.5)).isoformat(),
        "delivered": at.isoformat(),
        "parts": 3,
        "cost": 3500,
        "owner": "+sub",
        "tags": ["a b", 'q"x\\', "NULL", "=1", "{,}"],
    }
    records = [
        service.record("full", message=TEXT, from_="@Acme", to="+46701234567", **full),
        service.record("-bare", message=..., created=(at - timedelta(microseconds=10)).isoformat()),
        service.record("call", kind="call", status="success", duration=0, cost=0, message=...),
        service.record("none", message=TEXT, dontlog=["message", "from", "to"], tags=[]),
        service.record("old", message="x", created="2026-10-30T23:59:59.123400Z"),
    ]
    status, answer = await service.post(ingest, *records)
    assert (status, answer["accepted"]) == (200, 5), answer

    pages = await history(service, customer)
    assert await lines(service, customer) == pages
    content, headers = await exported(service, customer, "format=csv")
    assert headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    assert [from_csv(row) for row in rows] == pages
    content, headers = await exported(service, customer, "format=parquet")
    table = parquet.read_table(io.BytesIO(content))
    assert [known(row) for row in table.to_pylist()] == pages
    assert headers["Content-Disposition"] == (
        'attachment; filename="trafficlog-acme-20261121T120000Z.parquet"'
    )
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Request-Id"]
    [shown] = [page for page in pages if page["id"] == "full"]
    assert shown["message"] == TEXT
    assert not {"from", "to", "message"} & next(p for p in pages if p["id"] == "none").keys()


async def test_filters_are_those_of_the_pages(service, keys):
    """A filter means the same records in an export as in the pages, and is refused alike."""
    ingest, customer = keys
    at = service.clock.now()
    await service.post(
        ingest,
        *(
            service.record(
                f"m{n}",
                kind=("sms", "call")[n % 2],
                direction=("incoming", "outgoing")[n % 3 % 2],
                to=f"+4670123456{n % 4}",
                tags=["even"] if n % 2 == 0 else None,
                created=(at - timedelta(hours=n)).isoformat(),
            )
            for n in range(40)
        ),
    )
    queries = [
        "kind=call",
        "direction=incoming&kind=sms",
        "to=%2B46701234562",
        "from=nobody",
        "tag=even&after=2026-11-20T12:00:00Z",
        "before=2026-11-20T12:00:00Z",
        "status=sent",
    ]
    for query in queries:
        found = [record["id"] for record in await lines(service, customer, query)]
        assert found == await ids(service, customer, query), query
    for query, field in [
        ("format=xml", "format"),
        ("kind=fax", "kind"),
        ("limit=5", "limit"),
        ("after=tomorrow", "after"),
        ("format=archive&kind=sms", "kind"),
    ]:
        problem = await refused(service, 400, "GET", f"{EXPORT}?{query}", customer)
        assert problem["field"] == field


async def test_an_account_exports_its_own_rows_alone(service, keys):
    """A key opens its own export; row-level security, not the query, is what keeps others out."""
    ingest, customer = keys
    other = await service.key("customer", "other")
    await service.post(ingest, service.record("mine"), service.record("theirs", account="other"))
    for key in (other, ingest, service.operator_key):
        await refused(service, 403, "GET", EXPORT, key)
    await refused(service, 401, "GET", EXPORT)
    assert [r["id"] for r in await lines(service, customer)] == ["mine"]
    assert [r["id"] for r in await lines(service, other, account="other")] == ["theirs"]
    async with superuser(service) as connection:
        theirs = await connection.fetchval(
            "SELECT account_key FROM account WHERE account_id='other'"
        )
    # In the role and the transaction of acme, and with the query asking for the other account.
    exports = Exports(service.database, service.config)
    mine = AccountKey(3 - theirs)
    reader = exports.reader(mine, HistoryFilter(), service.clock.now)
    async with service.database.as_account(mine, snapshot=True) as connection:
        arguments = next(
            export.windows(
                await export.load_account(connection, mine),
                HistoryFilter(),
                service.clock.now(),
                export.Position(),
            )
        )
        block, count = await reader._copy(
            connection, arguments | {"account_key": theirs, "limit": 10}, 10_000
        )
    assert count == 0
    assert b"theirs" not in block
    assert (await reader.next_page())["id"].to_pylist() == ["mine"]
    exports.close()


async def test_times_are_read_right_however_the_server_writes_them(service, keys):
    """A database set to another style of dates, or another zone, changes nothing."""
    ingest, _customer = keys
    await service.post(ingest, service.record("m1"))
    async with superuser(service) as connection:
        name = await connection.fetchval("SELECT current_database()")
        key = await connection.fetchval("SELECT account_key FROM account")
        await connection.execute(f"ALTER DATABASE {name} SET datestyle = 'SQL, DMY'")
        await connection.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Kolkata'")
    async with Database(service.dsn, service.config) as database:
        exports = Exports(database, service.config)
        page = await exports.reader(key, HistoryFilter(), service.clock.now).next_page()
        exports.close()
    assert page["created"].to_pylist() == ["2026-11-21T12:00:00Z"]


@pytest.fixture
def short_pages(monkeypatch):
    """Pages of three records."""
    monkeypatch.setattr(export, "FIRST_ROWS", 3)
    monkeypatch.setattr(export, "ROWS_MAX", 3)


async def test_what_stays_is_exported_once_whatever_happens_meanwhile(service, keys, short_pages):
    """Records arrive, are erased, expire and move while it is read: none is lost or repeated."""
    ingest, customer = keys
    at = service.clock.now()

    async def put(*names, created):
        status, _ = await service.post(
            ingest, *(service.record(n, created=created.isoformat()) for n in names)
        )
        assert status == 200

    ties = [f"tie{n}" for n in range(5)]
    await put(*ties, created=at)
    await put("later-erased", "stays-1", "stays-2", created=at - timedelta(days=1))
    for n in range(3, 10):
        await put(f"stays-{n}", created=at - timedelta(days=n))
    await put("later-expired", created=at - timedelta(days=29, hours=23))
    async with superuser(service) as connection:
        key = AccountKey(
            await connection.fetchval("SELECT account_key FROM account WHERE account_id = 'acme'")
        )
    exports = Exports(service.database, service.config)
    reader = exports.reader(key, HistoryFilter(), service.clock.now)
    found = (await reader.next_page())["id"].to_pylist()
    assert found == ["tie4", "tie3", "tie2"]

    await put("new", created=at + timedelta(minutes=1))
    await put("tie9", created=at)
    status, _ = await service.call("DELETE", "/v1/accounts/acme/history/later-erased", customer)
    assert status == 200
    # Every row moves to another partition, now or between two of the following pages.
    settings = {"history": {"enabled": True, "days": 30}}
    await service.call("PUT", "/v1/accounts/acme/settings", customer, json=settings)
    service.clock.advance(timedelta(hours=2))
    while (page := await reader.next_page()) is not None:
        found += page["id"].to_pylist()
        await asyncio.sleep(0)
    stays = [f"stays-{n}" for n in (2, 1, *range(3, 10))]
    assert found == ["tie4", "tie3", "tie2", "tie1", "tie0", *stays]
    exports.close()


async def test_rows_longer_than_expected_are_read_in_smaller_pages(service, keys, monkeypatch):
    """However long messages are, a page's size is bounded, and no record is lost for it."""
    ingest, customer = keys
    monkeypatch.setattr(export, "FIRST_ROWS", 64)
    monkeypatch.setattr(export, "BYTES_MAX", 100_000)
    at = service.clock.now()
    await service.post(
        ingest,
        *(
            service.record(
                f"m{n}",
                created=(at - timedelta(seconds=n)).isoformat(),
                message="x" * (60_000 if 70 < n < 85 else 10),
            )
            for n in range(150)
        ),
    )
    assert [r["id"] for r in await lines(service, customer)] == [f"m{n}" for n in range(150)]


async def test_an_account_without_history_gets_whole_empty_files(service, keys):
    """Off, or nothing there: each format is a file that opens."""
    ingest, customer = keys
    await service.post(ingest, service.record("m1"))
    off = {"history": {"enabled": False}}
    await service.call("PUT", "/v1/accounts/acme/settings", customer, json=off)
    assert await lines(service, customer) == []
    content, _ = await exported(service, customer, "format=csv")
    assert content.decode().startswith("id,created,")
    assert content.count(b"\n") == 1
    content, _ = await exported(service, customer, "format=parquet")
    assert parquet.read_table(io.BytesIO(content)).num_rows == 0


async def test_compressed_only_for_who_takes_it(service, keys):
    """NDJSON and CSV come in gzip if the client reads it; Parquet compresses itself."""
    ingest, customer = keys
    await service.post(ingest, service.record("m1"))
    for accept, query, encoding in [
        ("gzip", "format=ndjson", "gzip"),
        ("br, GZIP;q=0.5", "format=csv", "gzip"),
        ("gzip;q=0", "format=csv", None),
        ("identity", "format=ndjson", None),
        ("gzip", "format=parquet", None),
    ]:
        async with service.http.get(
            f"{service.url}{EXPORT}?{query}",
            headers={"Authorization": f"Bearer {customer}", "Accept-Encoding": accept},
        ) as answer:
            assert answer.headers.get("Content-Encoding") == encoding
            assert answer.headers["Vary"] == "Accept-Encoding"
            assert await answer.read()


async def test_the_archive_has_all_that_is_kept_and_says_what_it_has_not(service, keys):
    """History, settings, statistics, reports and receipts, each with its checksum; nothing else."""
    ingest, customer = keys
    await service.key("customer", "other")
    await service.post(
        ingest,
        service.record("m1", message=TEXT, ip="203.0.113.7", user_agent="crm/2.1", cost=3500),
        service.record("m2", created="2026-11-20T00:00:00Z", message="to be erased"),
        service.record("theirs", account="other"),
    )
    hold = {"account": "acme", "reason": "spam", "case_ref": "C-1", "until": "2026-12-01T00:00:00Z"}
    status, _ = await service.call("POST", "/v1/holds", service.operator_key, json=hold)
    assert status == 201
    await service.call("DELETE", "/v1/accounts/acme/history/m2", customer)
    content, headers = await exported(service, customer, "format=archive")
    assert headers["Content-Type"] == "application/zip"

    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.testzip() is None
    manifest = json.loads(archive.read("manifest.json"))
    assert manifest["account"] == "acme"
    assert utc(manifest["made_at"]) == service.clock.now()
    for file in manifest["files"]:
        read = archive.read(file["name"])
        assert len(read) == file["bytes"]
        assert hashlib.sha256(read).hexdigest() == file["sha256"]
    assert {f["name"] for f in manifest["files"]} | {"manifest.json"} == set(archive.namelist())

    pages = await history(service, customer)
    records = [json.loads(r) for r in archive.read("history.ndjson").decode().split("\n")[:-1]]
    assert records == pages
    assert [r["id"] for r in records] == ["m1"]
    _, settings = await service.call("GET", "/v1/accounts/acme/settings", customer)
    assert json.loads(archive.read("settings.json")).items() >= settings.items()
    rows = list(csv.DictReader(io.StringIO(archive.read("statistics.csv").decode())))
    assert [(r["day"], r["records"], r["cost"]) for r in rows] == [
        ("2026-11-20", "1", "0"),
        ("2026-11-21", "1", "3500"),
    ]
    everything = b"".join(archive.read(name) for name in archive.namelist())
    for secret in (b"203.0.113.7", b"crm/2.1", b"theirs", b"to be erased", b"C-1", b"spam"):
        assert secret not in everything
    # Who is under a hold reads the same words as who is not.
    other = await service.key("customer", "other")
    content, _ = await exported(service, other, "format=archive", "other")
    theirs = zipfile.ZipFile(io.BytesIO(content))
    assert json.loads(theirs.read("manifest.json"))["not_included"] == manifest["not_included"]
    assert [n for n in archive.namelist() if "hold" in n.lower()] == []
    readme = archive.read("README.txt").replace(b"acme", b"other")
    assert readme == theirs.read("README.txt")


@pytest.mark.service_now("2026-11-01T12:00:00Z")
async def test_the_archive_has_reports_and_receipts(service, keys):
    """A month's report and the receipt of an erasure by filter are in it, as the API shows them."""
    ingest, customer = keys
    await service.post(
        ingest,
        service.record("m1", created="2026-10-20T00:00:00Z", cost=100),
        service.record("m2", created="2026-10-21T00:00:00Z", tags=["go"]),
    )
    path = "/v1/accounts/acme/erasures"
    status, erasure = await service.call("POST", path, customer, json={"filter": {"tag": "go"}})
    assert status == 202

    async def names():
        content, _ = await exported(service, customer, "format=archive")
        archive = zipfile.ZipFile(io.BytesIO(content))
        found = {n for n in archive.namelist() if n.startswith(("reports/", "erasures/"))}
        return archive if len(found) == 2 else None

    archive = await until(names)
    _, receipt = await service.call("GET", f"{path}/{erasure['id']}/receipt", customer)
    assert json.loads(archive.read(f"erasures/{erasure['id']}.json")) == receipt
    report = json.loads(archive.read("reports/2026-10.json"))
    _, shown = await service.call("GET", "/v1/accounts/acme/reports/2026-10", customer)
    assert report == shown

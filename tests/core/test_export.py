import csv
import io
import json
import re
import zipfile
import zlib
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from trafficlog.export.archive import Archive
from trafficlog.export.columns import PAGE, RECORDS, read_page, tags_of
from trafficlog.export.formats import FORMATS, Gzipped, encoder

ROW = {
    "id": "m1",
    "created": "2026-11-21T12:00:00.5Z",
    "kind": "sms",
    "direction": "outgoing",
    "expires": "2027-02-19T12:00:00.5Z",
}
HEADER = (
    "created_at,updated_at,delivered_at,expires_at,duration,parts,cost,kind,direction,status,id,"
    "sender,recipient,owner,tags,message\n"
)
# What PostgreSQL can store in a text.
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30)


def page(*rows):
    """A page of records; what is not given is ROW's, or not known."""
    return pa.RecordBatch.from_pylist([ROW | row for row in rows], schema=PAGE)


def plain(text):
    """A text of a CSV file without the apostrophe that was put before it."""
    return text[1:] if re.match(r"'+[=+\-@\t\r\n]", text) else text


def written(name, *pages):
    """The whole file."""
    file = encoder(name, {"account": "acme"})
    return b"".join([*(file.page(each) for each in pages), file.end()])


@given(st.lists(st.tuples(TEXTS, TEXTS | st.none()), min_size=1, max_size=5))
def test_any_text_comes_back_from_each_format_as_it_was(texts):
    """No text breaks a file: quotes, line ends, control characters and formulas least of all."""
    records = page(*({"message": message, "from": sender} for message, sender in texts))

    lines = written("ndjson", records).split(b"\n")
    assert lines.pop() == b""
    found = [json.loads(line) for line in lines]
    assert [(each["message"], each.get("from")) for each in found] == texts

    rows = list(csv.DictReader(io.StringIO(written("csv", records).decode(), newline="")))
    assert [(plain(row["message"]), plain(row["from"])) for row in rows] == [
        (message, sender or "") for message, sender in texts
    ]

    table = parquet.read_table(io.BytesIO(written("parquet", records)))
    assert list(zip(*(table[n].to_pylist() for n in ("message", "from")), strict=True)) == texts


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "'=", "''@"])
def test_no_cell_is_a_formula(start):
    """A text that a spreadsheet could run has an apostrophe before it, in every text column."""
    text = start + "cmd|' /C calc'!A1"
    columns = ("message", "from", "to", "owner")
    [row] = csv.DictReader(
        io.StringIO(written("csv", page(dict.fromkeys(columns, text))).decode(), newline="")
    )
    assert [row[name] for name in columns] == ["'" + text] * 4
    [row] = csv.DictReader(
        io.StringIO(written("csv", page({"id": "=1+1", "tags": '["=1+1"]'})).decode(), newline="")
    )
    assert row["id"] == "'=1+1"
    assert row["tags"] == '["=1+1"]'


@pytest.mark.parametrize("number", ["+46701234567", "-5", "46701234567", "0"])
def test_a_number_stays_as_it_is(number):
    """A telephone number begins with a plus by right."""
    [row] = csv.DictReader(io.StringIO(written("csv", page({"to": number})).decode(), newline=""))
    assert row["to"] == number


def test_csv_is_what_rfc_4180_says():
    """CRLF ends every line, a header stands first, what is not known is empty, "" is a text."""
    text = written("csv", page({"message": ""}), page({"message": 'a "b"\nc'})).decode()
    assert text == (
        ",".join(PAGE.names) + "\r\n"
        '"m1",2026-11-21T12:00:00.5Z,sms,outgoing,,,,,,,,,,,"",2027-02-19T12:00:00.5Z\r\n'
        '"m1",2026-11-21T12:00:00.5Z,sms,outgoing,,,,,,,,,,,"a ""b""\nc",2027-02-19T12:00:00.5Z\r\n'
    )


def test_files_of_nothing_are_whole():
    """Without history a file still opens: no line, a header alone, columns without rows."""
    assert written("ndjson") == b""
    assert written("csv").decode() == ",".join(PAGE.names) + "\r\n"
    table = parquet.read_table(io.BytesIO(written("parquet")))
    assert table.num_rows == 0
    assert table.schema.equals(RECORDS)


def test_parquet_says_what_its_columns_are():
    """Types are those of the values, each page is a row group, units stand in the metadata."""
    content = written("parquet", page({"tags": '["a","b c"]', "cost": 7}), page({"duration": 3}))
    file = parquet.ParquetFile(io.BytesIO(content))
    assert file.num_row_groups == 2
    schema = file.schema_arrow
    assert schema.field("created").type == pa.timestamp("us", tz="UTC")
    assert schema.field("cost").type == pa.int32()
    assert b"1/10000" in schema.field("cost").metadata[b"description"]
    assert b"seconds" in schema.field("duration").metadata[b"description"]
    assert schema.metadata[b"trafficlog.account"] == b"acme"
    rows = file.read().to_pylist()
    assert rows[0]["tags"] == ["a", "b c"]
    assert rows[0]["created"] == datetime(2026, 11, 21, 12, 0, 0, 500_000, tzinfo=UTC)
    assert rows[1]["tags"] is None


@pytest.mark.parametrize(
    ("literal", "tags"),
    [
        ("{}", []),
        ("{a}", ["a"]),
        ('{a,"b c","d,e"}', ["a", "b c", "d,e"]),
        (r'{"q\"x\\","{y}","NULL",Å}', ['q"x\\', "{y}", "NULL", "Å"]),
    ],
)
def test_tags_are_read_as_postgresql_writes_them(literal, tags):
    """Each tag comes back from an array's text form."""
    assert tags_of(literal) == tags


def test_a_page_shows_the_expiry_under_the_present_setting():
    """A row that is still to be moved shows when it will go, to the microsecond, over new year."""
    rows = (
        "2026-12-31 23:59:59.000001+00,,,2027-03-31 23:59:59.000001+00,,,,1,2,,m2,,,,,\n"
        "2026-12-30 00:00:00+00,,2026-12-30 00:00:01.5+00,2027-03-30 00:00:00+00,7,1,0,3,1,7,c1,"
        '"","+46",,"{a,""b c""}","x\ny"\n'
    )
    blocks = [(HEADER + rows).encode()]
    shown = read_page(blocks, timedelta(days=7)).to_pylist()
    assert [row["expires"] for row in shown] == [
        "2027-01-07T23:59:59.000001Z",
        "2027-01-06T00:00:00Z",
    ]
    assert [row["expires"] for row in read_page(blocks, None).to_pylist()] == [
        "2027-03-31T23:59:59.000001Z",
        "2027-03-30T00:00:00Z",
    ]
    assert shown[1] == {
        "id": "c1",
        "created": "2026-12-30T00:00:00Z",
        "kind": "call",
        "direction": "incoming",
        "from": "",
        "to": "+46",
        "status": "success",
        "updated": None,
        "delivered": "2026-12-30T00:00:01.500000Z",
        "duration": 7,
        "parts": 1,
        "cost": 0,
        "owner": None,
        "tags": '["a","b c"]',
        "message": "x\ny",
        "expires": "2027-01-06T00:00:00Z",
    }


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_without_its_end_is_none(name):
    """Whoever gets a part of a compressed export cannot take it for the whole."""
    records = page(*({"id": f"m{n}"} for n in range(100)))
    if name == "parquet":
        file = encoder(name, {})
        with pytest.raises(pa.ArrowInvalid):
            parquet.read_table(io.BytesIO(file.page(records)))
        return
    zipped = Gzipped(encoder(name, {}))
    begun = zipped.page(records)
    reader = zlib.decompressobj(31)
    reader.decompress(begun)
    assert not reader.eof
    reader.decompress(zipped.end())
    assert reader.eof


def test_an_archive_is_listed_only_when_it_is_whole():
    """Its list of files is its end; documents and history are in it, with their checksums."""
    now = datetime(2026, 11, 22, tzinfo=UTC)
    file = Archive({"account": "acme", "currency": None}, {"a/b.json": b"{}"}, lambda: now)
    begun = file.page(page({"id": "m1"}, {"id": "m2"}))
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(begun))
    archive = zipfile.ZipFile(io.BytesIO(begun + file.end()))
    assert archive.testzip() is None
    manifest = json.loads(archive.read("manifest.json"))
    names = ["README.txt", "a/b.json", "history.ndjson"]
    assert [each["name"] for each in manifest["files"]] == names
    assert archive.namelist() == [*names, "manifest.json"]
    assert manifest["files"][2]["records"] == 2
    assert manifest["made_at"] == "2026-11-22T00:00:00Z"

"""Debug lines: the gateway's own, and the refused records that are kept for 14 days."""

from datetime import timedelta

import orjson
import pytest

from tests.api.helpers import NDJSON, post_lines, refused, send
from tests.serving import utc

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
PATH = "/v1/debug-logs"
SECRET = "tell-nobody"


@pytest.fixture
async def ingest(service):
    """The gateway's key."""
    return await service.key("ingest")


async def post(service, key, *lines):
    """Posts debug lines."""
    body = b"\n".join(map(orjson.dumps, lines))
    status, answer, _ = await send(service, "POST", PATH, key, data=body, headers=NDJSON)
    return status, answer


async def read(service, query=""):
    """Debug lines as the operator reads them."""
    status, answer = await service.call("GET", f"{PATH}?{query}", service.operator_key)
    assert status == 200, answer
    return answer["data"]


async def test_lines_are_written_and_read_back(service, ingest):
    """All fields come back, newest first; what a line leaves out has its default."""
    full = {
        "line": "route 5 chosen\tfor 😀",
        "level": "warning",
        "source": "smsc-2",
        "at": "2026-11-21T11:00:00+02:00",
        "account": "acme",
        "record": "m1",
    }
    status, answer = await post(service, ingest, full, {"line": "plain"})
    assert (status, answer) == (200, {"accepted": 2, "rejected": []})
    newest, oldest = await read(service)
    assert oldest == full | {"at": "2026-11-21T09:00:00Z"}
    assert newest == {
        "line": "plain",
        "level": "info",
        "source": "gateway",
        "at": "2026-11-21T12:00:00Z",
        "account": None,
        "record": None,
    }


async def test_lines_are_found_by_account_record_and_time(service, ingest):
    """Filters combine; the window takes its lower end in and leaves its upper end out."""
    at = [utc(f"2026-11-21T{hour}:00:00Z") for hour in ("08", "09", "10")]
    await post(
        service,
        ingest,
        *[
            {
                "line": f"{account}-{record}-{n}",
                "at": time.isoformat(),
                "account": account,
                "record": record,
            }
            for account in ("acme", "other")
            for record in ("m1", "m2")
            for n, time in enumerate(at)
        ],
    )
    assert len(await read(service)) == 12
    assert len(await read(service, "account=acme")) == 6
    assert len(await read(service, "account=acme&record=m1")) == 3
    found = await read(
        service, "account=acme&record=m1&after=2026-11-21T08:00:00Z&before=2026-11-21T10:00:00Z"
    )
    assert [r["line"] for r in found] == ["acme-m1-1", "acme-m1-0"]
    assert [r["line"] for r in await read(service, "record=m2&limit=1")] in (
        ["acme-m2-2"],
        ["other-m2-2"],
    )
    assert await read(service, "account=nobody") == []


async def test_a_line_is_gone_after_14_days(service, ingest):
    """Invisible from the instant it expires, whatever window is asked for."""
    await post(service, ingest, {"line": "old"})
    expires = service.clock.now() + timedelta(days=14)
    for at, seen in ((expires - timedelta(microseconds=1), 1), (expires, 0)):
        service.clock.set(at)
        assert len(await read(service, "after=2026-01-01&before=2027-01-01")) == seen


async def test_bad_lines_are_refused_one_by_one(service, ingest):
    """Each names its place and its field; the good ones are stored."""
    bad = [
        ({}, "line"),
        ({"line": 5}, "line"),
        ({"line": "a\0b"}, "line"),
        ({"line": "a", "level": "loud"}, "level"),
        ({"line": "a", "source": ""}, "source"),
        ({"line": "a", "source": "a" * 65}, "source"),
        ({"line": "a", "source": "a\0"}, "source"),
        ({"line": "a", "at": "2097-01-01T00:00:00Z"}, "at"),
        ({"line": "a", "at": "1970-01-01T00:00:00Z"}, "at"),
        ({"line": "a", "at": "0001-01-01T00:00:00+14:00"}, "at"),
        ({"line": "a", "at": "9999-12-31T23:59:59-14:00"}, "at"),
        ({"line": "a", "at": "2026-02-30T00:00:00Z"}, "at"),
        ({"line": "a", "account": "a b"}, "account"),
        ({"line": "a", "record": "a" * 65}, "record"),
        ([], "line"),
    ]
    status, answer = await post(service, ingest, *[line for line, _ in bad], {"line": "good"})
    assert (status, answer["accepted"]) == (200, 1)
    assert [(r["index"], r["field"]) for r in answer["rejected"]] == [
        (n, field) for n, (_, field) in enumerate(bad)
    ]
    status, answer = await post(service, ingest, {"line": 5})
    assert (status, answer["code"]) == (422, "all_refused")
    await refused(service, 415, "POST", PATH, ingest, data=b"a", headers={"Content-Type": "text/x"})


async def test_a_refused_record_can_be_read_with_its_reason(service, ingest):
    """Nothing is lost in silence: the operator finds what was refused, and why."""
    await service.post(ingest, service.record("bad", kind="fax"), service.record("good"))
    await post_lines(service, ingest, b"{oops")
    lines = {r["line"] for r in await read(service)}
    assert len(lines) == 2
    [json, text] = sorted(lines, key=lambda line: "oops" in line)
    assert "kind: must be one of sms, mms, call" in json
    assert '"fax"' in json
    assert "hello" in json
    assert "malformed_json" in text
    assert "{oops" in text


@pytest.mark.service_config(refusals_kept_max=3, refusal_chars_max=50)
async def test_what_is_kept_of_refused_records_is_bounded(service, ingest):
    """Not more of them, and not more of each, than the settings say; debug lines are cut too."""
    records = [service.record(f"bad{n}", kind="fax", message="x" * 5000) for n in range(10)]
    _, answer = await service.post(ingest, *records)
    assert len(answer["rejected"]) == 10, "all are told, three are kept"
    lines = [r["line"] for r in await read(service)]
    assert len(lines) == 3
    assert all(len(line) < 50 + 300 for line in lines)
    await post(service, ingest, {"line": "y" * 5000, "source": "long"})
    assert "y" * 50 in [r["line"] for r in await read(service)]


@pytest.mark.service_config(refusals_kept_max=0)
async def test_none_is_kept_when_the_setting_says_so(service, ingest):
    """Whoever wants no refused record in the debug log keeps none."""
    await service.post(ingest, service.record("bad", kind="fax"))
    assert await read(service) == []


WITHHELD = [
    {"kind": "fax", "message": SECRET, "dontlog": "message"},
    {"kind": "fax", "from": SECRET, "dontlog": ["from"]},
    {
        "kind": "fax",
        "message": SECRET,
        "from": SECRET,
        "to": SECRET,
        "dontlog": ["to", "from", "message"],
    },
    # The very field that is refused is the one not to be logged.
    {"message": SECRET + "\0", "dontlog": "message"},
    {"from": SECRET * 20, "dontlog": "from"},
    {"to": SECRET + "\n", "dontlog": ["message", "to"]},
    {"message": [SECRET], "dontlog": "message"},
    {"message": {"text": SECRET}, "dontlog": ["message"]},
    # What exactly is not to be logged cannot be told: then none of the three is.
    {"message": SECRET, "dontlog": "Message"},
    {"message": SECRET, "dontlog": ["message", "everything"]},
    {"message": SECRET, "from": SECRET, "dontlog": True},
    {"to": SECRET, "dontlog": {"to": True}},
]


async def test_what_was_not_to_be_logged_is_in_no_debug_line(service, ingest):
    """A refused record is kept without the fields it asked not to log, and so is its reason."""
    leaked = []
    for n, fields in enumerate(WITHHELD):
        status, _ = await service.post(ingest, service.record(f"w{n}") | fields)
        assert status == 422, fields
        lines = [r["line"] for r in await read(service)]
        assert len(lines) == n + 1
        leaked += [(fields, line) for line in lines[:1] if SECRET in line]
    assert leaked == []


async def test_a_text_that_cannot_be_read_but_asks_is_not_kept(service, ingest):
    """Of broken JSON that mentions dontlog the reason is kept and not the text."""
    broken = [
        f'{{"id": "m1", "dontlog": "message", "message": "{SECRET}"',
        f'{{"message": "{SECRET}", "dontlog": ["message"], oops}}',
        f'{{"message": "{SECRET}", "\\u0064ontlog": "message", oops}}',
        f'{{"message": "{SECRET}\\ud800", "dontlog": "message"}}',
    ]
    status, _ = await post_lines(service, ingest, *broken)
    assert status == 422
    lines = [r["line"] for r in await read(service)]
    assert len(lines) == len(broken)
    assert [line for line in lines if SECRET in line and "\\u0064" not in line] == []


@pytest.mark.parametrize("as_text", [False, True], ids=["record", "unreadable"])
async def test_what_an_account_omits_is_not_kept_of_a_refused_record(service, ingest, as_text):
    """Its own setting counts, whether this process has seen the account or not, and at once."""
    customer = await service.key("customer", "acme")
    record = orjson.dumps(service.record(message=SECRET, status="lost"))
    lines = [record[:-1] if as_text else record, record.replace(b'"acme"', b'"other"')]
    for dontlog, expected in (([], 2), (["message"], 1), ([], 2)):
        status, _ = await service.call(
            "PUT", "/v1/accounts/acme/settings", customer, json={"dontlog": dontlog}
        )
        assert status == 200
        status, answer = await post_lines(service, ingest, *lines)
        assert (status, len(answer["rejected"])) == (422, 2)
        newest = (await read(service))[:2]
        assert sum(SECRET in line["line"] for line in newest) == expected
        service.clock.advance(timedelta(seconds=1))

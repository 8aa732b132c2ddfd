"""Reading many reports at once gives what reading each of them alone gives."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.records import GOOD
from trafficlog.errors import InvalidValueError
from trafficlog.reading import TOGETHER_MIN, doubtful_ones, read_lines, steps
from trafficlog.records import Limits, limits_of, parse_report
from trafficlog.retention import DataClass, PolicyBook, RetentionPolicy
from trafficlog.table import ReportTable

NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)
LIMITS = Limits(NOW, NOW - timedelta(days=60), message_chars_max=20)
PLAIN = GOOD | {"created": "2026-03-14T11:59:00Z"}

# What is just inside and just outside of each rule.
NAMES = ["m1", "a@b.c:1-2_~=+", "x" * 64, "", "x" * 65, "a b", "ä", "a\n", 7, None]
ADDRESSES = [
    *("Acme", "+46701234567", "71700", "x" * 64, "+" + "1" * 63, "0701234567", "+00461234567"),
    *("", "+", "++46", "46+70", "0046701234567", "00", "+46 70-123 45 67", "Taxi 24", "a\nb", "\n"),
    *("x" * 65, "+" + "1" * 64, "Åke", "²³", "\u0660\u0661", "a\u00a0b", "\0", "\x7f", 46, None),
]
TIMES = [
    *("2026-03-14T11:59:00Z", "2026-03-14T11:59:00.123456Z", "2026-03-14 11:59:00z"),
    *("2026-03-14T12:59:00+01:00", "2026-03-14T11:59:00", "2026-03-14T12:10:00Z"),
    *("2026-03-14T12:10:00.000001Z", "2026-01-13T12:00:00Z", "2026-01-13T12:00:00.000001Z"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-03-14", "now", 1, None),
]
TEXTS = ["", "x", "x" * 20, "x" * 21, "x" * 64, "x" * 65, "a\u00a0b", "a\tb", "\0", "😀", 5, None]
FIELDS = {
    "id": NAMES,
    "account": NAMES,
    "kind": ["sms", "mms", "call", "fax", None],
    "direction": ["incoming", "outgoing", "outgoing-reply", "sideways", None],
    "from": ADDRESSES,
    "to": ADDRESSES,
    "created": TIMES,
    "updated": TIMES,
    "delivered": TIMES,
    "status": ["created", "sent", "failed", "ongoing", "busy", "lost", 3, None],
    "duration": [0, 2**31 - 1, 2**31, -1, 1.0, 1.5, "1", True, None],
    "parts": [1, -1, None],
    "cost": [1, 10**30, None],
    "ip": ["192.0.2.1", "192.0.2.01", "2001:db8::1", "2001:DB8::1", "::ffff:192.0.2.1", "x", "", 4],
    "user_agent": [*TEXTS, "x" * 1024, "x" * 1025],
    "message": TEXTS,
    "dontlog": ["message", ["from", "to"], "id", [], None],
    "owner": TEXTS,
    "tags": [[], ["a"], ["a", "b\tc"], ["x" * 65], ["x"] * 21, "a", None],
    "unknown": [1, {"a": [1, {}]}, "x}\n{x"],
}
records = st.fixed_dictionaries({n: st.just(v) for n, v in PLAIN.items()}).flatmap(
    lambda plain: st.lists(
        st.sampled_from(sorted(FIELDS)).flatmap(
            lambda name: st.tuples(st.just(name), st.sampled_from(FIELDS[name]))
        ),
        max_size=3,
    ).map(lambda changes: plain | dict(changes))
)
broken = st.sampled_from(
    [b"", b" ", b"{", b"{}", b"[]", b"null", b'{"id":"m1"}{"id":"m2"}', b"\xff", b"[" * 5000]
)
lines = st.lists(records.map(msgspec.json.encode) | broken, min_size=1, max_size=6)


def alone(line: bytes, limits: Limits):
    """What one line gives by itself: its report, or the words of its refusal."""
    try:
        return parse_report(line, limits)
    except InvalidValueError as error:
        return (error.field, error.reason_code, error.detail)


def together(body: bytes, limits: Limits) -> list:
    """The same of all lines of a body, read among enough others to be read by columns."""
    others = (msgspec.json.encode(PLAIN) + b"\n") * TOGETHER_MIN
    found = apart(others + body, limits)
    assert found == [parse_report(msgspec.json.encode(PLAIN), limits)] * TOGETHER_MIN + apart(
        body, limits
    )
    return found[TOGETHER_MIN:]


def apart(body: bytes, limits: Limits) -> list:
    """The same of all lines of a body by itself."""
    read = read_lines(body, limits)
    assert read.table in (None, ReportTable.of(read.reports))
    found = iter(read.reports)
    words = {r.index: (r.error.field, r.error.reason_code, r.error.detail) for r in read.refused}
    return [words[n] if n in words else next(found) for n in range(read.count)]


@given(lines, st.sampled_from([b"\n", b"\r\n", b"\n\n", b" \n\t"]), st.sampled_from([b"", b"\n"]))
@example([b'{"id":"m1",\n"account":"a"}'], b"\n", b"")
@example([msgspec.json.encode(PLAIN) * 2, b'{"a":', b"1}"], b"\n", b"")
@example([msgspec.json.encode(PLAIN).replace(b"Acme", b"Ac}\n{me")], b"\n", b"")
def test_lines_read_together_give_what_each_gives_alone(given_lines, between, end):
    """The same reports in the same normal form, the same refusals in the same words."""
    body = between.join(given_lines) + end
    assert together(body, LIMITS) == [
        alone(line, LIMITS) for line in body.split(b"\n") if line.strip()
    ]


@given(st.sampled_from(sorted(FIELDS)), st.data())
def test_each_field_is_looked_at_as_closely_as_alone(name, data):
    """Whatever one field holds, in whichever place, nothing wrong or out of form passes."""
    values = data.draw(st.lists(st.sampled_from(FIELDS[name]), min_size=1, max_size=4))
    made = [PLAIN | {"id": f"m{n}", name: value} for n, value in enumerate(values)]
    each = [msgspec.json.encode(record) for record in made]
    assert together(b"\n".join(each), LIMITS) == [alone(line, LIMITS) for line in each]


@given(st.lists(st.text(alphabet="aZ09+ \n-äß²\u0660\0", max_size=6), min_size=1, max_size=5))
def test_any_text_as_an_address_or_a_name_is_looked_at_as_closely(texts):
    """The tests of a whole column join its values; nothing hides in the seams."""
    for field in ("from", "to", "id", "account", "ip", "user_agent", "owner", "message"):
        each = [msgspec.json.encode(PLAIN | {field: text}) for text in texts]
        assert together(b"\n".join(each), LIMITS) == [alone(line, LIMITS) for line in each]


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_what_another_policy_has_ended_is_refused_among_others(hours):
    """A record past the period it was created under is refused, others beside it are not."""
    start = datetime.min.replace(tzinfo=UTC)
    changed = NOW - timedelta(days=20)
    periods = ((start, timedelta(days=30)), (changed, timedelta(days=60)))
    policies = PolicyBook(RetentionPolicy(DataClass.TRAFFIC, at, p, "law") for at, p in periods)
    limits = limits_of(policies, NOW, 20)
    old = NOW - timedelta(days=30) + timedelta(hours=hours)
    each = [
        msgspec.json.encode(PLAIN | {"id": "old", "created": old}),
        msgspec.json.encode(PLAIN),
    ]
    found = together(b"\n".join(each), limits)
    assert found == [alone(line, limits) for line in each]
    assert isinstance(found[0], tuple) is (hours <= 0)
    assert found[1].id == "m1"


def test_plain_reports_are_not_read_twice():
    """What gateways send is not doubted: else reading together would save nothing."""
    usual = {
        "from": ["Acme", "71700", "+46701234567"],
        "ip": ["192.0.2.1", "2001:db8::1"],
        "owner": ["user 1"],
        "user_agent": ["Mozilla/5.0 (X11; Linux x86_64)"],
        "message": ["hej på dig 😀"],
        "tags": [["campaign 1"]],
        "created": ["2026-03-14T11:59:00.123456Z"],
        "updated": ["2026-03-14T11:59:00Z"],
        "status": ["sent", None],
        "dontlog": ["message", ["from", "to"]],
    }
    reports = [
        parse_report(msgspec.json.encode(PLAIN | {name: value}), LIMITS)
        for name, values in usual.items()
        for value in values
    ]
    assert doubtful_ones(ReportTable.of(reports), LIMITS) == set()


@given(
    st.lists(st.binary(max_size=9), max_size=9).map(b"\n".join),
    st.integers(1, 20),
    st.integers(1, 5),
)
def test_steps_cut_a_body_at_the_ends_of_lines(body, bytes_max, lines_max):
    """Together they are the body; each but the last ends with a line's end; none has too many."""
    parts = list(steps(body, bytes_max, lines_max))
    assert b"".join(parts) == body
    assert all(part.endswith(b"\n") for part in parts[:-1])
    assert all(len(part) > 0 for part in parts)
    assert all(part.count(b"\n") <= lines_max for part in parts)
    assert all(len(part.rsplit(b"\n", 2)[0]) < bytes_max for part in parts if part.count(b"\n") > 1)

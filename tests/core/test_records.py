"""Reports parsed, checked and brought to their normal form; reports of one record made one."""

import itertools
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import IPv6Address

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.records import GOOD
from trafficlog.errors import InvalidValueError
from trafficlog.merging import fold, is_later, merge
from trafficlog.records import (
    AHEAD_MAX,
    CALL_STATUSES,
    MESSAGE_STATUSES,
    STATUS_CODES,
    Limits,
    Report,
    parse_report,
)
from trafficlog.values import ADDRESS_CHARS_MAX, are_normal_ips, normal_ip, normal_number

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LIMITS = Limits(NOW, NOW - timedelta(days=60))
TICK = timedelta(microseconds=1)


def parse(**fields):
    """A good report but for ``fields``."""
    value = GOOD | {name.rstrip("_"): content for name, content in fields.items()}
    return parse_report(msgspec.json.encode(value), LIMITS)


def refusal(**fields):
    """Field and code of the refusal of a report that is good but for ``fields``."""
    with pytest.raises(InvalidValueError) as caught:
        parse(**fields)
    return caught.value.field, caught.value.reason_code


def test_the_least_report_has_nothing_but_what_must_be():
    """What is not said is None: no default is made up."""
    report = parse()
    stated = {"id", "account", "kind", "direction", "sender", "recipient", "created"}
    for name in Report.__struct_fields__:
        assert (getattr(report, name) is not None) == (name in stated), name
    assert report.identity == ("acme", NOW, "m1")
    assert report.withheld == 0


@given(
    st.lists(st.sampled_from([0, 0, 0, 1, 0xDB8, 0xC000, 0xFFFF]), min_size=8, max_size=8),
    st.sampled_from(["compressed", "exploded"]),
    st.booleans(),
)
def test_an_ipv6_address_has_the_form_of_the_standard_library(groups, form, upper):
    """However it is written, and whichever groups are zero: the quick way gives nothing else."""
    address = IPv6Address(b"".join(group.to_bytes(2) for group in groups))
    normal = (address.ipv4_mapped or address).compressed
    text = getattr(address, form)
    assert normal_ip(text.upper() if upper else text) == normal
    assert normal_ip(":".join(f"{group:x}" for group in groups)) == normal


ip_texts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    # Such as differ from an address in little, or would be two when they are put together.
    st.from_regex(r"[0-9a-fA-F:.\n]{1,20}", fullmatch=True),
    st.lists(st.sampled_from(["", "0", "1", "db8", "ffff"]), min_size=3, max_size=10).map(":".join),
    st.lists(st.sampled_from(["0", "00", "7", "99", "255", "256"]), min_size=3, max_size=5).map(
        ".".join
    ),
)


@given(st.lists(ip_texts))
@example(["192.0.2.1\n192.0.2.2"])
@example(["192.0.2.1", "1:2:3:4:5:6::7"])
@example(["192.0.2.1", "2001:db8::", "1:2:3:4:5:6::", "1:2:3:4:5::7"])
def test_addresses_that_pass_together_are_normal_each(texts):
    """What is told of many at once holds for each; IPv4 and the usual IPv6 pass."""
    alone = [_is_normal(text) for text in texts]
    usual = [all(part.isdigit() for part in text.split(".")) for text in texts]
    if are_normal_ips(texts):
        assert all(alone)
    else:
        assert not all(each and plain for each, plain in zip(alone, usual, strict=True))
    assert are_normal_ips(["192.0.2.1", "2001:db8::4c0c", "2001:db8::"])


def _is_normal(text: str) -> bool:
    try:
        return normal_ip(text) == text
    except InvalidValueError:
        return False


def test_unknown_fields_are_not_kept():
    """What the contract does not name is dropped before it is anywhere."""
    assert parse(password="secret", sender="x") == parse()


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-21T12:00:00Z", NOW),
        ("2026-11-21T12:00:00", NOW),
        ("2026-11-21 12:00:00Z", NOW),
        ("2026-11-21T13:00:00+01:00", NOW),
        ("2026-11-21T11:59:59.999999Z", NOW - TICK),
        ("2026-11-21T11:59:59.9Z", NOW - timedelta(milliseconds=100)),
        ("2026-11-21T00:00:00-12:00", NOW),
        ("2026-11-20T23:59:60Z", None),
        ("2026-11-21T24:00:00Z", None),
        ("2026-02-29T00:00:00Z", None),
        ("2026-11-21T12:00Z", None),
        ("20261121T120000Z", None),
        ("2026-11-21T12:00:00+25:00", None),
        ("", None),
    ],
)
def test_an_instant_is_rfc_3339_and_ends_in_utc(text, instant):
    """With an offset or without (then UTC), to the microsecond; impossible ones are refused."""
    if instant is None:
        assert refusal(created=text) == ("created", "bad_time")
    else:
        created = parse(created=text).created
        assert (created, created.tzinfo) == (instant, UTC)


def test_creation_lies_between_the_legal_period_and_ten_minutes_ahead():
    """At the upper edge it is taken, at the lower it is not: a record that old must be gone."""
    assert parse(created=NOW + AHEAD_MAX).created == NOW + AHEAD_MAX
    assert refusal(created=NOW + AHEAD_MAX + TICK) == ("created", "too_late")
    assert parse(created=LIMITS.created_after + TICK)
    assert refusal(created=LIMITS.created_after) == ("created", "too_early")
    for name in ("updated", "delivered"):
        assert parse(**{name: NOW + AHEAD_MAX})
        assert refusal(**{name: NOW + AHEAD_MAX + TICK}) == (name, "too_late")
        assert parse(**{name: datetime(1970, 1, 1, tzinfo=UTC)})


@pytest.mark.parametrize("kind", ["sms", "mms", "call"])
def test_each_kind_has_its_own_statuses(kind):
    """A message is not busy and a call is not delivered."""
    own = CALL_STATUSES if kind == "call" else MESSAGE_STATUSES
    assert own | CALL_STATUSES | MESSAGE_STATUSES == STATUS_CODES.keys()
    for status in STATUS_CODES:
        if status in own:
            assert parse(kind=kind, status=status).status == status
        else:
            assert refusal(kind=kind, status=status) == ("status", "not_in_set")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("+46 70-123 45 67", "+46701234567"),
        ("0046701234567", "+46701234567"),
        ("00 46 70", "004670"),
        ("070-123", "070123"),
        ("(08) 123 456", "08123456"),
        ("[1]23", "123"),
        ("72456", "72456"),
        ("12", "12"),
        ("1 2", "1 2"),
        ("0000", "0000"),
        ("Acme Inc", "Acme Inc"),
        ("+", "+"),
        ("++46701", "++46701"),
        ("46701+", "46701+"),
        ("*100#", "*100#"),
        ("\u0661\u0662\u0663\u0664", "\u0661\u0662\u0663\u0664"),
        ("sip:+46701234567@host", "sip:+46701234567@host"),
        ("anonymous", "anonymous"),
    ],
)
def test_numbers_lose_their_separators_and_nothing_else_is_touched(text, normal):
    """A number in any spelling is one number; what is none is kept as the network sent it."""
    assert normal_number(text) == normal
    assert parse(from_=text, to=text).sender == normal
    assert parse(from_=text, to=text).recipient == normal


@given(st.text("0123456789+-() []ab", max_size=ADDRESS_CHARS_MAX))
def test_a_normal_number_stays_as_it_is(text):
    """Normal form is reached in one step, and is never longer than what was given."""
    normal = normal_number(text)
    assert normal_number(normal) == normal
    assert len(normal) <= len(text)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:C000:0201", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_equal_addresses_share_one_form(text, normal):
    """A hold by IP finds its records however the gateway wrote them, on every Python."""
    assert normal_ip(text) == parse(ip=text).ip == normal


@pytest.mark.parametrize(
    "text", ["", "1.2.3", "01.2.3.4", "1.2.3.4/24", "::g", "localhost", " ::1", "fe80::1%\n"]
)
def test_what_is_no_address_is_refused(text):
    """No host name, no network, no leading zeros that some read as octal."""
    assert refusal(ip=text)[0] == "ip"


@pytest.mark.parametrize("name", ["from", "to", "owner"])
def test_an_address_has_1_to_64_printable_characters(name):
    """At 64 characters it is taken; none, 65, or one that cannot be printed is refused."""
    assert parse(**{name: "é" * 64})
    assert parse(**{name: "a\u00a0b"})
    for bad in ("", "a" * 65, "é" * 65):
        assert refusal(**{name: bad}) == (name, "bad_length")
    for bad in ("a\nb", "a\tb", "\0", "\x7f", "\u200b", "\u2029", "\ue000", "\u0378"):
        assert refusal(**{name: bad}) == (name, "unprintable")


def test_a_refusal_shows_no_more_than_the_beginning_of_a_value():
    """An error's text is short whatever was sent, and on one line."""
    for fields in (
        {"from_": "a\n" * 5000},
        {"id": "a" * 100_000},
        {"message": "a" * 100_000},
        {"tags": ["a" * 64] * 1000},
        {"kind": {"a" * 1000: 1}},
    ):
        with pytest.raises(InvalidValueError) as caught:
            parse(**fields)
        assert len(caught.value.detail) < 400
        assert "\n" not in caught.value.detail


@pytest.mark.parametrize(
    ("asked", "bits"),
    [
        (None, 0),
        ("message", 1),
        ("from", 2),
        ("to", 4),
        ([], 0),
        (["message", "to"], 5),
        (["from", "from"], 2),
        (["to", "from", "message"], 7),
    ],
)
def test_withheld_fields_are_bits(asked, bits):
    """One field or a list of them, said twice or not at all."""
    assert parse(dontlog=asked).withheld == bits


STAMPS = st.sampled_from([None, NOW, NOW + TICK])
STATUSES = st.sampled_from([None, *MESSAGE_STATUSES])
REPORTS = st.builds(lambda updated, status: parse(updated=updated, status=status), STAMPS, STATUSES)


@given(REPORTS, REPORTS, REPORTS)
def test_later_is_an_order(a, b, c):
    """Nothing is later than itself, no two are later than each other, and it carries over."""
    assert not is_later(a, a)
    assert not (is_later(a, b) and is_later(b, a))
    if is_later(a, b) and is_later(b, c):
        assert is_later(a, c)


def test_a_first_report_is_later_than_nothing():
    """What states no time of change never supersedes what does, whatever its state."""
    first = parse(status="delivered")
    later = parse(status="created", updated=NOW)
    assert is_later(first, later)
    assert not is_later(later, first)
    assert not is_later(first, parse(status="failed"))


def test_a_merge_keeps_what_a_report_does_not_state():
    """The newest wins field by field; the initiator's address is the first that was told."""
    first = parse(message="hello", parts=1, cost=5, ip="192.0.2.1", tags=["a"])
    later = parse(updated=NOW, status="sent", cost=7, ip="192.0.2.2", user_agent="x")
    for one, other in ((first, later), (later, first)):
        merged = merge(one, other)
        told = (merged.message, merged.parts, merged.cost, merged.tags, merged.status)
        assert told == ("hello", 1, 7, ["a"], "sent")
        assert (merged.updated, merged.user_agent, merged.ip) == (NOW, "x", one.ip)


def test_of_two_durations_for_one_instant_the_longer_stands():
    """The legal record has no status that could tell which of two is the further one."""
    reports = [
        parse(kind="call", updated=NOW, status=status, duration=duration)
        for status, duration in (("ongoing", 0), ("success", 60))
    ]
    for one, other in itertools.permutations(reports):
        merged = merge(one, other)
        assert (merged.status, merged.duration) == ("success", 60)


def test_reports_are_folded_by_identity_in_order_of_arrival():
    """One entry for each record, with which of its reports told something new."""
    same = parse(id="b", created=(NOW + timedelta(0)).astimezone(timezone(timedelta(hours=2))))
    reports = [parse(id="b"), parse(id="a"), same, parse(id="b", updated=NOW), parse(id="B")]
    folded = fold(reports, {"acme": 0})
    assert [f.merged.id for f in folded] == ["b", "a", "B"]
    assert folded[0].told == [True, False, True]
    assert folded[0].reports == [reports[0], reports[2], reports[3]]


@pytest.mark.parametrize("asked", [None, "message", ["to", "message"]])
def test_a_report_that_says_the_same_is_nothing_new(asked):
    """Sent twice in one batch it is a duplicate, whatever it withholds."""
    reports = [parse(message="x", dontlog=asked) for _ in range(3)]
    [folded] = fold(reports, {"acme": 0})
    assert folded.told == [True, False, False]


def test_what_one_report_withholds_stays_withheld():
    """In whatever order the reports come."""
    reports = [parse(dontlog="message"), parse(updated=NOW), parse(dontlog=["to"])]
    for order in itertools.permutations(reports):
        [folded] = fold(order, {"acme": 0})
        assert folded.merged.withheld == 5

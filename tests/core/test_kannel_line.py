from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.kannel_lines import line, report
from trafficlog.ship.kannel import (
    LineUnreadableError,
    LogClock,
    Message,
    Remark,
    Report,
    ReportKind,
    parse_line,
)

# Any character but halves of surrogate pairs, and NUL, which is replaced.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
ADDRESS = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), max_size=20)


def parse(raw: bytes):
    """The line, with its times in UTC."""
    return parse_line(raw, LogClock())


def message(raw: bytes) -> Message:
    """The line, which is to be a message."""
    parsed = parse(raw)
    assert isinstance(parsed, Message)
    return parsed


def test_a_line_of_a_real_log_is_read_in_full():
    """Each field of a Sent SMS line stands where Kannel puts it."""
    raw = (
        b"2026-11-21 22:11:44 Sent SMS [SMSC:FAKE] [SVC:u0011] [ACT:sub3] [BINF:] "
        b"[FID:2880a6c0-f726-40d9-bd8b-3ab7cca1c89d] [META:] [from:Elks] [to:+46734670811] "
        b"[flags:-1:2:-1:-1:31] [msg:10:00680065006AD83DDE42] [udh:0:]"
    )
    parsed = message(raw)
    assert parsed.outcome == "sent"
    assert parsed.at == datetime(2026, 11, 21, 22, 11, 44, tzinfo=UTC)
    assert (parsed.smsc, parsed.service, parsed.owner) == ("FAKE", "u0011", "sub3")
    assert parsed.foreign_id == "2880a6c0-f726-40d9-bd8b-3ab7cca1c89d"
    assert (parsed.sender, parsed.recipient) == ("Elks", "+46734670811")
    assert (parsed.text, parsed.parts) == ("hej🙂", 1)


def test_a_report_is_read_with_its_kind():
    """The last flag of a Receive DLR is the report."""
    parsed = parse(report(8, fid="abc"))
    assert isinstance(parsed, Report)
    assert (parsed.kind, parsed.foreign_id) == (ReportKind.ACCEPTED, "abc")
    assert not parsed.kind.final


@pytest.mark.parametrize("mask", [0, 3, 9, 32, 31, -1])
def test_a_report_of_an_unknown_kind_is_unreadable(mask):
    """Only 1, 2, 4, 8 and 16 are reports; the reason names what was found."""
    with pytest.raises(LineUnreadableError, match=f"report {mask} "):
        parse(line("Receive DLR", mask=mask))


@given(TEXT, ADDRESS, ADDRESS)
def test_any_text_in_ucs2_is_read_back(text, sender, recipient):
    """What is written in UCS-2 is read back to the character, whatever it is."""
    parsed = message(line(coding=2, text=text, sender=sender, recipient=recipient))
    assert (parsed.text, parsed.sender, parsed.recipient) == (text, sender, recipient)


@given(TEXT)
def test_any_text_in_clear_is_read_back(text):
    """A text in clear may hold brackets, or what looks like the next field: its length rules."""
    assert message(line(text=text)).text == text


@pytest.mark.parametrize(
    "text", ["]", "] [udh:0:]", "[x] [msg:3:abc] [udh:0:]", "a] [from:b] [to:c] [flags:0:0:0:0:0]"]
)
def test_brackets_in_a_text_are_text(text):
    """A text that imitates the end of a line does not end it."""
    assert message(line(text=text)).text == text


def test_brackets_in_other_fields_do_no_harm():
    """A field ends where the next one opens, not at the first bracket."""
    parsed = message(line(sender="[A]", owner="x]y", meta="?smpp?a=[1]&b=]"))
    assert (parsed.sender, parsed.owner) == ("[A]", "x]y")


@given(st.integers(min_value=0, max_value=200))
def test_a_line_that_was_cut_is_unreadable(kept):
    """No line that lacks its end is taken for a shorter message."""
    raw = line(fid="abc", text="a text with ] in it")
    with pytest.raises(LineUnreadableError):
        parse(raw[: kept % len(raw)] or b"x")


@given(st.binary(max_size=300))
def test_whatever_the_bytes_the_parser_only_reads_or_refuses(raw):
    """A file that is no log gives unreadable lines and nothing else."""
    with suppress(LineUnreadableError):
        parse(raw)


@pytest.mark.parametrize(("octets", "text"), [(4, "abc"), (2, "abc"), (0, "abc"), (10**8, "abc")])
def test_a_text_of_another_length_than_stated_is_unreadable(octets, text):
    """The length and the text must agree, in clear and in hexadecimal."""
    for coding in (0, 2):
        with pytest.raises(LineUnreadableError, match="not as long"):
            parse(line(coding=coding, octets=octets, text=text))


def test_hexadecimal_that_is_none_is_unreadable():
    """Digits of UCS-2 are digits; blanks among them are not passed over."""
    good = line(coding=2, text="hej")
    for bad in (b"0068zz65006A", b"00 8 0065 06", b"00680065006\xc3"):
        with pytest.raises(LineUnreadableError, match="hexadecimal"):
            parse(good.replace(b"00680065006A", bad))


def test_nul_and_lone_surrogates_become_the_replacement_character():
    """What no PostgreSQL text holds is replaced, so that the record is not refused for it."""
    assert message(line(coding=2, text="a\0b\ud83dc\ude42")).text == "a\ufffdb\ufffdc\ufffd"
    assert message(line(coding=2, text=b"\x00a\x00")).text == "a\ufffd"
    assert message(line(text="a\0b")).text == "a\ufffdb"


def test_bytes_that_are_no_utf8_are_read_as_latin1():
    """A gateway that writes Latin-1 is understood; one that writes UTF-8 too."""
    assert message(line(text="smörgås".encode("latin-1"))).text == "smörgås"
    assert message(line(text="smörgås")).text == "smörgås"


def test_binary_data_stay_hexadecimal():
    """8-bit data are no text: they are kept as the digits Kannel writes."""
    parsed = message(line(coding=1, text=bytes(range(141))))
    assert (parsed.text, parsed.parts) == (bytes(range(141)).hex().upper(), 2)


def test_a_user_data_header_counts_towards_the_parts():
    """153 septets beside a concatenation header are one part, and 154 are two."""
    assert message(line(text="a" * 153, udh="050003010201")).parts == 1
    assert message(line(text="a" * 154, udh="050003010201")).parts == 2


def test_a_line_without_fid_and_meta_is_read():
    """Older versions of Kannel write neither field."""
    assert message(line(fid=None)).foreign_id == ""


@pytest.mark.parametrize("event", ["FAILED Send SMS", "DISCARDED SMS", "EXPIRED SMS"])
def test_a_message_that_could_not_be_sent_is_a_failed_one(event):
    """Kannel logs what it gave up; the account did initiate it."""
    assert message(line(event)).outcome == "failed"


@pytest.mark.parametrize(
    "raw",
    [
        b"2026-11-21 22:00:00 Log begins",
        b"2026-11-21 22:00:00 Log ends",
        b"",
        b"  ",
        line("Sent DLR"),
        line("DROPPED Received SMS"),
        line("REJECTED - black-listed SMS"),
    ],
)
def test_what_kannel_remarks_is_no_message_and_no_error(raw):
    """Markers of rotation, passed-on reports and messages not taken are skipped."""
    assert isinstance(parse(raw), Remark)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"garbage", "does not start with a date"),
        (line().partition(b"Sent")[2], "does not start with a date"),
        (b"2026-11-21 22:00:00 Sent SMS to somebody", "default format"),
        (line("Ate SMS"), "not an event"),
        (line(stamp="2026-02-30 22:00:00"), "no such date"),
        (line(stamp="2026-11-21 24:00:00"), "no such date"),
        (line(stamp="0001-01-01 00:00:00"), "no such date"),
        (line(stamp="9999-12-31 23:59:59"), "no such date"),
    ],
)
def test_an_unreadable_line_says_why_and_quotes_nothing(raw, reason):
    """The reason helps without repeating personal data."""
    with pytest.raises(LineUnreadableError, match=reason) as caught:
        parse(raw)
    assert "46700000001" not in caught.value.detail


def test_a_line_made_to_look_like_many_fields_costs_no_more_than_its_length():
    """Matching does not go back over what a field could also have been."""
    parts = [b"] [SVC:", b"] [ACT:", b"] [BINF:", b"] [FID:", b"] [META:", b"] [from:", b"] [to:"]
    raw = b"2026-11-21 22:00:00 Sent SMS [SMSC:" + b"".join(parts * 3000) + b"] [flags:x"
    started = time.perf_counter()
    with pytest.raises(LineUnreadableError):
        parse(raw)
    assert time.perf_counter() - started < 1.0


def test_a_local_log_is_read_in_its_zone():
    """Times are turned into UTC by the zone that was given."""
    clock = LogClock(ZoneInfo("Europe/Stockholm"))
    assert clock.instant(b"2026-07-01 12:00:00") == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert clock.instant(b"2026-12-01 12:00:00") == datetime(2026, 12, 1, 11, tzinfo=UTC)


def test_the_hour_that_comes_twice_is_read_twice():
    """Where summer time ends, times that go back belong to the second of the two hours."""
    clock = LogClock(ZoneInfo("Europe/Stockholm"))
    read = [
        clock.instant(stamp)
        for stamp in (
            b"2026-10-25 01:59:59",
            b"2026-10-25 02:00:00",
            b"2026-10-25 02:59:59",
            b"2026-10-25 02:00:01",
            b"2026-10-25 02:00:00",  # two threads may write a second out of order
            b"2026-10-25 02:30:00",
            b"2026-10-25 02:59:58",
            b"2026-10-25 03:00:00",
        )
    ]
    times = [(each.hour, each.minute, each.second) for each in read]
    assert times == [
        (23, 59, 59),
        (0, 0, 0),
        (0, 59, 59),
        (1, 0, 1),
        (1, 0, 0),
        (1, 30, 0),
        (1, 59, 58),
        (2, 0, 0),
    ]


def test_a_time_that_the_clocks_left_out_is_still_an_instant():
    """Where summer time begins, a stamp in the hour that was left out is read all the same."""
    clock = LogClock(ZoneInfo("Europe/Stockholm"))
    assert clock.instant(b"2026-03-29 02:30:00") == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)

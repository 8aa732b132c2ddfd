from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.kannel_lines import line, report
from trafficlog.records import AccountId
from trafficlog.ship.kannel import LineUnreadableError, LogClock, parse_line
from trafficlog.ship.matching import Matcher
from trafficlog.ship.open_messages import MatchingLimits

LOG = Path(__file__).parent.parent / "data" / "kannel-access.log"


class Feed:
    """A matcher, what it was fed, and the records that came of it."""

    def __init__(self, **limits: int) -> None:
        self.matcher = Matcher(AccountId("incoming"), MatchingLimits(**limits))
        self.clock = LogClock()
        self.number = 0
        self.posts = []

    def __call__(self, *raws: bytes) -> list[dict]:
        """Feeds lines; gives the records that followed from these."""
        before = len(self.posts)
        for raw in raws:
            self.number += 1
            self.posts += self.matcher.feed(self.number, parse_line(raw, self.clock))
        return [post.record for post in self.posts[before:]]

    def end(self) -> list[dict]:
        """Ends the log; gives the records that followed from its end."""
        posts = self.matcher.settle()
        self.matcher.give_up()
        self.posts += posts
        return [post.record for post in posts]

    def final(self) -> dict[str, str]:
        """The last status posted for each record."""
        return {post.record["id"]: post.record["status"] for post in self.posts}


@pytest.fixture
def feed() -> Feed:
    """A matcher with the limits that it has by default."""
    return Feed()


def statuses(records: list[dict]) -> list[str]:
    """The status of each record."""
    return [record["status"] for record in records]


def test_a_sent_message_becomes_an_outgoing_record(feed):
    """SVC is the account, ACT the owner, the FID the id, the line's time the creation."""
    (record,) = feed(line(fid="F1", owner="sub3", text="hej", seconds=5))
    assert record == {
        "id": "F1",
        "account": "u0001",
        "kind": "sms",
        "direction": "outgoing",
        "from": "Elks",
        "to": "+46700000001",
        "created": "2026-11-21T22:00:05+00:00",
        "status": "sent",
        "message": "hej",
        "parts": 1,
        "owner": "sub3",
    }


def test_a_received_message_becomes_an_incoming_record_of_the_given_account(feed):
    """A Receive SMS line names no account; the shipment does."""
    (record,) = feed(line("Receive SMS", service="", text="stopp"))
    assert (record["account"], record["direction"], record["status"]) == (
        "incoming",
        "incoming",
        "received",
    )
    assert "owner" not in record


@pytest.mark.parametrize(
    ("kind", "status"), [(1, "delivered"), (2, "failed"), (16, "failed"), (4, "sent"), (8, "sent")]
)
def test_a_report_becomes_a_later_state_of_its_record(feed, kind, status):
    """A report repeats the record's identity, and says when and what."""
    (sent,) = feed(line(fid="F1"))
    (later,) = feed(report(kind, fid="F1", seconds=3))
    for name in ("id", "account", "kind", "direction", "from", "to", "created"):
        assert later[name] == sent[name]
    assert (later["status"], later["updated"]) == (status, "2026-11-21T22:00:03+00:00")
    assert later.get("delivered") == (later["updated"] if kind == 1 else None)
    assert not {"message", "parts", "owner"} & later.keys()


def test_a_report_before_its_message_waits_for_it(feed):
    """The message is posted first; the report's time is never before its creation."""
    assert feed(report(1, fid="F1", seconds=0)) == []
    sent, delivered = feed(line(fid="F1", seconds=1))
    assert statuses([sent, delivered]) == ["sent", "delivered"]
    assert delivered["updated"] == delivered["delivered"] == sent["created"]


def test_a_report_that_is_not_final_does_not_undo_a_final_one(feed):
    """An acceptance that is logged a second after the delivery is dropped, and counted."""
    feed(line(fid="F1"), report(1, fid="F1"))
    assert feed(report(8, fid="F1", seconds=1), report(4, fid="F1", seconds=2)) == []
    assert feed(report(1, fid="F1", seconds=3)) == []
    assert feed.matcher.superseded == 3


def test_another_final_state_counts_when_it_is_later(feed):
    """Of two final states of the same second the first stays; a later one is posted."""
    feed(line(fid="F1"), report(1, fid="F1", seconds=2))
    assert feed(report(2, fid="F1", seconds=2)) == []
    assert statuses(feed(report(2, fid="F1", seconds=3))) == ["failed"]


def test_the_same_fid_at_two_centres_is_two_messages(feed):
    """Each SMSC gives out its own ids."""
    feed(line(fid="1", smsc="A", seconds=0), line(fid="1", smsc="B", seconds=1))
    (record,) = feed(report(1, fid="1", smsc="A", seconds=2))
    assert record["created"].endswith("22:00:00+00:00")


def test_a_message_without_fid_is_matched_by_its_route(feed):
    """The acceptance has no FID, the delivery one of its own: both find the message."""
    (sent,) = feed(line())
    (accepted,) = feed(report(8))
    assert (accepted["id"], accepted["status"]) == (sent["id"], "sent")
    assert feed(report(1, fid="X", seconds=1)) == []
    (delivered,) = feed.end()
    assert (delivered["id"], delivered["status"]) == (sent["id"], "delivered")
    assert feed.matcher.unmatched == 0


def test_an_unknown_fid_waits_for_its_line_before_it_goes_by_its_route(feed):
    """A message without FID does not take the delivery of the next one, which has one."""
    (first,) = feed(line())
    feed(report(1, fid="F2", seconds=1))
    second, delivered = feed(line(fid="F2", seconds=1))
    assert delivered["id"] == second["id"] == "F2"
    assert feed.end() == []
    assert feed.final()[first["id"]] == "sent"


def test_an_unknown_fid_goes_by_its_route_once_log_time_has_passed(feed):
    """Five seconds of the log are enough for the line that the report could stand before."""
    (sent,) = feed(line())
    feed(report(1, fid="X", seconds=1))
    assert len(feed(line(recipient="+1", seconds=6))) == 1
    settled, _other = feed(line(recipient="+2", seconds=7))
    assert (settled["id"], settled["status"]) == (sent["id"], "delivered")


def test_a_fid_once_bound_to_a_message_stays_with_it(feed):
    """Buffered and then delivered, under the same FID, are about one of two messages."""
    (first,) = feed(line(seconds=0))
    (second,) = feed(line(seconds=1))
    feed(report(4, fid="X", seconds=2))
    (buffered,) = feed.end()
    (delivered,) = feed(report(1, fid="X", seconds=3))
    assert buffered["id"] == delivered["id"] == first["id"]
    feed(report(1, fid="Y", seconds=4))
    assert [each["id"] for each in feed.end()] == [second["id"]]


def test_messages_between_the_same_numbers_are_matched_in_their_order(feed):
    """First in, first out; no report is used twice."""
    sent = feed(line(seconds=0), line(seconds=1), line(seconds=2))
    feed(report(1, fid="X", seconds=3), report(2, fid="Y", seconds=4))
    assert [(each["id"], each["status"]) for each in feed.end()] == [
        (sent[0]["id"], "delivered"),
        (sent[1]["id"], "failed"),
    ]
    assert feed.final()[sent[2]["id"]] == "sent"


def test_a_report_shortly_before_a_message_without_fid_is_about_it():
    """Within ten seconds an earlier report of the route is taken; an older one is not."""
    for early, expected in ((10, ["sent", "delivered"]), (11, ["sent"])):
        feed = Feed(settle_seconds=1)
        feed(report(1, fid="X", seconds=0), line(recipient="+1", seconds=2))
        assert statuses(feed(line(seconds=early))) == expected


def test_a_refusal_is_about_a_failed_message_first(feed):
    """Kannel's own refusal follows the line of the message it gave up."""
    (sent,) = feed(line(seconds=0))
    (failed,) = feed(line("FAILED Send SMS", seconds=1))
    assert failed["status"] == "failed"
    assert feed(report(16, seconds=1)) == []
    assert feed.final() == {sent["id"]: "sent", failed["id"]: "failed"}


def test_a_refusal_without_a_failed_line_fails_the_sent_message(feed):
    """A centre that refuses what was logged as sent makes it a failed one."""
    feed(line(seconds=0))
    assert statuses(feed(report(16, seconds=1))) == ["failed"]


def test_reports_without_a_message_are_counted_at_the_end(feed):
    """The message may be in an older file; its report is not lost in silence."""
    feed(report(1, fid="A"), report(8, fid="A"), report(1), report(16))
    assert feed.end() == []
    assert feed.matcher.unmatched == 4
    assert feed.matcher.waiting == 0


def test_waiting_reports_are_bounded_by_age_and_number():
    """Reports that nothing comes for are given up, the oldest first."""
    feed = Feed(waiting_seconds=60, waiting_reports_max=2)
    feed(report(1, fid="A"), report(1, fid="B"), report(1, fid="C"))
    assert (feed.matcher.waiting, feed.matcher.unmatched) == (2, 1)
    assert statuses(feed(line(fid="C"), line(fid="A"))) == ["sent", "delivered", "sent"]
    feed(report(1, fid="D", seconds=1))
    feed(line(recipient="+1", seconds=62))
    assert (feed.matcher.waiting, feed.matcher.unmatched) == (0, 3)


def test_open_messages_are_bounded_by_age_and_number():
    """What has its final state is forgotten first, then the oldest."""
    feed = Feed(open_messages_max=2, final_seconds=5, open_seconds=100)
    feed(line(fid="A"), line(fid="B"), report(1, fid="B"), line(fid="C"))
    assert feed.matcher.open == 2
    assert statuses(feed(report(1, fid="A"), report(1, fid="C"))) == ["delivered", "delivered"]
    feed(line(fid="D", seconds=6))
    assert feed.matcher.open == 1
    feed(line(fid="E", seconds=107))
    assert feed.matcher.open == 1


def test_nothing_is_left_behind_by_what_is_forgotten():
    """Every index empties with the messages and reports that were in it."""
    feed = Feed(route_messages_max=10, final_seconds=5, open_seconds=50, waiting_seconds=50)
    for number in range(100):
        feed(line(seconds=number), report(8, seconds=number), report(1, seconds=number))
        feed(line(fid=f"F{number}", recipient="+1", seconds=number))
        feed(report(4, fid=f"X{number}", seconds=number), report(16, sender="x", seconds=number))
        assert feed.matcher.open < 130
    feed(line("Receive SMS", seconds=1000))
    matcher, messages = feed.matcher, feed.matcher._messages
    for index in (
        matcher._waiting,
        matcher._waiting_by_foreign,
        matcher._waiting_by_route,
        matcher._unsettled,
        messages._all,
        messages._finals,
        messages._by_foreign,
        messages._by_route,
    ):
        assert not index


def test_equal_lines_of_one_second_are_different_messages(feed):
    """The second of two lines that are the same to the byte gets a number; another run the same."""
    raws = [line(), line(), line(seconds=1), line(), line("Receive SMS"), line("Receive SMS")]
    ids = [record["id"] for record in feed(*raws)]
    assert len(set(ids)) == len(ids)
    assert ids[1] == f"{ids[0]}-2"
    assert ids[3] == f"{ids[0]}-3"
    assert [record["id"] for record in Feed()(*raws)] == ids


def test_a_fid_that_the_service_would_refuse_is_hashed(feed):
    """An id has 1 to 64 of a small alphabet; reports still find their message."""
    for fid in ("with space", "x" * 65, "é"):
        (sent,) = feed(line(fid=fid))
        (delivered,) = feed(report(1, fid=fid))
        assert delivered["id"] == sent["id"]
        assert sent["id"].startswith("f-")


def test_a_fid_given_to_two_messages_of_a_second_names_only_the_first(feed):
    """A centre that gives every message the same id does not make one record of them all."""
    first, second = feed(line(fid="0", text="a"), line(fid="0", text="b"))
    assert first["id"] == "0"
    assert second["id"].startswith("k-")


def test_the_same_line_with_a_fid_again_is_the_same_message(feed):
    """What its reports have said is not forgotten for it."""
    feed(line(fid="F1"), report(1, fid="F1"))
    (again,) = feed(line(fid="F1"))
    assert again["id"] == "F1"
    assert feed(report(8, fid="F1", seconds=1)) == []


def test_a_sent_message_without_service_is_unreadable(feed):
    """A record needs an account, and nothing else on the line is one."""
    feed(report(1, fid="X"))
    with pytest.raises(LineUnreadableError, match="SVC"):
        feed(line(service="", fid="X", seconds=30))


def test_old_lines_after_newer_ones_are_still_matched(feed):
    """Files put together in the wrong order give the same records."""
    feed(line(fid="A", seconds=90_000), report(1, fid="A", seconds=90_000))
    assert statuses(feed(line(fid="B"), report(1, fid="B"), line(), line())) == [
        "sent",
        "delivered",
        "sent",
        "sent",
    ]


@pytest.mark.parametrize("stamp", ["2097-01-01 00:00:00", "1990-01-01 00:00:00"])
def test_one_line_with_a_wrong_date_makes_nothing_forgotten(stamp):
    """A single line far off does not move the log's time, wherever it stands."""
    feed = Feed(open_seconds=60, waiting_seconds=60)
    feed(line(fid="A"), report(1, fid="B"), line(stamp=stamp, recipient="+1"))
    delivered, sent, later = feed(report(1, fid="A"), line(fid="B"))
    assert statuses([delivered, sent, later]) == ["delivered", "sent", "delivered"]
    feed = Feed(settle_seconds=1)
    feed(line(stamp=stamp, recipient="+1"), line(seconds=0), line(seconds=1, recipient="+2"))
    feed(report(1, fid="X", seconds=2))
    assert statuses(feed(line(seconds=9, recipient="+3"))) == ["delivered", "sent"]


def test_after_a_long_silence_new_messages_are_matched_and_old_ones_forgotten(feed):
    """A leap of the log's time by two lines is the log's time; the first of them counts too."""
    later = 30 * 86_400
    feed(line(fid="A"), line(fid="B", seconds=later), line(fid="C", seconds=later + 1))
    feed(report(1, fid="A", seconds=later + 1))
    assert [each["id"] for each in feed(report(1, fid="B", seconds=later + 2))] == ["B"]
    feed.end()
    assert feed.matcher.unmatched == 1


# What each message writes, in some of the orders that a real log shows.
ORDERS = st.sampled_from(["1S8", "S18", "S81", "18S", "S41", "4S81"])


@given(
    st.lists(
        st.tuples(st.booleans(), ORDERS, st.integers(0, 1), st.integers(0, 2)),
        min_size=1,
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_however_lines_interleave_every_report_finds_one_message(messages, random):
    """Within a few seconds, any order of lines ends with every message delivered, once."""
    feed = Feed()
    queues = []
    for number, (has_fid, order, route, second) in enumerate(messages):
        fid, recipient = f"F{number}", f"+4670000000{route}"
        lines = []
        for step in order:
            if step == "S":
                raw = line(fid=fid if has_fid else "", recipient=recipient, seconds=second)
            else:
                own = has_fid or step != "8"
                raw = report(int(step), fid=fid if own else "", recipient=recipient, seconds=second)
            lines.append(raw)
        queues.append(lines)
    raws = []
    while queues:
        queue = random.choice(queues)
        raws.append(queue.pop(0))
        if not queue:
            queues.remove(queue)
    feed(*raws)
    feed.end()
    assert feed.matcher.unmatched == 0
    by_record = defaultdict(list)
    for post in feed.posts:
        by_record[post.record["id"], post.record["created"]].append(post.record["status"])
    assert len(by_record) == len(messages)
    for each in by_record.values():
        assert each[0] == "sent"
        assert each[-1] == "delivered"
        assert each.count("delivered") == 1
    again = Feed()
    again(*raws)
    again.end()
    assert again.posts == feed.posts


def test_the_cut_of_a_real_log_is_matched_in_full():
    """Of 72 sent messages, 21 without FID, all end delivered; 50 came in; nothing is left."""
    feed = Feed()
    raws = LOG.read_bytes().splitlines()
    feed(*raws)
    feed.end()
    first = [post.record for post in feed.posts if "updated" not in post.record]
    directions = Counter(record["direction"] for record in first)
    assert directions == {"outgoing": 72, "incoming": 50}
    assert sum(b"[FID:]" in raw and b" Sent SMS " in raw for raw in raws) == 21
    outgoing = {record["id"] for record in first if record["direction"] == "outgoing"}
    assert len(outgoing) == 72
    assert {feed.final()[each] for each in outgoing} == {"delivered"}
    assert len({record["account"] for record in first}) == 21
    assert any("🙂" in record["message"] for record in first)
    assert (feed.matcher.unmatched, feed.matcher.waiting) == (0, 0)
    assert all(
        post.record["updated"] >= post.record["created"]
        for post in feed.posts
        if "updated" in post.record
    )

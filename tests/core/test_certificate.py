"""The certificate of destruction: what it says of a period, and that nobody can change it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_ledger import chain_of, contents
from trafficlog.certificate import (
    Certificate,
    Findings,
    Gathering,
    Head,
    Period,
    disagreements,
    entries_since,
)
from trafficlog.errors import InvalidValueError, SignatureWrongError
from trafficlog.ledger import GENESIS
from trafficlog.signature import WHOLE_NUMBER_MAX, canonical, der, key_id, read_signed, sign
from trafficlog.signing import pem

START = datetime(2026, 11, 1, tzinfo=UTC)
END = datetime(2026, 12, 1, tzinfo=UTC)
NOW = datetime(2026, 12, 1, 3, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
KEY, OTHER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
PERIOD = Period(START, END)


def dropped(at, data_class="traffic_record", rows=10, held=0):
    """The content of an entry about a dropped partition."""
    return (at, data_class, f"{data_class}_x", "expired", at - DAY, at, rows, held)


def certified(entries, period=PERIOD, findings=()) -> Certificate:
    """The certificate of a ledger with these entries."""
    gathering = Gathering(period)
    for entry in entries:
        gathering.add(entry)
    head = entries[-1].hash if entries else GENESIS
    return Certificate(
        installation="0123456789abcdef",
        issuer="Räksmörgås Telecom 🙂",
        issued_at=NOW,
        period=period,
        destruction=gathering.destruction(Head(len(entries), head.hex())),
        verification=Findings(3, len(entries), not findings, len(findings), list(findings)),
    )


ENTRIES = chain_of(
    [
        dropped(START - DAY, rows=99),
        dropped(START, rows=122, held=22),
        (START + DAY, "history_record", "record", "erased", None, None, 1, 0),
        dropped(START + DAY, "history_record", rows=6),
        dropped(START + 2 * DAY, rows=8),
        dropped(END, rows=77),
    ]
)
SIGNED = sign(certified(ENTRIES), KEY)


def changed(change) -> bytes:
    """The signed text after ``change`` has been made to it as an object."""
    envelope = json.loads(SIGNED.text)
    change(envelope)
    return json.dumps(envelope).encode()


def test_a_period_s_entries_are_summed_by_class_and_reason():
    """Entries, rows and held copies; each dropped partition is told with its bounds."""
    destruction = certified(ENTRIES).destruction
    assert [(t.data_class, t.reason, t.entries, t.rows, t.held) for t in destruction.totals] == [
        ("history_record", "erased", 1, 1, 0),
        ("history_record", "expired", 1, 6, 0),
        ("traffic_record", "expired", 2, 130, 22),
    ]
    assert [(p.seq, p.rows, p.upper) for p in destruction.partitions] == [
        (2, 122, START),
        (4, 6, START + DAY),
        (5, 8, START + 2 * DAY),
    ]
    assert destruction.first is not None
    assert destruction.last is not None
    assert (destruction.first.seq, destruction.first.previous) == (2, ENTRIES[0].hash.hex())
    assert (destruction.last.seq, destruction.last.hash) == (5, ENTRIES[4].hash.hex())
    assert destruction.head == Head(6, ENTRIES[5].hash.hex())


@pytest.mark.parametrize(
    ("at", "inside"),
    [(START - TICK, False), (START, True), (END - TICK, True), (END, False), (END + TICK, False)],
)
def test_a_period_holds_its_beginning_and_not_its_end(at, inside):
    """At, one microsecond before and one after either bound."""
    destruction = certified(chain_of([dropped(at)])).destruction
    assert bool(destruction.totals) is inside
    assert (destruction.first is not None) is inside


def test_two_periods_that_meet_count_each_entry_once():
    """What two certificates say of two months is what one says of both."""
    middle = START + DAY
    halves = [certified(ENTRIES, Period(START, middle)), certified(ENTRIES, Period(middle, END))]
    rows = [sum(t.rows for t in each.destruction.totals) for each in (*halves, certified(ENTRIES))]
    assert rows[0] + rows[1] == rows[2]


def test_an_empty_period_is_certified_as_empty():
    """Nothing destroyed is a statement too, and it is tied to the ledger's head."""
    certificate = certified(ENTRIES, Period(START - 9 * DAY, START - 8 * DAY))
    destruction = certificate.destruction
    assert (destruction.totals, destruction.partitions) == ([], [])
    assert (destruction.first, destruction.last) == (None, None)
    assert destruction.head.seq == 6
    assert disagreements(certificate, ENTRIES) == []
    assert disagreements(certified([]), []) == []


def test_a_period_must_have_ended():
    """It may end at this instant, not one microsecond later; and it begins before it ends."""
    names = ("--from", "--to")
    assert Period.ended(START, NOW, NOW, names=names) == Period(START, NOW)
    with pytest.raises(InvalidValueError, match="--to: lies in the future"):
        Period.ended(START, NOW + TICK, NOW, names=names)
    for lower in (START, START + TICK):
        with pytest.raises(InvalidValueError, match="--from: must lie before --to"):
            Period.ended(lower, START, NOW, names=names)


def test_a_period_is_stated_in_utc():
    """Whatever zone it was asked for in."""
    zone = timezone(timedelta(hours=2))
    period = Period.ended(START.astimezone(zone), END.astimezone(zone), NOW, names=("from", "to"))
    assert msgspec.to_builtins(period) == {
        "from": "2026-11-01T00:00:00Z",
        "to": "2026-12-01T00:00:00Z",
    }


def test_the_canonical_form_is_fixed():
    """Names sorted, no white space, UTF-8, only what must be is escaped (RFC 8785)."""
    value = {"b": [1, None, True], "a": 'å🙂"\\\n\t\x1f/\x7f', "A": {}}
    assert canonical(value) == (
        '{"A":{},"a":"å🙂\\"\\\\\\n\\t\\u001f/\x7f","b":[1,null,true]}'.encode()
    )


@pytest.mark.parametrize(
    "value", [1.0, 0.1, WHOLE_NUMBER_MAX + 1, -WHOLE_NUMBER_MAX - 1, float("nan"), "\ud800", b"x"]
)
def test_what_another_reader_might_write_otherwise_has_no_canonical_form(value):
    """Fractions, numbers past 2**53 and half characters are refused, however deep they stand."""
    assert canonical([WHOLE_NUMBER_MAX])
    with pytest.raises(InvalidValueError, match="certificate"):
        canonical({"a": [{"b": value}]})


def test_a_signature_is_right():
    """With the key that is in the text, and with the issuer's own."""
    for key in (None, KEY.public_key()):
        read = read_signed(SIGNED.text, key)
        assert read.certificate == certified(ENTRIES)
        assert (read.digest, read.key_id) == (SIGNED.digest, key_id(KEY.public_key()))


def test_white_space_and_order_make_no_difference():
    """A reader of JSON may have written it anew."""
    pretty = json.dumps(json.loads(SIGNED.text), indent=4, sort_keys=False).encode()
    assert read_signed(pretty, KEY.public_key()).certificate == SIGNED.certificate
    reversed_order = changed(
        lambda e: e.update(certificate=dict(reversed(e["certificate"].items())))
    )
    assert read_signed(reversed_order, KEY.public_key()).certificate == SIGNED.certificate


def leaves(value, path=()):
    """Where every value of an object stands."""
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for name, each in children:
        if isinstance(each, (dict, list)) and each:
            yield from leaves(each, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize(
    "path",
    list(leaves(json.loads(SIGNED.text)["certificate"])),
    ids=lambda path: ".".join(map(str, path)),
)
def test_no_field_can_be_changed_or_left_out(path):
    """Whichever of all the values: another one in its place, or none, is found."""

    def holder(envelope):
        found = envelope["certificate"]
        for name in path[:-1]:
            found = found[name]
        return found

    old = holder(json.loads(SIGNED.text))[path[-1]]
    other = old + 1 if type(old) is int else (not old if isinstance(old, bool) else "x")
    if isinstance(old, str):
        other = old.replace("2026", "2025") if "2026" in old else f"{old}x"
    assert other != old
    for change in (
        lambda e: holder(e).__setitem__(path[-1], other),
        lambda e: holder(e).__delitem__(path[-1]),
    ):
        # What is no certificate any more is refused as that.
        with pytest.raises((SignatureWrongError, InvalidValueError)):
            read_signed(changed(change))


def test_nothing_can_be_added():
    """An unknown member is part of what is signed."""
    with pytest.raises(SignatureWrongError):
        read_signed(changed(lambda e: e["certificate"].update(note="all is well")))


def test_a_name_that_stands_twice_is_refused():
    """Two readers could take two values for the certificate's."""
    doubled = SIGNED.text.replace(b'"issuer":', b'"issuer":"Other","issuer":')
    with pytest.raises(InvalidValueError, match="twice"):
        read_signed(doubled)


def test_a_changed_signature_is_found():
    """Every byte of it counts."""
    value = base64.b64decode(SIGNED.signature)
    for place in (0, 31, 32, 63):
        forged = value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
        text = base64.b64encode(forged).decode()
        with pytest.raises(SignatureWrongError, match="changed after"):
            read_signed(changed(lambda e, text=text: e["signature"].update(value=text)))


def test_who_signs_anew_is_found_with_the_issuers_key_alone():
    """A forger with a key of their own makes a whole certificate; its origin is what is wrong."""
    forged = sign(certified(ENTRIES[:3]), OTHER_KEY)
    assert read_signed(forged.text).key_id == key_id(OTHER_KEY.public_key())
    with pytest.raises(SignatureWrongError, match=key_id(KEY.public_key())):
        read_signed(forged.text, KEY.public_key())


def test_another_keys_name_cannot_be_put_over_a_signature():
    """The key's id is that of the key that is there, and that key's is the signature."""
    other = OTHER_KEY.public_key()
    with pytest.raises(SignatureWrongError, match="id"):
        read_signed(changed(lambda e: e["signature"].update(key_id=key_id(other))))
    swapped = {"key_id": key_id(other), "public_key": base64.b64encode(der(other)).decode()}
    with pytest.raises(SignatureWrongError, match="changed after"):
        read_signed(changed(lambda e: e["signature"].update(swapped)))
    # To those who have the issuer's key it makes no difference which one is in the text.
    read_signed(changed(lambda e: e["signature"].update(swapped)), KEY.public_key())


ELLIPTIC = base64.b64encode(der(generate_private_key(SECP256R1()).public_key())).decode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"certificate":{},"signature":{}}',
        changed(lambda e: e.pop("signature")),
        changed(lambda e: e["certificate"].update(version=2)),
        changed(lambda e: e["certificate"].update(issued_at="2026-11-22T00:00:00")),
        changed(lambda e: e["certificate"].update(issuer=0.5)),
        changed(lambda e: e["signature"].update(algorithm="none")),
        changed(lambda e: e["signature"].update(public_key="!")),
        changed(lambda e: e["signature"].update(public_key="AAAA")),
        changed(lambda e: e["signature"].update(public_key=ELLIPTIC)),
        changed(lambda e: e["signature"].update(value=5)),
    ],
    ids=range(15),
)
def test_what_is_no_certificate_is_refused(content):
    """Another file, another version, another algorithm: not called a forgery, and never let by."""
    with pytest.raises(InvalidValueError, match="--certificate"):
        read_signed(content)


def test_the_second_line_is_what_is_signed(tmp_path):
    """With nothing but OpenSSL: the commands that the README gives."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    (tmp_path / "certificate.json").write_bytes(SIGNED.text)
    (tmp_path / "public.pem").write_text(pem(KEY.public_key()))
    commands = r"""
sed -n 2p certificate.json | tr -d '\n' > signed
sed -n '3s/.*"value":"\([^"]*\)".*/\1/p' certificate.json | openssl base64 -d -A > signature
openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in signed -sigfile signature
"""
    right = subprocess.run(["sh", "-ec", commands], cwd=tmp_path, capture_output=True, check=False)
    assert (right.returncode, b"Verified Successfully" in right.stdout) == (0, True), right.stderr
    (tmp_path / "certificate.json").write_bytes(SIGNED.text.replace(b'"rows":122', b'"rows":121'))
    wrong = subprocess.run(["sh", "-ec", commands], cwd=tmp_path, capture_output=True, check=False)
    assert wrong.returncode != 0


def test_the_ledger_it_was_made_from_says_the_same():
    """As it was then, and with all that came later; late entries of the period are counted."""
    certificate = certified(ENTRIES)
    assert disagreements(certificate, ENTRIES) == []
    later = chain_of(
        [
            *(_content(e) for e in ENTRIES),
            dropped(END - TICK, rows=1_000),
            dropped(END, rows=1_000),
        ]
    )
    assert disagreements(certificate, later) == []
    assert (entries_since(certificate, ENTRIES), entries_since(certificate, later)) == (0, 1)


def _content(entry):
    return (
        *(entry.at, entry.data_class, entry.object, entry.reason),
        *(entry.lower, entry.upper, entry.rows, entry.held),
    )


def test_a_ledger_that_was_rewritten_is_found():
    """Even one whose chain holds: an entry fewer, another count, an entry within it, or the end."""
    certificate = certified(ENTRIES)
    facts = [_content(e) for e in ENTRIES]
    fewer = [*facts[:2], *facts[3:]]
    other = [*facts[:1], (*facts[1][:6], 121, 22), *facts[2:]]
    before_it = [(*facts[0][:6], 98, 0), *facts[1:]]
    for forged in (fewer, other, before_it, facts[:-1], []):
        assert disagreements(certificate, chain_of(forged)) != [], forged


def test_a_disagreement_tells_both_sides():
    """What the certificate says and what the ledger does."""
    facts = [_content(e) for e in ENTRIES]
    forged = chain_of([*facts[:1], (*facts[1][:6], 121, 22), *facts[2:]])
    told = "\n".join(disagreements(certified(ENTRIES), forged))
    assert 'totals: only the certificate says {"data_class":"traffic_record"' in told
    assert '"rows":130' in told
    assert '"rows":129' in told
    assert "head: only the ledger says" in told


@given(st.lists(contents, max_size=8).map(chain_of), st.data())
def test_every_certificate_agrees_with_its_own_ledger(entries, data):
    """Whatever the entries and the order of their times, and wherever the period lies."""
    instants = st.sampled_from([START, *(e.at for e in entries), *(e.at + TICK for e in entries)])
    lower, upper = sorted([data.draw(instants), data.draw(instants)])
    # A number past 2**53 cannot be certified, nor be reached.
    small = chain_of([(*_content(e)[:6], e.rows % 2**40, e.held % 2**40) for e in entries])
    certificate = certified(small, Period(lower, upper + TICK))
    read = read_signed(sign(certificate, KEY).text, KEY.public_key())
    assert read.certificate == certificate
    assert disagreements(read.certificate, small) == []
    assert sum(t.entries for t in read.certificate.destruction.totals) == sum(
        lower <= e.at <= upper for e in small
    )

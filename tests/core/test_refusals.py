"""What is kept of a refused record."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from trafficlog.api.records import refuse
from trafficlog.errors import InvalidValueError
from trafficlog.records import Limits, parse_report
from trafficlog.refusals import EXPLAINED_BYTES_MAX

NOW = datetime(2026, 11, 21, tzinfo=UTC)
LIMITS = Limits(NOW, NOW - timedelta(days=60))


@pytest.mark.parametrize("asked", ["message", ["message"], ["to", "message"]])
def test_a_refusal_does_not_keep_what_was_not_to_be_logged(asked):
    """A value that the record asks not to log stands neither in the text nor in the reason."""
    raw = json.dumps({"id": "m1", "message": "secret\0", "to": "+46701", "dontlog": asked}).encode()
    error = InvalidValueError("message", "secret\0", "must not contain the NUL character")
    refusal = refuse(3, raw, error)
    assert "secret" not in refusal.raw
    assert refusal.detail == "message: must not contain the NUL character"
    assert (refusal.index, refusal.id, refusal.field) == (3, "m1", "message")


@pytest.mark.parametrize(
    "asked", [5, True, None, {"message": 1}, [1, None, ["message"]], "nothing"]
)
def test_a_dontlog_of_the_wrong_type_is_one_record_s_fault(asked):
    """Whatever stands in ``dontlog``, the record alone is refused.

    One that asks for something, even where it cannot be understood, has its text hidden.
    """
    raw = json.dumps({"id": "m1", "message": "hello", "dontlog": asked}).encode()
    refusal = refuse(0, raw, InvalidValueError("dontlog", asked, "must be message, from, to"))
    assert refusal.field == "dontlog"
    assert ("hello" in refusal.raw) == (asked is None)


def test_of_a_large_record_it_is_told_what_is_wrong_without_looking_into_it():
    """Field and reason as of any other; its text, in which anything may stand, is not kept."""
    ballast = {f"k{n}": "secret" for n in range(EXPLAINED_BYTES_MAX // 10)}
    for wrong, field, code in (
        ({"id": 1, "account": "acme"}, "id", "wrong_type"),
        ({"account": "acme"}, "id", "missing"),
        ({"id": "m1", "account": "acme", "kind": "fax"}, "kind", "not_in_set"),
    ):
        raw = json.dumps(wrong | ballast).encode()
        with pytest.raises(InvalidValueError) as raised:
            parse_report(raw, LIMITS)
        assert (raised.value.field, raised.value.reason_code) == (field, code)
        refusal = refuse(0, raw, raised.value)
        assert "secret" not in refusal.raw + refusal.detail
        assert (refusal.field, refusal.account) == (field, "acme")
    with pytest.raises(InvalidValueError) as raised:
        parse_report(json.dumps({"id": "m1"} | ballast).encode()[:-1], LIMITS)
    assert (raised.value.field, raised.value.reason_code) == ("record", "malformed_json")

"""What is kept of a refused record."""

from __future__ import annotations

import json

import pytest

from trafficlog.api.records import refuse
from trafficlog.errors import InvalidValueError


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

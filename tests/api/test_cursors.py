"""Cursors are good for the list they were written for, as they are and nowhere else."""

import string

import pytest

from tests.api.helpers import ids, refused

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
HISTORY = "/v1/accounts/acme/history"


@pytest.fixture
async def cursor(service):
    """A customer's key and the cursor of its second page."""
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    await service.post(ingest, *[service.record(f"m{n}") for n in range(3)])
    _, page = await service.call("GET", f"{HISTORY}?limit=1", customer)
    return customer, page["next"]


async def test_a_cursor_with_any_character_changed_is_refused(service, cursor):
    """Every place is protected: no other character in it gives another page."""
    customer, text = cursor
    alphabet = string.ascii_letters + string.digits + "-_"
    for place, character in enumerate(text):
        other = alphabet[(alphabet.index(character) + 1) % len(alphabet)]
        changed = text[:place] + other + text[place + 1 :]
        problem = await refused(service, 400, "GET", f"{HISTORY}?cursor={changed}", customer)
        assert (problem["field"], problem["code"]) == ("cursor", "invalid_value")


async def test_a_cursor_of_another_form_is_refused(service, cursor):
    """Cut, grown, padded or made up: refused, and never a failure."""
    customer, text = cursor
    for changed in (
        text[:-1],
        text[1:],
        text + "A",
        text + "=",
        text + "%3D%3D",
        text * 2,
        text.swapcase(),
        "A" * 44,
        "A" * 4000,
        "%C3%A5",
        "%FF",
        "..",
        "null",
        "%20" + text,
    ):
        problem = await refused(service, 400, "GET", f"{HISTORY}?cursor={changed}", customer)
        assert problem["field"] == "cursor"


async def test_a_cursor_of_another_account_is_refused(service, cursor):
    """Whoever gets hold of a cursor learns and reaches nothing with it."""
    _, text = cursor
    other = await service.key("customer", "other")
    path = f"/v1/accounts/other/history?cursor={text}"
    problem = await refused(service, 400, "GET", path, other)
    assert problem["field"] == "cursor"


async def test_a_cursor_outlives_what_it_points_at(service, cursor):
    """It goes on after the row it was made from is gone, and with another limit or filter."""
    customer, text = cursor
    await service.call("DELETE", f"{HISTORY}/m2", customer)
    assert await ids(service, customer, f"cursor={text}&limit=1000") == ["m1", "m0"]
    assert await ids(service, customer, f"cursor={text}&kind=call") == []

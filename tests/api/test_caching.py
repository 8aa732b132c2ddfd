"""What a client may keep and ask again about, and changes that are for one state only."""

import asyncio

import pytest

from tests.api.helpers import refused, send

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
SETTINGS = "/v1/accounts/acme/settings"
TAGGED = (
    SETTINGS,
    "/v1/accounts/acme/history/m1",
    "/v1/accounts/acme/statistics",
)


@pytest.fixture
async def customer(service):
    """A customer's key; its account has a record."""
    key = await service.key("customer", "acme")
    await service.post(await service.key("ingest"), service.record("m1"))
    return key


async def test_what_has_not_changed_is_not_sent_again(service, customer):
    """The tag of an answer is answered by 304 without a body until the answer is another one."""
    for path in TAGGED:
        status, _, headers = await send(service, "GET", path, customer)
        assert (status, headers["Cache-Control"]) == (200, "private, no-cache")
        tag = headers["Etag"]
        for given in (tag, f'W/{tag}, "other"', f'"other" , {tag}', "*"):
            status, body, headers = await send(
                service, "GET", path, customer, headers={"If-None-Match": given}
            )
            assert (status, body) == (304, ""), given
            assert (headers["Etag"], headers["Cache-Control"]) == (tag, "private, no-cache")
        for given in ('"other"', tag.strip('"'), ""):
            headers = {"If-None-Match": given}
            assert (await send(service, "GET", path, customer, headers=headers))[0] == 200


async def test_what_has_changed_has_another_tag(service, customer):
    """A tag that is no longer right brings the new answer; nobody's tag lets another one in."""
    tags = {p: (await send(service, "GET", p, customer))[2]["Etag"] for p in TAGGED}
    await service.call("PUT", SETTINGS, customer, json={"history": {"days": 30}})
    await service.post(
        await service.key("ingest"),
        service.record("m1", updated="2026-11-21T12:00:00Z", status="sent"),
    )
    for path, tag in tags.items():
        status, _, headers = await send(
            service, "GET", path, customer, headers={"If-None-Match": tag}
        )
        assert status == 200, path
        assert headers["Etag"] != tag
    other = await service.key("customer", "other")
    await refused(service, 403, "GET", SETTINGS, other, headers={"If-None-Match": "*"})


async def test_pages_of_history_are_not_kept(service, customer):
    """A list of personal data is stored by no cache; neither is any error."""
    for path in ("/v1/accounts/acme/history", "/v1/accounts/acme/history/none"):
        _, _, headers = await send(service, "GET", path, customer)
        assert headers["Cache-Control"] == "no-store"
        assert "Etag" not in headers


async def test_settings_are_changed_from_the_state_that_was_read(service, customer):
    """With `If-Match` a change is refused when another one came first, and nothing is changed."""
    _, _, headers = await send(service, "GET", SETTINGS, customer)
    first = {"If-Match": headers["Etag"]}
    wanted = {"history": {"days": 30}}
    status, settings, headers = await send(
        service, "PUT", SETTINGS, customer, json=wanted, headers=first
    )
    assert (status, settings["history"]["days"]) == (200, 30)
    problem = await refused(
        service, 412, "PUT", SETTINGS, customer, json={"monthly_reports": False}, headers=first
    )
    assert problem["code"] == "precondition_failed"
    _, after = await service.call("GET", SETTINGS, customer)
    assert (after["history"]["days"], after["monthly_reports"]) == (30, True)
    status, _, _ = await send(
        service, "PUT", SETTINGS, customer, json=wanted, headers={"If-Match": "*"}
    )
    assert status == 200


async def test_of_two_changes_of_one_state_one_is_made(service, customer):
    """However close together they come: who is second learns of it."""
    for days in (20, 30, 40):
        _, _, headers = await send(service, "GET", SETTINGS, customer)
        answers = await asyncio.gather(
            *(
                send(
                    service,
                    "PUT",
                    SETTINGS,
                    customer,
                    json={"history": {"days": days + n}},
                    headers={"If-Match": headers["Etag"]},
                )
                for n in range(4)
            )
        )
        assert sorted(status for status, _, _ in answers) == [200, 412, 412, 412]

"""Rate limits: each key has its own, and an address that brings wrong keys is slowed down."""

import asyncio

import pytest

from tests.api.helpers import refused, send, until
from trafficlog.api.rates import client_address
from trafficlog.store.keys import Keys

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
HISTORY = "/v1/accounts/acme/history"


@pytest.mark.service_config(requests_per_second=1, burst_requests=3)
async def test_a_key_may_ask_so_often(service):
    """A burst is answered, what is beyond it gets 429 and when to come again, and others go on."""
    customer, other = await service.key("customer", "acme"), await service.key("customer", "acme")
    for left in (2, 1, 0):
        status, _, headers = await send(service, "GET", HISTORY, customer)
        assert status == 200
        assert headers["RateLimit-Policy"] == '"key";q=3;w=3'
        assert headers["RateLimit"] == f'"key";r={left}'
    status, problem, headers = await send(service, "GET", HISTORY, customer)
    assert (status, problem["code"]) == (429, "too_many_requests")
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Retry-After"] == "1"
    assert headers["RateLimit"] == '"key";r=0;t=1'
    assert (await service.call("GET", HISTORY, other))[0] == 200

    async def served_again():
        return (await service.call("GET", HISTORY, customer))[0] == 200

    await until(served_again)


@pytest.mark.service_config(requests_per_second=1, burst_requests=2)
async def test_what_is_refused_counts_as_well(service):
    """Answers of 403 and 404 are no way around the limit."""
    customer = await service.key("customer", "acme")
    answers = [await service.call("GET", "/v1/accounts/other/history", customer) for _ in range(3)]
    assert [status for status, _ in answers] == [403, 403, 429]


@pytest.mark.service_config(requests_per_second=1, burst_requests=1)
async def test_ingest_has_a_limit_of_its_own_which_is_off(service):
    """Keys for ingest are not held up by the limit of the others, and are told of none."""
    ingest = await service.key("ingest")
    for n in range(5):
        assert (await service.post(ingest, service.record(f"m{n}")))[0] == 200
    _, _, headers = await send(service, "POST", "/v1/records", ingest, json=[service.record("a")])
    assert "RateLimit" not in headers


@pytest.mark.service_config(ingest_requests_per_second=1, ingest_burst_requests=2)
async def test_ingest_can_be_limited(service):
    """When it is set it holds for each ingest key, and nothing of a refused request is stored."""
    ingest, other = await service.key("ingest"), await service.key("ingest")
    for n in range(2):
        assert (await service.post(ingest, service.record(f"m{n}")))[0] == 200
    problem = await refused(
        service, 429, "POST", "/v1/records", ingest, json=[service.record("m2")]
    )
    assert problem["code"] == "too_many_requests"
    status, answer = await service.post(other, *[service.record(f"m{n}") for n in range(3)])
    assert (status, answer["accepted"], answer["duplicates"]) == (200, 1, 2)


@pytest.mark.service_config(wrong_keys_per_minute_max=3)
async def test_an_address_that_brings_wrong_keys_is_slowed_down(service):
    """So many in a minute, by the API and the page together; then not even looked up."""
    good = await service.key("customer", "acme")
    for n in range(2):
        await refused(service, 401, "GET", HISTORY, f"tl_wrong{n}")
    form = {"account": "acme", "key": "tl_wrong"}
    assert (await send(service, "POST", "/", data=form))[0] == 403
    _, problem, headers = await send(service, "GET", HISTORY, "tl_wrong")
    assert (problem["status"], problem["code"]) == (429, "too_many_requests")
    assert 1 <= int(headers["Retry-After"]) <= 20
    # A key that was never used here may be a wrong one.
    assert (await send(service, "POST", "/", data=form | {"key": good}))[0] == 429
    assert (await service.call("GET", HISTORY))[0] == 401


@pytest.mark.service_config(wrong_keys_per_minute_max=2, key_cache_seconds=0)
async def test_right_keys_do_not_count(service):
    """However many there are; and one that was right before is served among wrong ones."""
    keys = [await service.key("customer", "acme") for _ in range(5)]
    for key in keys:
        assert (await service.call("GET", HISTORY, key))[0] == 200
    statuses = [(await service.call("GET", HISTORY, "tl_wrong"))[0] for _ in range(3)]
    assert statuses == [401, 401, 429]
    assert (await service.call("GET", HISTORY, keys[0]))[0] == 200
    revoked = await Keys(service.database).create("customer", "acme", service.clock.now())
    assert (await service.call("GET", HISTORY, revoked.secret))[0] == 429


@pytest.mark.service_config(wrong_keys_per_minute_max=5)
async def test_many_wrong_keys_at_once_are_no_way_around(service):
    """Those that are being looked up count already."""
    answers = await asyncio.gather(
        *(service.call("GET", HISTORY, f"tl_wrong{n}") for n in range(50))
    )
    statuses = [status for status, _ in answers]
    assert (statuses.count(401), statuses.count(429)) == (5, 45)


@pytest.mark.service_config(wrong_keys_per_minute_max=20)
async def test_right_keys_on_many_connections_at_once_are_no_guesses(service):
    """One key that is new here, then as many different ones: each is served, and costs nothing."""
    key = await service.key("customer", "acme")
    keys = await asyncio.gather(*(service.key("customer", "acme") for _ in range(100)))
    for given in ([key] * 100, keys):
        answers = await asyncio.gather(*(service.call("GET", HISTORY, each) for each in given))
        assert [status for status, _ in answers] == [200] * 100
    wrong = await asyncio.gather(*(service.call("GET", HISTORY, f"tl_wrong{n}") for n in range(25)))
    assert [status for status, _ in wrong].count(401) == 20


@pytest.mark.service_config(wrong_keys_per_minute_max=1, trusted_proxies=1)
async def test_behind_a_proxy_the_client_counts(service):
    """Two clients of one proxy do not share a limit; what a client itself claims does not count."""
    for claimed in ("203.0.113.1", "9.9.9.9, 203.0.113.2"):
        headers = {"X-Forwarded-For": claimed}
        await refused(service, 401, "GET", HISTORY, "tl_wrong", headers=headers)
    headers = {"X-Forwarded-For": "8.8.8.8, 203.0.113.2"}
    await refused(service, 429, "GET", HISTORY, "tl_wrong", headers=headers)


class Asked:
    """As much of a request as tells where it comes from."""

    def __init__(self, remote, *forwarded):
        self.remote = remote
        self.headers = self
        self.forwarded = forwarded

    def getall(self, name, default):
        """The lines of X-Forwarded-For."""
        assert name == "X-Forwarded-For"
        return self.forwarded or default


@pytest.mark.parametrize(
    ("asked", "proxies", "address"),
    [
        (Asked("192.0.2.1"), 0, "192.0.2.1"),
        (Asked("192.0.2.1", "203.0.113.1"), 0, "192.0.2.1"),
        (Asked("192.0.2.1"), 1, "192.0.2.1"),
        (Asked("192.0.2.1", "203.0.113.1"), 1, "203.0.113.1"),
        (Asked("192.0.2.1", "6.6.6.6, 203.0.113.1", "198.51.100.1"), 2, "203.0.113.1"),
        (Asked("192.0.2.1", "203.0.113.1"), 2, "192.0.2.1"),
        (Asked("192.0.2.1", "nonsense"), 1, "unknown"),
        (Asked("2001:db8:1:2:3:4:5:6"), 0, "2001:db8:1:2::/64"),
        (Asked("::ffff:192.0.2.1"), 0, "192.0.2.1"),
        (Asked(None), 0, "unknown"),
    ],
)
def test_whom_a_request_comes_from(asked, proxies, address):
    """The address that the outermost trusted proxy saw; of IPv6 the network."""
    assert client_address(asked, proxies) == address

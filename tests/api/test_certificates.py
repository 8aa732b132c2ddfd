"""Certificates over the API: for staff alone, as JSON and as a page."""

from __future__ import annotations

import json

import pytest

from tests.api.helpers import refused, send
from trafficlog.api.negotiation import preferred
from trafficlog.signature import read_signed

pytestmark = pytest.mark.service_now("2026-12-01T00:00:00Z")
PATH = "/v1/certificates?from=2026-11-01&to=2026-12-01"


async def test_staff_get_a_signed_certificate(service):
    """The period that ends now is over; what is answered is what is checked."""
    for scope in ("operator", "officer"):
        status, body, headers = await send(service, "GET", PATH, await service.key(scope))
        assert status == 200
        assert headers["Content-Type"].startswith("application/json")
        assert (headers["Cache-Control"], headers["Vary"]) == ("no-store", "Accept")
        assert body["certificate"]["period"] == {
            "from": "2026-11-01T00:00:00Z",
            "to": "2026-12-01T00:00:00Z",
        }
        signed = read_signed(json.dumps(body).encode())
        assert signed.certificate.issuer == "Example Telecom"
        assert signed.certificate.verification.count == 0


async def test_others_are_refused(service):
    """Neither a customer nor a gateway has a certificate issued."""
    for scope in ("customer", "ingest", "metrics"):
        key = await service.key(scope, "acme" if scope == "customer" else None)
        for headers in ({}, {"Accept": "text/html"}):
            await refused(service, 403, "GET", PATH, key, headers=headers)
    await refused(service, 401, "GET", PATH)


async def test_the_bytes_are_those_that_were_signed(service):
    """The answer can be saved and checked with OpenSSL: what is signed is its second line."""
    async with service.http.get(
        service.url + PATH, headers={"Authorization": f"Bearer {service.operator_key}"}
    ) as response:
        content = await response.read()
    assert read_signed(content).text == content
    assert json.loads(content.splitlines()[1]) == json.loads(content)["certificate"]


async def test_a_page_is_answered_to_who_asks_for_one(service):
    """Under a policy that lets it use its own style and nothing else."""
    accept = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    status, body, headers = await send(service, "GET", PATH, service.operator_key, headers=accept)
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert "Certificate of destruction" in body
    assert "nothing was destroyed" in body
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert headers["Vary"] == "Accept"


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", True),
        ("TEXT/HTML; charset=utf-8", True),
        ("text/html, application/json", False),
        ("text/html;q=0.5, application/json", False),
        ("application/json;q=0.5, text/html;q=0.9", True),
        ("text/html;q=0", False),
        ("text/html;q=x", False),
        ("text/html;q=nan", False),
        ("text/htmlx", False),
        (",;,", False),
    ],
)
def test_the_page_is_for_who_likes_it_better(accept, page):
    """A program that takes anything gets JSON (RFC 9110, 12.5.1)."""
    chosen = preferred(accept, ("application/json", "text/html"))
    assert (chosen == "text/html") is page


REFUSED = [
    ("", "from", "missing"),
    ("from=2026-11-01", "to", "missing"),
    ("from=2026-11-01&to=soon", "to", "bad_time"),
    ("from=2026-11-01&to=2026-12-01T00:00:00.000001Z", "to", "out_of_range"),
    ("from=2026-11-01&to=2026-11-01", "from", "out_of_range"),
    ("from=2026-11-02&to=2026-11-01", "from", "out_of_range"),
]


async def test_a_period_that_cannot_be_certified_is_refused(service):
    """It must be whole, in order, and over: not one microsecond of it may lie ahead."""
    for query, field, reason in REFUSED:
        problem = await refused(
            service, 400, "GET", f"/v1/certificates?{query}", service.operator_key
        )
        assert (problem["field"], problem["reason"]) == (field, reason)


async def test_a_key_that_cannot_be_used_is_told(service):
    """503 with what is wrong; the service goes on with everything else."""
    service.signing_key_file.write_text("no key")
    service.signing_key_file.chmod(0o600)
    problem = await refused(service, 503, "GET", PATH, service.operator_key)
    assert problem["code"] == "signing_key"
    assert "no Ed25519 private key" in problem["detail"]
    assert (await service.call("GET", "/readyz"))[0] == 200

"""Every route: the keys that open it, the methods and the parameters it takes."""

import hashlib

import pytest

from tests.api.helpers import refused, send
from trafficlog.api.app import ROUTES
from trafficlog.store.keys import SCOPES

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
GUARDED = [route for route in ROUTES if route.scopes]


def path_of(route, account="acme"):
    """A path that a route answers."""
    filled = route.path.replace("{account}", account)
    return filled.replace("{id}", "some-id").replace("{month}", "2026-10")


@pytest.fixture
async def keys(service):
    """A key of each scope; the customer's is of the account acme."""
    found = {scope: await service.key(scope) for scope in SCOPES if scope != "customer"}
    return found | {"customer": await service.key("customer", "acme")}


def test_only_health_and_readiness_are_public():
    """A route without a scope is a decision, written down here."""
    public = {(r.method, r.path) for r in ROUTES if not r.scopes and r.path.startswith("/v1")}
    assert public == set()
    assert {r.path for r in ROUTES if not r.scopes} >= {"/healthz", "/readyz"}


async def test_no_route_opens_without_a_key(service, keys):
    """No key, a wrong one, another scheme, a revoked one: 401 with the scheme to use."""
    revoked = await service.key("ingest")
    async with service.database.operator() as connection:
        await connection.execute(
            "UPDATE api_key SET revoked_at = now() WHERE digest = $1",
            hashlib.sha256(revoked.encode()).digest(),
        )
    good = keys["operator"]
    authorizations = [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {revoked}",
        "Bearer tl_wrong",
        f"Bearer {good[:-1]}",
        f"Bearer {good}x",
        f"Bearer {good.upper()}",
        f"Token {good}",
        f"Basic {good}",
        good,
        "Bearer " + "x" * 5000,
        "Bearer \u00e5\u00e4\u00f6",
    ]
    for route in GUARDED:
        for authorization in authorizations if route is GUARDED[0] else authorizations[:6]:
            headers = {} if authorization is None else {"Authorization": authorization}
            problem = await refused(
                service, 401, route.method, path_of(route), headers=headers, data=b""
            )
            assert problem["code"] == "key_missing"
    _, _, headers = await send(service, "GET", "/v1/holds")
    assert headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_key_of_another_scope_opens_nothing(service, keys):
    """Each route answers 403 to each scope that it does not name."""
    for route in GUARDED:
        for scope in set(SCOPES) - route.scopes:
            problem = await refused(
                service, 403, route.method, path_of(route), keys[scope], data=b""
            )
            assert problem["code"] == "scope_missing", (route.path, scope)


async def test_a_customers_key_opens_its_own_account_only(service, keys):
    """Under any other account a customer's key is refused, whether that account exists or not."""
    await service.key("customer", "other")
    for route in GUARDED:
        if "customer" not in route.scopes:
            continue
        for account in ("other", "nobody", "ACME", "acme%20", "acme%00", "*", "%61cme2"):
            await refused(
                service, 403, route.method, path_of(route, account), keys["customer"], data=b""
            )


async def test_a_right_key_is_let_through(service, keys):
    """With a scope that a route names the answer is about the request, not about the key."""
    for route in ROUTES:
        for scope in route.scopes:
            status, answer, _ = await send(
                service, route.method, path_of(route), keys[scope], data=b""
            )
            assert status not in (401, 403, 405, 500), (route.method, route.path, scope, answer)


async def test_a_bearer_may_be_written_in_any_case(service, keys):
    """The scheme's name is case-insensitive (RFC 9110), and spaces around the key do not matter."""
    for form in ("bearer {}", "BEARER {}", "Bearer   {}"):
        headers = {"Authorization": form.format(keys["operator"])}
        assert (await send(service, "GET", "/v1/holds", headers=headers))[0] == 200


async def test_another_method_is_refused_with_those_allowed(service, keys):
    """405 says which methods there are."""
    by_path = {}
    for route in ROUTES:
        by_path.setdefault(route.path, set()).add(route.method)
    for path, methods in by_path.items():
        if not path.startswith(("/v1", "/healthz", "/readyz", "/metrics")):
            continue
        route = next(r for r in ROUTES if r.path == path)
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - methods:
            problem = await refused(service, 405, method, path_of(route), keys["operator"])
            assert problem["code"] == "method_not_allowed"
            _, _, headers = await send(service, method, path_of(route))
            assert set(headers["Allow"].split(",")) == methods


async def test_a_path_that_is_not_there_is_not_found(service):
    """404 as a problem, for any path that no route has."""
    for path in ("/v1", "/v1/", "/v1/records/", "/v1/accounts/acme", "/v2/records", "/%00", "//v1"):
        problem = await refused(service, 404, "GET", path)
        assert problem["code"] == "not_found"


async def test_a_path_with_nonsense_in_it_is_the_clients_fault(service, keys):
    """NUL, half surrogates and endless ids in a path are a 400 or 404, never a failure."""
    parts = ("%00", "a%00b", "%ff%fe", "%ed%a0%80", "a" * 3000, "%2e%2e", "'; DROP TABLE x", "%25")
    for route in GUARDED:
        if "{id}" not in route.path:
            continue
        for part in parts:
            path = route.path.replace("{account}", "acme").replace("{id}", part)
            [scope, *_] = route.scopes
            status, answer, _ = await send(service, route.method, path, keys[scope], data=b"")
            assert 400 <= status < 500, (route.method, path[:60], status, answer)
    for part in parts:
        path = f"/v1/accounts/{part}/settings"
        status, answer, _ = await send(service, "GET", path, keys["operator"])
        assert status in (400, 404), (path[:60], status, answer)


async def test_an_unknown_parameter_is_refused(service, keys):
    """A misspelt parameter is told, not ignored: half a filter would show too much.

    And a misspelt dry_run would do what it was only to try.
    """
    for route in ROUTES:
        if not route.path.startswith("/v1"):
            continue
        for query in ("limitt=5", "dry-run=true", "=", "account_key=1", "%00=1", "Limit=5"):
            [scope, *_] = route.scopes
            problem = await refused(
                service, 400, route.method, f"{path_of(route)}?{query}", keys[scope], data=b"{}"
            )
            assert problem["reason"] == "unknown", (route, query)


async def test_every_answer_has_an_id_and_is_not_to_be_sniffed(service):
    """A request's id stands in each answer, good or bad; nothing is cached that is personal."""
    seen = set()
    for path in ("/healthz", "/nothing", "/v1/holds"):
        _, _, headers = await send(service, "GET", path)
        seen.add(headers["X-Request-ID"])
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
    assert len(seen) == 3

"""Two accounts that try everything to see each other's rows.

What is under ``{account}`` in the path is tried by the table of routes, so that a route that is
new is tried as well.
"""

import sys

import aiohttp
import orjson
import pytest

from tests.api.helpers import ids, refused, send, superuser
from tests.api.test_routes import path_of
from trafficlog.api import app
from trafficlog.api.app import ROUTES
from trafficlog.store.usage import Unit

# The jobs would erase what is asked for here; what matters is that it can be asked.
pytestmark = [
    pytest.mark.service_now("2026-11-21T12:00:00Z"),
    pytest.mark.service_config(move_interval_seconds=3600),
]
OF_ACCOUNTS = [route for route in ROUTES if "{account}" in route.path]
FOR_CUSTOMERS = [route for route in OF_ACCOUNTS if "customer" in route.scopes]
# In every field that takes a text, and nowhere else.
MARK = "Kobolt"
SECRET = {
    "account": "other",
    "from": MARK,
    "to": f"{MARK}-2",
    "message": f"{MARK} writes",
    "owner": f"{MARK}-owner",
    "tags": [f"{MARK}-tag"],
}
DAYS = 37
BODIES = {
    "settings": {"history": {"enabled": False}, "monthly_reports": False},
    "erasures": {"filter": {"to": f"{MARK}-2"}},
}


@pytest.fixture
async def mine(service):
    """My key, to the account acme; the account other has secrets of every class."""
    ingest, theirs = await service.key("ingest"), await service.key("customer", "other")
    mine = await service.key("customer", "acme")
    await service.post(ingest, *[service.record(f"secret{n}", **SECRET) for n in range(3)])
    await service.post(ingest, service.record("mine"))
    wanted = {"history": {"days": DAYS}}
    assert (await service.call("PUT", settings_of("other"), theirs, json=wanted))[0] == 200
    wanted = {"filter": {"from": MARK, "tag": f"{MARK}-tag", "before": "2026-01-01T00:00:00Z"}}
    path = "/v1/accounts/other/erasures"
    assert (await service.call("POST", path, theirs, json=wanted))[0] == 202
    async with superuser(service) as connection:
        await connection.execute(
            "INSERT INTO monthly_report (account_key, month, made_at, final_from, final, content)"
            " SELECT account_key, '2026-10-01', now(), now(), false, $1::jsonb FROM account"
            " WHERE account_id = 'other'",
            orjson.dumps({"note": MARK}).decode(),
        )
    return mine


def settings_of(account):
    """Where an account's settings are."""
    return f"/v1/accounts/{account}/settings"


def body_of(route):
    """A body that a route would take."""
    [name] = [part for part in route.path.split("/") if part in BODIES][:1] or [None]
    return BODIES.get(name) if route.method in ("POST", "PUT") else None


async def paths_of(service, route, account):
    """Paths that a route answers, with every id that the other account has."""
    if "{id}" not in route.path:
        return [path_of(route, account)]
    async with superuser(service) as connection:
        found = await connection.fetch(
            "SELECT id FROM history_record WHERE message LIKE $1 UNION SELECT erasure_id"
            " FROM erasure",
            f"{MARK}%",
        )
    filled = route.path.replace("{account}", account)
    return [filled.replace("{id}", row["id"]) for row in found]


async def state_of_other(service):
    """All that the database has of the other account, which nobody else may change."""
    async with superuser(service) as connection:
        key = await connection.fetchval(
            "SELECT account_key FROM account WHERE account_id = 'other'"
        )
        tables = ("account", "history_record", "traffic_record", "erasure", "monthly_report")
        return {
            table: sorted(
                str(row)
                for row in await connection.fetch(
                    f"SELECT * FROM {table} WHERE account_key = $1", key
                )
            )
            for table in tables
        }


async def ask(service, route, path, key):
    """Status, and all of an answer that could tell something, as one text."""
    status, body, headers = await send(service, route.method, path, key, json=body_of(route))
    text = body if isinstance(body, str) else orjson.dumps(body).decode()
    return status, text + str(headers)


async def test_under_anothers_path_nothing_opens(service, mine):
    """My key under another account is refused on every route, whatever is asked for."""
    before = await state_of_other(service)
    assert before["history_record"]
    for route in OF_ACCOUNTS:
        for path in await paths_of(service, route, "other"):
            status, answer = await ask(service, route, path, mine)
            assert status == 403, (route, answer)
            assert MARK not in answer
    assert await state_of_other(service) == before


async def test_under_my_path_anothers_ids_are_not_there(service, mine):
    """By the id of its record, or of its erasure, I neither read nor change anything."""
    before = await state_of_other(service)
    for route in FOR_CUSTOMERS:
        if "{id}" in route.path:
            for path in await paths_of(service, route, "acme"):
                status, answer = await ask(service, route, path, mine)
                assert status == 404, (route, path, answer)
                assert MARK not in answer.replace(path, "")
    assert await state_of_other(service) == before


async def test_filters_cursors_exports_and_totals_stay_within_the_account(service, mine):
    """By a filter nothing of another's is found, nor by a cursor of its lists, nor by counting."""
    theirs = await service.key("customer", "other")
    history = "/v1/accounts/acme/history"
    for query in (f"from={MARK}", f"to={MARK}-2", f"tag={MARK}-tag", "status=failed"):
        status, page = await service.call("GET", f"{history}?{query}&total=estimate", mine)
        assert (status, page["data"], page["next"]) == (200, [], None), query
        assert page["total"] == {"estimate": 0, "exact": True}
        status, export = await service.call("GET", f"/v1/accounts/acme/export?{query}", mine)
        assert status == 200
        assert MARK not in str(export)
    assert await ids(service, mine) == ["mine"]
    _, page = await service.call("GET", "/v1/accounts/other/history?limit=1", theirs)
    for route in FOR_CUSTOMERS:
        if "cursor" in route.names and route.method == "GET":
            path = f"{path_of(route)}?cursor={page['next']}"
            problem = await refused(service, 400, "GET", path, mine)
            assert problem["field"] == "cursor"


async def test_without_the_services_checks_the_database_shows_nothing(service, mine, monkeypatch):
    """Row-level security stands alone: with every check in the service gone nothing is seen.

    The request's key says whose rows its connection sees; here the service lets any key pass, and
    takes the account to work on from the path, as a mistake in it might.
    """
    monkeypatch.setattr(app, "require", lambda *_: None)

    async def account_of_path(request, services):
        return await services.accounts.key_of(request.match_info["account"])

    for name, module in list(sys.modules.items()):
        if name.startswith("trafficlog.api.") and hasattr(module, "account_of"):
            monkeypatch.setattr(module, "account_of", account_of_path)
    before = await state_of_other(service)
    passed = 0
    for route in FOR_CUSTOMERS:
        for path in await paths_of(service, route, "other"):
            status, answer = await ask(service, route, path, mine)
            assert status != 403, (route, answer)
            assert MARK not in answer.replace(path, ""), (route, answer)
            assert f'"days":{DAYS}' not in answer, route
            passed += status < 300
    assert passed, "no route was let through, so nothing was shown"
    assert await state_of_other(service) == before
    # With the checks of the service back in place, and by the right key, it is all there.
    monkeypatch.undo()
    theirs = await service.key("customer", "other")
    assert len(await ids(service, theirs, account="other")) == 3


async def test_a_connection_that_is_mine_shows_mine_whatever_is_asked(service, mine):
    """What is done for a customer never sees more, nor by the operator's connections."""
    from trafficlog.errors import NotFoundError
    from trafficlog.store.accounts import Accounts
    from trafficlog.store.database import only_account
    from trafficlog.store.history import History
    from trafficlog.store.history_list import HistoryFilter
    from trafficlog.store.usage import Statistics

    accounts, history = Accounts(service.database), History(service.database)
    acme, other = [await accounts.key_of(name) for name in ("acme", "other")]
    now, day = service.clock.now(), service.clock.now().date()
    everything = HistoryFilter()
    assert len((await history.page(other, everything, now, limit=10)).records) == 3
    with only_account(acme):
        # What the history remembers of the account does not help.
        with pytest.raises(NotFoundError):
            await history.page(other, everything, now, limit=10)
        with pytest.raises(NotFoundError):
            await history.page(other, HistoryFilter(kind="sms"), now, limit=10)
        with pytest.raises(NotFoundError):
            await accounts.get(other)
        assert await Statistics(service.database).usage(other, Unit.DAY, day, day) == []
        assert [r.id for r in (await history.page(acme, everything, now, limit=10)).records] == [
            "mine"
        ]
    assert (await accounts.get(other)).setting.days == DAYS


async def test_the_46elks_api_shows_nothing_of_another_account(service, mine):
    """There, too, account and key belong together, and an id of another account is not found."""
    for account, path, expected in (
        ("other", "/a1/sms", 401),
        ("acme", "/a1/sms/secret1", 404),
        ("acme", "/a1/sms", 200),
    ):
        headers = {"Authorization": aiohttp.encode_basic_auth(account, mine)}
        for method in ("GET", "DELETE") if expected == 404 else ("GET",):
            status, body, _ = await send(service, method, path, headers=headers)
            assert status == expected, (path, body)
            assert MARK not in str(body)
    theirs = await service.key("customer", "other")
    assert len(await ids(service, theirs, account="other")) == 3


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; DROP TABLE history_record; --",
    "{{7*7}} ${7*7} %s %n",
    "a\u2028b\u202ec",
    "🙂👩‍👩‍👧 Ωμέγα \u200f\u05e9\u05dc\u05d5\u05dd",
    "=cmd|' /C calc'!A0",
    "\ufeff\ufffd\U0010ffff",
)


def printable(text):
    """A text as the fields take it that hold printable characters alone."""
    return text if text.isprintable() else "Acme"


async def test_a_hostile_text_in_any_field_comes_back_as_it_is(service):
    """Markup, SQL, templates and all of Unicode are text: stored, found and shown as they are.

    The answer says that it is JSON, is not to be sniffed, and no header repeats any of it.
    """
    ingest, customer = await service.key("ingest"), await service.key("customer", "acme")
    records = [
        service.record(
            f"h{n}",
            from_=printable(text),
            to=printable(text),
            message=text + "\r\nSet-Cookie: a=b",
            owner=printable(text),
            tags=[printable(text)],
            user_agent=printable(text),
        )
        for n, text in enumerate(HOSTILE)
    ]
    _, answer = await service.post(ingest, *records)
    assert answer["rejected"] == []
    for record in records:
        path = f"/v1/accounts/acme/history/{record['id']}"
        status, found, headers = await send(service, "GET", path, customer)
        assert status == 200
        assert {n: found[n] for n in ("message", "owner", "tags")} == {
            n: record[n] for n in ("message", "owner", "tags")
        }
        assert headers["Content-Type"] == "application/json"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in headers
        for field in ("from", "to"):
            query = {field: found[field], "limit": "1"}
            status, page, headers = await send(
                service, "GET", "/v1/accounts/acme/history", customer, params=query
            )
            assert status == 200
            assert page["data"][0][field] == found[field]
        query = {"tag": record["tags"][0], "kind": "call"}
        status, _, headers = await send(
            service, "GET", "/v1/accounts/acme/history", customer, params=query
        )
        assert status == 200


async def test_a_hostile_parameter_stays_in_its_place(service):
    """A line break or markup in a parameter ends up in no header, and in a body as JSON alone."""
    customer = await service.key("customer", "acme")
    await service.post(await service.key("ingest"), *[service.record(f"m{n}") for n in range(3)])
    path = "/v1/accounts/acme/history"
    for text in (*HOSTILE, "x\r\nSet-Cookie: a=b", ">; rel=prev, <https://example.com/"):
        status, body, headers = await send(service, "GET", path, customer, params={"kind": text})
        assert (status, headers["Content-Type"]) == (400, "application/problem+json")
        assert body["field"] == "kind"
        query = {"from": "Acme", "limit": "1", "to": "+46701234567", "after": "2026-01-01"}
        status, page, headers = await send(service, "GET", path, customer, params=query)
        assert page["next"]
        status, _, headers = await send(
            service, "GET", path, customer, params={"tag": text, "cursor": page["next"]}
        )
        assert status == 200
        assert "Set-Cookie" not in headers
        assert headers.get("Link", "").count("<") <= 1


def test_all_that_is_asked_for_is_tried():
    """The table has routes of every kind; were it empty the tests above would prove nothing."""
    assert {route.method for route in FOR_CUSTOMERS} >= {"GET", "PUT", "POST", "DELETE"}
    assert any("export" in route.path for route in FOR_CUSTOMERS)
    assert any("{id}" in route.path for route in FOR_CUSTOMERS)

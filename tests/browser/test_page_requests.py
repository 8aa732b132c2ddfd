"""What no browser would send, and what a browser never shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest
import pytest_asyncio

from trafficlog.dashboard.routes import PublicPage, SessionPage
from trafficlog.dashboard.sessions import Session, Sessions
from trafficlog.dashboard.site import PAGES
from trafficlog.errors import DatabaseUnavailableError
from trafficlog.records import AccountKey
from trafficlog.store.history import History
from trafficlog.store.keys import Principal

if TYPE_CHECKING:
    from tests.serving import Service

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HTML = {"Accept": "text/html"}


@dataclass
class Visitor:
    """Somebody signed in, without a browser."""

    service: Service
    cookie: str

    async def request(
        self, method: str, path: str, form: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, str, dict[str, str]]:
        """Status, body and headers of the answer; redirections are not followed."""
        sent = {"Cookie": self.cookie, **{k.replace("_", "-"): v for k, v in headers.items()}}
        async with self.service.http.request(
            method, self.service.url + path, data=form, headers=sent, allow_redirects=False
        ) as response:
            return response.status, await response.text(), dict(response.headers)

    async def token(self) -> str:
        """The token that the forms of this session carry."""
        _, page, _ = await self.request("GET", "/settings")
        found = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert found
        return found[1]


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(service: Service) -> Visitor:
    """Somebody signed in to the account acme, which has the record m1."""
    await service.post(await service.key("ingest"), service.record("m1"))
    return await sign_in(service, "acme")


async def sign_in(service: Service, account: str) -> Visitor:
    """A visitor with a session of this account."""
    visitor = Visitor(service, "")
    form = {"account": account, "key": await service.key("customer", account)}
    status, _, headers = await visitor.request("POST", "/", form)
    assert status == 303
    visitor.cookie = headers["Set-Cookie"].split(";")[0]
    return visitor


@pytest.mark.asyncio(loop_scope="session")
async def test_every_page_but_sign_in_and_its_looks_needs_a_session(service: Service) -> None:
    """Denied by default: what is public is this list and no more."""
    public = {(page.method, page.path) for page in PAGES if isinstance(page, PublicPage)}
    assert public == {
        ("GET", "/"),
        ("POST", "/"),
        ("POST", "/language"),
        ("GET", "/static/{name}"),
    }
    stranger = Visitor(service, "")
    for page in PAGES:
        if (page.method, page.path) not in public:
            path = re.sub(r"\{.*?\}", "m1", page.path)
            status, _, headers = await stranger.request(page.method, path)
            assert (status, headers["Location"]) == (303, "/"), path
            # A part of a page that a script asks for is not sign-in in its place.
            status, body, headers = await stranger.request(page.method, path, HX_Request="true")
            assert (status, body, headers["HX-Redirect"]) == (401, "", "/"), path


@pytest.mark.asyncio(loop_scope="session")
async def test_a_post_without_the_sessions_token_changes_nothing(visitor: Visitor) -> None:
    """No form counts that is not from a page of the same session."""
    other = await (await sign_in(visitor.service, "acme")).token()
    for form in ({}, {"csrf_token": ""}, {"csrf_token": other}, {"csrf_token": "é"}):
        for path in posted_to():
            fields = form | {"history": "off", "step": "confirm", "kind": "sms"}
            status, page, _ = await visitor.request("POST", path, fields)
            assert status == 403
            assert "nothing was done" in page
    assert (await visitor.request("GET", "/history/m1"))[0] == 200
    form = {"csrf_token": await visitor.token()}
    assert (await visitor.request("POST", "/history/m1/erase", form))[0] == 200


def posted_to() -> list[str]:
    """Every address that a session's forms are posted to."""
    return [
        re.sub(r"\{.*?\}", "m1", page.path)
        for page in PAGES
        if isinstance(page, SessionPage) and page.method == "POST"
    ]


@pytest.mark.asyncio(loop_scope="session")
async def test_a_form_of_another_site_is_refused_even_with_the_token(visitor: Visitor) -> None:
    """What the browser says about where a form comes from is believed, at sign-in too."""
    form = {"csrf_token": await visitor.token()}
    for site in ("cross-site", "same-site"):
        for path in ("/", "/language", *posted_to()):
            status, page, _ = await visitor.request("POST", path, form, Sec_Fetch_Site=site)
            assert (status, "<h1>" in page) == (403, True)


@pytest.mark.asyncio(loop_scope="session")
async def test_another_accounts_record_cannot_be_erased(visitor: Visitor) -> None:
    """A session reaches its own account, whatever the address says."""
    stranger = await sign_in(visitor.service, "globex")
    form = {"csrf_token": await stranger.token()}
    assert (await stranger.request("POST", "/history/m1/erase", form))[0] == 404
    _, _, headers = await visitor.request(
        "POST", "/erasures/new", {"csrf_token": await visitor.token(), "kind": "mms"}
    )
    erasure = headers["Location"]
    assert (await visitor.request("GET", erasure))[0] == 200
    assert (await stranger.request("GET", erasure))[0] == 404
    assert (await stranger.request("POST", erasure + "/cancel", form))[0] == 404
    assert (await visitor.request("GET", "/history/m1"))[0] == 200


@pytest.mark.asyncio(loop_scope="session")
async def test_pages_may_run_nothing_and_are_kept_nowhere(visitor: Visitor) -> None:
    """Each page, good or bad, carries the policy; none is stored by a cache."""
    for path, expected in (("/history", 200), ("/history/no", 404), ("/nothing", 404), ("/", 303)):
        status, _, headers = await visitor.request("GET", path, **HTML)
        assert status == expected
        assert headers["Content-Security-Policy"] == (
            "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; "
            "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.asyncio(loop_scope="session")
async def test_the_cookie_is_for_this_site_and_no_script(service: Service) -> None:
    """HttpOnly, SameSite=Strict, no longer than the session; Secure where TLS ends before us."""
    form = {"account": "acme", "key": await service.key("customer", "acme")}
    _, _, headers = await Visitor(service, "").request("POST", "/", form)
    parts = headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=3600"} <= set(parts)
    assert "Secure" not in parts
    _, _, headers = await Visitor(service, "").request("POST", "/", form, X_Forwarded_Proto="https")
    assert "Secure" in headers["Set-Cookie"].split("; ")


@pytest.mark.asyncio(loop_scope="session")
async def test_a_cookie_that_was_tampered_with_opens_nothing(visitor: Visitor) -> None:
    """Every changed character of the cookie makes it worthless."""
    name, _, value = visitor.cookie.partition("=")
    for i in range(0, len(value) - 1, 7):
        bad = value[:i] + ("A" if value[i] != "A" else "B") + value[i + 1 :]
        tampered = Visitor(visitor.service, f"{name}={bad}")
        assert (await tampered.request("GET", "/history"))[0] == 303
    for bad in ("", "x", "é", "=" * 9, "A" * 5000):
        assert (await Visitor(visitor.service, f"{name}={bad}").request("GET", "/history"))[
            0
        ] == 303


def test_a_session_reads_back_until_its_end() -> None:
    """Nothing of it is lost in the cookie; from the end on, or by another secret, it is none."""
    sessions = Sessions(b"secret", timedelta(minutes=60))
    session = sessions.open(Principal("0a1b2c3d4e5f", "customer", AccountKey(7)), NOW)
    assert session.expires_at == NOW + timedelta(minutes=60)
    cookie = sessions.write(session)
    assert sessions.read(cookie, session.expires_at - timedelta(microseconds=1)) == session
    assert sessions.read(cookie, session.expires_at) is None
    assert Sessions(b"other", sessions.period).read(cookie, NOW) is None
    assert isinstance(session, Session)


@pytest.mark.asyncio(loop_scope="session")
async def test_a_setting_that_is_none_is_refused_in_words(visitor: Visitor) -> None:
    """Zero, negative, broken and missing days are errors that say what would be right."""
    token = await visitor.token()
    for form, reason in (
        ({"history": "on", "days": "0"}, "Days: must be from 1 to 1095"),
        ({"history": "on", "days": "-1"}, "Days: must be from 1 to 1095"),
        ({"history": "on", "days": "1.5"}, "Days: must be a whole number of days"),
        ({"history": "on", "days": ""}, "Days: must be a whole number of days"),
        ({"history": "on", "days": "-"}, "Days: must be a whole number of days"),
        ({"history": "on", "days": "9" * 5000}, "Days: must be from 1 to 1095"),
        ({"history": "on", "days": "\u0663"}, "Days: must be a whole number of days"),
        ({"history": "maybe", "days": "9"}, "Choose whether to keep your history."),
        ({}, "Choose whether to keep your history."),
    ):
        fields = {"csrf_token": token, "step": "confirm", **form}
        status, page, _ = await visitor.request("POST", "/settings", fields)
        assert (status, reason in page) == (400, True), form
    assert 'value="90"' in (await visitor.request("GET", "/settings"))[1]


@pytest.mark.asyncio(loop_scope="session")
async def test_a_setting_that_is_in_force_already_changes_nothing(visitor: Visitor) -> None:
    """The form says so instead of asking for a confirmation."""
    fields = {"history": "on", "days": "90", "monthly_reports": "yes"}
    fields["csrf_token"] = await visitor.token()
    status, page, _ = await visitor.request("POST", "/settings", fields)
    assert (status, "nothing would change" in page) == (200, True)


@pytest.mark.asyncio(loop_scope="session")
async def test_a_wrong_address_answers_with_a_page(visitor: Visitor) -> None:
    """Whatever a browser asks for that is not there: a readable page, no stack trace."""
    for method, path, expected in (
        ("GET", "/history/%00", 404),
        ("GET", "/history/%ff", 404),
        ("GET", "/history/" + "x" * 2000, 404),
        ("GET", "/history?from=%00", 400),
        ("GET", "/history?colour=red", 400),
        ("GET", "/history?kind=pigeon", 400),
        ("GET", "/usage?span=ever", 400),
        ("GET", "/usage?colour=red", 400),
        ("GET", "/reports/2026-13", 404),
        ("GET", "/reports/2026-10/file", 404),
        ("GET", "/erasures/none", 404),
        ("GET", "/erasures/%00", 404),
        ("GET", "/erasures/new?after=nonsense", 400),
        ("GET", "/export?format=pdf", 400),
        ("GET", "/export?colour=red", 400),
        ("DELETE", "/history", 405),
        ("POST", "/static/page.css", 405),
        ("GET", "/static/..%2Fsite.py", 404),
        ("GET", "/.env", 404),
    ):
        status, page, headers = await visitor.request(method, path, **HTML)
        assert status == expected, path
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert "<h1>" in page
        assert "Traceback" not in page


@pytest.mark.asyncio(loop_scope="session")
async def test_programs_and_the_api_keep_their_own_errors(service: Service) -> None:
    """Only a person's browser is shown a page for an unknown address."""
    for path, accept in (("/nothing", "*/*"), ("/v1/nothing", "text/html")):
        status, problem = await service.call("GET", path, headers={"Accept": accept})
        assert (status, problem["code"]) == (404, "not_found")


@pytest.mark.asyncio(loop_scope="session")
async def test_what_breaks_inside_is_not_shown(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page says that it is not the visitor's fault; the details are for the log."""
    for error, expected in (
        (DatabaseUnavailableError("host 10.1.2.3 is away"), 503),
        (RuntimeError("a secret"), 500),
    ):

        async def broken(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(History, "page", broken)
        status, page, _ = await visitor.request("GET", "/history")
        assert status == expected
        assert str(error) not in page
        assert "<h1>" in page


@pytest.mark.asyncio(loop_scope="session")
async def test_a_form_that_is_none_is_refused(service: Service) -> None:
    """Forms are bounded and read strictly, before anybody has signed in."""
    form = "application/x-www-form-urlencoded"
    for body, content_type, expected in (
        (b"{}", "application/json", 415),
        (b"account=\xff", form, 400),
        (b"&".join([b"a=1"] * 100), form, 400),
        (b"a=" + b"x" * 100_000, form, 413),
        (b"account=acme&key=%00", form, 403),
        (b"", form, 403),
    ):
        headers = {"Content-Type": content_type}
        status, page = await service.call("POST", "/", data=body, headers=headers)
        assert (status, "<h1>" in page) == (expected, True), body[:20]


@pytest.mark.asyncio(loop_scope="session")
async def test_ended_sessions_are_forgotten_when_their_time_is_over(
    service: Service, visitor: Visitor
) -> None:
    """What is remembered of sign-outs does not grow for ever."""
    for _ in range(2):
        leaving = await sign_in(service, "acme")
        form = {"csrf_token": await leaving.token()}
        assert (await leaving.request("POST", "/sign-out", form))[0] == 303
        service.clock.advance(timedelta(minutes=60))
    connection = await asyncpg.connect(service.dsn)
    try:
        assert await connection.fetchval("SELECT count(*) FROM trafficlog.ended_session") == 1
    finally:
        await connection.close()


@pytest.mark.asyncio(loop_scope="session")
async def test_a_form_that_was_sent_twice_is_one_erasure(visitor: Visitor) -> None:
    """The page gives each form a key of its own; the second answer leads to the first erasure."""
    _, page, _ = await visitor.request("GET", "/erasures/new?kind=sms")
    found = re.search(r'name="repeat_key" value="([0-9a-f]+)"', page)
    assert found
    form = {"csrf_token": await visitor.token(), "kind": "sms", "repeat_key": found[1]}
    first = await visitor.request("POST", "/erasures/new", form)
    again = await visitor.request("POST", "/erasures/new", form)
    assert first[2]["Location"] == again[2]["Location"]
    form["repeat_key"] = "another"
    other = await visitor.request("POST", "/erasures/new", form)
    assert other[2]["Location"] != first[2]["Location"]


@pytest.mark.service_config(erasures_open_max=1, move_interval_seconds=3600)
@pytest.mark.asyncio(loop_scope="session")
async def test_too_many_erasures_are_refused_in_words(visitor: Visitor) -> None:
    """The form comes back and says what to wait for."""
    form = {"csrf_token": await visitor.token(), "kind": "sms"}
    assert (await visitor.request("POST", "/erasures/new", form))[0] == 303
    status, page, _ = await visitor.request("POST", "/erasures/new", form)
    assert (status, "Wait for one to end" in page) == (409, True)


@pytest.mark.asyncio(loop_scope="session")
async def test_nothing_is_erased_that_was_not_chosen(visitor: Visitor) -> None:
    """No filter at all means nothing; only who says everything, and names the account, means it."""
    token = await visitor.token()
    for form in ({}, {"everything": "yes"}, {"everything": "yes", "account": "globex"}):
        status, page, _ = await visitor.request(
            "POST", "/erasures/new", {"csrf_token": token, **form}
        )
        assert (status, "<h1>" in page) == (400, True)
    assert (await visitor.request("GET", "/history/m1"))[0] == 200


@pytest.mark.asyncio(loop_scope="session")
async def test_the_looks_are_kept_for_good_under_the_address_that_pages_name(
    visitor: Visitor,
) -> None:
    """Each file that a page refers to is there, compressed for who takes that, and lasting."""
    _, page, _ = await visitor.request("GET", "/usage")
    named = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page))
    assert len(named) == 6
    for address in named:
        assert re.search(r"\?[0-9a-f]{12}$", address)
        status, plain, headers = await visitor.request("GET", address, Accept_Encoding="identity")
        assert (status, headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
        assert "Content-Encoding" not in headers
        _, same, headers = await visitor.request("GET", address, Accept_Encoding="gzip")
        assert (same, headers["Content-Encoding"]) == (plain, "gzip")


@pytest.mark.asyncio(loop_scope="session")
async def test_the_language_is_the_one_liked_best_of_those_there_are(service: Service) -> None:
    """By the browser's list and its weights; a choice made here goes before it."""
    stranger = Visitor(service, "")
    for accept, expected in (
        ("", "en"),
        ("sv", "sv"),
        ("sv-FI, en;q=0.9", "sv"),
        ("de, sv;q=0.5, en;q=0.7", "en"),
        ("de, sv;q=0.5", "sv"),
        ("en;q=0, sv;q=0.1", "sv"),
        ("de-DE, *", "en"),
        ("sv;q=nonsense", "en"),
        ("sv;q=nan", "en"),
        (",;=,;q=," * 50, "en"),
    ):
        _, page, headers = await stranger.request("GET", "/", Accept_Language=accept)
        assert f'<html lang="{expected}">' in page, accept
        assert headers["Content-Language"] == expected
    chosen = Visitor(service, "trafficlog_language=sv")
    assert '<html lang="sv">' in (await chosen.request("GET", "/", Accept_Language="en"))[1]
    nonsense = Visitor(service, "trafficlog_language=xx")
    assert '<html lang="en">' in (await nonsense.request("GET", "/"))[1]


@pytest.mark.asyncio(loop_scope="session")
async def test_choosing_a_language_leads_nowhere_else(service: Service) -> None:
    """One comes back to a page of this service, whatever the form says, and keeps the choice."""
    stranger = Visitor(service, "")
    for back, expected in (
        ("/usage?span=year", "/usage?span=year"),
        ("", "/"),
        ("https://example.com/", "/"),
        ("//example.com/", "/"),
        ("/\\example.com", "/"),
        ("/a\r\nSet-Cookie: a=b", "/"),
    ):
        form = {"language": "sv", "back": back}
        status, _, headers = await stranger.request("POST", "/language", form)
        assert (status, headers["Location"]) == (303, expected)
        parts = set(headers["Set-Cookie"].split("; "))
        assert {"trafficlog_language=sv", "HttpOnly", "SameSite=Lax", "Path=/"} <= parts
    _, _, headers = await stranger.request("POST", "/language", {"language": "xx", "back": "/"})
    assert "Set-Cookie" not in headers


@pytest.mark.service_config(requests_per_second=1, burst_requests=3)
@pytest.mark.asyncio(loop_scope="session")
async def test_a_session_may_not_ask_more_often_than_its_key(visitor: Visitor) -> None:
    """A page that was asked for too often says how long to wait."""
    answers = [await visitor.request("GET", "/settings") for _ in range(4)]
    assert [status for status, _, _ in answers] == [200, 200, 200, 429]
    _, page, headers = answers[-1]
    assert "Please wait a second and try again." in page
    assert headers["Retry-After"] == "1"
    assert headers["RateLimit"] == '"key";r=0;t=1'

"""The operators' page: who may open it, and that it shows how things stand."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.helpers import superuser, until
from tests.browser.conftest import PHONE, Browser
from tests.browser.test_every_page import findings
from tests.serving import utc
from trafficlog.operator_page.site import PAGES
from trafficlog.store.keys import Keys
from trafficlog.store.retention import Retention

if TYPE_CHECKING:
    from tests.serving import Service

NOW = "2026-11-21T12:00:00Z"
pytestmark = [pytest.mark.service_now(NOW), pytest.mark.asyncio(loop_scope="session")]
COOKIE = "trafficlog_operator"
INJECTION = """<img src=x onerror=alert(1)><script>alert(2)</script>"'--&amp;{{7*7}}"""


async def signed_in(browser: Browser, key: str | None = None) -> None:
    """Signs in with the operator key that the service made first, or with another."""
    await browser.open("/operate")
    await browser.page.get_by_label("Operator key").fill(key or browser.service.operator_key)
    await browser.press("Sign in")


async def cookie(browser: Browser, name: str = COOKIE) -> Any:
    """A cookie of the browser."""
    return next((c for c in await browser.context.cookies() if c["name"] == name), None)


async def given(service: Service, *records: dict[str, Any]) -> None:
    """The service has these records."""
    status, answer = await service.post(await service.key("ingest"), *records)
    assert (status, answer["rejected"]) == (200, [])


async def held(service: Service, **selector: str) -> str:
    """The id of a hold that was placed through the API."""
    wanted = {"reason": "spam", "case_ref": "A-1", "until": "2027-06-01", **selector}
    status, hold = await service.call("POST", "/v1/holds", service.operator_key, json=wanted)
    assert status == 201
    return str(hold["id"])


async def test_operators_alone_sign_in_and_their_session_is_one_of_its_own(
    browser: Browser, service: Service
) -> None:
    """No key of another scope opens it; neither page takes the other's session; both end."""
    for scope in ("ingest", "officer", "metrics", "customer"):
        account = "acme" if scope == "customer" else None
        await signed_in(browser, await service.key(scope, account))
        assert "no operator key" in await browser.text()
        assert await cookie(browser) is None
    await browser.sign_in("acme", await service.key("customer", "acme"))
    customers = await cookie(browser, "trafficlog_session")
    await browser.open("/operate")
    assert browser.page.url.startswith(service.url + "/operate/sign-in")
    await signed_in(browser)
    assert browser.page.url == service.url + "/operate"
    operators = await cookie(browser)
    assert (operators["path"], operators["httpOnly"], operators["sameSite"]) == (
        "/operate",
        True,
        "Strict",
    )
    for path, name, value in (
        ("/operate", COOKIE, customers["value"]),
        ("/history", "trafficlog_session", operators["value"]),
    ):
        async with service.http.get(
            service.url + path, headers={"Cookie": f"{name}={value}"}, allow_redirects=False
        ) as response:
            assert response.status == 303
    await browser.press("Sign out")
    assert "You are signed out." in await browser.text()
    async with service.http.get(
        service.url + "/operate", headers={"Cookie": f"{COOKIE}={operators['value']}"}
    ) as response:
        assert response.url.path == "/operate/sign-in"


async def test_a_session_ends_with_its_time_and_with_its_key(
    browser: Browser, service: Service
) -> None:
    """A revoked key ends its sessions at once, as the end of their time does."""
    key = await service.key("operator")
    await signed_in(browser, key)
    async with service.database.operator() as connection:
        digest = hashlib.sha256(key.encode()).digest()
        key_id = await connection.fetchval("SELECT key_id FROM api_key WHERE digest = $1", digest)
    assert key_id in await browser.page.locator("header").inner_text()
    await Keys(service.database).revoke(key_id, service.clock.now())
    await browser.open("/operate/holds")
    assert "Your session has ended" in await browser.text()
    await signed_in(browser)
    service.clock.advance(timedelta(minutes=60))
    await browser.open("/operate")
    assert browser.page.url.startswith(service.url + "/operate/sign-in")


async def test_every_page_asks_who_is_there_and_takes_forms_from_its_own_pages(
    browser: Browser, service: Service
) -> None:
    """Without a session all lead to the sign-in; without its token a form does nothing."""
    hold = await held(service, account=await _account(service))
    await signed_in(browser)
    headers = {"Cookie": f"{COOKIE}={(await cookie(browser))['value']}"}
    for page in PAGES:
        if page.path.endswith("sign-in"):
            continue
        url = service.url + page.path.replace("{id}", hold).replace("{rest:.*}", "x")
        url = url.replace("{account}", "acme")
        async with service.http.request(page.method, url, allow_redirects=False) as response:
            assert response.status == 303, page.path
            assert response.headers["Location"] == "/operate/sign-in"
        if page.method == "POST":
            form = {"csrf_token": "x", "sure": "yes", "until": "2027-01-01"}
            async with service.http.post(url, headers=headers, data=form) as response:
                assert response.status == 403
            assert (await service.call("GET", f"/v1/holds/{hold}", service.operator_key))[1][
                "active"
            ]
        else:
            async with service.http.get(url, headers=headers) as response:
                assert response.status == (404 if page.path.endswith("*}") else 200), page.path
                policy = response.headers["Content-Security-Policy"]
                assert "script-src" not in policy
                assert "default-src 'none'" in policy
                assert response.headers["Cache-Control"] == "no-store"


async def test_the_overview_says_what_came_in_and_that_all_is_in_order(
    browser: Browser, service: Service
) -> None:
    """New records of all instances, the tables with their periods, and the jobs' last runs."""
    await given(service, *(service.record(f"m{n}") for n in range(30)))
    await given(
        service,
        service.record("m1", status="delivered", updated=service.clock.now().isoformat()),
    )

    async def counted() -> bool:
        async with superuser(service) as connection:
            return await connection.fetchval("SELECT sum(records) FROM ingest_minute") == 30

    await until(counted)
    await signed_in(browser)
    text = await browser.text()
    assert "Nothing is overdue, and every job does what it has to." in text
    assert await browser.page.locator("[data-bars] rect").count() == 60
    retention = browser.page.get_by_role("region", name="Retention")
    for table, period in (("Traffic data", "60 days"), ("In transit", "3 days")):
        row = await retention.get_by_role("row").filter(has_text=table).inner_text()
        assert period in row
        assert "in order" in row
    jobs = browser.page.get_by_role("region", name="Jobs")
    for job in ("Retention", "Sums of usage"):
        assert "in order" in await jobs.get_by_role("row").filter(has_text=job).inner_text()


@pytest.mark.service_config(move_interval_seconds=3600)
async def test_what_is_overdue_or_failing_is_told_first(browser: Browser, service: Service) -> None:
    """A partition past its time and one interval is overdue; before that it is to be dropped."""
    upper = utc("2026-12-06T00:00:00Z")
    async with superuser(service) as connection:
        service.clock.set(upper + timedelta(minutes=59))
        await connection.execute("UPDATE job_run SET ran_at = $1", service.clock.now())
        await signed_in(browser)
        log = browser.page.get_by_role("row").filter(has_text="Debug log")
        assert "one to drop" in await log.inner_text()
        assert "Debug log" not in await browser.page.get_by_role("alert").inner_text()
        service.clock.set(upper + timedelta(hours=1, seconds=1))
        await connection.execute(
            "UPDATE job_run SET ran_at = $1, failed_at = $1, failures = 3,"
            " failure = 'drop of debug_log_20261205: lock timeout' WHERE job = 'retention'",
            service.clock.now(),
        )
        await connection.execute(
            "UPDATE job_run SET ran_at = $1 WHERE job = 'usage'",
            service.clock.now() - timedelta(minutes=11),
        )
    await browser.open("/operate")
    alert = await browser.page.get_by_role("alert").inner_text()
    assert "Debug log: a partition should be gone since 2026-12-06 00:00:00" in alert
    assert "“Retention” failed in its last run: drop of debug_log_20261205: lock timeout" in alert
    assert "“Sums of usage” has not run since" in alert
    assert "overdue by a minute" not in alert
    assert "overdue by 60 minutes" in await log.inner_text()


async def test_accounts_are_found_and_shown_with_their_settings(
    browser: Browser, service: Service
) -> None:
    """By a part of the id or the name; fifty to a page; each with every change of its settings."""
    await given(service, *(service.record(f"m{n}", account=f"u{n:03}") for n in range(60)))
    async with superuser(service) as connection:
        await connection.execute(
            "UPDATE account SET display_name = $1 WHERE account_id = 'u042'", INJECTION
        )
    setting = {"history": {"days": 7}, "monthly_reports": False}
    path = "/v1/accounts/u042/settings"
    assert (await service.call("PUT", path, service.operator_key, json=setting))[0] == 200
    await signed_in(browser)
    await browser.follow("Accounts")
    assert await browser.page.locator("tbody tr").count() == 50
    await browser.follow("Next page")
    assert await browser.ids() == [f"u{n:03}" for n in range(50, 60)]
    for part in ("U04", "alert(1)"):
        await browser.page.get_by_label("Account or name").fill(part)
        await browser.press("Search")
        assert "u042" in await browser.ids()
        assert "u051" not in await browser.ids()
    await browser.follow("u042")
    text = await browser.text()
    assert "history days: 90 → 7" in text
    assert "monthly reports: yes → no" in text
    assert INJECTION in text
    await browser.open("/operate/accounts/nobody")
    assert "there is no account 'nobody'" in await browser.text()
    await browser.open("/operate/accounts/%00")
    assert "there is no account" in await browser.text()


async def test_a_hold_is_placed_extended_and_released(browser: Browser, service: Service) -> None:
    """By forms that say what is wrong; each step is the API's own and is in the access log."""
    await given(service, service.record("m1"))
    await signed_in(browser)
    await browser.follow("Holds")
    await browser.follow("Place a hold")
    page = browser.page
    await page.get_by_label("Covers").select_option("record")
    await page.get_by_label("Which").fill("acme")
    await page.get_by_label("Reason").fill(INJECTION)
    await page.get_by_label("Case").fill("ABUSE-117")
    await page.get_by_label("Ends at (UTC)").fill("2027-06-01T00:00:00")
    await browser.press("Place the hold")
    assert "Which: must be ACCOUNT/ID." in await browser.text()
    assert await page.get_by_label("Reason").input_value() == INJECTION
    await page.get_by_label("Which").fill("acme/m1")
    await browser.press("Place the hold")
    assert "The hold is placed." in await browser.text()
    assert INJECTION in await browser.text()
    await page.get_by_label("Ends at (UTC)").fill("2026-11-01T00:00:00")
    await browser.press("Change the end")
    assert "Ends at (UTC): must lie in the future." in await browser.text()
    await page.get_by_label("Ends at (UTC)").fill("2027-07-01T12:30:00")
    await browser.press("Change the end")
    assert "The hold ends at 2027-07-01 12:30:00 now." in await browser.text()
    async with Retention(service.dsn, service.config) as retention:
        await retention.run(utc("2027-03-01T00:00:00Z"), guard_clock=False)
    await browser.open("/operate/holds")
    row = await page.locator("tbody tr").inner_text()
    assert "acme/m1" in row
    assert "2" in row
    await browser.follow("acme/m1")
    keeps = page.get_by_role("region", name="What it keeps")
    assert "Traffic data" in await keeps.inner_text()
    form = page.locator("form", has=page.get_by_role("button", name="Release the hold"))
    await form.evaluate("form => form.noValidate = true")
    await browser.press("Release the hold")
    assert "Nothing was released" in await browser.text()
    await page.get_by_label("I know that these copies will be destroyed").check()
    await browser.press("Release the hold")
    assert "The hold is released." in await browser.text()
    await browser.open("/operate/holds")
    assert "No hold is in force." in await browser.text()
    await browser.follow(re.compile("^Over$"))
    assert "released" in await page.locator("tbody tr").inner_text()
    async with superuser(service) as connection:
        noted = await connection.fetch("SELECT action, actor FROM access_log ORDER BY at")
    assert {n["action"] for n in noted} == {"hold.place", "hold.extend", "hold.release"}
    assert len({n["actor"] for n in noted}) == 1


async def test_the_ledger_is_listed_and_verified(browser: Browser, service: Service) -> None:
    """The button says how many entries hold, or what is wrong with which of them."""
    await given(service, service.record("m1"))
    async with Retention(service.dsn, service.config) as retention:
        await retention.run(utc("2027-03-01T00:00:00Z"), guard_clock=False)
    service.clock.set(utc("2027-03-01T00:00:00Z"))
    async with superuser(service) as connection:
        entries = await connection.fetchval("SELECT count(*) FROM purge_ledger")
    assert entries > 50
    await signed_in(browser)
    await browser.follow("Ledger")
    numbers = browser.page.locator("tbody tr td:first-child")
    assert await numbers.first.inner_text() == f"{entries}"
    await browser.follow("Next page")
    assert await numbers.first.inner_text() == f"{entries - 50}"
    await browser.press("Verify now")
    text = await browser.text()
    assert f"the chain of {entries} entries holds" in text
    assert "nothing is overdue and nothing went early" in text
    async with superuser(service) as connection:
        await connection.execute(
            "SET session_replication_role = replica; UPDATE purge_ledger SET rows = 7 WHERE seq = 3"
        )
    await browser.press("Verify now")
    assert "entry 3 was changed" in await browser.page.get_by_role("alert").inner_text()


@pytest.mark.parametrize("browser", [PHONE], indirect=True)
async def test_it_fits_a_phone_and_is_used_by_keyboard(browser: Browser, service: Service) -> None:
    """No page is wider than a phone, or has a serious finding of axe; the keyboard does for all."""
    await given(service, service.record("m1"))
    hold = await held(service, record="acme/" + "m" * 60)
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    await browser.open("/operate")
    await browser.page.get_by_label("Operator key").focus()
    await browser.page.keyboard.type(service.operator_key)
    async with browser.page.expect_navigation():
        await browser.page.keyboard.press("Enter")
    for path in (
        *("", "/accounts", "/accounts/acme", "/holds", f"/holds/{hold}", "/holds/new"),
        *("/ledger", "/nothing"),
    ):
        await browser.open("/operate" + path)
        widths = await browser.page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert widths[0] <= widths[1], path
        assert await findings(axe, browser) == [], path
        await browser.page.keyboard.press("Tab")
        focused = await browser.page.evaluate("document.activeElement.innerText")
        assert focused == "Skip to the content"


async def _account(service: Service) -> str:
    """An account that there is."""
    await service.key("customer", "acme")
    return "acme"

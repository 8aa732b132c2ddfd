"""Signing in, and how sessions end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import given
from trafficlog.store.keys import Keys

if TYPE_CHECKING:
    from tests.browser.conftest import Browser
    from tests.serving import Service

pytestmark = [
    pytest.mark.service_now("2026-11-21T12:00:00Z"),
    pytest.mark.asyncio(loop_scope="session"),
]


async def test_a_customer_signs_in_and_sees_what_is_kept_and_how_long(
    browser: Browser, service: Service
) -> None:
    """The history says the setting in a sentence, and of each record when it disappears."""
    await given(service, service.record("m1", status="delivered"))
    await browser.sign_in()
    assert browser.page.url == service.url + "/history"
    text = await browser.text()
    assert "Your history is kept for 90 days." in text
    row = await browser.page.locator("tbody tr").inner_text()
    for part in ("21 Nov 2026 12:00:00", "SMS", "Acme", "+46701234567", "Delivered", "hello"):
        assert part in row
    assert "19 Feb 2027 12:00:00" in row
    assert "in 90 days" in row
    assert "acme" in await browser.page.locator("body > header").inner_text()


async def test_a_key_that_is_not_the_accounts_own_opens_nothing(
    browser: Browser, service: Service
) -> None:
    """Sign-in takes a customer key of that very account; of all others it says the same."""
    revoked = await service.key("customer", "acme")
    await revoke(service, "acme")
    for key in (
        "tl_" + "A" * 43,
        await service.key("customer", "globex"),
        service.operator_key,
        revoked,
        " ",
    ):
        await browser.sign_in("acme", key)
        assert "do not belong together" in await browser.text()
        assert await browser.cookie() is None
        assert await browser.page.get_by_label("Account").input_value() == "acme"
        assert await browser.page.get_by_label("API key").input_value() == ""


async def test_signing_out_ends_the_session_for_whoever_has_its_cookie(
    browser: Browser, service: Service
) -> None:
    """The cookie is taken back, and a copy of it opens nothing any more."""
    await browser.sign_in()
    cookie = await browser.cookie()
    assert cookie is not None
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    await browser.press("Sign out")
    assert "You are signed out." in await browser.text()
    assert await browser.cookie() is None
    await browser.context.add_cookies([cookie])
    await browser.open("/history")
    assert "Your session has ended." in await browser.text()
    await browser.open("/history")
    assert browser.page.url == service.url + "/"


async def test_a_revoked_key_ends_its_sessions_at_the_next_request(
    browser: Browser, service: Service
) -> None:
    """A session lives no longer than the key that opened it, whatever is cached."""
    await given(service, service.record("m1"))
    await browser.enter()
    await browser.open("/history/m1/erase")
    await revoke(service, "acme")
    await browser.press("Erase this record")
    assert "Your session has ended." in await browser.text()
    assert await browser.cookie() is None
    async with service.database.operator() as connection:
        assert await connection.fetchval("SELECT count(*) FROM purge_ledger") == 0


@pytest.mark.service_config(session_minutes=10)
async def test_a_session_ends_at_its_time(browser: Browser, service: Service) -> None:
    """A moment before it is open, at its end it is not: by the service's clock.

    A search that is typed afterwards leads to sign-in as a whole, not into the list.
    """
    await browser.enter()
    service.clock.advance(timedelta(minutes=10, microseconds=-1))
    await browser.open("/history")
    assert browser.page.url == service.url + "/history"
    service.clock.advance(timedelta(microseconds=1))
    async with browser.page.expect_navigation(url="**/?ended=yes"):
        await browser.page.get_by_label("Tag").fill("x")
    assert "Your session has ended." in await browser.text()


async def revoke(service: Service, account: str) -> None:
    """Revokes every key of an account."""
    keys = Keys(service.database)
    for row in await keys.all():
        if row["account_id"] == account and row["revoked_at"] is None:
            await keys.revoke(row["key_id"], service.clock.now())

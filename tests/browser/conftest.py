"""Debian's Chromium, driven by Playwright, at the page of a whole service."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser as Chromium
from playwright.async_api import BrowserContext, Page, async_playwright

from tests.serving import Service, serving_as_marked

if TYPE_CHECKING:
    import re
    from collections.abc import AsyncIterator


CHROMIUM = "/usr/bin/chromium"
# A CI machine has no sandbox for root, no GPU, and no need of anything from outside.
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
WAIT_MS = 15_000
SESSION = "trafficlog_session"
DEFAULTS: dict[str, Any] = {"viewport": DESKTOP, "locale": "en-GB", "reduced_motion": "reduce"}


async def given(service: Service, *records: dict) -> None:
    """The service has these records."""
    status, answer = await service.post(await service.key("ingest"), *records)
    assert (status, answer["rejected"]) == (200, [])


def ago(service: Service, **period: float) -> str:
    """A time before the clock's, as a record states it."""
    return (service.clock.now() - timedelta(**period)).isoformat()


@dataclass
class Browser:
    """A browser at the page, and what a test does there."""

    service: Service
    context: BrowserContext
    page: Page
    dialogs: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    async def open(self, path: str = "/") -> None:
        """Goes to a path of the service."""
        await self.page.goto(self.service.url + path)

    async def sign_in(self, account: str = "acme", key: str | None = None) -> str:
        """Signs in with a key of the account, or with another; gives the key."""
        if key is None:
            key = await self.service.key("customer", account)
        await self.open()
        await self.page.locator("[name=account]").fill(account)
        await self.page.locator("[name=key]").fill(key)
        async with self.page.expect_navigation():
            await self.page.locator("main button").click()
        return key

    async def enter(self, account: str = "acme") -> str:
        """Is signed in without the form, which costs a second; gives the key."""
        key = await self.service.key("customer", account)
        async with self.service.http.post(
            self.service.url, data={"account": account, "key": key}, allow_redirects=False
        ) as response:
            value = response.cookies[SESSION].value
        await self.context.add_cookies([{"name": SESSION, "value": value, "url": self.service.url}])
        return key

    async def press(self, name: str) -> None:
        """Presses a button and waits for the page it leads to."""
        async with self.page.expect_navigation():
            await self.page.get_by_role("button", name=name, exact=True).click()

    async def follow(self, name: str | re.Pattern[str]) -> None:
        """Follows a link and waits for the page it leads to."""
        async with self.page.expect_navigation():
            await self.page.get_by_role("link", name=name).first.click()

    async def text(self) -> str:
        """What a person reads on the page."""
        return await self.page.locator("main").inner_text()

    async def ids(self) -> list[str]:
        """The ids of the records listed."""
        links = await self.page.locator("tbody a").evaluate_all(
            "links => links.map(a => decodeURIComponent(a.pathname.split('/').pop()))"
        )
        return list(links)

    async def listed(self, *ids: str) -> None:
        """Waits until these records are listed, and no others."""
        await self.page.wait_for_function(
            "ids => [...document.querySelectorAll('tbody a')].map("
            "a => decodeURIComponent(a.pathname.split('/').pop())).join() === ids",
            arg=",".join(ids),
        )

    async def cookie(self) -> dict[str, Any] | None:
        """The session's cookie."""
        found = [c for c in await self.context.cookies() if c["name"] == SESSION]
        return dict(found[0]) if found else None


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Chromium]:
    """One browser for all tests: its start takes longer than most of them."""
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"{CHROMIUM} is not installed (Debian's package chromium)")
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        await running.close()


@pytest_asyncio.fixture(loop_scope="session")
async def service(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Service]:
    """The whole service, as everywhere in the suite, on the event loop of the browser."""
    async with serving_as_marked(request, database) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def browser(
    request: pytest.FixtureRequest, service: Service, chromium: Chromium
) -> AsyncIterator[Browser]:
    """A window without cookies, in English; its parameter is its size."""
    size = getattr(request, "param", DESKTOP)
    async with browsing(chromium, service, viewport=size) as browser:
        yield browser


@contextlib.asynccontextmanager
async def browsing(chromium: Chromium, service: Service, **options: Any) -> AsyncIterator[Browser]:
    """A window of its own.

    In none may a page ask for a dialog, break its policy or a script, or ask anybody but the
    service for anything.
    """
    context = await chromium.new_context(**DEFAULTS | options)
    page = await context.new_page()
    page.set_default_timeout(WAIT_MS)
    browser = Browser(service, context, page)

    async def on_dialog(dialog: Any) -> None:
        browser.dialogs.append(dialog.message)
        await dialog.dismiss()

    page.on("dialog", on_dialog)
    page.on("console", lambda message: browser.complaints.append(message.text))
    page.on("pageerror", lambda error: browser.complaints.append(f"uncaught: {error}"))
    context.on("request", lambda asked: browser.requested.append(asked.url))
    yield browser
    await context.close()
    assert browser.dialogs == []
    bad = ("Content Security Policy", "uncaught")
    assert [each for each in browser.complaints if any(word in each for word in bad)] == []
    assert [url for url in browser.requested if not url.startswith(service.url)] == []

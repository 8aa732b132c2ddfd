"""Debian's Chromium, driven by Playwright, at the page of a whole service."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
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


@dataclass
class Browser:
    """A browser at the page, and what a test does there."""

    service: Service
    context: BrowserContext
    page: Page
    dialogs: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    async def open(self, path: str = "/") -> None:
        """Goes to a path of the service."""
        await self.page.goto(self.service.url + path)

    async def sign_in(self, account: str = "acme", key: str | None = None) -> str:
        """Signs in with a key of the account, or with another; gives the key."""
        if key is None:
            key = await self.service.key("customer", account)
        await self.open()
        await self.page.get_by_label("Account").fill(account)
        await self.page.get_by_label("API key").fill(key)
        await self.press("Sign in")
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

    async def cookie(self) -> dict[str, Any] | None:
        """The session's cookie."""
        found = [c for c in await self.context.cookies() if c["name"] == "trafficlog_session"]
        return dict(found[0]) if found else None


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BrowserContext]:
    """One browser for all tests: its start takes longer than most of them."""
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"{CHROMIUM} is not installed (Debian's package chromium)")
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"), executable_path=CHROMIUM, args=ARGUMENTS
        )
        yield context
        await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def service(request: pytest.FixtureRequest, database: str) -> AsyncIterator[Service]:
    """The whole service, as everywhere in the suite, on the event loop of the browser."""
    async with serving_as_marked(request, database) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def browser(
    request: pytest.FixtureRequest, service: Service, chromium: BrowserContext
) -> AsyncIterator[Browser]:
    """A page without cookies; no test passes whose page asked for a dialog or broke the policy."""
    page = await chromium.new_page()
    await page.set_viewport_size(getattr(request, "param", DESKTOP))
    page.set_default_timeout(WAIT_MS)
    browser = Browser(service, chromium, page)

    async def on_dialog(dialog: Any) -> None:
        browser.dialogs.append(dialog.message)
        await dialog.dismiss()

    page.on("dialog", on_dialog)
    page.on("console", lambda message: browser.complaints.append(message.text))
    page.on("pageerror", lambda error: browser.complaints.append(str(error)))
    yield browser
    await page.close()
    await chromium.clear_cookies()
    assert browser.dialogs == []
    assert [c for c in browser.complaints if "Content Security Policy" in c] == []

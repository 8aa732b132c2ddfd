"""What holds of every page: for all eyes and hands, on all screens, in both languages."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from tests.api.helpers import until
from tests.browser.conftest import DESKTOP, PHONE, ago, browsing, given

if TYPE_CHECKING:
    from playwright.async_api import Browser as Chromium

    from tests.browser.conftest import Browser
    from tests.serving import Service

pytestmark = [
    pytest.mark.service_now("2026-11-21T12:00:00Z"),
    pytest.mark.asyncio(loop_scope="session"),
]
LONG = "i" * 64
PAGES = (
    "/history",
    "/history?kind=sms&from=" + "9" * 64,
    "/history?after=nonsense",
    f"/history/{LONG}",
    f"/history/{LONG}/erase",
    "/history/none",
    "/usage",
    "/usage?span=year",
    "/reports",
    "/reports/2026-10",
    "/reports/2026-10/delete",
    "/data",
    "/erasures/new?kind=sms&tag=" + "T" * 64,
    "/erasures/new?everything=yes",
    "/erasures/new",
    "/settings",
)


async def filled(service: Service) -> None:
    """Records with the longest names that there are, and one of each status; a report."""
    await given(
        service,
        service.record(LONG, from_="W" * 64, to="9" * 64, owner="O" * 64, tags=["T" * 64]),
        *(service.record(status, status=status) for status in ("sent", "delivered", "failed")),
        service.record("m2", message="m" * 500, created=ago(service, days=30), dontlog="from"),
    )
    key = await service.key("customer", "acme")

    async def reported() -> bool:
        return (await service.call("GET", "/v1/accounts/acme/reports/2026-10", key))[0] == 200

    await until(reported)


async def visits(browser: Browser) -> list[str]:
    """Goes to each page in turn: first those that an address leads to, then what forms answer."""
    for path in PAGES:
        await browser.open(path)
        yield path
    await browser.open("/settings")
    await browser.page.locator("#days").fill("1")
    await browser.page.locator("main form button").click()
    await browser.page.locator("[data-changes]").wait_for()
    yield "the preview of settings"
    await browser.open("/erasures/new?status=failed")
    await browser.page.locator("main form button").click()
    await browser.page.locator("[data-receipt]").wait_for()
    yield "the receipt of an erasure"
    await browser.open("/data")
    yield "the list of erasures"
    await browser.open(f"/history/{LONG}/erase")
    await browser.page.locator("main form button").click()
    await browser.page.locator("[data-receipt]").wait_for()
    yield "the receipt of a record"


async def test_every_page_is_for_all_and_fits_its_screen(
    browser: Browser, service: Service
) -> None:
    """No serious finding of axe in light and dark; on a desk and a phone one scrolls down only."""
    await filled(service)
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    await browser.open()
    assert await findings(axe, browser) == []
    await browser.enter()
    async for path in visits(browser):
        assert await findings(axe, browser) == [], path
        for size in (PHONE, DESKTOP):
            await browser.page.set_viewport_size(size)
            assert await beyond_the_edge(browser) == [], path


@pytest.mark.parametrize("browser", [PHONE], indirect=True)
async def test_the_name_of_the_present_page_is_in_sight_on_a_phone(browser: Browser) -> None:
    """The pages' names scroll aside there, and the first Tab leads past them all the same."""
    await browser.enter()
    for path in ("/history", "/settings"):
        await browser.open(path)
        assert await browser.page.evaluate(
            """() => {
                const present = document.querySelector("header [aria-current]");
                const [name, names] = [present, present.parentElement].map(
                    each => each.getBoundingClientRect()
                );
                // A place that is scrolled to is one of whole pixels.
                return names.left - 1 < name.left && name.right < names.right + 1;
            }"""
        ), path
        await browser.page.keyboard.press("Tab")
        focused = await browser.page.evaluate("document.activeElement.textContent")
        assert focused == "Skip to the content", path


async def findings(axe: str, browser: Browser) -> list[str]:
    """What axe finds that is serious or critical; in the dark, contrast is looked at again."""
    await browser.page.evaluate(axe)
    found = []
    for scheme, options in (
        ("light", {"resultTypes": ["violations"]}),
        ("dark", {"runOnly": {"type": "rule", "values": ["color-contrast"]}}),
    ):
        await browser.page.emulate_media(color_scheme=scheme)
        results = await browser.page.evaluate("options => axe.run(document, options)", options)
        assert results["passes"]
        found += [
            f"{scheme}: {each['id']}: {[node['html'] for node in each['nodes']]}"
            for each in results["violations"]
            if each["impact"] in ("serious", "critical")
        ]
    await browser.page.emulate_media(color_scheme="light")
    return found


async def beyond_the_edge(browser: Browser) -> list[str]:
    """What reaches out of its card, and so out of the screen; what scrolls by itself aside."""
    found = await browser.page.evaluate(
        """async () => {
            // Charts take their size from their place when that has been laid out.
            for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
            const right = each => each.getBoundingClientRect().right;
            const edge = right(document.querySelector("main"));
            return [...document.querySelectorAll("main *")].filter(
                each => !each.closest("[data-scroll] *, thead") && right(each) > edge
            ).map(each => each.outerHTML);
        }"""
    )
    width = await browser.page.evaluate("document.documentElement.scrollWidth")
    return [*found, *([str(width)] if width > browser.page.viewport_size["width"] else [])]


@pytest.mark.service_config(page_records=2)
async def test_without_a_script_everything_can_be_read(
    chromium: Chromium, service: Service
) -> None:
    """Search, pages, a record, usage and settings work by links and buttons alone."""
    await given(
        service,
        *(service.record(f"m{i}", created=ago(service, hours=i)) for i in range(1, 6)),
        service.record("call", kind="call", message=..., created=ago(service, hours=2)),
    )
    async with browsing(chromium, service, java_script_enabled=False) as browser:
        await browser.sign_in()
        await browser.page.get_by_label("Kind").select_option(label="SMS")
        await browser.press("Search")
        seen = await browser.ids()
        await given(service, service.record("newer", created=ago(service, minutes=1)))
        while await browser.page.get_by_role("link", name="Show older records").count():
            await browser.follow("Show older records")
            seen += await browser.ids()
        assert seen == [f"m{i}" for i in range(1, 6)]
        await browser.follow("Back to the newest")
        assert await browser.ids() == ["newer", "m1"]
        await browser.follow("21 Nov 2026 11:00:00")
        assert "Disappears in 89 days" in await browser.text()
        await browser.follow("Usage")
        assert await browser.page.locator("#usage").is_visible()
        assert not await browser.page.locator("figure").first.is_visible()
        await browser.press("Svenska")
        assert browser.page.url == service.url + "/usage"
        assert "Användning" in await browser.text()


async def test_each_is_answered_in_their_own_language(chromium: Chromium, service: Service) -> None:
    """The browser's language at first; the one that was chosen from then on, and for all pages."""
    await given(service, service.record("m1", status="delivered", cost=12_345_000))
    async with browsing(chromium, service, locale="sv-SE") as browser:
        await browser.open()
        lang = browser.page.locator("html")
        assert await lang.get_attribute("lang") == "sv"
        assert "Logga in" in await browser.text()
        await browser.sign_in()
        row = await browser.page.locator("tbody tr").inner_text()
        for part in ("2026-11-21 12:00:00", "Utgående", "Levererad", "om 90 dagar"):
            assert part in row
        await browser.open("/history/m1")
        assert "1\N{NO-BREAK SPACE}234,5000" in await browser.text()
        # Where one is, and the search as it was typed, stay.
        await browser.open("/history")
        await browser.page.get_by_label("Typ", exact=True).select_option(label="SMS")
        await browser.page.wait_for_url("**/history?kind=sms")
        await browser.press("English")
        assert browser.page.url == service.url + "/history?kind=sms"
        assert await lang.get_attribute("lang") == "en"
        await browser.open("/nothing-here")
        assert "There is nothing here." in await browser.text()
        await browser.open("/history")
        await browser.press("Sign out")
        assert "You are signed out." in await browser.text()
        await browser.press("Svenska")
        assert "Logga in" in await browser.text()

"""Usage as charts and tables, and the monthly reports that are made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.helpers import until
from tests.browser.conftest import ago, given
from tests.serving import utc

if TYPE_CHECKING:
    from tests.browser.conftest import Browser
    from tests.serving import Service

pytestmark = [
    pytest.mark.service_now("2026-10-31T12:00:00Z"),
    pytest.mark.asyncio(loop_scope="session"),
]


async def used(service: Service) -> None:
    """Usage of two days."""
    await given(
        service,
        service.record("m1", status="delivered", parts=2, cost=3500),
        service.record("m2", status="failed", parts=1, cost=3500),
        service.record("c1", kind="call", message=..., status="success", duration=125, cost=9000),
        service.record("m3", status="delivered", created=ago(service, days=2), parts=1000),
    )


async def test_usage_is_drawn_and_stands_in_a_table_beside(
    browser: Browser, service: Service
) -> None:
    """The chart is drawn from the table; both have what the API says."""
    await used(service)
    await browser.enter()
    await browser.open("/usage")
    page = browser.page
    tiles = await page.locator("[data-tiles] dd").all_inner_texts()
    assert [each.strip() for each in tiles] == ["4", "1,003", "2", "1.6000"]
    rows = await page.locator("#usage tbody tr").all_inner_texts()
    assert len(rows) == 30
    assert rows[0].split("\t") == ["31 Oct 2026", "2", "0", "1", "3", "2", "1.6000"]
    assert rows[2].split("\t") == ["29 Oct 2026", "1", "0", "0", "1,000", "0", "0.0000"]
    painted = """() => [...document.querySelectorAll("[data-chart] canvas")].map(canvas => {
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        const colours = new Set();
        for (let i = 0; i < pixels.length; i += 4)
            if (pixels[i + 3] === 255) colours.add(pixels.slice(i, i + 3).join());
        const style = getComputedStyle(document.documentElement);
        return ["sms", "call", "cost"].filter(name => {
            const hex = style.getPropertyValue(`--chart-${name}`).trim();
            const parts = [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));
            return colours.has(parts.join());
        });
    })"""
    assert await page.evaluate(painted) == [["sms", "call"], ["cost"]]
    await page.emulate_media(color_scheme="dark")
    await page.wait_for_function(f"() => ({painted})()[0].length === 2")
    await browser.follow("The last 12 months")
    rows = await page.locator("#usage tbody tr").all_inner_texts()
    assert len(rows) == 12
    assert rows[0].split("\t") == ["October 2026", "3", "0", "1", "1,003", "2", "1.6000"]
    assert await page.locator("[data-chart] canvas").count() == 2


async def test_reports_are_listed_read_taken_away_and_deleted(
    browser: Browser, service: Service
) -> None:
    """A month's report is there when the month is over, and gone for good when it is deleted."""
    await used(service)
    key = await service.key("customer", "acme")
    service.clock.set(utc("2026-11-01T00:00:00Z"))

    async def there() -> bool:
        return (await service.call("GET", "/v1/accounts/acme/reports/2026-10", key))[0] == 200

    await until(there)
    await browser.enter()
    await browser.open("/reports")
    await browser.follow("October 2026")
    text = await browser.text()
    assert "Report of October 2026" in text
    assert "Records that come late change it until 1 Jan 2027 00:00:00 UTC." in text
    assert "1.6000" in text
    for name, expected in (("CSV", "2026-10,sms"), ("JSON", '"month":"2026-10"')):
        async with browser.page.expect_download() as begun:
            await browser.page.get_by_role("link", name=name, exact=True).click()
        path = await (await begun.value).path()
        assert expected in path.read_text()
    await browser.follow("Page to print")
    assert "October 2026" in await browser.text()
    await browser.open("/reports/2026-10")
    await browser.follow("Delete …")
    await browser.press("Delete this report")
    assert "The report is deleted." in await browser.text()
    assert "There are no reports." in await browser.text()
    await browser.open("/reports/2026-10")
    assert "There is no report of this month." in await browser.text()

"""A monthly report in a real browser: its style applies under its policy, and it prints."""

from __future__ import annotations

import pytest

from tests.api.helpers import until
from tests.serving import utc
from trafficlog.store.accounts import Accounts

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.service_now("2026-10-31T12:00:00Z"),
]
OCTOBER = "/v1/accounts/acme/reports/2026-10"


async def test_a_report_is_shown_and_printed_as_it_is_meant(browser):
    """Chart and sums are there, money in the currency; nothing overflows or comes from outside."""
    service = browser.service
    key = await service.key("customer", "acme")
    records = [
        service.record(f"m{n}", created=f"2026-10-{n:02}T10:00:00Z", status="sent", cost=3500 * n)
        for n in range(1, 31)
    ]
    assert (await service.post(await service.key("ingest"), *records))[0] == 200
    accounts = Accounts(service.database)
    await accounts.describe(
        await accounts.key_of("acme"),
        name="<b>Ö & Co</b>",
        currency="SEK",
        now=service.clock.now(),
        by="test",
    )
    service.clock.set(utc("2026-11-01T00:00:00Z"))

    async def there():
        return (await service.call("GET", OCTOBER, key))[0] == 200

    await until(there)
    await browser.page.set_extra_http_headers({"Authorization": f"Bearer {key}"})
    await browser.open(OCTOBER + "?format=html")
    text = await browser.text()
    assert "<b>Ö & Co</b>" in text
    assert "162.75" in text
    assert "SEK" in text
    fills = (
        "[...new Set([...document.querySelectorAll('rect')].map(r => getComputedStyle(r).fill))]"
    )
    assert await browser.page.evaluate(fills) == ["rgb(23, 98, 122)"]
    fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    for width in (1280, 390):
        await browser.page.set_viewport_size({"width": width, "height": 800})
        assert await browser.page.evaluate(fits)
    assert (await browser.page.pdf()).startswith(b"%PDF")
    assert browser.complaints == []
    assert all(url.startswith(service.url) for url in browser.requested)

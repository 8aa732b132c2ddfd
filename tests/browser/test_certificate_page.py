"""The certificate in a real browser: its style applies under its policy, and it prints."""

from __future__ import annotations

import pytest

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.service_now("2026-12-01T00:00:00Z"),
]


async def test_a_certificate_is_shown_and_printed_as_it_is_meant(browser):
    """The style that the policy names by its hash is the one that is there; nothing overflows."""
    key = browser.service.operator_key
    await browser.page.set_extra_http_headers({"Authorization": f"Bearer {key}"})
    await browser.open("/v1/certificates?from=2026-11-01&to=2026-12-01")
    assert "Certificate of destruction" in await browser.text()
    border = "getComputedStyle(document.querySelector('header')).borderBottomWidth"
    assert await browser.page.evaluate(border) == "3px"
    fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    for width in (1280, 390):
        await browser.page.set_viewport_size({"width": width, "height": 800})
        assert await browser.page.evaluate(fits)
    await browser.page.emulate_media(media="print")
    frame = "getComputedStyle(document.querySelector('main')).borderTopWidth"
    assert await browser.page.evaluate(frame) == "0px"
    assert browser.complaints == []

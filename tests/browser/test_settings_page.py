"""Settings: nothing changes that was not shown before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import ago, given

if TYPE_CHECKING:
    from tests.browser.conftest import Browser
    from tests.serving import Service

pytestmark = [
    pytest.mark.service_now("2026-11-21T12:00:00Z"),
    pytest.mark.asyncio(loop_scope="session"),
]
SETTINGS = "/v1/accounts/acme/settings"


async def test_a_change_of_settings_shows_what_it_hides_before_it_is_made(
    browser: Browser, service: Service
) -> None:
    """Nothing changes on the first form; the second says how many records disappear."""
    await given(
        service,
        *(service.record(f"m{i}", created=ago(service, days=i)) for i in range(1, 6)),
    )
    await browser.enter()
    await browser.open("/settings")
    await browser.page.get_by_label("Days").fill("2")
    await browser.press("Continue")
    text = await browser.text()
    assert "kept for 90 days" in text
    assert "kept for 2 days" in text
    assert "4 records of yours disappear at once, for good." in text
    await browser.follow("Cancel")
    assert await browser.page.get_by_label("Days").input_value() == "90"
    await browser.open("/history")
    assert len(await browser.ids()) == 5
    await browser.open("/settings")
    await browser.page.get_by_label("Days").fill("2")
    await browser.press("Continue")
    await browser.press("Confirm the change")
    assert "Your settings are changed." in await browser.text()
    await browser.follow("History")
    assert "Your history is kept for 2 days." in await browser.text()
    assert await browser.ids() == ["m1"]


async def test_history_is_turned_off_and_on_again(browser: Browser, service: Service) -> None:
    """Off hides everything at once; on again brings nothing back."""
    await given(service, service.record("m1"))
    key = await browser.enter()
    await browser.open("/settings")
    await browser.page.get_by_label("Keep no history").check()
    await browser.press("Continue")
    assert "One record of yours disappears at once, for good." in await browser.text()
    await browser.press("Confirm the change")
    await browser.follow("History")
    assert "Your history is off." in await browser.text()
    assert await browser.ids() == []
    await browser.open("/settings")
    await browser.page.get_by_label("Keep my history").check()
    await browser.page.get_by_label("Days").fill("30")
    await browser.press("Continue")
    assert "No record of yours disappears by this." in await browser.text()
    await browser.press("Confirm the change")
    status, settings = await service.call("GET", SETTINGS, key)
    assert (status, settings["history"]) == (200, {"enabled": True, "days": 30})
    await browser.open("/history")
    assert await browser.ids() == []


async def test_what_is_never_stored_and_monthly_reports_are_chosen(
    browser: Browser, service: Service
) -> None:
    """Both are shown as they would be before they are changed, and the history is left alone."""
    key = await browser.enter()
    await browser.open("/settings")
    await browser.page.get_by_label("The text of messages").check()
    await browser.page.get_by_label("Who it is to").check()
    await browser.page.get_by_label("Make a report of my usage each month").uncheck()
    await browser.press("Continue")
    rows = await browser.page.locator("tbody tr").all_inner_texts()
    assert [row.split("\t") for row in rows] == [
        ["What is never stored", "all is stored", "The text of messages, Who it is to"],
        ["Monthly reports", "on", "off"],
    ]
    assert "disappear" not in await browser.text()
    await browser.press("Confirm the change")
    _, settings = await service.call("GET", SETTINGS, key)
    assert settings["dontlog"] == ["message", "to"]
    assert settings["monthly_reports"] is False
    assert settings["history"] == {"enabled": True, "days": 90}
    assert await browser.page.get_by_label("The text of messages").is_checked()
    assert not await browser.page.get_by_label("Who it is from").is_checked()
    await given(service, service.record("m1"))
    await browser.open("/history/m1")
    assert "hello" not in await browser.text()

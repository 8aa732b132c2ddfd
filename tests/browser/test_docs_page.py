"""The API's description as a page: whole without JavaScript, on a phone as well as on a screen."""

from importlib.resources import files

import pytest

from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.test_every_page import findings
from trafficlog.api.app import ROUTES

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("browser", [DESKTOP, PHONE], indirect=True, ids=["screen", "phone"])
async def test_every_route_can_be_read_and_reached(browser):
    """All routes are shown, nothing is asked of another host, and nothing leaves the screen."""
    asked = []
    browser.page.on("request", lambda request: asked.append(request.url))
    await browser.open("/docs")
    page = browser.page
    assert await page.locator("article").count() == len(ROUTES)
    assert asked == [f"{browser.service.url}/docs"]
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    assert await findings(axe, browser) == []
    width = await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width[0] <= width[1]
    # A link of the contents leads to its route, and what is folded opens by the keyboard.
    await page.get_by_role("link", name="POST /v1/records", exact=True).click()
    assert page.url.endswith("#post_records")
    route = page.locator("#post_records")
    assert await route.get_by_text("A sub-account; kept in history only.").is_hidden()
    await route.locator("summary").first.focus()
    await page.keyboard.press("Enter")
    assert await route.get_by_text("A sub-account; kept in history only.").is_visible()
    assert await page.evaluate("document.styleSheets[0].cssRules.length") > 10

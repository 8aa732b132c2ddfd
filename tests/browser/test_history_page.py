"""The list of records: searched while one types, in pages, by keyboard."""

from __future__ import annotations

import re
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


async def four(service: Service) -> None:
    """Four records, each with something that the others do not have."""
    await given(
        service,
        service.record("a", created=ago(service, hours=1), status="failed"),
        service.record(
            "b", created=ago(service, hours=2), direction="incoming", from_="+4670999", tags=["x"]
        ),
        service.record("c", created=ago(service, hours=3), kind="call", message=...),
        service.record("d", created=ago(service, hours=4), to="Zoë & Co"),
    )


async def test_the_list_follows_what_is_chosen_and_typed(
    browser: Browser, service: Service
) -> None:
    """Each filter narrows the list at once; address, count and focus keep in step with it."""
    await four(service)
    await browser.enter()
    await browser.open("/history")
    page = browser.page
    assert await page.locator("#count").inner_text() == "4 records"
    for label, value, expected, query in (
        ("Kind", "Call", ["c"], "?kind=call"),
        ("Direction", "Incoming", ["b"], "?direction=incoming"),
        ("Status", "Failed", ["a"], "?status=failed"),
        ("From", "+46 (70) 999", ["b"], "?from=%2B46+%2870%29+999"),
        ("To", "Zoë & Co", ["d"], "?to=Zo%C3%AB+%26+Co"),
        ("Tag", "x", ["b"], "?tag=x"),
        ("Created after (UTC)", "2026-11-21T09:30", ["a", "b"], "?after=2026-11-21T09%3A30"),
        ("Created before (UTC)", "2026-11-21T09:00", ["d"], "?before=2026-11-21T09%3A00"),
    ):
        field = page.get_by_label(label, exact=True)
        chosen = label in ("Kind", "Direction", "Status")
        if chosen:
            await field.select_option(label=value)
        else:
            await field.focus()
            await field.fill(value)
        await browser.listed(*expected)
        assert page.url == f"{service.url}/history{query}"
        if not chosen:
            name = await page.evaluate("document.activeElement.labels[0].textContent")
            assert name == label
        if label in ("Status", "To"):
            # The address alone gives the same, with the form filled in.
            await page.reload()
            await browser.listed(*expected)
            assert await field.input_value() == ("failed" if chosen else value)
        await browser.open("/history")
    await page.get_by_label("Kind").select_option(label="MMS")
    await page.get_by_text("No record fits this search.").wait_for()
    assert await page.locator("#count").inner_text() == "No records"
    said = page.get_by_role("status")
    assert (await said.text_content() or "").strip() == "No records"
    # Nothing of what was shown is kept in the browser.
    kept = await page.evaluate("JSON.stringify([localStorage, sessionStorage])")
    assert "467" not in kept
    # One goes back through what one searched for.
    await page.go_back()
    await browser.listed("a", "b", "c", "d")


async def test_a_wrong_filter_is_named_and_the_rest_stays_filled_in(browser: Browser) -> None:
    """A filter that means nothing is an error in words, not an empty list."""
    await browser.enter()
    await browser.open("/history?kind=call&after=yesterday")
    assert "Created after (UTC): must be a date or time" in await browser.text()
    assert await browser.page.get_by_label("Kind").input_value() == "call"
    await browser.open("/history?cursor=made-up")
    assert "not valid any more" in await browser.text()


@pytest.mark.service_config(page_records=3)
async def test_older_records_are_added_below_each_once(browser: Browser, service: Service) -> None:
    """They follow with the search as it is, whatever arrives meanwhile, and one reads on there."""
    await given(
        service,
        *(service.record(f"m{i}", created=ago(service, hours=i)) for i in range(1, 8)),
        service.record("call", kind="call", message=..., created=ago(service, hours=2)),
    )
    await browser.enter()
    await browser.open("/history?kind=sms")
    page = browser.page
    assert await page.locator("#count").inner_text() == "The newest 3 of 7 records"
    await given(service, service.record("newer", created=ago(service, minutes=1)))
    await page.get_by_role("link", name="Show older records").focus()
    await page.keyboard.press("Enter")
    await browser.listed(*(f"m{i}" for i in range(1, 7)))
    await page.wait_for_function("() => document.activeElement.pathname === '/history/m4'")
    await page.locator("#said", has_text="The newest 6 of 7 records").wait_for()
    await page.get_by_role("link", name="Show older records").click()
    await browser.listed(*(f"m{i}" for i in range(1, 8)))
    await page.get_by_role("link", name="Show older records").wait_for(state="detached")
    await page.locator("#count", has_text=re.compile(r"^7 records$")).wait_for()
    assert page.url.endswith("/history?kind=sms")


@pytest.mark.service_config(page_records=2, history_scan_rows_max=2)
async def test_a_search_goes_on_where_nothing_was_found_so_far(
    browser: Browser, service: Service
) -> None:
    """Where the newest records do not fit, the page says so, and looks further back when asked."""
    await given(
        service,
        *(service.record(f"m{i}", created=ago(service, hours=i)) for i in range(1, 5)),
        service.record("call", kind="call", message=..., created=ago(service, hours=9)),
    )
    await browser.enter()
    await browser.open("/history?kind=call")
    further = browser.page.get_by_role("link", name="Show older records")
    while not await browser.ids():
        assert "None of the newest records fits" in await browser.text()
        async with browser.page.expect_response("**/history?*cursor=*"):
            await further.click()
        await browser.page.wait_for_function(
            "() => !document.querySelector('.htmx-request, .htmx-settling, .htmx-swapping')"
        )
    assert await browser.ids() == ["call"]


async def test_a_list_that_could_not_be_read_says_so(browser: Browser, service: Service) -> None:
    """When the service does not answer a search, the old list is not taken for the new one."""
    await four(service)
    await browser.enter()
    await browser.open("/history")
    await browser.page.route("**/history?*", lambda route: route.abort())
    await browser.page.get_by_label("Kind").select_option(label="Call")
    await browser.page.get_by_text("The service did not answer.").wait_for()
    await browser.page.unroute("**/history?*")
    await browser.page.get_by_label("Kind").select_option(label="SMS")
    await browser.listed("a", "b", "d")
    assert not await browser.page.get_by_text("The service did not answer.").is_visible()


async def test_the_page_can_be_used_by_keyboard_alone(browser: Browser, service: Service) -> None:
    """Sign in, search, open a record, and see at every step where one is."""
    await four(service)
    key = await service.key("customer", "acme")
    await browser.open()
    page, keyboard = browser.page, browser.page.keyboard
    await page.locator("body").press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
    await keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "content"
    await keyboard.press("Tab")
    await keyboard.type("acme")
    await keyboard.press("Tab")
    await keyboard.type(key)
    async with page.expect_navigation(url="**/history"):
        await keyboard.press("Enter")
    reached = []
    # The parts of a time are steps of their own.
    for _ in range(45):
        await keyboard.press("Tab")
        name, outline = await page.evaluate(
            """() => {
                const at = document.activeElement;
                const style = getComputedStyle(at);
                return [at.name || at.textContent.trim(),
                    style.outlineStyle + " " + style.outlineWidth];
            }"""
        )
        assert outline == "solid 3px", name
        reached.append(name)
        if name == "tag":
            await keyboard.type("x")
            await browser.listed("b")
        if name == "21 Nov 2026 10:00:00":
            break
    assert reached[0] == "Skip to the content"
    for each in ("History", "Settings", "language", "Sign out", "kind", "before", "CSV"):
        assert each in reached
    async with page.expect_navigation(url="**/history/b"):
        await keyboard.press("Enter")


async def test_another_accounts_record_is_not_there(browser: Browser, service: Service) -> None:
    """No address, and no filter, leads out of one's own account."""
    await given(service, service.record("theirs", account="globex", message="a secret of globex"))
    await browser.enter("acme")
    await browser.open("/history")
    assert await browser.ids() == []
    for path in ("/history/theirs", "/history/theirs/erase"):
        await browser.open(path)
        assert "There is no such record" in await browser.text()
        assert "globex" not in await browser.text()

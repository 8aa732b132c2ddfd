from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import DESKTOP, PHONE, Browser
from trafficlog.store.keys import Keys

if TYPE_CHECKING:
    from tests.serving import Service

NOW = "2026-11-21T12:00:00Z"
pytestmark = [pytest.mark.service_now(NOW), pytest.mark.asyncio(loop_scope="session")]

INJECTION = """<img src=x onerror=alert(1)><script>alert(2)</script>"'--&amp;{{7*7}}"""
BOTH_SCRIPTS = "Γειά 你好 مرحبا שלום 👩‍👩‍👧 Zwölf\u202eabc"


async def given(service: Service, *records: dict) -> None:
    """The service has these records."""
    status, answer = await service.post(await service.key("ingest"), *records)
    assert (status, answer["rejected"]) == (200, [])


def ago(service: Service, **period: float) -> str:
    """A time before the clock's, as a record states it."""
    return (service.clock.now() - timedelta(**period)).isoformat()


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
    for part in ("2026-11-21 12:00:00", "SMS", "Acme", "+46701234567", "Delivered", "hello"):
        assert part in row
    assert "2027-02-19 12:00:00" in row
    assert "in 90 days" in row


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


async def test_filters_narrow_the_list_and_stay_filled_in(
    browser: Browser, service: Service
) -> None:
    """Each filter of the form works, together with the others, and Show all takes them off."""
    await given(
        service,
        service.record("a", created=ago(service, hours=1), status="failed"),
        service.record("b", created=ago(service, hours=2), direction="incoming", from_="+4670999"),
        service.record("c", created=ago(service, hours=3), kind="call", message=...),
        service.record("d", created=ago(service, hours=4), to="Zoë & Co"),
    )
    await browser.sign_in()
    page = browser.page
    assert await browser.ids() == ["a", "b", "c", "d"]
    for label, value, expected in (
        ("Kind", "Call", ["c"]),
        ("Direction", "Incoming", ["b"]),
        ("Status", "Failed", ["a"]),
        ("From", "+46 (70) 999", ["b"]),
        ("To", "Zoë & Co", ["d"]),
        ("Created after (UTC)", "2026-11-21T09:30", ["a", "b"]),
        ("Created before (UTC)", "2026-11-21T09:00:00", ["d"]),
    ):
        await browser.open("/history")
        field = page.get_by_label(label, exact=True)
        if label in ("Kind", "Direction", "Status"):
            await field.select_option(label=value)
        else:
            await field.fill(value)
        await browser.press("Filter")
        assert await browser.ids() == expected, label
        assert await field.input_value() not in ("", None), label
    await page.get_by_label("Kind").select_option(label="MMS")
    await browser.press("Filter")
    assert "No record fits this filter." in await browser.text()
    await browser.follow("Show all")
    assert await browser.ids() == ["a", "b", "c", "d"]


async def test_a_wrong_filter_is_named_and_the_rest_stays_filled_in(browser: Browser) -> None:
    """A filter that means nothing is an error in words beside the form, not an empty list."""
    await browser.sign_in()
    await browser.open("/history?kind=call&after=yesterday")
    assert "Created after (UTC): must be a date or time" in await browser.text()
    assert await browser.page.get_by_label("Kind").input_value() == "call"
    await browser.open("/history?cursor=made-up")
    assert "not valid any more" in await browser.text()


@pytest.mark.service_config(page_records=3)
async def test_pages_lead_to_every_record_once(browser: Browser, service: Service) -> None:
    """Older records follow by a link that keeps the filter; whatever arrives meanwhile."""
    await given(
        service,
        *(service.record(f"m{i}", created=ago(service, hours=i)) for i in range(1, 8)),
        service.record("call", kind="call", message=..., created=ago(service, hours=2)),
    )
    await browser.sign_in()
    await browser.page.get_by_label("Kind").select_option(label="SMS")
    await browser.press("Filter")
    seen = await browser.ids()
    await given(service, service.record("newer", created=ago(service, minutes=1)))
    while await browser.page.get_by_role("link", name="Older records").count():
        await browser.follow("Older records")
        seen += await browser.ids()
    assert seen == [f"m{i}" for i in range(1, 8)]
    await browser.follow("Back to the newest")
    assert await browser.ids() == ["newer", "m1", "m2"]


async def test_a_record_shows_its_life(browser: Browser, service: Service) -> None:
    """One record's page has all that is stored of it, and when it was made, delivered and ends."""
    await given(
        service,
        service.record(
            "sip:call=1@gw+x~y",
            created="2026-11-20T10:00:00Z",
            delivered="2026-11-20T10:00:04Z",
            updated="2026-11-20T10:00:05Z",
            status="delivered",
            parts=2,
            cost=3500,
            owner="marketing",
            tags=["spring", "A/B"],
        ),
    )
    await browser.sign_in()
    await browser.follow("2026-11-20 10:00:00")
    text = await browser.text()
    for part in (
        *("sip:call=1@gw+x~y", "SMS", "Outgoing", "Acme", "+46701234567", "Delivered", "hello"),
        *("2", "0.3500", "marketing", "spring", "A/B"),
        "2026-11-20 10:00:00 UTC",
        "2026-11-20 10:00:04 UTC",
        "2026-11-20 10:00:05 UTC",
        "2027-02-18 10:00:00 UTC, in 88 days",
    ):
        assert part in text


async def test_what_was_not_to_be_logged_is_said_to_be_not_stored(
    browser: Browser, service: Service
) -> None:
    """A withheld field is neither empty nor left out in silence."""
    await given(service, service.record("m1", dontlog=["message", "to"]))
    await browser.sign_in()
    assert (await browser.page.locator("tbody tr").inner_text()).count(
        "not stored"
    ) == 3  # no status
    await browser.open("/history/m1")
    assert (await browser.page.locator("dd").all_inner_texts()).count("not stored") == 3


async def test_erasing_gives_a_receipt_and_the_record_is_gone(
    browser: Browser, service: Service
) -> None:
    """The receipt says what went, until when the last trace stays, and what the law keeps."""
    await given(service, service.record("m1"), service.record("m2"))
    key = await browser.sign_in()
    await browser.open("/history/m1")
    assert "stays until 2027-01-20 12:00:00 UTC" in await browser.text()
    await browser.press("Erase this record")
    receipt = await browser.text()
    assert "One record is gone from your history." in receipt
    assert "m1" in receipt
    assert "The traffic data of this communication is kept until 2027-01-20 12:00:00" in receipt
    # The day of its partition and one run of the job after its own end.
    assert "2027-02-20 13:00:00" in receipt
    await browser.follow("Back to the history")
    assert await browser.ids() == ["m2"]
    assert (await service.call("GET", "/v1/accounts/acme/history/m1", key))[0] == 404
    await browser.open("/history/m1")
    assert "There is no such record in your history." in await browser.text()


async def test_an_id_used_twice_shows_both_and_erasing_says_so(
    browser: Browser, service: Service
) -> None:
    """Nobody erases more than the page showed them."""
    await given(
        service,
        service.record("m1", message="the newer"),
        service.record("m1", message="the older", created=ago(service, days=2)),
    )
    await browser.sign_in()
    await browser.open("/history/m1")
    text = await browser.text()
    assert text.index("the newer") < text.index("the older")
    await browser.press("Erase these 2 records")
    assert "2 records are gone from your history." in await browser.text()


async def test_a_change_of_settings_shows_what_it_hides_before_it_is_made(
    browser: Browser, service: Service
) -> None:
    """Nothing changes on the first form; the second says how many records disappear."""
    await given(
        service,
        *(service.record(f"m{i}", created=ago(service, days=i)) for i in range(1, 6)),
    )
    await browser.sign_in()
    await browser.follow("Settings")
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
    key = await browser.sign_in()
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
    status, settings = await service.call("GET", "/v1/accounts/acme/settings", key)
    assert (status, settings["history"]) == (200, {"enabled": True, "days": 30})
    await browser.open("/history")
    assert await browser.ids() == []


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
    await browser.sign_in()
    await browser.open("/history/m1")
    await revoke(service, "acme")
    await browser.press("Erase this record")
    assert "Your session has ended." in await browser.text()
    assert await browser.cookie() is None
    async with service.database.operator() as connection:
        assert await connection.fetchval("SELECT count(*) FROM purge_ledger") == 0


@pytest.mark.service_config(session_minutes=10)
async def test_a_session_ends_at_its_time(browser: Browser, service: Service) -> None:
    """A minute before it is open, at its end it is not: by the service's clock."""
    await browser.sign_in()
    service.clock.advance(timedelta(minutes=10, microseconds=-1))
    await browser.open("/history")
    assert browser.page.url == service.url + "/history"
    service.clock.advance(timedelta(microseconds=1))
    await browser.open("/history")
    assert "Your session has ended." in await browser.text()


async def test_another_accounts_record_is_not_there(browser: Browser, service: Service) -> None:
    """No address, and no filter, leads out of one's own account."""
    await given(service, service.record("theirs", account="globex", message="a secret of globex"))
    await browser.sign_in("acme")
    assert await browser.ids() == []
    await browser.open("/history/theirs")
    assert "There is no such record" in await browser.text()
    assert "globex" not in await browser.text()


async def test_texts_from_outside_are_shown_and_never_run(
    browser: Browser, service: Service
) -> None:
    """Whatever a gateway or a sender wrote stands on the page as text, in every field."""
    short = "<script>alert(3)</script>"
    await given(
        service,
        service.record(
            "m1",
            from_=short,
            to='"><b onclick=alert(4)>',
            owner="<svg onload=alert(5)>",
            tags=["<i>tag</i>", "你好"],
            message=INJECTION,
        ),
        service.record("m2", from_="Ünïcödé ✓", message=BOTH_SCRIPTS),
    )
    await browser.sign_in()
    text = await browser.text()
    for part in (short, '"><b onclick=alert(4)>', INJECTION, "Ünïcödé ✓", BOTH_SCRIPTS):
        assert part in text
    await browser.open("/history/m1")
    text = await browser.text()
    for part in (short, '"><b onclick=alert(4)>', "<svg onload=alert(5)>", "<i>tag</i>", INJECTION):
        assert part in text
    assert await browser.page.locator("script, main img, main svg, main i, main b").count() == 0
    await browser.open("/history/m2")
    assert BOTH_SCRIPTS in await browser.text()
    # What was typed comes back into the form, and is no more than a value there either.
    await browser.open("/history")
    await browser.page.get_by_label("From", exact=True).fill('"><script>alert(6)</script>')
    await browser.press("Filter")
    assert await browser.page.locator("script").count() == 0
    found = await browser.page.get_by_label("From", exact=True).input_value()
    assert found == '"><script>alert(6)</script>'


async def test_a_very_long_message_is_whole_on_its_own_page_alone(
    browser: Browser, service: Service
) -> None:
    """A list of long messages stays a list."""
    await given(service, service.record("m1", message="word " * 10_000 + "end"))
    await browser.sign_in()
    assert len(await browser.text()) < 1_000
    await browser.open("/history/m1")
    assert (await browser.text()).count("word") == 10_000


@pytest.mark.parametrize("browser", [DESKTOP, PHONE], indirect=True, ids=["desktop", "phone"])
async def test_no_page_is_wider_than_its_screen(browser: Browser, service: Service) -> None:
    """On a desk and on a phone one scrolls downwards only, with the longest names there are."""
    await given(
        service,
        service.record("i" * 64, from_="W" * 64, to="9" * 64, owner="O" * 64, tags=["T" * 64]),
        service.record("m2", message="m" * 500),
    )
    await browser.sign_in()
    for path in ("/history", "/history/" + "i" * 64, "/history/m2", "/settings", "/nothing"):
        await browser.open(path)
        assert await beyond_the_edge(browser) == [], path
    await browser.open("/settings")
    await browser.page.get_by_label("Days").fill("1095")
    await browser.press("Continue")
    assert await beyond_the_edge(browser) == []
    await browser.open("/history/" + "i" * 64)
    await browser.press("Erase this record")
    assert await beyond_the_edge(browser) == []


async def beyond_the_edge(browser: Browser) -> list[str]:
    """What reaches out of its card, and so out of the screen; the table's hidden head aside."""
    found = await browser.page.evaluate(
        """() => [...document.querySelectorAll("main *:not(thead, thead *)")].filter(
            each => each.getBoundingClientRect().right
                > document.querySelector("main").getBoundingClientRect().right
        ).map(each => each.outerHTML)"""
    )
    width = await browser.page.evaluate("document.documentElement.scrollWidth")
    return [*found, *([str(width)] if width > browser.page.viewport_size["width"] else [])]


async def test_the_page_can_be_used_by_keyboard_alone(browser: Browser, service: Service) -> None:
    """Sign in, open a record and come back, without a pointer; each field has its label."""
    await given(service, service.record("m1"))
    key = await service.key("customer", "acme")
    await browser.open()
    keyboard = browser.page.keyboard
    for step in ("Tab", "Tab", "Tab"):  # past the skip link and the name
        await keyboard.press(step)
    await keyboard.type("acme")
    await keyboard.press("Tab")
    await keyboard.type(key)
    async with browser.page.expect_navigation(url="**/history"):
        await keyboard.press("Enter")
    await browser.page.locator("tbody a").focus()
    async with browser.page.expect_navigation(url="**/history/m1"):
        await keyboard.press("Enter")
    for path in ("/history", "/settings"):
        await browser.open(path)
        nameless = await browser.page.locator("input:not([type=hidden]), select").evaluate_all(
            "fields => fields.filter(f => f.labels.length !== 1).map(f => f.name)"
        )
        assert nameless == []


async def revoke(service: Service, account: str) -> None:
    """Revokes every key of an account."""
    keys = Keys(service.database)
    for row in await keys.all():
        if row["account_id"] == account and row["revoked_at"] is None:
            await keys.revoke(row["key_id"], service.clock.now())

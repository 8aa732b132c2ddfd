"""One record: what is stored, its life, erasing it; and texts from outside, wherever they stand."""

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

INJECTION = """<img src=x onerror=alert(1)><script>alert(2)</script>"'--&amp;{{7*7}}"""
BOTH_SCRIPTS = "Γειά 你好 مرحبا שלום 👩‍👩‍👧 Zwölf\u202eabc"


async def test_a_record_shows_its_life(browser: Browser, service: Service) -> None:
    """One record's page has all that is stored of it, what happened and will, and when."""
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
    await browser.enter()
    await browser.open("/history")
    await browser.follow("20 Nov 2026 10:00:00")
    text = await browser.text()
    for part in (
        *("sip:call=1@gw+x~y", "SMS", "outgoing", "Acme", "+46701234567", "Delivered", "hello"),
        *("2", "0.3500", "marketing", "spring", "A/B"),
    ):
        assert part in text
    life = await browser.page.locator("[data-life] li").all_inner_texts()
    assert [each.split("\n") for each in life] == [
        ["Created a day ago", "20 Nov 2026 10:00:00 UTC"],
        [
            "Delivered a day ago",
            "20 Nov 2026 10:00:04 UTC",
            "4 seconds after it was created",
        ],
        [
            "Last report a day ago Delivered",
            "20 Nov 2026 10:00:05 UTC",
            "5 seconds after it was created",
        ],
        ["Disappears in 88 days", "18 Feb 2027 10:00:00 UTC"],
    ]


async def test_what_was_not_to_be_logged_is_said_to_be_not_stored(
    browser: Browser, service: Service
) -> None:
    """A withheld field is neither empty nor left out in silence."""
    await given(service, service.record("m1", dontlog=["message", "to"]))
    await browser.enter()
    await browser.open("/history")
    row = await browser.page.locator("tbody tr").inner_text()
    assert row.count("not stored") == 3  # it has no status either
    await browser.open("/history/m1")
    assert (await browser.page.locator("dd").all_inner_texts()).count("not stored") == 3


async def test_erasing_asks_gives_a_receipt_and_the_record_is_gone(
    browser: Browser, service: Service
) -> None:
    """The receipt says what went, until when the last trace stays, and what the law keeps."""
    await given(service, service.record("m1"), service.record("m2"))
    key = await browser.enter()
    await browser.open("/history/m1")
    await browser.follow("Erase …")
    assert "stays until 20 Jan 2027 12:00:00 UTC" in await browser.text()
    await browser.follow("Keep it")
    assert browser.page.url.endswith("/history/m1")
    await browser.follow("Erase …")
    await browser.press("Erase this record")
    receipt = await browser.text()
    assert "One record is gone from your history." in receipt
    assert "m1" in receipt
    assert "The traffic data of this communication is kept until 20 Jan 2027 12:00:00" in receipt
    # The day of its partition and one run of the job after its own end.
    assert "20 Feb 2027 13:00:00" in receipt
    await browser.follow("Back to the history")
    assert await browser.ids() == ["m2"]
    assert (await service.call("GET", "/v1/accounts/acme/history/m1", key))[0] == 404
    for path in ("/history/m1", "/history/m1/erase"):
        await browser.open(path)
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
    await browser.enter()
    await browser.open("/history/m1")
    text = await browser.text()
    assert text.index("the newer") < text.index("the older")
    await browser.follow("Erase …")
    text = await browser.text()
    assert text.index("the newer") < text.index("the older")
    await browser.press("Erase these 2 records")
    assert "2 records are gone from your history." in await browser.text()


async def test_texts_from_outside_are_shown_and_never_run(
    browser: Browser, service: Service
) -> None:
    """Whatever a gateway or a sender wrote stands on the page as text, in every field."""
    short = "<script>alert(3)</script>"
    fields = {
        "from_": short,
        "to": '"><b onclick=alert(4)>',
        "owner": "<svg onload=alert(5)>",
        "tags": ["<i>tag</i>", "你好"],
        "message": INJECTION,
    }
    shown = (short, fields["to"], fields["owner"], "<i>tag</i>", "你好", INJECTION)
    await given(
        service,
        service.record("m1", **fields),
        service.record("m2", from_="Ünïcödé ✓", message=BOTH_SCRIPTS),
    )
    await browser.enter()
    page = browser.page
    await browser.open("/history")
    text = await browser.text()
    for part in (short, fields["to"], INJECTION, "Ünïcödé ✓", BOTH_SCRIPTS):
        assert part in text
    foreign = page.locator("main script, main img, main svg, main i, main b, [onclick], [onload]")
    for path, parts in (
        ("/history/m1", shown),
        ("/history/m1/erase", (short, fields["to"], INJECTION)),
        ("/history/m2", (BOTH_SCRIPTS,)),
    ):
        await browser.open(path)
        text = await browser.text()
        for part in parts:
            assert part in text
        assert await foreign.count() == 0
    # What was typed comes back into the form and the erasure it is for, and stays a value there.
    await browser.open("/history")
    await page.get_by_label("From", exact=True).fill(short)
    await browser.listed("m1")
    assert await foreign.count() == 0
    await page.reload()
    assert await page.get_by_label("From", exact=True).input_value() == short
    await browser.follow("Erase these …")
    assert short in await browser.text()
    assert await foreign.count() == 0


async def test_a_very_long_message_is_whole_on_its_own_page_alone(
    browser: Browser, service: Service
) -> None:
    """A list of long messages stays a list."""
    await given(service, service.record("m1", message="word " * 10_000 + "end"))
    await browser.enter()
    await browser.open("/history")
    assert len(await browser.text()) < 1_000
    await browser.open("/history/m1")
    assert (await browser.text()).count("word") == 10_000

"""What is one's own: erased by search or as a whole, and taken away as files."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from typing import TYPE_CHECKING

import orjson
import pyarrow.parquet as pq
import pytest

from tests.browser.conftest import ago, browsing, given

if TYPE_CHECKING:
    from playwright.async_api import Browser as Chromium

    from tests.browser.conftest import Browser
    from tests.serving import Service

pytestmark = [
    pytest.mark.service_now("2026-11-21T12:00:00Z"),
    pytest.mark.asyncio(loop_scope="session"),
]


async def six(service: Service) -> None:
    """Four text messages and two calls."""
    await given(
        service,
        *(service.record(f"m{i}", created=ago(service, days=i)) for i in range(1, 5)),
        *(
            service.record(f"c{i}", kind="call", message=..., created=ago(service, days=i))
            for i in range(1, 3)
        ),
    )


async def test_what_a_search_finds_is_erased_after_it_was_counted(
    browser: Browser, service: Service
) -> None:
    """From the search to the receipt, which stays under Your data; what did not fit stays too."""
    await six(service)
    await browser.enter()
    await browser.open("/history")
    await browser.page.get_by_label("Kind").select_option(label="SMS")
    await browser.page.get_by_label("Created before (UTC)").fill("2026-11-20T00:00:00")
    await browser.listed("m2", "m3", "m4")
    await browser.follow("Erase these …")
    text = await browser.text()
    assert "SMS" in text
    assert "3 records would be erased." in text
    assert "Created from 17 Nov 2026 12:00:00 to 19 Nov 2026 12:00:00 UTC." in text
    await browser.follow("Keep it")
    await browser.listed("m2", "m3", "m4")
    await browser.follow("Erase these …")
    await browser.press("Erase these 3 records")
    # The page turns to the receipt by itself.
    await browser.page.get_by_text("3 records are gone from your history.").wait_for()
    receipt = await browser.text()
    for part in (
        "Records chosen by Kind, Created before (UTC)",
        "SMS: 3",
        "17 Nov 2026 \N{EN DASH} 19 Nov 2026",
        "Traffic data, which the operator must keep by law, until 19 Jan 2027 00:00:00 UTC.",
        "Usage statistics stay.",
    ):
        assert part in receipt
    number = await browser.page.locator("code").inner_text()
    await browser.open("/data")
    assert "Done" in await browser.page.locator("tbody").inner_text()
    await browser.page.locator("tbody a").click()
    await browser.page.get_by_text(number).wait_for()
    await browser.open("/history")
    await browser.listed("m1", "c1", "c2")


async def test_everything_is_erased_when_the_account_is_named(
    browser: Browser, service: Service
) -> None:
    """A slip of the hand erases nothing: the name of the account is typed to confirm."""
    await six(service)
    await browser.enter()
    await browser.open("/data")
    await browser.follow("Erase everything …")
    assert "6 records would be erased." in await browser.text()
    name = browser.page.get_by_label("type the name of your account")
    await name.fill("globex")
    await browser.press("Erase everything")
    assert "was not typed as it is, so nothing was erased" in await browser.text()
    await name.fill("acme")
    await browser.press("Erase everything")
    await browser.page.get_by_text("6 records are gone from your history.").wait_for()
    await browser.open("/history")
    assert await browser.ids() == []


@pytest.mark.service_config(erasure_rows_max=1, move_interval_seconds=3600)
async def test_an_erasure_is_watched_and_stopped_without_a_script(
    chromium: Chromium, service: Service
) -> None:
    """Its page says how far it is, and has a button to stop it; then the receipt says so."""
    await six(service)
    async with browsing(chromium, service, java_script_enabled=False) as browser:
        await browser.enter()
        await browser.open("/erasures/new?kind=sms")
        await browser.press("Erase these 4 records")
        assert "0 of 4 records are erased." in await browser.text()
        await browser.press("Stop")
        text = await browser.text()
        assert "It was stopped; the rest was left." in text
        await browser.open("/history")
        assert len(await browser.ids()) == 6


async def test_records_are_taken_away_as_they_are_searched(
    browser: Browser, service: Service
) -> None:
    """Each format holds what the search finds, and no more; the archive has everything."""
    await six(service)
    await browser.enter()
    await browser.open("/history?kind=call")
    rows = list(csv.DictReader(io.StringIO((await download(browser, "CSV")).decode("utf-8-sig"))))
    assert [row["id"] for row in rows] == ["c1", "c2"]
    lines = (await download(browser, "NDJSON")).splitlines()
    assert [orjson.loads(line)["id"] for line in lines] == ["c1", "c2"]
    table = pq.read_table(io.BytesIO(await download(browser, "Parquet")))
    assert table["id"].to_pylist() == ["c1", "c2"]
    await browser.open("/data")
    archive = zipfile.ZipFile(io.BytesIO(await download(browser, "Download everything")))
    assert archive.testzip() is None
    names = archive.namelist()
    assert any(name.endswith("settings.json") for name in names)
    # A stranger gets no byte of it.
    await browser.context.clear_cookies()
    await browser.open("/export?format=csv")
    assert browser.page.url == service.url + "/"


async def download(browser: Browser, name: str) -> bytes:
    """What a link gives as a file."""
    async with browser.page.expect_download() as begun:
        await browser.page.get_by_role("link", name=name, exact=True).click()
    content = (await (await begun.value).path()).read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content

"""The ledger: its latest entries, and verification of all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trafficlog.api.query import only, whole_number
from trafficlog.operator_page.pages import OperatorPage
from trafficlog.operator_page.texts import ENGLISH, text

if TYPE_CHECKING:
    from aiohttp import web

    from trafficlog.operator_page.pages import Operation, Page, Visit
    from trafficlog.store.verify import Verification

ROWS: Final = 50
FINDINGS_SHOWN_MAX: Final = 50


async def get_ledger(visit: Visit, operation: Operation) -> web.Response:
    """A page of entries, newest first."""
    query = visit.request.query
    only(query.keys(), ("before",))
    before = whole_number(query, "before", 1, 2**63 - 1) if "before" in query else None
    return await _page(visit, operation, before=before)


async def post_verify(visit: Visit, operation: Operation) -> web.Response:
    """Verifies, and says what was found."""
    found = await operation.oversight.verify(operation.services.clock.now())
    return await _page(visit, operation, verification=found)


def class_name(data_class: str) -> str:
    """A class of data as people know it."""
    key = f"class.{data_class}"
    return text(key) if key in ENGLISH else data_class.replace("_", " ")


async def _page(
    visit: Visit,
    operation: Operation,
    *,
    before: int | None = None,
    verification: Verification | None = None,
) -> web.Response:
    found = await operation.oversight.ledger(before, ROWS + 1)
    shown = found[:ROWS]
    return operation.renderer.page(
        "ledger.html",
        visit=visit,
        entries=shown,
        class_name=class_name,
        first=None if before is None else "/operate/ledger",
        following=f"/operate/ledger?before={shown[-1].seq}" if len(found) > ROWS else None,
        verification=verification,
        findings_max=FINDINGS_SHOWN_MAX,
    )


PAGES: Final[tuple[Page, ...]] = (
    OperatorPage("GET", "/operate/ledger", get_ledger),
    OperatorPage("POST", "/operate/ledger/verify", post_verify),
)

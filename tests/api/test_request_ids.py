"""A request's id is in its answer, in a problem's body, and in each line of the log it causes."""

import asyncio
import io
import json
import logging
import re
import sys

import pytest
import structlog

from tests.api.helpers import refused, superuser
from trafficlog.api.request_ids import REQUEST_ID, request_id, with_request_id
from trafficlog.cli.logs import configure_logs

pytestmark = pytest.mark.service_now("2026-11-21T12:00:00Z")
NEW = re.compile(r"[0-9a-f]{16}")


async def asked(service, path, brought=None):
    """The id, the type and the body of an answer."""
    headers = {} if brought is None else {"X-Request-Id": brought}
    async with service.http.get(service.url + path, headers=headers) as response:
        return response.headers["X-Request-Id"], response.content_type, await response.text()


@pytest.fixture
def lines(monkeypatch):
    """The lines of the log so far, as a machine reads them."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    configure_logs(logging.INFO, as_json=True)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    structlog.reset_defaults()


async def test_an_answer_and_its_problem_have_one_id(service):
    """A new one for each request, in the header and in the body of an error."""
    seen = set()
    for path in ("/healthz", "/v1/holds", "/nothing", "/healthz?x=1", "/docs", "/"):
        found, media_type, body = await asked(service, path)
        assert NEW.fullmatch(found)
        if media_type == "application/problem+json":
            assert json.loads(body)["request_id"] == found
        seen.add(found)
    assert len(seen) == 6


async def test_an_id_that_is_brought_is_used(service):
    """A proxy's or a client's own id goes through, as far as it is a plain word."""
    for brought in ("a", "req-7.B_9", "x" * 64):
        headers = {"X-Request-Id": brought}
        problem = await refused(service, 401, "GET", "/v1/holds", headers=headers)
        assert problem["request_id"] == brought
    for brought in ("", "x" * 65, "a b", "a=b", "\u00e5", "a;b", 'a"', "a/b", "a\tb"):
        found, _, _ = await asked(service, "/healthz", brought)
        assert NEW.fullmatch(found), brought


@pytest.mark.parametrize("brought", ["a\n", "a\nb", "\u0661", "", None, "a" * 65])
def test_no_id_can_forge_a_line(brought):
    """Nothing that breaks a line or only looks like a letter or digit is taken as an id."""
    assert NEW.fullmatch(request_id(brought))


async def test_a_request_s_log_lines_have_its_id(service, lines):
    """Whoever has the id of an answer finds in the log what happened, and only that."""
    async with superuser(service) as connection:
        await connection.execute("ALTER TABLE abuse_hold RENAME TO elsewhere")
    brought = [{"X-Request-Id": f"question-{number}"} for number in range(3)]
    problems = await asyncio.gather(
        *(
            refused(service, 500, "GET", "/v1/holds", service.operator_key, headers=h)
            for h in brought
        )
    )
    assert [p["request_id"] for p in problems] == [h["X-Request-Id"] for h in brought]
    broke = [line for line in lines() if line["event"] == "request_broke"]
    assert sorted(line["request_id"] for line in broke) == [h["X-Request-Id"] for h in brought]


def test_a_line_outside_of_a_request_has_none(lines):
    """What the jobs log belongs to no request; an id that a line names itself stays."""
    structlog.get_logger().info("started")
    [line] = lines()
    assert "request_id" not in line
    token = REQUEST_ID.set("mine")
    try:
        assert with_request_id(None, "info", {})["request_id"] == "mine"
        assert with_request_id(None, "info", {"request_id": "its"})["request_id"] == "its"
    finally:
        REQUEST_ID.reset(token)


async def test_the_next_request_of_a_connection_has_its_own(service):
    """On one connection an id does not stay for the next request, nor for what is no request."""
    for brought in ("one", None, "two"):
        found, _, _ = await asked(service, "/healthz", brought)
        assert (found == brought) == (brought is not None)

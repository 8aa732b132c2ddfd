"""The description of the API: whole, true to OpenAPI 3.1, and what the routes really do."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import jsonschema_rs
import msgspec
import pytest

from tests.api.helpers import send
from tests.documented import DOCUMENT, check_documented
from trafficlog.api import schemas
from trafficlog.api.app import ROUTES
from trafficlog.api.descriptions import GROUPS
from trafficlog.api.docs_page import DocsPage, prose
from trafficlog.api.openapi import PROBLEM_TYPE, document, errors_of, path_of
from trafficlog.config import Config
from trafficlog.records import Report

COMPONENTS = DOCUMENT["components"]["schemas"]
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def validator(schema):
    """What checks a value by a schema of the document."""
    return jsonschema_rs.Draft202012Validator(
        {**schema, "components": DOCUMENT["components"]}, validate_formats=True
    )


def contents():
    """Each body and answer of JSON that the document describes."""
    for name, operation in OPERATIONS:
        bodies = operation.get("requestBody", {}).get("content", {})
        yield from ((f"{name} body", t, c) for t, c in bodies.items())
        for status, answer in operation["responses"].items():
            yield from ((f"{name} {status}", t, c) for t, c in answer.get("content", {}).items())


def test_every_route_is_described():
    """No route without its group, a summary, a good answer, and a sentence for each parameter."""
    assert {(r.method.lower(), path_of(r)) for r in ROUTES} == {
        (method, path) for path, methods in DOCUMENT["paths"].items() for method in methods
    }
    for route in ROUTES:
        told = f"{route.method} {route.path}"
        assert route.group in GROUPS, told
        assert route.summary.endswith("."), told
        assert any(200 <= answer.status < 300 for answer in route.answers), told
        assert all(p.text.endswith(".") for p in (*route.parameters, *route.headers)), told
        in_path = [p for p in operation_of(route)["parameters"] if p.get("in") == "path"]
        assert all(p["description"] for p in in_path), told
        assert {f"{{{p['name']}}}" for p in in_path} == set(re.findall(r"\{\w+\}", path_of(route)))


def operation_of(route):
    """A route's part of the document."""
    return DOCUMENT["paths"][path_of(route)][route.method.lower()]


def test_every_answer_has_its_shape():
    """JSON has a schema that says more than that it is JSON, and an error is a problem."""
    for told, media_type, content in contents():
        assert content["schema"], told
        if media_type == "application/json":
            assert set(content["schema"]) != {"type"}, told
    for route in ROUTES:
        for status in errors_of(route):
            assert list(operation_of(route)["responses"][str(status)]["content"]) == [PROBLEM_TYPE]


def test_every_example_is_as_it_is_said_to_be():
    """The examples of bodies and answers fit their schemas, unknown fields none."""
    for told, _, content in contents():
        if "example" in content:
            for error in validator(content["schema"]).iter_errors(content["example"]):
                raise AssertionError(f"{told}: {error.message} in {content['example']}")


def test_the_document_is_openapi():
    """Its schemas are JSON Schema, all it refers to is there, and each operation has its name."""
    assert DOCUMENT["openapi"].startswith("3.1")
    for name, schema in COMPONENTS.items():
        assert re.fullmatch(r"\w+", name), "two types of one name"
        jsonschema_rs.meta.validate(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        )
    text = json.dumps(DOCUMENT)
    assert "``" not in text
    for pointer in set(re.findall(r'"#/components/(\w+/\w+)"', text)):
        kind, name = pointer.split("/")
        assert name in DOCUMENT["components"][kind]
    names = [operation["operationId"] for _, operation in OPERATIONS]
    assert len(names) == len(set(names))
    assert set(COMPONENTS) == set(re.findall(r"#/components/schemas/(\w+)", text))


def test_a_record_is_described_by_the_type_that_reads_it():
    """Each field of a report is explained, and no other."""
    assert schemas.RECORD_FIELDS.keys() == set(schemas.names_of(Report))
    assert COMPONENTS["Report"]["properties"].keys() == schemas.RECORD_FIELDS.keys()
    # The example of a record is one that the service takes.
    [example] = DOCUMENT["paths"]["/v1/records"]["post"]["requestBody"]["content"][
        "application/json"
    ]["example"]
    assert msgspec.json.decode(msgspec.json.encode(example), type=Report)


def test_limits_are_those_of_the_settings():
    """Another setting, another document: it never tells a limit that is not in force."""
    narrow = document(ROUTES, replace(Config(), batch_records_max=7, page_records_max=9))
    body = narrow["paths"]["/v1/records"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"]["maxItems"] == 7
    limit = next(
        p["schema"]
        for p in narrow["paths"]["/v1/accounts/{account}/history"]["get"]["parameters"]
        if p.get("name") == "limit"
    )
    assert limit["maximum"] == 9


@pytest.mark.parametrize(
    ("status", "media_type", "body"),
    [
        (418, PROBLEM_TYPE, {"code": "teapot"}),
        (200, "text/plain", "ok"),
        (200, "application/json", {"status": "fine"}),
        (200, "application/json", {"status": "ok", "more": 1}),
        (400, PROBLEM_TYPE, {"code": "another"}),
    ],
)
def test_an_answer_that_is_not_described_is_found(status, media_type, body):
    """The check that all requests of this suite go through can fail."""
    if media_type == PROBLEM_TYPE:
        body = {
            "type": "about:blank",
            "title": "Bad request",
            "status": status,
            "detail": "…",
            "request_id": "1",
        } | body
    good = [("GET", "http://x/healthz", 200, "application/json", {"status": "ok"})]
    check_documented(*good[0], {"X-Request-Id": "1"})
    with pytest.raises(AssertionError):
        check_documented("GET", "http://x/healthz", status, media_type, body, {"X-Request-Id": "1"})


async def test_it_is_served_and_remembered(service):
    """/openapi.json needs no key; one who has it already is told so."""
    address = f"{service.url}/openapi.json"
    async with service.http.get(address) as response:
        assert response.status == 200
        assert await response.json() == json.loads(json.dumps(document(ROUTES, service.config)))
        tag = response.headers["ETag"]
    async with service.http.get(address, headers={"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (304, b"")
        assert response.headers["ETag"] == tag
    async with service.http.get(address, headers={"If-None-Match": '"other"'}) as response:
        assert response.status == 200


async def test_the_page_is_served_under_a_strict_policy(service):
    """/docs is one file that runs nothing, loads nothing, and names every route."""
    status, html, headers = await send(service, "GET", "/docs")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(
        r"<(script|link|img|iframe|form)\b|\bon\w+=|src=|style=|@import|url\(", html
    )
    for route in ROUTES:
        assert f'<article id="{route.handler.__name__}">' in html
        assert f"<code>{path_of(route)}</code>" in html


def test_what_the_page_shows_is_escaped():
    """A text of the document cannot put markup into the page."""
    assert str(prose("a <b> `<i>` **c**")) == (
        "<p>a &lt;b&gt; <code>&lt;i&gt;</code> <strong>c</strong></p>\n"
    )
    evil = json.loads(json.dumps(DOCUMENT).replace("The record.", "<script>alert(1)</script>"))
    assert "<script>" not in DocsPage().html(evil)


def test_the_command_prints_it_without_a_database(tmp_path):
    """`trafficlog openapi` needs neither a database nor a data directory, and makes none."""
    done = subprocess.run(
        [sys.executable, "-c", "from trafficlog.cli import main; main()", "openapi"],
        cwd=tmp_path,
        env={"TRAFFICLOG_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == json.loads(json.dumps(DOCUMENT))
    assert list(tmp_path.iterdir()) == []

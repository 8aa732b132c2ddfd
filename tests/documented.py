"""Holds answers against the description of the API: status, media type, code, every field.

The suite's own requests go through here, so that no route can answer what it is not said to.
"""

from __future__ import annotations

import copy
import functools
import re
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs

from trafficlog.api.app import ROUTES
from trafficlog.api.openapi import PROBLEM_TYPE, document, path_of
from trafficlog.config import Config

DOCUMENT = document(ROUTES, Config())
# What every address can answer, whatever is asked there.
EVERYWHERE = {(404, "not_found"), (405, "method_not_allowed")}


def check_documented(
    method: str, url: str, status: int, content_type: str, body: Any, headers: Any
) -> None:
    """Fails unless an answer is one that the description has; ``body`` is decoded JSON or text.

    What lies outside of the description (pages, ``/a1/``) passes.
    """
    path = urlsplit(str(url)).path
    known = next((p for pattern, p in _paths() if pattern.fullmatch(path)), None)
    operation = None if known is None else DOCUMENT["paths"][known].get(method.lower())
    if operation is None:
        return
    asked = f"{method} {known} -> {status} {content_type}"
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", headers["X-Request-Id"]), asked
    if content_type == PROBLEM_TYPE:
        assert body["request_id"] == headers["X-Request-Id"], asked
        if (status, body["code"]) in EVERYWHERE:
            return
    answer = operation["responses"].get(str(status))
    assert answer is not None, f"{asked} is not documented: {body}"
    content = answer.get("content", {})
    if not content:
        assert not body, f"{asked} has a body, and is documented as one without"
        return
    if not body and "application/x-ndjson" in content:
        return  # a file of no lines
    assert content_type in content, f"{asked} is documented as {', '.join(content)}"
    if "json" in content_type and content_type != "application/x-ndjson":
        validator = _validator(known, method.lower(), str(status), content_type)
        for error in validator.iter_errors(body):
            raise AssertionError(f"{asked}: {error.message} at {error.instance_path}: {body}")


@functools.cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    """Each path of the description, as what matches it; those without parameters first."""
    known = sorted({path_of(route) for route in ROUTES}, key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(p))), p) for p in known]


@functools.cache
def _validator(path: str, method: str, status: str, content_type: str) -> Any:
    """What an answer must be; unlike a client's generator it knows no unknown fields."""
    schema = DOCUMENT["paths"][path][method]["responses"][status]["content"][content_type]["schema"]
    if content_type == PROBLEM_TYPE:
        whole = {**schema, "unevaluatedProperties": False}
        return jsonschema_rs.Draft202012Validator(
            {**whole, "components": DOCUMENT["components"]}, validate_formats=True
        )
    return jsonschema_rs.Draft202012Validator(
        {**schema, "components": _strict_components()}, validate_formats=True
    )


@functools.cache
def _strict_components() -> dict[str, Any]:
    components = copy.deepcopy(DOCUMENT["components"])
    for schema in components["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return components

"""The API's description in OpenAPI 3.1, made from its routes and types and from the settings.

Nothing is described here that a route does not say of itself, except what holds for all routes
of a kind: those with a key, those with a body, those of one account.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from trafficlog import __version__
from trafficlog.api import schemas
from trafficlog.api.descriptions import ABOUT, GROUPS, PATH_PARAMETERS
from trafficlog.api.examples import example_of
from trafficlog.api.parameters import bound_value
from trafficlog.api.problems import STATUSES, TITLES
from trafficlog.api.request_ids import HEADER, PATTERN
from trafficlog.api.routes import Refused
from trafficlog.errors import (
    BodyTooLargeError,
    BodyUnreadableError,
    BufferFullError,
    DatabaseUnavailableError,
    InvalidValueError,
    KeyMissingError,
    MediaTypeUnsupportedError,
    NotFoundError,
    ScopeMissingError,
    ServiceStoppingError,
    TooManyRequestsError,
    TrafficlogError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trafficlog.api.parameters import Parameter
    from trafficlog.api.routes import Answer, Body, Route, Shape
    from trafficlog.config import Config

REF: Final = "#/components/schemas/{name}"
PROBLEM_TYPE: Final = "application/problem+json"
INTERNAL: Final = Refused(500, "internal", "Something went wrong; the log says what.")
TOO_SLOW: Final = Refused(408, "too_slow", "The body did not arrive in time.")
KEYED: Final = (
    KeyMissingError,
    ScopeMissingError,
    TooManyRequestsError,
    DatabaseUnavailableError,
)
WITH_BODY: Final = (
    BodyUnreadableError,
    TOO_SLOW,
    BodyTooLargeError,
    MediaTypeUnsupportedError,
    BufferFullError,
    ServiceStoppingError,
)
REQUEST_ID: Final = {
    "description": "The request's id: yours, or a new one. The log knows it by that.",
    "schema": {"type": "string", "pattern": PATTERN},
}
RATE_HEADERS: Final = {
    "RateLimit": "What the key has left, unless there is no limit.",
    "RateLimit-Policy": "How often the key may ask, unless there is no limit.",
}
ERROR_HEADERS: Final = {
    401: {"WWW-Authenticate": "How to bring a key."},
    429: {"Retry-After": "Seconds after which to try again."},
    503: {"Retry-After": "Seconds after which to try again."},
}


def document(routes: Iterable[Route], config: Config) -> dict[str, Any]:
    """The description of these routes under these settings."""
    documented = tuple(routes)
    maker = _Shapes(documented)
    paths: dict[str, dict[str, Any]] = {}
    for route in documented:
        operation = _operation(route, config, maker)
        paths.setdefault(path_of(route), {})[route.method.lower()] = operation
    used = {route.group for route in documented}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "trafficlog",
            "version": __version__,
            "summary": "A telecom traffic-log store with legal retention",
            "description": _one_line(
                ABOUT.strip().format(
                    body_bytes_max=config.body_bytes_max,
                    body_decoded_bytes_max=config.body_decoded_bytes_max,
                )
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": name, "description": GROUPS.get(name, "")}
            for name in sorted(used, key=[*GROUPS, *sorted(used)].index)
        ],
        "paths": paths,
        "components": {
            "schemas": maker.components,
            "headers": {"RequestId": REQUEST_ID},
            "parameters": {
                "RequestId": {
                    "name": HEADER,
                    "in": "header",
                    "description": "An id of your own for this request; one of another form than "
                    "those of answers is ignored.",
                    "schema": {"type": "string"},
                }
            },
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key. The roles named are scopes, of which it has one.",
                }
            },
        },
    }


def path_of(route: Route) -> str:
    """A route's path as the description has it: without the patterns of its parts."""
    return re.sub(r"\{(\w+):.*?\}(?=/|$)", r"{\1}", route.path)


def errors_of(route: Route) -> dict[int, dict[str, str]]:
    """All that a route can refuse with: by status, each code with its sentence."""
    found: dict[int, dict[str, str]] = {}
    declared: list[type[TrafficlogError] | Refused] = [InvalidValueError, *route.errors, INTERNAL]
    if route.scopes:
        declared += KEYED
    if route.body is not None:
        declared += WITH_BODY
    if "{account}" in route.path:
        declared.append(NotFoundError)
    for each in declared:
        if isinstance(each, Refused):
            found.setdefault(each.status, {})[each.code] = each.text
        else:
            text = (each.__doc__ or "").strip().partition("\n")[0]
            found.setdefault(STATUSES[each], {})[each.code] = text
    return dict(sorted(found.items()))


class _Shapes:
    """The shapes that routes name, and the JSON schemas of their types."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        types = {id(shape): shape for shape in _types(routes)}
        found, components = msgspec.json.schema_components(types.values(), ref_template=REF)
        self._schemas = dict(zip(types, found, strict=True))
        if "Report" in components:
            _describe_fields_of_records(components["Report"])
        self.components = {name: _plain(components[name]) for name in sorted(components)}

    def of(self, shape: Shape) -> dict[str, Any]:
        """The JSON schema of a shape."""
        if isinstance(shape, Mapping):
            found: dict[str, Any] = _plain(shape)
        else:
            found = _plain(self._schemas[id(shape)])
        return found

    def any_of(self, shapes: tuple[Shape, ...]) -> dict[str, Any]:
        """The JSON schema of one of several shapes."""
        found = [self.of(shape) for shape in shapes]
        return found[0] if len(found) == 1 else {"anyOf": found}

    def content(self, schema: dict[str, Any]) -> dict[str, Any]:
        """A schema with an example of what it describes."""
        return {"schema": schema, "example": example_of(schema, self.components)}


def _types(routes: tuple[Route, ...]) -> Iterable[Any]:
    yield schemas.Problem
    for route in routes:
        shapes: list[Any] = [] if route.body is None else [*route.body.shapes.values()]
        shapes += [s for a in route.answers for each in a.shapes.values() for s in each]
        shapes += [e.more for e in route.errors if isinstance(e, Refused) and e.more is not None]
        yield from (shape for shape in shapes if not isinstance(shape, Mapping))


def _operation(route: Route, config: Config, shapes: _Shapes) -> dict[str, Any]:
    parameters = [
        *_path_parameters(route),
        *(_parameter(p, "query", config) for p in route.parameters),
        *(_parameter(p, "header", config) for p in route.headers),
    ]
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "tags": [route.group],
        "summary": _one_line(route.summary),
        "security": [{"key": [scope]} for scope in sorted(route.scopes)],
        "parameters": [*parameters, {"$ref": "#/components/parameters/RequestId"}],
    }
    if route.text:
        operation["description"] = _one_line(route.text)
    if route.body is not None:
        operation["requestBody"] = _body(route.body, config, shapes)
    answers = {str(a.status): _answer(a, shapes, keyed=bool(route.scopes)) for a in route.answers}
    own = {e.status: e.more for e in route.errors if isinstance(e, Refused) and e.more}
    operation["responses"] = answers | {
        str(status): _refusal(status, codes, shapes, own.get(status))
        for status, codes in errors_of(route).items()
    }
    return operation


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    found = []
    for before, name in re.findall(r"([^/]+)/\{(\w+)", route.path):
        text, schema = PATH_PARAMETERS.get(f"{before}/{name}", ("", {}))
        found.append(
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": text,
                "schema": _plain({"type": "string", "minLength": 1} | schema),
            }
        )
    return found


def _parameter(parameter: Parameter, place: str, config: Config) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": place,
        "required": parameter.is_required,
        "description": parameter.text,
        "schema": parameter.schema(config),
    }


def _body(body: Body, config: Config, shapes: _Shapes) -> dict[str, Any]:
    content = {}
    for media_type, shape in body.shapes.items():
        schema = shapes.of(shape)
        if schema.get("type") == "array" and body.items_max is not None:
            schema |= {"minItems": 1, "maxItems": bound_value(body.items_max, config)}
        content[media_type] = shapes.content(schema)
    bounds = []
    if body.items_max is not None:
        bounds.append(f"At most {bound_value(body.items_max, config):,} in one request.")
    if body.bytes_max is not None:
        bounds.append(f"At most {bound_value(body.bytes_max, config):,} bytes.")
    return {
        "required": body.is_required,
        "description": " ".join(filter(None, [_one_line(body.text), *bounds])),
        "content": content,
    }


def _answer(answer: Answer, shapes: _Shapes, *, keyed: bool) -> dict[str, Any]:
    told = {**answer.headers, **(RATE_HEADERS if keyed else {})}
    found: dict[str, Any] = {"description": answer.text, "headers": _headers(told)}
    if answer.shapes:
        found["content"] = {
            media_type: shapes.content(shapes.any_of(each))
            if each
            else {"schema": {"type": "string"}}
            for media_type, each in answer.shapes.items()
        }
    return found


def _refusal(
    status: int, codes: Mapping[str, str], shapes: _Shapes, more: type[Any] | None
) -> dict[str, Any]:
    told = ERROR_HEADERS.get(status, {})
    own = {
        "properties": {
            "title": {"const": TITLES[status]},
            "status": {"const": status},
            "code": {"enum": list(codes)},
        }
    }
    parts = [shapes.of(schemas.Problem), *([] if more is None else [shapes.of(more)]), own]
    text = TITLES[status] + ": " + "; ".join(f"`{code}`" for code in codes) + "."
    return {
        "description": text,
        "headers": _headers(told),
        "content": {PROBLEM_TYPE: {"schema": {"allOf": parts}}},
        "x-codes": dict(codes),
    }


def _headers(told: Mapping[str, str]) -> dict[str, Any]:
    return {
        HEADER: {"$ref": "#/components/headers/RequestId"},
        **{
            name: {"description": text, "schema": {"type": "string"}} for name, text in told.items()
        },
    }


def _describe_fields_of_records(schema: dict[str, Any]) -> None:
    """Puts into the schema of a report what its type does not say."""
    for name, (text, example, more) in schemas.RECORD_FIELDS.items():
        field = schema["properties"][name]
        if text:
            field["description"] = text
        if example is not ...:
            field["examples"] = [example]
        # One that may be null has its bounds beside the type that they are of.
        bounded = next((s for s in field.get("anyOf", ()) if s.get("type") == "string"), field)
        bounded |= more


def _plain(schema: Any) -> Any:
    """A schema in words that all readers of JSON Schema know."""
    match schema:
        case Mapping():
            plain = {
                name: _plain(each)
                for name, each in schema.items()
                # What is absent is absent: that it can be written as null too is told by its type.
                if not (name == "default" and each is None)
            }
            if isinstance(plain.get("pattern"), str):
                plain["pattern"] = re.sub(r"^\\A(.*)\\Z$", r"^\1$", plain["pattern"])
            if isinstance(plain.get("description"), str):
                plain["description"] = _one_line(plain["description"])
            return plain
        case list():
            return [_plain(each) for each in schema]
        case _:
            return schema


def _one_line(text: str) -> str:
    """A docstring's paragraphs as Markdown: each in one line, code in single backticks."""
    paragraphs = re.split(r"\n\s*\n", text.replace("``", "`"))
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)

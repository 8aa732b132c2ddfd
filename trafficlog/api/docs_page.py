"""The description of the API as one HTML page that needs no other file and runs nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import jinja2
from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEPTH_MAX: Final = 6
PROBLEM: Final = "Problem"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a shape, by its path from the top of it."""

    path: str
    kind: str
    is_required: bool
    text: str


class DocsPage:
    """Makes the page from the document."""

    def __init__(self) -> None:
        self._style = (resources.files("trafficlog.api") / "templates" / "docs.css").read_text(
            "utf-8"
        )
        # What a member of the document may lack is left out, hence no StrictUndefined.
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("trafficlog.api"),
            autoescape=True,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(prose=prose, as_json=as_json, kind=kind_of, bounds=bounds_of)
        self._template = environment.get_template("docs.html")

    @property
    def content_security_policy(self) -> str:
        """Under which the page may be served: its own style by its hash, and nothing else."""
        digest = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        return (
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'"
        )

    def html(self, document: Mapping[str, Any]) -> str:
        """The page of a document of OpenAPI, as ``trafficlog.api.openapi`` makes it."""
        components = document["components"]["schemas"]
        groups: dict[str, list[dict[str, Any]]] = {tag["name"]: [] for tag in document["tags"]}
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                groups[operation["tags"][0]].append(
                    {
                        **operation,
                        "method": method.upper(),
                        "path": path,
                        "scopes": [
                            scope for each in operation["security"] for scope in each["key"]
                        ],
                        "parameters": [p for p in operation["parameters"] if "$ref" not in p],
                        "curl": curl_of(method.upper(), path, operation),
                    }
                )
        return self._template.render(
            style=Markup(self._style),  # noqa: S704 - our own file, whose hash the policy names
            document=document,
            groups=groups,
            problem=list(fields_of(components[PROBLEM], components)),
            fields=lambda schema: list(fields_of(schema, components)),
        )


def curl_of(method: str, path: str, operation: Mapping[str, Any]) -> str:
    """A command that makes a request of this kind, with the examples put in."""
    query = []
    for each in operation["parameters"]:
        example = next(iter(each.get("schema", {}).get("examples", ())), None)
        if each.get("in") == "path":
            path = path.replace("{" + each["name"] + "}", str(example or each["name"].upper()))
        elif each.get("required"):
            query.append(f"{each['name']}={example}")
    address = f"{path}?{'&'.join(query)}" if query else path
    parts = [f'curl {"" if method == "GET" else f"-X {method} "}"$TRAFFICLOG{address}"']
    if operation["security"]:
        parts.append('-H "Authorization: Bearer $KEY"')
    body = operation.get("requestBody")
    if body is not None:
        media_type, content = next(iter(body["content"].items()))
        parts.append(f'-H "Content-Type: {media_type}"')
        given = json.dumps(content["example"], ensure_ascii=False).replace("'", "'\\''")
        parts.append(f"--data '{given}'")
    return " \\\n  ".join(parts)


def fields_of(
    schema: Mapping[str, Any], components: Mapping[str, Any], before: str = "", depth: int = 0
) -> Iterator[Field]:
    """The fields of a shape and of what is in it, one after another."""
    schema = _resolved(schema, components)
    if schema.get("type") == "array":
        yield from fields_of(schema["items"], components, before and f"{before}[]", depth)
        return
    for name, each in schema.get("properties", {}).items():
        path = f"{before}.{name}" if before else name
        text = each.get("description", "")
        yield Field(path, kind_of(each, components), name in schema.get("required", ()), text)
        inner = _resolved(each, components)
        if depth < DEPTH_MAX and (inner.get("properties") or inner.get("type") == "array"):
            yield from fields_of(inner, components, path, depth + 1)


def kind_of(schema: Mapping[str, Any], components: Mapping[str, Any] | None = None) -> str:
    """What a value is, in a few words."""
    schema = _resolved(schema, components or {})
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind_of(each, components) for each in schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(str(each) for each in schema["enum"])
    kind = str(schema.get("type", "anything"))
    match kind:
        case "array":
            kind = f"list of {kind_of(schema['items'], components)}"
        case "string":
            kind = {"date-time": "time", "date": "day"}.get(schema.get("format", ""), "text")
        case "integer":
            kind = "number" + _between(schema)
    return kind


def bounds_of(schema: Mapping[str, Any]) -> str:
    """What a parameter is when it is absent."""
    return f"without it {json.dumps(schema['default'])}" if "default" in schema else ""


def _between(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None and high < 2**31 - 1:
        return f" from {low} to {high:,}"
    return "" if low is None else f" from {low}"


def _resolved(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference leads to; of several, the one that is not null."""
    if "$ref" in schema:
        found: Mapping[str, Any] = components.get(schema["$ref"].rpartition("/")[2], {})
        return found
    others = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if len(others) == 1 and ("$ref" in others[0] or others[0].get("type") == "array"):
        return _resolved(others[0], components)
    return schema


def prose(text: str) -> Markup:
    """Paragraphs of Markdown, of which the description uses code and bold type."""
    found = Markup()
    for paragraph in text.split("\n\n"):
        marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(paragraph)))
        marked = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", marked)
        found += Markup("<p>{}</p>\n").format(Markup(marked))  # noqa: S704 - escaped above
    return found


def as_json(value: object) -> str:
    """An example as it stands on the page."""
    return json.dumps(value, indent=2, ensure_ascii=False)

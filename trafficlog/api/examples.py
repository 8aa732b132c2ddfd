"""Examples of what a JSON schema describes, put together from those of its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXTS: Final = {"date-time": "2026-11-22T00:04:00Z", "date": "2026-11-22"}


def example_of(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    """An example of what a schema describes; ``components`` are those that it refers to."""
    if "$ref" in schema:
        return example_of(components[schema["$ref"].rpartition("/")[2]], components)
    stated = _stated(schema)
    if stated:
        return stated[0]
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], components)
    return _of_type(schema, components)


def _of_type(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    match schema.get("type"):
        case "object":
            required = schema.get("required", ())
            return {
                name: example_of(each, components)
                for name, each in schema.get("properties", {}).items()
                if name in required or _has_example(each)
            }
        case "array":
            return [example_of(schema["items"], components)]
        case "integer":
            return schema.get("minimum", 0)
        case "boolean":
            return False
        case kind:
            return None if kind == "null" else TEXTS.get(schema.get("format", ""), "…")


def _stated(schema: Mapping[str, Any]) -> list[Any]:
    """The values that a schema itself gives as examples, or that alone are right."""
    if schema.get("examples"):
        return list(schema["examples"])
    known = schema.get("enum", ())
    # Of the kinds the one that most records are of.
    return ["sms"] if "sms" in known else [*known]


def _has_example(schema: Mapping[str, Any]) -> bool:
    """Whether a field that may be absent is worth showing."""
    if "$ref" in schema or schema.get("examples"):
        return True
    return any(_has_example(each) for each in schema.get("anyOf", ()))

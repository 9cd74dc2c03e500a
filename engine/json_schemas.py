"""JSON schemas as grammars want them: with bounded white space, and objects that end."""

from collections.abc import Iterator, Mapping
from typing import Any

# A model that cannot decide may write spaces for ever.
WHITESPACE = r"[ \t\n]{0,32}"

_MAPS_OF_SCHEMAS = frozenset({"properties", "$defs", "definitions"})
_LISTS_OF_SCHEMAS = frozenset({"anyOf", "oneOf", "prefixItems"})
_SCHEMAS = frozenset({"items", "additionalItems", "contains", "propertyNames"})
# With these a property may be declared elsewhere than in the schema it is a property of.
_OPEN = frozenset(
    {
        *("allOf", "if", "then", "else", "not", "dependentSchemas", "dependencies"),
        *("patternProperties", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"),
    }
)


def prepare_schema(schema: Mapping[str, Any] | bool) -> dict[str, Any]:
    """The schema for llguidance, with our options for it, which a request may not change.

    Objects that declare properties and do not say whether they may have others get none: small
    models would otherwise go on to invent them. What is written then is valid all the same. A
    schema that composes objects of several others is left as it is.
    """
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    parts = list(_walk(schema))
    if not any(_is_composed(part) for part in parts):
        schema = _close(schema)
    return {**schema, "x-guidance": {"whitespace_pattern": WHITESPACE}}


def _walk(schema: object) -> Iterator[Mapping[str, Any]]:
    """A schema and all schemas in it. Raises RecursionError if they are nested too deeply."""
    if not isinstance(schema, Mapping):
        return
    yield schema
    for key, value in schema.items():
        for part in _parts(key, value):
            yield from _walk(part)


def _parts(key: str, value: object) -> list[object]:
    if key in _MAPS_OF_SCHEMAS and isinstance(value, Mapping):
        return list(value.values())
    if key in _LISTS_OF_SCHEMAS and isinstance(value, list):
        return value
    if key in _SCHEMAS or key == "additionalProperties":
        return value if isinstance(value, list) else [value]
    return []


def _is_composed(schema: Mapping[str, Any]) -> bool:
    has_others = "$ref" in schema or "anyOf" in schema or "oneOf" in schema
    return not _OPEN.isdisjoint(schema) or ("properties" in schema and has_others)


def _close(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    closed = {key: _close_parts(key, value) for key, value in schema.items()}
    properties = schema.get("properties")
    if isinstance(properties, Mapping) and "additionalProperties" not in schema:
        required, least = schema.get("required", []), schema.get("minProperties", 0)
        declares_all = isinstance(required, list) and all(name in properties for name in required)
        if declares_all and isinstance(least, int) and least <= len(properties):
            closed["additionalProperties"] = False
    return closed


def _close_parts(key: str, value: Any) -> Any:
    if key in _MAPS_OF_SCHEMAS and isinstance(value, Mapping):
        return {name: _close(part) for name, part in value.items()}
    if key in _LISTS_OF_SCHEMAS and isinstance(value, list):
        return [_close(part) for part in value]
    if key in _SCHEMAS or key == "additionalProperties":
        return [_close(part) for part in value] if isinstance(value, list) else _close(value)
    return value

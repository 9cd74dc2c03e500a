"""JSON schemas as grammars want them: with bounded white space, and objects that end."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from .errors import BadRequestError

# A model that cannot decide may write spaces for ever.
WHITESPACE = r"[ \t\n]{0,32}"

_MAPS_OF_SCHEMAS = frozenset({"properties", "$defs", "definitions"})
_LISTS_OF_SCHEMAS = frozenset({"anyOf", "prefixItems"})
_SCHEMAS = frozenset({"items", "additionalItems"})
_MOST_MEMBERS = {"properties": 2000, "patternProperties": 100}
_LARGEST_DIVISOR = 10_000
_LARGEST_NUMBER = 10**15
# With these a property may be declared elsewhere than in the schema it is a property of, or what
# fits a narrower part of the schema need not fit the whole.
_OPEN = frozenset(
    {
        *("allOf", "oneOf", "if", "then", "else", "not", "dependentSchemas", "dependencies"),
        *("patternProperties", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"),
    }
)


def prepare_schema(schema: Mapping[str, Any] | bool) -> dict[str, Any]:
    """The schema for llguidance, with our options for it, which a request may not change.

    Objects that declare properties and do not say whether they may have others get none: small
    models would otherwise go on to invent them. What is written then is valid all the same. A
    schema that composes objects of several others is left as it is. Raises BadRequestError for a
    schema that would take too long to compile, or is nested too deeply.
    """
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    check_bounds(schema)
    try:
        is_composed = any(_is_composed(part) for part in _walk(schema))
        prepared: Mapping[str, Any] = schema if is_composed else _close(schema)
    except RecursionError:
        raise _refusal("the JSON schema is nested too deeply") from None
    return {**prepared, "x-guidance": {"whitespace_pattern": WHITESPACE}}


def check_bounds(schema: object) -> None:
    """Raise BadRequestError for what takes llguidance seconds and more to compile."""
    divisors, parts = set(), [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts.extend(part)
        if not isinstance(part, Mapping):
            continue
        parts.extend(part.values())
        for name, most in _MOST_MEMBERS.items():
            members = part.get(name)
            if isinstance(members, Mapping) and len(members) > most:
                raise _refusal(f"{len(members)} {name} in an object; at most {most} are allowed")
        divisors.add(_cofactor(part.get("multipleOf")))
    product = 1
    for divisor in divisors:
        product *= divisor
        if product > _LARGEST_DIVISOR:
            raise _refusal(
                "the numbers of `multipleOf`, without their factors 2 and 5, have a product of "
                f"more than {_LARGEST_DIVISOR}"
            )


def _cofactor(divisor: object) -> int:
    """A decimal fraction's digits without factors of 10: what makes a divisor hard to hold to."""
    if isinstance(divisor, bool) or not isinstance(divisor, int | float):
        return 1
    if isinstance(divisor, int) and abs(divisor) >= _LARGEST_NUMBER:
        raise _refusal(f"a `multipleOf` of {_LARGEST_NUMBER:.0e} and more")
    digits = Decimal(repr(divisor))
    if not digits.is_finite() or digits == 0:
        return 1
    number = int("".join(map(str, digits.as_tuple().digits)))
    for prime in (2, 5):
        while number % prime == 0:
            number //= prime
    return number


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
    has_others = "$ref" in schema or "anyOf" in schema
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


def _refusal(why: str) -> BadRequestError:
    return BadRequestError(f"{why}.", "response_format")

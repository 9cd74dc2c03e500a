"""Which schemas get objects that end."""

from typing import Any

import pytest

from octavo.engine.errors import BadRequestError
from octavo.engine.json_schemas import prepare_schema

OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}}
CLOSED = {**OBJECT, "additionalProperties": False}


def prepared(schema: Any) -> Any:
    result = prepare_schema(schema)
    assert "whitespace_pattern" in result.pop("x-guidance")
    return result


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (OBJECT, CLOSED),
        ({"type": "array", "items": OBJECT}, {"type": "array", "items": CLOSED}),
        ({"anyOf": [OBJECT, {"type": "null"}]}, {"anyOf": [CLOSED, {"type": "null"}]}),
        (
            {"$ref": "#/$defs/x", "$defs": {"x": OBJECT}},
            {"$ref": "#/$defs/x", "$defs": {"x": CLOSED}},
        ),
        # A property's name is no keyword.
        (
            {"properties": {"allOf": OBJECT}},
            {"properties": {"allOf": CLOSED}, "additionalProperties": False},
        ),
    ],
)
def test_objects_with_declared_properties_get_no_others(schema: Any, expected: Any) -> None:
    assert prepared(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {**OBJECT, "additionalProperties": True},
        {**OBJECT, "additionalProperties": {"type": "string"}},
        {**OBJECT, "required": ["a", "b"]},
        {**OBJECT, "minProperties": 2},
        {**OBJECT, "allOf": [{"properties": {"b": {}}}]},
        {**OBJECT, "anyOf": [{"properties": {"b": {}}}]},
        {**OBJECT, "$ref": "#/$defs/x", "$defs": {"x": {"properties": {"b": {}}}}},
        {**OBJECT, "patternProperties": {"^x": {}}},
        {"type": "array", "items": {"allOf": [OBJECT, {"properties": {"b": {}}}]}},
        {"oneOf": [OBJECT, {"properties": {"b": {}}, "required": ["b"]}]},
        {"type": "array", "contains": OBJECT, "maxContains": 1},
        {"enum": [{"properties": {"a": 1}}]},
        {"const": {"properties": {"a": 1}}},
    ],
)
def test_what_says_more_is_left_as_it_is(schema: Any) -> None:
    assert prepared(schema) == schema


def test_a_schema_that_is_nested_too_deeply_or_takes_too_long_is_refused() -> None:
    nested: Any = {}
    for _ in range(900):
        nested = {"items": nested}
    many = {"properties": {str(number): {} for number in range(2001)}}
    for schema, word in ((nested, "deeply"), (many, "2000"), ({"multipleOf": 10007}, "10000")):
        with pytest.raises(BadRequestError, match=word):
            prepare_schema(schema)
    assert prepared({"multipleOf": 100_000}) == {"multipleOf": 100_000}
    assert prepared({"multipleOf": 0.01}) == {"multipleOf": 0.01}


def test_booleans_and_a_request_s_own_options() -> None:
    assert prepared(True) == {}
    assert prepared(False) == {"not": {}}
    options = prepare_schema({"x-guidance": {"lenient": True}})["x-guidance"]
    assert "lenient" not in options

"""Schemas made to be nasty, one idea each: (name, level, schema)."""

from typing import Any

Schema = dict[str, Any] | bool
Made = tuple[str, int, Schema]

DIGIT = {"type": "integer", "minimum": 0, "maximum": 9}
ONE = {"const": 1}
SHORT = {"type": "string", "maxLength": 5}


def made_schemas() -> list[Made]:
    """All of them; some are refused, as the tests say."""
    return [
        *_numbers(),
        *_texts(),
        *_arrays(),
        *_objects(),
        *_combinations(),
        *_recursion(),
        *_large(),
        *_degenerate(),
    ]


def _closed(required: list[str] | None = None, **properties: Schema) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _numbers() -> list[Made]:
    return [
        ("integer of one digit", 1, DIGIT),
        ("integer between bounds that are not there", 1, {"type": "integer"}),
        (
            "negative integer range",
            2,
            {"type": "integer", "minimum": -105, "maximum": -98},
        ),
        (
            "range across zero",
            2,
            {"type": "integer", "exclusiveMinimum": -3, "exclusiveMaximum": 3},
        ),
        ("single integer", 2, {"type": "integer", "minimum": 42, "maximum": 42}),
        ("64-bit bound", 3, {"type": "integer", "minimum": 9007199254740993}),
        ("number without integers", 3, {"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
        ("tiny range", 4, {"type": "number", "minimum": 0.1, "maximum": 0.1000001}),
        ("fractional bounds", 3, {"type": "number", "minimum": -2.75, "maximum": 10.125}),
        ("multiple of 7", 3, {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 999}),
        ("multiple of 0.25", 3, {"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 9}),
        ("multiples of 4 and of 6", 4, {"allOf": [{"multipleOf": 4}, {"multipleOf": 6}]}),
        ("integer that is written with bounds of floats", 3, {"type": "integer", "minimum": 1.5}),
        ("empty range", 4, {"type": "integer", "minimum": 5, "maximum": 4}),
        ("bound beyond 64 bits", 4, {"type": "integer", "minimum": 10**300}),
        ("number or nothing", 2, {"type": ["number", "null"], "minimum": 0, "maximum": 1}),
    ]


def _texts() -> list[Made]:
    return [
        ("text of at most five characters", 1, SHORT),
        ("text of exactly three characters", 2, {"type": "string", "minLength": 3, "maxLength": 3}),
        ("empty text only", 2, {"type": "string", "maxLength": 0}),
        (
            "length counts characters, not bytes",
            3,
            {"type": "string", "pattern": "^[äöü😀]+$", "minLength": 2, "maxLength": 2},
        ),
        ("pattern without anchors", 3, {"type": "string", "pattern": "b{3}", "maxLength": 8}),
        ("pattern of characters that JSON escapes", 4, {"pattern": '^["\\\\/\n\t]{4}$'}),
        ("pattern with alternatives", 3, {"type": "string", "pattern": "^(cat|dog|[0-9]{2,3})$"}),
        ("pattern of a kanji range", 3, {"type": "string", "pattern": "^[一-龥]{1,4}$"}),
        ("pattern that backtracks without end", 5, {"type": "string", "pattern": "^(a+)+b$"}),
        (
            "pattern and length disagree",
            4,
            {"type": "string", "pattern": "^a{5}$", "maxLength": 3},
        ),
        ("pattern with look-ahead", 4, {"type": "string", "pattern": "^(?=.*[0-9])[a-z0-9]{8}$"}),
        ("pattern with a back-reference", 4, {"type": "string", "pattern": "^(a|b)\\1$"}),
        ("pattern with a word boundary", 4, {"type": "string", "pattern": "\\bx\\b"}),
        ("pattern that is no pattern", 3, {"type": "string", "pattern": "(a"}),
        ("date", 2, {"type": "string", "format": "date"}),
        ("email", 2, {"type": "string", "format": "email"}),
        ("IPv6", 3, {"type": "string", "format": "ipv6"}),
        ("format nobody knows", 3, {"type": "string", "format": "horoscope"}),
        (
            "unicode in an enumeration",
            2,
            {"enum": ["Straße", "naïve", "日本語", "😀👍🏽", "\u200b"]},
        ),
        ("constant that needs escapes", 3, {"const": 'a "quoted" \\ back\\slash\n\u0000\u001f'}),
        ("constant beyond the basic plane", 3, {"const": "𝄞 and 🏳️‍🌈"}),
        ("constant with a lone surrogate", 4, {"const": "\ud83d"}),
    ]


def _arrays() -> list[Made]:
    coordinates: list[Schema] = [{"type": "number", "minimum": -9, "maximum": 9}, SHORT]
    return [
        ("empty array", 1, {"type": "array", "maxItems": 0}),
        (
            "array of three digits",
            1,
            {"items": DIGIT, "type": "array", "minItems": 3, "maxItems": 3},
        ),
        ("tuple", 2, {"type": "array", "prefixItems": coordinates, "items": False, "minItems": 2}),
        ("tuple with a tail", 3, {"type": "array", "prefixItems": coordinates, "items": DIGIT}),
        (
            "tuple of draft 7",
            3,
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "type": "array",
                "items": coordinates,
                "additionalItems": False,
                "minItems": 2,
            },
        ),
        ("matrix", 2, {"items": {"items": DIGIT, "minItems": 2, "maxItems": 2}, "maxItems": 2}),
        ("items that cannot be", 3, {"type": "array", "items": False}),
        ("at least a tuple's length", 3, {"prefixItems": [DIGIT, DIGIT], "minItems": 3}),
        ("sixty items at least", 4, {"type": "array", "items": DIGIT, "minItems": 60}),
        ("a billion items at least", 5, {"type": "array", "items": DIGIT, "minItems": 10**9}),
        ("unique items", 3, {"type": "array", "items": DIGIT, "uniqueItems": True}),
        ("contains", 3, {"type": "array", "contains": DIGIT}),
        ("items that are not evaluated", 4, {"prefixItems": [DIGIT], "unevaluatedItems": False}),
    ]


def _objects() -> list[Made]:
    return [
        ("empty object", 1, {"type": "object", "maxProperties": 0}),
        ("required but not declared", 3, {"required": ["a", "b"], **_CLOSED_TO_DIGITS}),
        ("only optional properties", 2, _closed([], a=DIGIT, b=DIGIT, c=DIGIT)),
        ("optional between required", 3, _closed(["a", "d"], a=DIGIT, b=SHORT, c=SHORT, d=DIGIT)),
        ("values of one type under any name", 2, {"type": "object", **_CLOSED_TO_DIGITS}),
        ("property names that need escapes", 3, _closed(None, **{'a"b': DIGIT, "c\\d\n": DIGIT})),
        (
            "property names in unicode",
            3,
            _closed(None, **{"größe": DIGIT, "名前": SHORT, "😀": DIGIT}),
        ),
        ("property with no name", 3, _closed(None, **{"": DIGIT})),
        ("property names that are keywords", 4, _closed(None, **{"$ref": DIGIT, "type": SHORT})),
        ("one property is forbidden", 4, {**_closed(["a"], a=DIGIT, b=False)}),
        (
            "names by pattern",
            3,
            {
                "type": "object",
                "patternProperties": {"^x-[a-z]{1,3}$": DIGIT},
                "additionalProperties": False,
                "maxProperties": 2,
            },
        ),
        (
            "names by two patterns that do not meet",
            4,
            {"patternProperties": {"^a": DIGIT, "^b": SHORT}, "additionalProperties": False},
        ),
        (
            "names by two patterns that meet",
            4,
            {"patternProperties": {"a": DIGIT, "b": SHORT}, "additionalProperties": False},
        ),
        ("two properties at least", 3, {"type": "object", "minProperties": 2, **_CLOSED_TO_DIGITS}),
        (
            "two properties at least, declared ones",
            4,
            {"minProperties": 2, **_closed([], a=DIGIT, b=DIGIT, c=DIGIT)},
        ),
        ("names have a schema", 3, {"type": "object", "propertyNames": {"maxLength": 3}}),
        ("one name asks for another", 4, {"dependentRequired": {"a": ["b"]}}),
        ("one name asks for a schema", 4, {"dependentSchemas": {"a": {"required": ["b"]}}}),
        ("if, then, else", 4, {"if": {"type": "integer"}, "then": {"minimum": 5}, "else": SHORT}),
        ("properties that are not evaluated", 4, {"unevaluatedProperties": False}),
    ]


_CLOSED_TO_DIGITS: dict[str, Any] = {"additionalProperties": DIGIT}


def _combinations() -> list[Made]:
    return [
        ("any of two types", 1, {"anyOf": [{"type": "null"}, DIGIT]}),
        ("list of types", 1, {"type": ["null", "boolean"]}),
        (
            "enumeration of every type",
            2,
            {"enum": [None, True, 0, -1.5, "x", [1, "a"], {"a": {"b": []}}]},
        ),
        ("constant object", 2, {"const": {"b": [1, {"c": None}], "a": "x"}}),
        (
            "all of a type and a bound",
            3,
            {"allOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 5}]},
        ),
        (
            "all of two objects",
            3,
            {
                "allOf": [
                    {"type": "object", "properties": {"a": DIGIT}, "required": ["a"]},
                    {"properties": {"b": SHORT}, "required": ["b"]},
                ],
                "additionalProperties": True,
                "maxProperties": 3,
            },
        ),
        ("any of beside a type", 3, {"type": "integer", "anyOf": [{"maximum": 3}, {"minimum": 8}]}),
        (
            "any of beside properties",
            4,
            {
                "type": "object",
                "properties": {"a": DIGIT, "b": DIGIT, "c": DIGIT},
                "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
                "additionalProperties": False,
            },
        ),
        ("reference beside a bound", 4, {"$defs": {"d": DIGIT}, "$ref": "#/$defs/d", "minimum": 4}),
        ("enumeration cut by a type", 3, {"type": "integer", "enum": [1, "a", 2.5, 3, None]}),
        ("one of that exclude each other", 3, {"oneOf": [{"type": "null"}, DIGIT]}),
        ("one of that overlap", 4, {"oneOf": [{"minimum": 2}, {"maximum": 5}], "type": "integer"}),
        (
            "one of whose branches overlap unless they are closed",
            5,
            {
                "oneOf": [
                    {"type": "object", "properties": {"a": DIGIT}},
                    {"type": "object", "properties": {"b": DIGIT}, "required": ["b"]},
                ]
            },
        ),
        (
            "one of by a constant, in open objects",
            4,
            {"oneOf": [_kind("cat", lives=DIGIT), _kind("dog", name=SHORT)]},
        ),
        ("not", 3, {"type": "integer", "not": {"const": 5}}),
        ("all of what cannot be together", 4, {"allOf": [{"type": "string"}, {"type": "integer"}]}),
        ("any of one that cannot be", 4, {"anyOf": [False, {"const": "left"}]}),
        (
            "twelve pairs, four thousand ways",
            5,
            {"allOf": [{"anyOf": [_has(f"a{i}"), _has(f"b{i}")]} for i in range(12)]},
        ),
    ]


def _kind(kind: str, **properties: Schema) -> Schema:
    declared = {"kind": {"const": kind}, **properties}
    return {"type": "object", "properties": declared, "required": list(declared)}


def _has(name: str) -> Schema:
    return {"type": "object", "properties": {name: DIGIT}, "required": [name]}


def _recursion() -> list[Made]:
    link = _closed(["v"], v=DIGIT, next={"$ref": "#"})
    even_odd = {
        "even": _closed([], odd={"$ref": "#/$defs/odd"}),
        "odd": _closed([], even={"$ref": "#/$defs/even"}),
    }
    chain = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(200)}
    return [
        ("reference to the whole", 3, link),
        ("array of itself", 3, {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}),
        ("mutual recursion", 4, {"$defs": even_odd, "$ref": "#/$defs/even"}),
        ("recursion with no end", 5, _closed(None, next={"$ref": "#"})),
        ("reference to itself", 5, {"$ref": "#"}),
        (
            "references in a ring",
            5,
            {
                "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
                "$ref": "#/$defs/a",
            },
        ),
        (
            "two hundred references in a row",
            4,
            {"$defs": {**chain, "d200": DIGIT}, "$ref": "#/$defs/d0"},
        ),
        ("escaped pointer", 4, {"$defs": {"a/b~c %": DIGIT}, "$ref": "#/$defs/a~1b~0c%20%25"}),
        ("pointer into properties", 3, _closed(None, a=DIGIT, b={"$ref": "#/properties/a"})),
        (
            "reference by identifier",
            4,
            {"$defs": {"x": {"$id": "urn:x", **DIGIT}}, "$ref": "urn:x"},
        ),
        ("reference by anchor", 4, {"$defs": {"x": {"$anchor": "here", **DIGIT}}, "$ref": "#here"}),
        ("reference to nowhere", 3, {"$ref": "#/$defs/missing"}),
        ("reference to another machine", 3, {"$ref": "https://example.org/schema.json"}),
        ("dynamic reference", 4, {"$dynamicRef": "#node", "$dynamicAnchor": "node"}),
    ]


def _large() -> list[Made]:
    nested: dict[str, Any] = DIGIT
    for _ in range(30):
        nested = _closed(None, a=nested)
    arrays: dict[str, Any] = DIGIT
    for _ in range(30):
        arrays = {"type": "array", "items": arrays, "maxItems": 1}
    deep: dict[str, Any] = DIGIT
    for _ in range(200):
        deep = {"items": deep}
    names = [f"property_{i}" for i in range(100)]
    words = [f"value {i} of a thousand" for i in range(1000)]
    branches = [_closed(None, kind={"const": f"k{i}"}, value=DIGIT) for i in range(200)]
    return [
        ("objects thirty deep", 5, nested),
        ("arrays thirty deep", 5, arrays),
        ("two hundred levels", 5, deep),
        ("enumeration of a thousand", 5, {"enum": words}),
        ("enumeration of a thousand numbers", 4, {"enum": list(range(0, 7000, 7))}),
        ("hundred optional properties", 5, _closed([], **dict.fromkeys(names, DIGIT))),
        ("forty required properties", 4, _closed(None, **dict.fromkeys(names[:40], ONE))),
        ("one of two hundred branches", 5, {"anyOf": branches}),
        (
            "description of a hundred thousand characters",
            3,
            {"description": "x" * 100_000, **DIGIT},
        ),
        ("text of a million characters at most", 4, {"type": "string", "maxLength": 10**6}),
        ("pattern of a hundred thousand repetitions", 5, {"pattern": "^a{0,100000}b?$"}),
    ]


def _degenerate() -> list[Made]:
    return [
        ("anything", 1, {}),
        ("true", 1, True),
        ("false", 2, False),
        ("null", 1, {"type": "null"}),
        ("boolean", 1, {"type": "boolean"}),
        ("only annotations", 2, {"title": "t", "description": "d", "default": 1, "examples": [1]}),
        ("keyword nobody knows", 3, {"type": "null", "x-order": 1, "$comment": "c"}),
        ("type nobody knows", 2, {"type": "strin"}),
        ("empty enumeration", 3, {"enum": []}),
        ("schema that is no schema", 2, {"properties": {"a": 5}}),
        ("required of the wrong type", 2, {"required": "a"}),
    ]

"""Forced calls, in every format: the grammar takes what the format's parser reads, and no other."""

import json
from typing import Any

import jsonschema
import pytest

from octavo.engine.build import load_tokenizer, plan_model
from octavo.engine.grammars import Grammars
from octavo.engine.settings import Settings
from octavo.engine.structured import StructuredOutput
from octavo.engine.tokenizer import Tokenizer
from octavo.server.tools.choice import Function
from octavo.server.tools.forced import forced_calls, strict_calls
from octavo.server.tools.formats import TOOL_FORMATS, ToolFormat, detect_format
from octavo.server.tools.parser import Frame, ToolParser

TREE = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/node"}},
    "required": ["root"],
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"v": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}},
            "required": ["v"],
        }
    },
}


def obj(**properties: Any) -> dict[str, Any]:
    """A schema of an object that has just these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


FUNCTIONS = [
    Function("plain", obj()),
    Function("tree", TREE, is_strict=True),
    Function(
        "text",
        {
            "type": "object",
            "properties": {"q": {"type": "string"}, "n": {"type": ["number", "null"]}},
            "required": ["q", "n"],
        },
    ),
    Function("enumerated", obj(unit={"enum": ["°C", "°F", None, 3]}, kind={"const": "a"})),
    Function("bounded", obj(n={"type": "integer", "minimum": -3, "maximum": 12})),
    Function("listed", obj(xs={"type": "array", "items": {"type": "number"}, "maxItems": 3})),
    Function("pair", obj(p={"type": "array", "prefixItems": [{"type": "string"}, {}]})),
    Function("either", obj(v={"anyOf": [{"type": "boolean"}, obj(q={"type": "string"})]})),
    Function("pattern", obj(code={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,4}$"})),
    Function("dated", obj(day={"type": "string", "format": "date"})),
    Function("open-ended", {"type": "object", "additionalProperties": {"type": "integer"}}),
    Function("a" * 64, obj(nested=obj(deeper=obj(x={"type": "null"})))),
]
CALLS = [
    ("plain", {}),
    ("tree", {"root": {"v": 1, "next": {"v": -2}}}),
    ("text", {"q": 'a "quoted" }] </tool_call> 😀', "n": None}),
    ("text", {"q": "", "n": 2.5}),
    ("enumerated", {"unit": "°F", "kind": "a"}),
    ("enumerated", {"unit": None, "kind": "a"}),
    ("bounded", {"n": 12}),
    ("listed", {"xs": []}),
    ("listed", {"xs": [1, -2.5, 3e10]}),
    ("pair", {"p": ["a", {"any": ["thing"]}]}),
    ("either", {"v": True}),
    ("either", {"v": {"q": "[TOOL_CALLS][ARGS];"}}),
    ("pattern", {"code": "AB-1234"}),
    ("dated", {"day": "2026-11-25"}),
    ("open-ended", {"a b": 1, "ü": -5}),
    ("a" * 64, {"nested": {"deeper": {"x": None}}}),
]
SCHEMAS = {function.name: function.parameters for function in FUNCTIONS}


@pytest.fixture(scope="module")
def tokenizer(smollm2_gguf) -> Tokenizer:
    settings = Settings.load({"model": str(smollm2_gguf)})
    return load_tokenizer(plan_model(settings), settings)


@pytest.fixture(scope="module")
def grammars(tokenizer) -> Grammars:
    return Grammars(lambda: (tokenizer, tokenizer.vocab_size))


def write(one: ToolFormat, calls: list[tuple[str, Any]]) -> str:
    texts = [
        one.before_arguments % name
        + json.dumps(arguments, ensure_ascii=False)
        + one.after_arguments
        for name, arguments in calls
    ]
    return one.begin + one.separator.join(texts) + one.end


def strict(
    one: ToolFormat, functions: list[Function] = FUNCTIONS, special_token: Any = lambda mark: None
) -> StructuredOutput | None:
    return strict_calls(one, functions, is_parallel=True, special_token=special_token)


def accepts(grammars: Grammars, tokenizer: Tokenizer, form: Any, text: str) -> bool:
    matcher = grammars.compile(form)
    is_taken = matcher.consume_tokens(tokenizer.encode(text, add_special_tokens=False))
    return is_taken and (matcher.is_accepting() or matcher.is_stopped())


@pytest.mark.parametrize("name", sorted(TOOL_FORMATS))
def test_what_the_grammar_takes_the_parser_reads(name, grammars, tokenizer) -> None:
    one = TOOL_FORMATS[name]
    form = forced_calls(one, FUNCTIONS, is_parallel=True, special_token=lambda mark: None)
    for calls in ([call] for call in CALLS), [CALLS]:
        for some in calls:
            text = write(one, some)
            assert accepts(grammars, tokenizer, form, text), text
            parser = ToolParser(one.frame, SCHEMAS.keys(), 16)
            first, last = parser.push(text), parser.flush()
            read = [(c.name, json.loads(c.arguments)) for c in first.tool_calls + last.tool_calls]
            assert read == some
            assert not (first.content + last.content).strip()
            for function, arguments in read:
                jsonschema.validate(arguments, SCHEMAS[function])


@pytest.mark.parametrize("name", sorted(TOOL_FORMATS))
def test_other_texts_are_not_taken(name, grammars, tokenizer) -> None:
    one = TOOL_FORMATS[name]
    form = forced_calls(one, FUNCTIONS, is_parallel=False, special_token=lambda mark: None)
    wrong = [
        "No call.",
        "",
        write(one, [("other", {})]),
        write(one, [("plain", {"a": 1})]),
        write(one, [("tree", {"root": {"v": "one"}})]),
        write(one, [("text", {"q": "a"})]),
        write(one, [("enumerated", {"unit": "K", "kind": "a"})]),
        write(one, [("bounded", {"n": 13})]),
        write(one, [("listed", {"xs": [1, 2, 3, 4]})]),
        write(one, [("pattern", {"code": "ab-1"})]),
        write(one, [("open-ended", {"a": "1"})]),
        write(one, CALLS[:2]),  # not in parallel
    ]
    for text in wrong:
        assert not accepts(grammars, tokenizer, form, text), text


def test_a_mark_that_is_a_special_token_is_written_by_its_id(grammars, tokenizer) -> None:
    """SmolLM2's <|im_start|> stands for a format's mark."""
    one = ToolFormat(
        "special", TOOL_FORMATS["json"].frame, begin="<|im_start|>", marks=("<|im_start|>",)
    )
    form = forced_calls(
        one, FUNCTIONS[:1], is_parallel=False, special_token=tokenizer.special_token_id
    )
    assert f"<[{tokenizer.token_id('<|im_start|>')}]>" in form.source
    assert accepts(grammars, tokenizer, form, '<|im_start|>{"name": "plain", "arguments": {}}')


def test_strict_calls_leave_text_free_until_a_call_begins(grammars, tokenizer) -> None:
    hermes = TOOL_FORMATS["hermes"]
    form = strict(hermes)
    assert form is not None
    assert accepts(grammars, tokenizer, form, "Just text, 1 < 2.")
    assert accepts(grammars, tokenizer, form, "Well. " + write(hermes, CALLS[1:2]))
    assert not accepts(grammars, tokenizer, form, write(hermes, [("tree", {"root": 5})]))
    assert not accepts(grammars, tokenizer, form, write(hermes, [("other", {})]))
    assert strict(hermes, FUNCTIONS[:1]) is None
    assert strict(TOOL_FORMATS["json"]) is None


def test_strict_calls_behind_a_special_token(grammars, tokenizer) -> None:
    """SmolLM2's <|im_start|> stands for Mistral's mark, as a text and as the token."""
    mark = "<|im_start|>"
    one = ToolFormat("special", Frame(mark), begin=mark + "[", end="]", marks=(mark,))
    form = strict(one, special_token=tokenizer.special_token_id)
    assert form is not None
    for text in ("Just text.", "", "Well. " + write(one, CALLS), write(one, CALLS[:1])):
        assert accepts(grammars, tokenizer, form, text), text
    for text in (mark, mark + "and text", write(one, [("tree", {"root": 5})])):
        assert not accepts(grammars, tokenizer, form, text), text


@pytest.mark.parametrize(
    ("template", "shows", "name"),
    [
        ("{{ messages }}", False, "hermes"),
        ("{{ tools }} <tool_call>", True, "hermes"),
        ("{{ tools }} [TOOL_CALLS]", True, "mistral"),
        ("{{ tools }} [TOOL_CALLS] [ARGS]", True, "mistral_named"),
        ("{{ tools }} <|python_tag|>", True, "llama3_json"),
        ("{{ tools }} [func_name1(params_name1=params_value1)]", True, "pythonic"),
        ("{{ tools }}", True, "json"),
    ],
)
def test_the_template_tells_the_format(template: str, shows: bool, name: str) -> None:
    assert detect_format(template, shows_tools=shows).name == name

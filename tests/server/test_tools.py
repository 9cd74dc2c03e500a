"""Calls of tools on the real model: forced ones fit their schema, and messages carry them on."""

import json
from typing import Any
from unittest.mock import ANY

import jsonschema
import pytest
from openai import OpenAI

from ..conftest import in_more_pieces_than

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "array", "items": {"$ref": "#/$defs/day"}, "maxItems": 2},
    },
    "required": ["city", "unit", "days"],
    "additionalProperties": False,
    "$defs": {"day": {"type": "integer", "minimum": 1, "maximum": 7}},
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "get_time", "description": "The time of day"}},
]
QUESTION: list[Any] = [{"role": "user", "content": "What will the weather be in Paris?"}]
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}


def ask(client: OpenAI, model: str, **options: Any) -> Any:
    settings = {"temperature": 0, "max_tokens": 200, "tools": TOOLS, "messages": QUESTION}
    return client.chat.completions.create(**{"model": model, **settings, **options})


def check(name: str, arguments: str) -> None:
    assert name in ("get_weather", "get_time")
    if name == "get_weather":
        jsonschema.validate(json.loads(arguments), WEATHER)
    else:
        assert json.loads(arguments) == {}


@pytest.mark.parametrize("parallel", [True, False])
def test_a_required_call_fits_its_schema(parallel: bool, client: OpenAI, model: str) -> None:
    answer = ask(client, model, tool_choice="required", parallel_tool_calls=parallel)
    (choice,) = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    calls = choice.message.tool_calls
    assert calls and (parallel or len(calls) == 1)
    for call in calls:
        assert call.type == "function"
        check(call.function.name, call.function.arguments)
    assert len({call.id for call in calls}) == len(calls)


def test_a_named_call_is_the_only_one_and_ends_with_stop(client: OpenAI, model: str) -> None:
    (choice,) = ask(client, model, tool_choice=NAMED).choices
    assert choice.finish_reason == "stop"
    (call,) = choice.message.tool_calls
    assert call.function.name == "get_weather"
    check(call.function.name, call.function.arguments)


def test_only_allowed_tools_are_called(client: OpenAI, model: str) -> None:
    allowed = [{"type": "function", "function": {"name": "get_time"}}]
    choice: Any = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": allowed},
    }
    (answer,) = ask(client, model, tool_choice=choice).choices
    assert {call.function.name for call in answer.message.tool_calls} == {"get_time"}


def test_sampled_choices_all_call(client: OpenAI, model: str) -> None:
    answer = ask(client, model, tool_choice=NAMED, n=4, temperature=1.5, seed=3)
    assert len(answer.choices) == 4
    for choice in answer.choices:
        (call,) = choice.message.tool_calls
        check(call.function.name, call.function.arguments)


def test_a_stream_has_the_call_in_pieces_as_openai_frames_them(client: OpenAI, model: str) -> None:
    whole = ask(client, model, tool_choice="required", parallel_tool_calls=False)
    (expected,) = whole.choices[0].message.tool_calls

    def num_pieces() -> int:
        chunks = list(
            ask(client, model, tool_choice="required", parallel_tool_calls=False, stream=True)
        )
        first, *others = [c.choices[0].delta for c in chunks if c.choices[0].delta.tool_calls]
        (head,) = first.tool_calls
        assert (head.index, head.type) == (0, "function")
        assert head.function.name == expected.function.name
        assert head.id.startswith("call_")
        arguments = head.function.arguments
        for delta in others:
            (piece,) = delta.tool_calls
            assert (piece.index, piece.id, piece.type, piece.function.name) == (0, None, None, None)
            arguments += piece.function.arguments
        assert arguments == expected.function.arguments
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-1].choices[0].finish_reason == "tool_calls"
        assert not any(c.choices[0].delta.content for c in chunks)
        return len(others)

    in_more_pieces_than(2, num_pieces)


def test_a_call_cut_by_max_tokens_says_so(client: OpenAI, model: str) -> None:
    (choice,) = ask(client, model, tool_choice=NAMED, max_tokens=20).choices
    assert choice.finish_reason == "length"


def test_auto_leaves_the_answer_free_and_none_hides_the_tools(client: OpenAI, model: str) -> None:
    shown, hidden = (ask(client, model, tool_choice=c, max_tokens=8) for c in ("auto", "none"))
    plain = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_tokens=8
    )
    assert hidden.usage.prompt_tokens == plain.usage.prompt_tokens < shown.usage.prompt_tokens
    assert hidden.choices[0].message.content == plain.choices[0].message.content
    assert shown.choices[0].message.content


def test_calls_and_their_results_reach_the_model(client: OpenAI, model: str, server) -> None:
    messages = [
        *QUESTION,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sunny, 23 degrees"},
    ]
    answer = server.post("/tokenize", json={"messages": messages, "tools": TOOLS}).json()
    text = server.post("/detokenize", json={"tokens": answer["tokens"]}).json()["prompt"]
    assert '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>' in text
    assert "<tool_response>\nsunny, 23 degrees\n</tool_response>" in text
    assert '{"name": "get_time", "description": "The time of day"}' in text
    reply = ask(client, model, messages=messages, max_tokens=40)
    assert "23" in reply.choices[0].message.content


def test_calls_by_their_names_of_2023_reach_the_model_too(server) -> None:
    def tokens(call: dict[str, Any], result: dict[str, Any]) -> list[int]:
        messages = [*QUESTION, {"role": "assistant", "content": None, **call}, result]
        return server.post("/tokenize", json={"messages": messages}).json()["tokens"]

    function = {"name": "f", "arguments": '{"a":1}'}
    old = tokens({"function_call": function}, {"role": "function", "name": "f", "content": "r"})
    new = tokens({"tool_calls": [{"function": function}]}, {"role": "tool", "content": "r"})
    assert old == new


@pytest.mark.parametrize(
    "refusal",
    [
        {"content": None, "refusal": "I will not."},
        {"content": [{"type": "refusal", "refusal": "I will not."}]},
    ],
)
def test_a_refusal_reaches_the_model_as_text(refusal: dict[str, Any], server) -> None:
    def tokens(message: dict[str, Any]) -> list[int]:
        messages = [*QUESTION, {"role": "assistant", **message}, *QUESTION]
        return server.post("/tokenize", json={"messages": messages}).json()["tokens"]

    assert tokens(refusal) == tokens({"content": "I will not."})


def test_the_names_of_2023_still_work(server) -> None:
    functions = [tool["function"] for tool in TOOLS]
    body = {
        "messages": QUESTION,
        "functions": functions,
        "temperature": 0,
        "max_tokens": 200,
        "function_call": {"name": "get_weather"},
    }
    (choice,) = server.post("/v1/chat/completions", json=body).json()["choices"]
    (call,) = choice["message"]["tool_calls"]
    check(call["function"]["name"], call["function"]["arguments"])


@pytest.mark.parametrize(
    ("body", "param", "word"),
    [
        ({"tools": []}, "tools", "1 to 128"),
        ({"tools": TOOLS * 65}, "tools", "1 to 128"),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools", "same name"),
        ({"tools": [{"type": "function"}]}, "tools", "function"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools", "letters"),
        (
            {
                "tools": [
                    {"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}
                ]
            },
            "tools",
            "an object",
        ),
        ({"tool_choice": "auto"}, "tool_choice", "`tools` must be set"),
        ({"tools": TOOLS, "tool_choice": "any"}, "tool_choice", "must be"),
        ({"tools": TOOLS, "tool_choice": {}}, "tool_choice", "must be"),
        ({"tools": TOOLS, "tool_choice": 5}, "tool_choice", "5"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}},
            "tool_choice",
            "does not match any",
        ),
        (
            {
                "tools": TOOLS,
                "tool_choice": "required",
                "response_format": {"type": "json_object"},
            },
            "tool_choice",
            "exclude each other",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(body: Any, param: str, word: str, refuse) -> None:
    refuse("/v1/chat/completions", {"messages": QUESTION, **body}, word, param=param)


@pytest.mark.parametrize("depth", [900, 940, 960, 980, 5000])
def test_no_depth_of_a_schema_is_a_fault_of_the_server(depth: int, refuse) -> None:
    """Some of these can be read, but not be written into the prompt; the rest asks too much."""
    parameters = '{"a":' * depth + "{}" + "}" * depth
    tools = [{"function": {"name": "f"}}]
    body = {"messages": QUESTION, "tools": tools, "max_tokens": 1_000_000}
    deep = json.dumps(body).replace('"f"', f'"f", "parameters": {{"properties": {parameters}}}')
    refuse("/v1/chat/completions", deep.encode(), param=ANY)


def test_a_template_of_the_request_needs_trust(refuse) -> None:
    body = {"messages": QUESTION, "chat_template": "{{ messages }}"}
    refuse("/v1/chat/completions", body, "--trust-request-chat-template", param="chat_template")


def test_a_schema_that_no_grammar_can_hold_to_is_refused(refuse) -> None:
    parameters = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    body = {"messages": QUESTION, "tools": [tool], "tool_choice": "required"}
    refuse("/v1/chat/completions", body, "not", param="tools")

"""The several ways in which a body may ask for a form of its answer, and half of one."""

import json
from typing import Any

import pytest

from octavo.engine.errors import BadRequestError
from octavo.engine.structured import StructuredOutput
from octavo.server.protocol import CompletionRequest

COMPLETIONS = "/v1/completions"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TAG = {"structures": [{"begin": "<a>", "schema": SCHEMA, "end": "</a>"}], "triggers": ["<a>"]}


def form_of(**body: Any) -> StructuredOutput | None:
    return CompletionRequest.model_validate({"prompt": "a", **body}).structured_output()


@pytest.mark.parametrize(
    ("body", "kind", "source"),
    [
        ({"response_format": {"type": "json_object"}}, "json_object", ""),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            "json_schema",
            SCHEMA,
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": True, "strict": False},
                }
            },
            "json_schema",
            True,
        ),
        ({"response_format": {"type": "grammar", "grammar": "start: /a/"}}, "grammar", None),
        ({"response_format": {"type": "structural_tag", **TAG}}, "structural_tag", TAG),
        ({"structured_outputs": {"json": SCHEMA}}, "json_schema", SCHEMA),
        ({"structured_outputs": {"json": json.dumps(SCHEMA)}}, "json_schema", SCHEMA),
        ({"structured_outputs": {"json_object": True}}, "json_object", ""),
        ({"structured_outputs": {"regex": "[0-9]+"}}, "regex", "[0-9]+"),
        ({"structured_outputs": {"choice": ["a", "b"]}}, "choice", ["a", "b"]),
        ({"structured_outputs": {"grammar": "start: /a/"}}, "grammar", None),
        ({"structured_outputs": {"structural_tag": TAG}}, "structural_tag", TAG),
        ({"guided_json": SCHEMA}, "json_schema", SCHEMA),
        ({"guided_regex": "[0-9]+"}, "regex", "[0-9]+"),
        ({"guided_choice": ["a", "b"]}, "choice", ["a", "b"]),
        ({"guided_grammar": "start: /a/"}, "grammar", None),
    ],
)
def test_each_spelling_asks_for_its_form(body: dict, kind: str, source: Any) -> None:
    form = form_of(**body)
    assert form is not None
    assert form.kind == kind
    if source is None:
        assert form.source == "start: /a/"
    else:
        assert form.source == source or json.loads(form.source) == source


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"response_format": None, "structured_outputs": None, "guided_json": None},
        {"response_format": {"type": "text"}},
    ],
)
def test_what_asks_for_no_form_gets_none(body: dict) -> None:
    assert form_of(**body) is None


@pytest.mark.parametrize(
    ("body", "words", "param"),
    [
        (
            {"response_format": {"type": "json_schema"}},
            "When response_format type is 'json_schema', the 'json_schema' field must be provided",
            "response_format",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "must be provided",
            "response_format",
        ),
        ({"response_format": {"type": "grammar"}}, "'grammar' field", "response_format"),
        ({"structured_outputs": {}}, "must use one: got 0 (none)", "structured_outputs"),
        (
            {"structured_outputs": {"regex": "a", "choice": ["a"]}},
            "got 2 (regex, choice)",
            "structured_outputs",
        ),
        (
            {"response_format": {"type": "json_object"}, "guided_regex": "a"},
            "got 2 (json_object, regex)",
            "response_format",
        ),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "got 2 (regex, choice)", "guided_regex"),
    ],
)
def test_more_than_one_form_or_half_of_one_is_refused(body: dict, words: str, param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        form_of(**body)
    assert words in caught.value.message
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"structured_outputs": {"regex": "["}}, "structured_outputs"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_grammar": "start: nothing"}, "guided_grammar"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 5}}}},
            "response_format",
        ),
        ({"response_format": {"type": "structural_tag"}}, "response_format"),
    ],
)
def test_a_form_that_is_no_grammar_is_refused_by_the_name_it_was_given(
    body: dict, param: str, refuse
) -> None:
    refuse(COMPLETIONS, {"prompt": "a", **body}, "cannot be used", param=param)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": "json_object"}, "response_format"),
        ({"structured_outputs": {"choice": "a"}}, "structured_outputs"),
        ({"guided_regex": 5}, "guided_regex"),
        ({"guided_choice": ["\ud800"]}, "guided_choice"),
    ],
)
def test_a_form_of_another_type_is_refused(body: dict, param: str, refuse) -> None:
    refuse(COMPLETIONS, {"prompt": "a", **body}, param=param)


def test_a_deeply_nested_schema_is_refused_and_no_fault(refuse) -> None:
    for depth in (100, 450, 5000):
        schema = '{"properties":{"a":' * depth + "{}" + "}}" * depth
        body = b'{"prompt": "a", "guided_json": %s}' % schema.encode()
        param = "guided_json" if depth < 480 else None
        refuse(COMPLETIONS, body, "cannot be used" if param else "nested too deeply", param=param)


@pytest.mark.parametrize("stream", [False, True])
def test_a_completion_has_the_form_it_was_asked_for(stream: bool, client, model: str) -> None:
    options: dict[str, Any] = {"prompt": "My number is", "max_tokens": 20, "temperature": 0}
    extra = {"structured_outputs": {"regex": "[0-9]{3}-[0-9]{4}"}}
    answer = client.completions.create(model=model, **options, stream=stream, extra_body=extra)
    chunks = list(answer) if stream else [answer]
    text = "".join(chunk.choices[0].text for chunk in chunks)
    assert len(text) == 8 and text[3] == "-" and text.replace("-", "").isdecimal()
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_form_that_other_parameters_make_impossible_is_the_request_s_fault(refuse) -> None:
    body = {"prompt": "a", "response_format": {"type": "json_object"}, "max_tokens": 5}
    refuse(COMPLETIONS, {**body, "allowed_token_ids": [5000, 5001]}, "no token is left")

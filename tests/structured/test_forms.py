"""Forms of every kind on a real server: with several choices, streamed, preempted, by seed."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest
from openai import OpenAI

pytestmark = pytest.mark.slow

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["new", "old", "größte 😀"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
LARK = """start: NAME "(" (NUMBER | pair) ")"
pair: NUMBER "," NUMBER
NAME: /[a-z]{1,8}/
NUMBER: /[0-9]{1,3}/
"""
GBNF = 'root ::= "<" [a-z]+ ">"'
TAG = {"begin": "<call=f>", "schema": {"type": "object", "maxProperties": 1}, "end": "</call>"}
TAGS = {"structures": [TAG], "triggers": ["<call="]}

Judge = Callable[[str], object]


def is_person(text: str) -> bool:
    jsonschema.validate(json.loads(text), PERSON)
    return True


FORMS: dict[str, tuple[dict[str, Any], Judge]] = {
    "json_schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": PERSON}}},
        is_person,
    ),
    "json_object": (
        {"response_format": {"type": "json_object"}},
        lambda text: isinstance(json.loads(text), dict),
    ),
    "regex": (
        {"structured_outputs": {"regex": r"[0-9]{4}-[0-9]{2}(é|😀)?"}},
        re.compile(r"[0-9]{4}-[0-9]{2}(é|😀)?").fullmatch,
    ),
    "choice": (
        {"structured_outputs": {"choice": ["yes", "no", "perhaps (or not)"]}},
        ("yes", "no", "perhaps (or not)").__contains__,
    ),
    "lark": (
        {"response_format": {"type": "grammar", "grammar": LARK}},
        re.compile(r"[a-z]{1,8}\([0-9]{1,3}(,[0-9]{1,3})?\)").fullmatch,
    ),
    "gbnf": ({"structured_outputs": {"grammar": GBNF}}, re.compile(r"<[a-z]+>").fullmatch),
}
PROMPT = "A person, as JSON:\n"
MAX_TOKENS = 64


@pytest.fixture(scope="module")
def roomy(start_server) -> Iterator[Any]:
    with start_server("--dtype", "float32", "--max-model-len", "512") as running:
        yield running
        running.wait_idle()


def client_of(server: Any) -> OpenAI:
    return OpenAI(base_url=server.url + "/v1", api_key="unused", max_retries=0, timeout=120)


def ask(client: OpenAI, form: dict[str, Any], **more: Any) -> list[tuple[str, str | None]]:
    """Text and finish reason of each choice."""
    params: dict[str, Any] = {"temperature": 0.7, "max_tokens": MAX_TOKENS, **more}
    answer = client.completions.create(model="", prompt=PROMPT, extra_body=form, **params)
    return [(choice.text, choice.finish_reason) for choice in answer.choices]


@pytest.mark.parametrize("kind", FORMS)
def test_each_of_several_choices_has_the_form(roomy, kind: str) -> None:
    form, fits = FORMS[kind]
    with client_of(roomy) as client:
        choices = ask(client, form, n=4, seed=11)
        ended = [text for text, reason in choices if reason == "stop"]
        assert ended, choices
        assert all(fits(text) for text in ended), ended
        # Choice i is the answer to seed + i, alone or not.
        assert ask(client, form, seed=13) == [choices[2]]


@pytest.mark.parametrize("kind", FORMS)
def test_a_streamed_answer_is_the_whole_one(roomy, kind: str) -> None:
    form, _ = FORMS[kind]
    with client_of(roomy) as client:
        [(text, reason)] = ask(client, form, seed=3)
        stream = client.completions.create(
            model="",
            prompt=PROMPT,
            extra_body=form,
            temperature=0.7,
            max_tokens=MAX_TOKENS,
            seed=3,
            stream=True,
        )
        chunks = [chunk.choices[0] for chunk in stream]
    assert "".join(chunk.text for chunk in chunks) == text
    assert chunks[-1].finish_reason == reason


def test_structures_in_free_text_have_their_form(roomy) -> None:
    shown = "".join(f'Run f: <call=f>{{"a": {i}}}</call>\n' for i in range(4)) + "Run f: <call"
    with client_of(roomy) as client:
        answer = client.completions.create(
            model="",
            prompt=shown,
            n=4,
            seed=1,
            temperature=0.5,
            max_tokens=48,
            extra_body={"response_format": {"type": "structural_tag", **TAGS}},
        )
    calls = [
        call
        for choice in answer.choices
        for call in re.findall(r"<call=.*?</call>", choice.text, re.DOTALL)
    ]
    assert calls, answer
    for call in calls:
        value = json.loads(call.removeprefix("<call=f>").removesuffix("</call>"))
        jsonschema.validate(value, TAG["schema"])


def test_preempted_answers_are_those_of_an_undisturbed_server(roomy, start_server) -> None:
    """Eight sequences share blocks for three."""
    form, fits = FORMS["json_schema"]
    flags = ("--num-blocks", "16", "--max-model-len", "128", "--no-enable-prefix-caching")
    seeds = range(8)
    with client_of(roomy) as client:
        expected = [ask(client, form, seed=seed) for seed in seeds]
    with start_server("--dtype", "float32", *flags) as tight, client_of(tight) as client:
        with ThreadPoolExecutor(len(seeds)) as pool:
            answers = list(pool.map(lambda seed: ask(client, form, seed=seed), seeds))
        preemptions = tight.gauge("octavo_num_preemptions_total")
        tight.wait_idle()
    assert preemptions > 0
    assert answers == expected
    ended = [text for [(text, reason)] in answers if reason == "stop"]
    assert len(ended) >= 2 and all(fits(text) for text in ended)

"""Forms that are bad or hostile: refused alone, while others' answers go on undisturbed."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.slow

Form = dict[str, Any]
PROMPT = "Once upon a time"


def schema(value: object) -> Form:
    return {"response_format": {"type": "json_schema", "json_schema": {"schema": value}}}


def extension(**member: object) -> Form:
    return {"structured_outputs": member}


def chain(links: int, link: Callable[[str], Form]) -> Form:
    """Definitions of which each refers to the next."""
    definitions = {f"d{i}": link(f"#/$defs/d{i + 1}") for i in range(links)}
    return schema({"$defs": {**definitions, f"d{links}": {"type": "null"}}, "$ref": "#/$defs/d0"})


def nested(levels: int) -> Form:
    value: Form = {"type": "null"}
    for _ in range(levels):
        value = {"items": value}
    return schema(value)


def optional(count: int) -> Form:
    return schema({"type": "object", "properties": {f"p{i}": {} for i in range(count)}})


def patterns(count: int) -> Form:
    return schema({"patternProperties": {f"^a{i}.*b{i}$": {"const": i} for i in range(count)}})


DOUBLING = "\n".join(["start: r0", *(f"r{i}: r{i + 1} r{i + 1}" for i in range(40)), 'r40: "a"'])
TAG = {"begin": "<f>", "schema": {"not": {}}, "end": "</f>"}

REFUSED = {
    "unsupported keyword": schema({"type": "integer", "not": {"const": 1}}),
    "no schema": {"response_format": {"type": "json_schema"}},
    "unknown type": schema({"type": "strin"}),
    "nothing fits": schema({"allOf": [{"type": "string"}, {"type": "null"}]}),
    "reference to itself": schema({"$ref": "#"}),
    "reference to another machine": schema({"$ref": "http://169.254.169.254/latest"}),
    "two hundred levels": nested(200),
    "four hundred levels": nested(400),
    "divisor that takes minutes": schema({"allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}]}),
    "ten thousand optional properties": optional(10_000),
    "a thousand patterns of names": patterns(1000),
    "four thousand ways": schema(
        {"allOf": [{"anyOf": [{"required": [f"{x}{i}"]} for x in "abcd"]} for i in range(12)]}
    ),
    "more than a mebibyte": schema({"type": "null", "description": "x" * (1024 * 1024)}),
    "pattern with look-ahead": schema({"type": "string", "pattern": "(?=a)b"}),
    "unclosed group": extension(regex="(a"),
    "look-ahead": extension(regex="(?=a)b"),
    "deep parentheses": extension(regex="(" * 5000 + "a" + ")" * 5000),
    "no choice": extension(choice=[]),
    "half a character": extension(choice=["\ud800"]),
    "no grammar": extension(grammar="nonsense ((("),
    "rule that is not there": extension(grammar="start: missing"),
    "rule that is itself": extension(grammar="start: start"),
    "grammar of deep parentheses": extension(grammar="start: " + "(" * 9000 + '"a"' + ")" * 9000),
    "GBNF of deep parentheses": extension(grammar="root ::= " + "(" * 900 + '"a"' + ")" * 900),
    "no structures": extension(structural_tag={"structures": [], "triggers": []}),
    "tag with a bad schema": extension(structural_tag={"structures": [TAG], "triggers": ["<f"]}),
    "two kinds": extension(regex="a", choice=["a"]),
}

# Not refused, or not yet: they must be answered somehow, and hurt nobody else.
SURVIVED = {
    "array in array, by reference": chain(
        3000, lambda to: {"type": "array", "items": {"$ref": to}}
    ),
    "or null, by reference": chain(3000, lambda to: {"anyOf": [{"$ref": to}, {"type": "null"}]}),
    "references in a row": chain(7000, lambda to: {"$ref": to}),
    "ten thousand rules": extension(
        grammar="start: r0\n"
        + "".join(f'r{i}: "a" r{i + 1} | "b"\n' for i in range(10_000))
        + 'r10000: "a"\n'
    ),
    "ten thousand choices": extension(choice=[f"number {i}" for i in range(10_000)]),
    "enumeration of ten thousand": schema({"enum": [f"number {i}" for i in range(10_000)]}),
    "two to the fortieth": extension(grammar=DOUBLING),
    "automaton of a billion states": extension(regex=r"(.|\n)*[aeiou](.|\n){30}"),
    "repetition of repetitions": extension(regex="((a{1,100}){1,100}){1,100}"),
    "a billion items": schema({"type": "array", "items": {}, "minItems": 10**9}),
    "a special token's text": schema({"const": "<|im_end|>"}),
    "two thousand tags": extension(
        structural_tag={
            "structures": [{"begin": f"<f{i}>", "schema": {}, "end": "</f>"} for i in range(2000)],
            "triggers": ["<f"],
        }
    ),
}


@pytest.fixture(scope="module")
def server(start_server) -> Iterator[Any]:
    with start_server("--max-model-len", "256", "--dtype", "float32") as running:
        yield running


def body(form: Form, **more: object) -> bytes:
    given = {"prompt": PROMPT, "max_tokens": 32, "temperature": 0.8, "seed": 1, **form, **more}
    return json.dumps(given).encode()


def post(server: Any, form: Form, **more: object) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    answer = server.post("/v1/completions", content=body(form, **more), headers=headers)
    assert isinstance(answer, httpx.Response)
    return answer


class Bystander:
    """Somebody else's requests, one after the other, until told to stop."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._may_stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.texts: list[str] = []

    def __enter__(self) -> "Bystander":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._may_stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._may_stop.is_set() or not self.texts:
            self.texts.append(story(self._server))


def story(server: Any) -> str:
    answer = post(server, {}, temperature=0)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


def test_each_bad_form_is_a_400_of_openai_s_shape_and_hurts_nobody(server) -> None:
    undisturbed = story(server)
    accepted, param = [], {}
    with Bystander(server) as bystander:
        for name, form in REFUSED.items():
            answer = post(server, form)
            if answer.status_code != 400:
                accepted.append((name, answer.status_code, answer.text[:200]))
                continue
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert error["type"] == "BadRequestError" and error["code"] == 400
            assert len(error["message"]) < 2000 and "backtrace" not in error["message"]
            param[name] = error["param"]
    assert accepted == []
    assert {name: next(iter(REFUSED[name])) for name in param} == param
    assert set(bystander.texts) == {undisturbed}
    server.wait_idle()


def test_a_bad_form_is_refused_before_a_stream_begins(server) -> None:
    answer = post(server, REFUSED["unsupported keyword"], stream=True)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"


def test_what_is_costly_is_answered_one_way_or_another_and_hurts_nobody(server) -> None:
    undisturbed = story(server)
    statuses = {}
    with Bystander(server) as bystander:
        for name, form in SURVIVED.items():
            answer = post(server, form, max_tokens=128)
            statuses[name] = answer.status_code
            if answer.status_code != 200:
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
                assert "backtrace" not in answer.text
    assert set(statuses.values()) <= {200, 400}, statuses
    assert set(bystander.texts) == {undisturbed}
    server.wait_idle()


def test_many_hostile_forms_at_once_do_not_block_a_good_one(server) -> None:
    hostile = [form for name, form in REFUSED.items() if "thousand" in name or "takes" in name]
    answers: list[int] = []

    def send(form: Form) -> None:
        answers.append(post(server, form).status_code)

    threads = [threading.Thread(target=send, args=(form,)) for form in hostile * 2]
    for thread in threads:
        thread.start()
    good = post(server, extension(choice=["yes", "no"]))
    for thread in threads:
        thread.join()
    assert good.json()["choices"][0]["text"] in ("yes", "no")
    assert set(answers) == {400}

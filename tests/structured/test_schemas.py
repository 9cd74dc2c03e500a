"""Hundreds of JSON schemas through the engine: refused, or every finished answer fits."""

import json
from collections import Counter

import pytest

from octavo import LLM, SamplingParams, StructuredOutput
from octavo.engine.errors import BadRequestError

from .schema_suite import HERE, NamedSchema, all_schemas

# Those that cannot be held to, and a word of the reason that is given.
REFUSED: dict[str, str] = json.loads((HERE / "refused_schemas.json").read_text())
MAX_TOKENS = 64
# Of the answers to these, none can end: what is written is right so far, and cut off.
ENDLESS = {"a billion items at least", "recursion with no end"}
PROMPT = "A short example of JSON:\n"


@pytest.fixture(scope="module")
def llm(smollm2_gguf) -> LLM:
    # Exact: which answers finish must not depend on the processor's instructions.
    return LLM(str(smollm2_gguf), dtype="float32", max_num_seqs=32, max_model_len=256)


def form(one: NamedSchema) -> StructuredOutput:
    return StructuredOutput("json_schema", one.text)


def test_there_are_more_than_two_hundred_of_five_levels() -> None:
    schemas = all_schemas()
    assert len({one.name for one in schemas}) == len(schemas) > 300
    usable = [one for one in schemas if one.name not in REFUSED]
    assert len(usable) > 250
    assert min(Counter(one.level for one in usable).values()) >= 10
    assert {one.name for one in schemas} >= {*REFUSED, *ENDLESS}


def test_the_judge_tells_what_fits_from_what_does_not() -> None:
    digit = NamedSchema("", 1, {"type": "object", "properties": {"at": {"format": "date"}}})
    assert digit.complaint('{"at": "2024-02-29"}') is None
    assert "not a 'date'" in str(digit.complaint('{"at": "2023-02-29"}'))
    assert digit.complaint('{"at": "2024') is not None
    cents = NamedSchema("", 1, {"type": "number", "multipleOf": 0.01})
    assert cents.complaint("1.15") is None
    assert cents.complaint("1.155") is not None


@pytest.mark.slow
def test_what_cannot_be_held_to_is_refused_before_anything_runs(llm) -> None:
    refused = {}
    for one in all_schemas():
        if one.name not in REFUSED:
            continue
        with pytest.raises(BadRequestError) as caught:
            llm.generate([PROMPT, PROMPT], [SamplingParams(), SamplingParams(structured=form(one))])
        assert caught.value.param == "response_format"
        refused[one.name] = caught.value.message
        assert not llm.core.has_work
    wrong = {name: refused[name] for name, word in REFUSED.items() if word not in refused[name]}
    assert not wrong


@pytest.mark.slow
def test_every_finished_answer_fits_its_schema(llm) -> None:
    schemas = [one for one in all_schemas() if one.name not in REFUSED]
    params = [
        SamplingParams(structured=form(one), temperature=0.8, seed=seed, max_tokens=MAX_TOKENS)
        for seed, one in enumerate(schemas)
    ]
    answers = llm.generate([PROMPT] * len(schemas), params, use_progress_bar=False)
    ends = {one.name: choice.finish_reason for one, [choice] in zip(schemas, answers, strict=True)}
    finished = [
        (one, choice.text)
        for one, [choice] in zip(schemas, answers, strict=True)
        if choice.finish_reason == "stop"
    ]
    complaints = [one.complaint(text) for one, text in finished]
    assert [complaint for complaint in complaints if complaint is not None] == []
    assert set(ends.values()) == {"stop", "length"}
    assert {ends[name] for name in ENDLESS} == {"length"}
    # The model is small and may go on for long: more than half finish, and some of every level.
    by_level = {(one.level, ends[one.name]) for one in schemas}
    assert by_level >= {(level, "stop") for level in range(1, 6)}
    assert len(finished) >= 0.55 * len(schemas), Counter(ends.values())
    assert len({json.dumps(json.loads(text)) for _, text in finished}) > 0.6 * len(finished)

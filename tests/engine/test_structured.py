"""Grammars are compiled or refused; constraints follow the tokens and say what may come next."""

import json
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from octavo.engine.constraint_builder import ConstraintBuilder
from octavo.engine.constraints import Thinking, TokenConstraint
from octavo.engine.errors import BadRequestError
from octavo.engine.grammars import Grammars
from octavo.engine.messages import Submit
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.structured import MAX_SOURCE_CHARACTERS, StructuredOutput, ThinkingRule
from octavo.engine.tokenizer import Tokenizer
from octavo.models.constraint import BITS
from octavo.models.tokenizer_files import TokenizerFiles

VOCAB = 320  # the model's, larger by padding


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """One token a byte, `<think>`, and an end of sequence."""
    alphabet = {text: i for i, text in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Backend(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    backend.add_special_tokens([AddedToken("<eos>", special=True)])
    eos = backend.token_to_id("<eos>")
    return Tokenizer(TokenizerFiles(backend, eos_token="<eos>", eos_token_ids=(eos,)))


@pytest.fixture(scope="module")
def grammars(tokenizer) -> Grammars:
    return Grammars(lambda: (tokenizer, VOCAB))


def allowed(constraint: TokenConstraint, tokenizer: Tokenizer) -> set[str]:
    """The texts of the tokens that may come next; padding is shown by its id."""
    words = np.full(-(-constraint.vocab_size // BITS), -1, dtype=np.int32)
    if constraint.is_active:
        constraint.fill(words)
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")[:VOCAB]
    ids = [int(i) for i in np.flatnonzero(bits)]
    return {tokenizer.token_text(i) or f"#{i}" for i in ids}


def feed(constraint: TokenConstraint, tokenizer: Tokenizer, text: str) -> None:
    for token_id in tokenizer.encode(text, add_special_tokens=False):
        assert constraint.error is None
        assert tokenizer.token_text(token_id) in allowed(constraint, tokenizer)
        constraint.accept(token_id)


def constraint_of(grammars: Grammars, tokenizer: Tokenizer, **params: object) -> TokenConstraint:
    made = grammars.constraint(SamplingParams(**params), tokenizer.eos_token_ids)  # type: ignore[arg-type] - any of them
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("kind", "source", "text"),
    [
        ("json_schema", '{"type":"object","properties":{"a":{"type":"integer"}}}', '{"a": 12}'),
        ("json_schema", "true", "[1, null]"),
        ("json_object", "", '{"any": [true]}'),
        ("regex", "[a-c]{2}-[0-9]+", "ab-7"),
        ("choice", '["yes", "no", "peut-être 😀"]', "peut-être 😀"),
        ("grammar", 'start: "x" /[0-9]/+', "x12"),
        ("grammar", 'root ::= "y" [0-9]+', "y12"),
        (
            "structural_tag",
            '{"structures": [{"begin": "<f=a>", "schema": {"type": "object"}, "end": "</f>"}],'
            ' "triggers": ["<f="]}',
            'Free. <f=a>{"b": 1}</f>',
        ),
    ],
)
def test_every_kind_lets_its_texts_pass_to_the_end(grammars, tokenizer, kind, source, text) -> None:
    constraint = constraint_of(grammars, tokenizer, structured=StructuredOutput(kind, source))
    feed(constraint, tokenizer, text)
    assert constraint.error is None
    assert constraint.is_finished or "<eos>" in allowed(constraint, tokenizer)


def test_a_token_that_has_no_place_is_forbidden_and_an_error(grammars, tokenizer) -> None:
    constraint = constraint_of(
        grammars, tokenizer, structured=StructuredOutput("choice", '["yes", "yet"]')
    )
    assert allowed(constraint, tokenizer) == {"y"}
    feed(constraint, tokenizer, "ye")
    assert allowed(constraint, tokenizer) == {"s", "t"}
    constraint.accept(tokenizer.encode("n", add_special_tokens=False)[0])
    assert constraint.error is not None and not constraint.is_finished


def test_a_text_that_nothing_can_follow_is_finished(grammars, tokenizer) -> None:
    constraint = constraint_of(grammars, tokenizer, structured=StructuredOutput("regex", "a(bc)?"))
    feed(constraint, tokenizer, "a")
    assert not constraint.is_finished
    assert allowed(constraint, tokenizer) == {"b", "<eos>"}
    feed(constraint, tokenizer, "bc")
    assert constraint.is_finished


def test_white_space_in_json_has_an_end(grammars, tokenizer) -> None:
    constraint = constraint_of(grammars, tokenizer, structured=StructuredOutput("json_object"))
    feed(constraint, tokenizer, "{" + " " * 32)
    assert " " not in allowed(constraint, tokenizer)
    assert '"' in allowed(constraint, tokenizer)


@pytest.mark.parametrize(
    ("kind", "source", "why"),
    [
        ("json_schema", "{", "property name"),
        ("json_schema", "[1]", "object or a boolean"),
        ("json_schema", '{"type": "strin"}', "strin"),
        ("json_schema", '{"not": {}}', "not"),
        ("json_schema", '{"$ref": "#/nowhere"}', "nowhere"),
        ("json_schema", '{"$ref": "https://example.org/schema"}', "example.org"),
        ("json_schema", '{"type": "string", "pattern": "(?=a)b"}', "look"),
        ("json_schema", '{"items": ' * 20_000, "recursion"),
        ("regex", "(a", "unclosed"),
        ("choice", "[]", "list of texts"),
        ("choice", '["a", 1]', "list of texts"),
        ("choice", '["\\ud800"]', "surrogate"),
        ("grammar", "nonsense (((", "nonsense"),
        ("grammar", "", "root"),
        ("grammar", "start: missing", "missing"),
        ("json_schema", '{"$ref": "#"}', "NoExtension"),
        ("grammar", "start: start", "NoExtension"),
        ("json_schema", '{"multipleOf": 99991}', "10000"),
        ("json_schema", '{"allOf": [{"multipleOf": 997}, {"multipleOf": 0.0991}]}', "10000"),
        ("grammar", 'start: %json {"multipleOf": 99991}', "10000"),
        (
            "json_schema",
            json.dumps({"patternProperties": dict.fromkeys("a" * i for i in range(101))}),
            "100",
        ),
        ("structural_tag", "[]", "object"),
        ("structural_tag", '{"structures": [], "triggers": []}', "structures"),
        ("structural_tag", '{"structures": [{"begin": "<a>"}], "triggers": ["<b"]}', "trigger"),
    ],
)
def test_what_is_no_usable_grammar_is_refused_with_the_reason(grammars, kind, source, why) -> None:
    with pytest.raises(BadRequestError, match=why) as caught:
        grammars.compile(StructuredOutput(kind, source))
    assert caught.value.param == "response_format"


def test_a_request_cannot_change_the_compiler_s_options(grammars, tokenizer) -> None:
    schema = {"not": {}, "x-guidance": {"lenient": True}}
    with pytest.raises(BadRequestError, match="not"):
        grammars.compile(StructuredOutput("json_schema", json.dumps(schema)))


def test_too_long_a_source_is_refused_at_once() -> None:
    with pytest.raises(BadRequestError, match="at most 262,144"):
        StructuredOutput("regex", "a" * (MAX_SOURCE_CHARACTERS + 1))


class Faulty:
    """A matcher that breaks as no matcher should."""

    def is_stopped(self) -> bool:
        return False

    def unsafe_compute_mask_ptr(self, address: int, size: int) -> None:
        raise BaseException("a panic")

    def consume_token(self, token_id: int) -> bool:
        raise BaseException("a panic")


def test_a_fault_of_a_matcher_is_its_own_sequence_s_error(tokenizer) -> None:
    filling, accepting = (TokenConstraint(VOCAB, Faulty()) for _ in range(2))  # type: ignore[arg-type] - a stand-in
    allowed(filling, tokenizer)
    accepting.accept(5)
    for constraint in (filling, accepting):
        assert constraint.error == "BaseException: a panic"
        assert not constraint.is_finished


def test_deep_chains_of_references_do_not_overflow_the_stack(grammars) -> None:
    """3,000 of them in native recursion; without room the process would be gone."""
    chain = {
        f"d{i}": {"type": "array", "items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(3000)
    }
    schema = {"$ref": "#/$defs/d0", "$defs": {**chain, "d3000": {"type": "null"}}}
    grammars.compile(StructuredOutput("json_schema", json.dumps(schema)))
    rules = "\n".join(f'r{i}: "a" r{i + 1}' for i in range(3000))
    grammars.compile(StructuredOutput("grammar", f'start: r0\n{rules}\nr3000: "b"'))


def test_thousands_of_choices_are_no_burden(grammars, tokenizer) -> None:
    choices = [f"item {i}: <{'x' * (i % 7)}>\n" for i in range(5000)]
    form = StructuredOutput("choice", json.dumps(choices))
    constraint = constraint_of(grammars, tokenizer, structured=form)
    feed(constraint, tokenizer, choices[4321])
    assert constraint.is_finished


def test_matchers_of_one_grammar_do_not_share_their_place(grammars, tokenizer) -> None:
    wanted = StructuredOutput("choice", '["ab", "cd"]')
    first, second = (constraint_of(grammars, tokenizer, structured=wanted) for _ in range(2))
    feed(first, tokenizer, "a")
    assert allowed(first, tokenizer) == {"b"}
    assert allowed(second, tokenizer) == {"a", "c"}


# Reasoning.

RULE = {"start": "<think>", "end": "</think>"}
YES = StructuredOutput("choice", '["yes"]')


def test_the_grammar_begins_after_the_reasoning(grammars, tokenizer) -> None:
    rule = ThinkingRule(**RULE, is_open=True)
    constraint = constraint_of(grammars, tokenizer, structured=YES, thinking=rule)
    everything = allowed(constraint, tokenizer)
    assert "<eos>" not in everything and {"a", "{", "#319"} <= everything
    feed(constraint, tokenizer, "no, </thin</think>")
    assert allowed(constraint, tokenizer) == {"y"}
    feed(constraint, tokenizer, "yes")
    assert constraint.is_finished


def test_an_answer_may_open_with_reasoning_or_not(grammars, tokenizer) -> None:
    rule = ThinkingRule(**RULE)
    thinks, answers = (
        constraint_of(grammars, tokenizer, structured=YES, thinking=rule) for _ in range(2)
    )
    assert allowed(thinks, tokenizer) == {"y", "<think>"}
    feed(thinks, tokenizer, "<think>hm</think>")
    feed(answers, tokenizer, "y")
    assert allowed(answers, tokenizer) == {"e"}
    assert allowed(thinks, tokenizer) == {"y"}


@pytest.mark.parametrize("budget", [0, 3])
def test_a_spent_budget_forces_the_end_mark(grammars, tokenizer, budget) -> None:
    rule = ThinkingRule(**RULE, budget=budget, is_open=True)
    constraint = constraint_of(grammars, tokenizer, thinking=rule)
    for _ in range(budget):
        assert not constraint.is_active
        constraint.accept(tokenizer.encode("h", add_special_tokens=False)[0])
    for character in "</think>":
        assert allowed(constraint, tokenizer) == {character}
        constraint.accept(tokenizer.encode(character, add_special_tokens=False)[0])
    assert not constraint.is_active and not constraint.is_finished
    feed(constraint, tokenizer, "free again")


def test_reasoning_that_ends_in_time_is_not_cut(grammars, tokenizer) -> None:
    rule = ThinkingRule(**RULE, budget=20)
    constraint = constraint_of(grammars, tokenizer, thinking=rule)
    feed(constraint, tokenizer, "<think>short</think>" + "a long answer without an end " * 3)
    assert not constraint.is_active


def test_without_reasoning_the_budget_has_no_say(grammars, tokenizer) -> None:
    constraint = constraint_of(grammars, tokenizer, thinking=ThinkingRule(**RULE, budget=1))
    feed(constraint, tokenizer, "an answer")
    assert not constraint.is_active


def test_a_negative_budget_and_empty_marks_are_refused() -> None:
    with pytest.raises(BadRequestError, match="at least 0"):
        ThinkingRule(**RULE, budget=-1)
    with pytest.raises(BadRequestError, match="empty"):
        ThinkingRule(start="<think>", end="")


def test_an_end_mark_without_tokens_cannot_be_forced() -> None:
    with pytest.raises(BadRequestError, match="no tokens"):
        Thinking(ThinkingRule(**RULE, budget=1), lambda token_id: b"", lambda text: [])


# Building beside the step loop.


class SlowGrammars(Grammars):
    """Grammars that are compiled only when the test says so."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(lambda: (tokenizer, VOCAB))
        self.may_compile = threading.Event()

    def compile(self, wanted):
        assert self.may_compile.wait(30)
        return super().compile(wanted)


@pytest.fixture
def slow(tokenizer) -> Iterator[SlowGrammars]:
    grammars = SlowGrammars(tokenizer)
    yield grammars
    grammars.may_compile.set()


def submit(name: str, wanted: StructuredOutput) -> Submit:
    return Submit(name, [1], SamplingParams(structured=wanted), max_tokens=4, seed=0)


def test_sequences_wait_until_their_grammar_is_compiled(slow) -> None:
    builder = ConstraintBuilder(slow)
    for name, wanted in (("good", YES), ("gone", YES), ("bad", StructuredOutput("regex", "("))):
        builder.begin(submit(name, wanted))
    assert builder.take_ready(0.0) == [] and builder.num_waiting == 3
    assert builder.cancel("gone") and not builder.cancel("unknown")
    slow.may_compile.set()
    ready: dict[str, object] = {}
    while builder.num_waiting:
        ready |= {one.request_id: built for one, built in builder.take_ready(1.0)}
    assert set(ready) == {"good", "bad"}
    assert isinstance(ready["good"], TokenConstraint)
    assert isinstance(ready["bad"], BadRequestError)

"""SamplingParams: the ranges of OpenAI's API and vLLM's extensions, and their messages."""

import math
from typing import Any

import msgspec
import pytest

from octavo.engine.errors import BadRequestError
from octavo.engine.sampling_params import SamplingParams


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("n", 0, "n must be at least 1, got 0."),
        ("n", 16385, "n must be at most 16384, got 16385."),
        ("presence_penalty", 3.0, "presence_penalty must be in [-2, 2], got 3.0."),
        ("frequency_penalty", -2.1, "frequency_penalty must be in [-2, 2], got -2.1."),
        ("presence_penalty", math.nan, "presence_penalty must be in [-2, 2], got nan."),
        ("repetition_penalty", 0.0, "repetition_penalty must be greater than zero, got 0.0."),
        ("repetition_penalty", math.inf, "repetition_penalty must be greater than zero, got inf."),
        ("temperature", -1.0, "temperature must be non-negative, got -1.0."),
        ("temperature", 3.0, "temperature must be in [0, 2], got 3.0."),
        ("temperature", math.nan, "temperature must be in [0, 2], got nan."),
        ("top_p", 0.0, "top_p must be in (0, 1], got 0.0."),
        ("top_p", 1.5, "top_p must be in (0, 1], got 1.5."),
        ("top_k", -2, "top_k must be 0 (disable), or at least 1, got -2."),
        ("min_p", 2.0, "min_p must be in [0, 1], got 2.0."),
        ("seed", 2**63, "seed must fit in 64 bits, got"),
        ("max_tokens", 0, "max_tokens must be at least 1, got 0."),
        ("min_tokens", -1, "min_tokens must be greater than or equal to 0, got -1."),
        ("logprobs", -2, "logprobs must be non-negative or -1, got -2."),
        ("prompt_logprobs", -2, "prompt_logprobs must be non-negative or -1, got -2."),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_limit(
    field: str, value: float, message: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        SamplingParams(**{field: value})  # type: ignore[arg-type]
    assert caught.value.message.startswith(message)
    assert caught.value.param == field


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stop": ("",)}, "stop cannot contain an empty string."),
        ({"stop": ("a", "b", "c", "d", "e")}, "stop must have at most 4 strings, got 5."),
        (
            {"stop": ("a" * 10_000, "b" * 6385)},
            "stop must have at most 16384 characters together, got 16385.",
        ),
        (
            {"bad_words": ("a" * 2000,) * 2 + ("b" * 97,)},
            "bad_words must have at most 4096 characters together, got 4097.",
        ),
        (
            {"stop_token_ids": tuple(range(1025))},
            "stop_token_ids must have at most 1024 entries, got 1025.",
        ),
        (
            {"allowed_token_ids": tuple(range(8193))},
            "allowed_token_ids must have at most 8192 entries, got 8193.",
        ),
        (
            {"logit_bias": dict.fromkeys(range(2049), 1.0)},
            "logit_bias must have at most 2048 entries, got 2049.",
        ),
        ({"bad_words": ("",)}, "bad_words cannot contain an empty string."),
        ({"allowed_token_ids": ()}, "allowed_token_ids is not None and empty!"),
        ({"logit_bias": {1: math.inf}}, "logit_bias must be finite, got inf."),
        (
            {"max_tokens": 5, "min_tokens": 9},
            "min_tokens must be less than or equal to max_tokens=5, got 9.",
        ),
        ({"n": 2, "temperature": 0.0}, "n must be 1 when using greedy sampling, got 2."),
    ],
)
def test_values_that_do_not_go_together_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        SamplingParams(**fields)
    assert caught.value.message.startswith(message)


def test_what_is_just_within_the_limits_is_taken() -> None:
    SamplingParams(
        stop=("a" * 4096,) * 4,
        bad_words=("a" * 32,) * 128,
        stop_token_ids=tuple(range(1024)),
        allowed_token_ids=tuple(range(8192)),
        logit_bias=dict.fromkeys(range(2048), 1.0),
    )


@pytest.mark.parametrize(
    ("given", "most", "counts"),
    [((-1, None), -1, (100, None)), ((5, -1), 100, (5, 100)), ((200, 0), -1, (100, 0))],
)
def test_minus_1_logprobs_are_those_of_the_whole_vocabulary(
    given: tuple[int | None, int | None], most: int, counts: tuple[int | None, int | None]
) -> None:
    params = SamplingParams(logprobs=given[0], prompt_logprobs=given[1])
    resolved = params.with_logprobs_of(100, most)
    assert (resolved.logprobs, resolved.prompt_logprobs) == counts


@pytest.mark.parametrize(
    ("field", "count", "message"),
    [
        ("logprobs", 21, "Requested sample logprobs of 21, which is greater than max allowed: 20"),
        ("logprobs", -1, "Requested sample logprobs of 100, which is greater than max"),
        ("prompt_logprobs", 21, "Requested prompt logprobs of 21, which is greater than max"),
    ],
)
def test_more_logprobs_than_allowed_are_refused(field: str, count: int, message: str) -> None:
    params = SamplingParams(**{field: count})
    with pytest.raises(BadRequestError) as caught:
        params.with_logprobs_of(100, 20)
    assert caught.value.message.startswith(message)
    assert caught.value.param == field


def test_token_ids_outside_the_vocabulary_are_named() -> None:
    params = SamplingParams(logit_bias={5: 1.0, 100: 1.0, 101: -1.0})
    params.check_vocabulary(102)
    with pytest.raises(BadRequestError, match=r"\[100, 101\] in logit_bias .* size: 100"):
        params.check_vocabulary(100)


def test_parameters_survive_the_process_boundary() -> None:
    params = SamplingParams(
        n=3, temperature=0.5, stop=("a",), logit_bias={7: -1.5}, bad_words=("x",), seed=-5
    )
    encoded = msgspec.msgpack.encode(params)
    assert msgspec.msgpack.decode(encoded, type=SamplingParams) == params

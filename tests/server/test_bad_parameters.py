"""Parameters of the wrong kind or out of range are refused by name, with the value or the limit."""

from typing import Any

import pytest

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
USER = [{"role": "user", "content": "Hello"}]
HALF = "\ud800"  # half of a surrogate pair: JSON can spell it, UTF-8 cannot
NUMBERS = (
    *("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty"),
    "repetition_penalty",
)
INTEGERS = ("n", "top_k", "max_tokens", "min_tokens", "seed", "priority")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("n", 0, "n must be at least 1, got 0."),
        ("n", 16_385, "n must be at most 16384, got 16385."),
        ("temperature", -0.1, "temperature must be non-negative, got -0.1."),
        ("temperature", 2.1, "temperature must be in [0, 2], got 2.1."),
        ("top_p", 0, "top_p must be in (0, 1], got 0.0."),
        ("top_p", 1.1, "top_p must be in (0, 1], got 1.1."),
        ("top_p", -1, "top_p must be in (0, 1], got -1.0."),
        ("top_k", -2, "top_k must be 0 (disable), or at least 1, got -2."),
        ("min_p", -0.1, "min_p must be in [0, 1], got -0.1."),
        ("min_p", 2, "min_p must be in [0, 1], got 2.0."),
        ("presence_penalty", 2.1, "presence_penalty must be in [-2, 2], got 2.1."),
        ("frequency_penalty", -2.1, "frequency_penalty must be in [-2, 2], got -2.1."),
        ("repetition_penalty", 0, "repetition_penalty must be greater than zero, got 0.0."),
        ("repetition_penalty", -1, "repetition_penalty must be greater than zero, got -1.0."),
        ("max_tokens", 0, "max_tokens must be at least 1, got 0."),
        ("max_tokens", -5, "max_tokens must be at least 1, got -5."),
        ("max_tokens", 8192, "maximum context length is 8192 tokens"),
        ("min_tokens", -1, "min_tokens must be greater than or equal to 0, got -1."),
        ("min_tokens", 5, "min_tokens must be less than or equal to max_tokens=1, got 5."),
        ("seed", 2**63, "9223372036854775807"),
        ("seed", -(2**63) - 1, "-9223372036854775808"),
        ("stop", "", "stop cannot contain an empty string."),
        ("stop", ["a", ""], "stop cannot contain an empty string."),
        ("stop", list("abcde"), "at most 4 strings, got 5"),
        ("stop", "a" * 16_385, "at most 16384 characters"),
        ("stop", ["a" * 10_000, "b" * 6385], "at most 16384 characters together, got 16385"),
        ("bad_words", ["a" * 4097], "at most 4096 characters together, got 4097"),
        ("stop_token_ids", [*range(1025)], "at most 1024 token ids, got 1025"),
        ("allowed_token_ids", [*range(8193)], "at most 8192 token ids, got 8193"),
        ("logit_bias", {str(i): 1 for i in range(2049)}, "at most 2048 entries, got 2049"),
        ("cache_salt", "a" * 1025, "at most 1024 characters"),
        ("bad_words", [""], "bad_words cannot contain an empty string."),
        ("bad_words", ["x"] * 129, "at most 128 entries, got 129"),
        ("allowed_token_ids", [], "allowed_token_ids is not None and empty!"),
        ("allowed_token_ids", [49152], "[49152]"),
        ("stop_token_ids", [-1], "[-1]"),
        ("logit_bias", {"49152": 1}, "Vocabulary size: 49152"),
        ("logit_bias", {"-1": 1}, "[-1]"),
        ("logit_bias", {"bad1": 1, "7": 1, "bad2": 1}, "token IDs: ['bad1', 'bad2']"),
        ("logit_bias", {"--7": 1}, "--7"),
        ("logit_bias", {"": 1}, "['']"),
        ("logit_bias", {"1.5": 1}, "1.5"),
        ("logit_bias", {"9" * 100: 1}, "999"),
        ("logit_bias", {HALF: 1}, "\\ud800"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused_by_name(
    name: str, value: Any, words: str, refuse
) -> None:
    for path, question in ((COMPLETIONS, {"prompt": "a"}), (CHAT, {"messages": USER})):
        refuse(path, {**question, "max_tokens": 1, name: value}, words, param=name)


@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_finite_number_is_refused(name: str, refuse) -> None:
    for value in (float("nan"), float("inf"), float("-inf"), "1", True, [1], {}, -(10**50)):
        refuse(COMPLETIONS, {"prompt": "a", "max_tokens": 1, name: value}, name, param=name)


@pytest.mark.parametrize("name", INTEGERS)
def test_what_is_no_integer_of_64_bits_is_refused(name: str, refuse) -> None:
    for value in (float("nan"), float("inf"), "1", True, [1], {}, 1.5, 10**50, -(10**50)):
        refuse(COMPLETIONS, {"prompt": "a", "max_tokens": 1, name: value}, name, param=name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", 5),
        ("stream", "yes"),
        ("stream", HALF),
        ("stream_options", 5),
        ("stop", 5),
        ("stop", [5]),
        ("stop", HALF),
        ("stop", ["a", HALF]),
        ("ignore_eos", 1),
        ("logit_bias", [1]),
        ("logit_bias", {"7": "much"}),
        ("logit_bias", {"7": float("nan")}),
        ("stop_token_ids", ["a"]),
        ("stop_token_ids", 7),
        ("allowed_token_ids", [2**40]),
        ("cache_salt", 5),
        ("cache_salt", HALF),
        ("request_id", "x" * 257),
        ("request_id", HALF),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: Any, refuse) -> None:
    for path, question in ((COMPLETIONS, {"prompt": "a"}), (CHAT, {"messages": USER})):
        refuse(path, {**question, "max_tokens": 1, name: value}, name, param=name)


@pytest.mark.parametrize(
    ("logprobs", "words"),
    [
        (21, "Requested sample logprobs of 21, which is greater than max allowed: 20"),
        (-1, "Requested sample logprobs of 49152, which is greater than max allowed: 20"),
        (-2, "logprobs must be non-negative or -1, got -2."),
        ("2", "2"),
        (True, "true"),
    ],
)
def test_completion_logprobs_out_of_range_are_refused(logprobs: Any, words: str, refuse) -> None:
    refuse(COMPLETIONS, {"prompt": "a", "logprobs": logprobs}, words, param="logprobs")


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (21, "Requested prompt logprobs of 21, which is greater than max allowed: 20"),
        (-1, "Requested prompt logprobs of 49152"),
        (-2, "prompt_logprobs must be non-negative or -1, got -2."),
        ("2", "2"),
    ],
)
def test_prompt_logprobs_out_of_range_are_refused(count: Any, words: str, refuse) -> None:
    for path, question in ((COMPLETIONS, {"prompt": "a"}), (CHAT, {"messages": USER})):
        refuse(path, {**question, "prompt_logprobs": count}, words, param="prompt_logprobs")


@pytest.mark.parametrize(
    ("top_logprobs", "logprobs", "words"),
    [
        (2, False, "`logprobs` must be set to true"),
        (0, None, "`logprobs` must be set to true"),
        (21, True, "[0, 20], got 21"),
        (-1, True, "[0, 20], got -1"),
        ("2", True, "2"),
    ],
)
def test_top_logprobs_out_of_range_or_without_logprobs_are_refused(
    top_logprobs: Any, logprobs: bool | None, words: str, refuse
) -> None:
    body = {"messages": USER, "top_logprobs": top_logprobs, "logprobs": logprobs}
    refuse(CHAT, body, words, param="top_logprobs")


@pytest.mark.parametrize(
    "options", [{"include_usage": True}, {"include_usage": None}, {"continuous_usage_stats": True}]
)
def test_stream_options_without_a_stream_are_refused(options: dict, refuse) -> None:
    words = "Stream options can only be defined when `stream=True`."
    for path, question in ((COMPLETIONS, {"prompt": "a"}), (CHAT, {"messages": USER})):
        refuse(path, {**question, "stream_options": options}, words, param="stream_options")

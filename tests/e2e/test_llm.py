"""The offline `LLM`: choices, stop strings, log-probabilities, cancelling, and bad input."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from octavo import LLM, SamplingParams
from octavo.engine.errors import BadRequestError, RequestFailedError
from octavo.models.errors import ModelError


@pytest.fixture(scope="module")
def llm(smollm2_gguf: Path) -> LLM:
    return LLM(str(smollm2_gguf), dtype="float32", device="cpu", kv_cache_memory="256MiB")


@pytest.fixture(autouse=True)
def every_block_comes_back(llm: LLM) -> Iterator[None]:
    yield
    stats = llm.core.stats()
    assert (stats.num_running, stats.num_waiting, stats.blocks_used) == (0, 0, 0)


def generate(llm: LLM, prompt: str, **params: object) -> list[str]:
    sampling = SamplingParams(**{"temperature": 0.0, "max_tokens": 16, **params})  # type: ignore[arg-type]
    return [c.text for c in llm.generate(prompt, sampling, use_progress_bar=False)[0]]


def test_it_answers_sensibly(llm: LLM) -> None:
    assert "Paris" in generate(llm, "The capital of France is")[0]


def test_choices_differ_and_repeat_with_the_seed(llm: LLM) -> None:
    first = generate(llm, "Once upon a time", n=4, temperature=1.0, seed=11)
    assert len(set(first)) == 4
    assert generate(llm, "Once upon a time", n=4, temperature=1.0, seed=11) == first
    # choice i draws with seed + i
    assert generate(llm, "Once upon a time", n=3, temperature=1.0, seed=12) == first[1:]
    assert generate(llm, "Once upon a time", n=4, temperature=1.0, seed=99) != first


def test_equal_prompts_in_one_step_share_their_blocks(llm: LLM) -> None:
    prompt = "All work and no play makes Jack a dull boy. " * 8
    params = SamplingParams(n=3, temperature=1.0, max_tokens=2, seed=1)
    choices = llm.generate(prompt, params, use_progress_bar=False)[0]
    full = (choices[0].num_prompt_tokens - 1) // 16 * 16
    assert full > 0
    assert [choice.num_cached_tokens for choice in choices] == [0, full, full]


def test_a_stop_string_ends_the_text_before_it(llm: LLM) -> None:
    whole = generate(llm, "The capital of France is", max_tokens=32)[0]
    stop = whole[20:24]  # crosses tokens as it comes
    cut = whole[: whole.index(stop)]
    params = SamplingParams(temperature=0.0, max_tokens=32, stop=(stop,))
    choice = llm.generate("The capital of France is", params, use_progress_bar=False)[0][0]
    assert (choice.text, choice.finish_reason, choice.stop_reason) == (cut, "stop", stop)
    assert generate(
        llm,
        "The capital of France is",
        max_tokens=32,
        stop=(stop,),
        include_stop_str_in_output=True,
    ) == [cut + stop]


def test_end_of_sequence_stops_unless_ignored_or_too_early(llm: LLM) -> None:
    prompt = "<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\n"
    params = SamplingParams(temperature=0.0, max_tokens=200)
    choice = llm.generate(prompt, params, use_progress_bar=False)[0][0]
    assert (choice.finish_reason, choice.stop_reason) == ("stop", None)
    assert "<|im_end|>" not in choice.text
    length = len(choice.token_ids)
    assert length < 200
    more = SamplingParams(temperature=0.0, max_tokens=length + 8, min_tokens=length + 4)
    longer = llm.generate(prompt, more, use_progress_bar=False)[0][0]
    assert len(longer.token_ids) >= length + 4
    assert longer.token_ids[: length - 1] == choice.token_ids[:-1]
    ignored = SamplingParams(temperature=0.0, max_tokens=length + 8, ignore_eos=True)
    assert len(llm.generate(prompt, ignored, use_progress_bar=False)[0][0].token_ids) == length + 8


def test_stop_token_ids_are_reported(llm: LLM) -> None:
    whole = llm.generate(
        "One, two,", SamplingParams(temperature=0.0, max_tokens=8), use_progress_bar=False
    )[0][0]
    stop = whole.token_ids[3]
    params = SamplingParams(temperature=0.0, max_tokens=8, stop_token_ids=(stop,))
    choice = llm.generate("One, two,", params, use_progress_bar=False)[0][0]
    assert choice.stop_reason == stop
    assert choice.token_ids == whole.token_ids[: whole.token_ids.index(stop) + 1]


def test_logprobs_name_the_sampled_token_and_the_best(llm: LLM) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=5, logprobs=3)
    choice = llm.generate("The capital of France is", params, use_progress_bar=False)[0][0]
    assert choice.logprobs is not None
    assert [entry.token_id for entry in choice.logprobs] == list(choice.token_ids)
    for entry in choice.logprobs:
        assert len(entry.top) == 3
        assert entry.top[0].token_id == entry.token_id  # greedy takes the best
        assert entry.logprob == pytest.approx(entry.top[0].logprob)
        assert entry.top[0].logprob >= entry.top[1].logprob >= entry.top[2].logprob
    assert "".join(entry.token for entry in choice.logprobs) == choice.text


def test_biased_allowed_and_banned_tokens(llm: LLM) -> None:
    allowed = (100, 200, 300)
    params = SamplingParams(temperature=1.0, seed=3, max_tokens=20, allowed_token_ids=allowed)
    choice = llm.generate("Hello", params, use_progress_bar=False)[0][0]
    assert set(choice.token_ids) <= set(allowed)
    forced = SamplingParams(temperature=0.0, max_tokens=3, logit_bias={500: 100.0})
    assert llm.generate("Hi", forced, use_progress_bar=False)[0][0].token_ids == (500, 500, 500)
    assert "Paris" not in generate(llm, "The capital of France is", bad_words=("Paris",))[0]


def test_closing_a_stream_cancels_its_request(llm: LLM) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=1000, ignore_eos=True)
    stream = llm.stream("Count: one, two, three,", params)
    assert next(stream).text
    assert llm.core.stats().num_running == 1
    stream.close()
    assert llm.core.stats().num_running == 0


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "non-empty"),
        ([49152], "Token id 49152 is out of vocabulary. Vocabulary size: 49152"),
        ([-1], "Token id -1 is out of vocabulary"),
        ([5] * 8192, "maximum context length is"),
    ],
)
def test_a_bad_prompt_is_refused(llm: LLM, prompt: list[int], message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        llm.generate([prompt], use_progress_bar=False)


def test_a_step_that_fails_ends_its_requests_and_nothing_else(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = generate(llm, "The quick brown fox", max_tokens=24)
    runner = llm.core._runner

    def fail(batch: object) -> None:
        raise FloatingPointError("made to fail")

    with monkeypatch.context() as patch:
        patch.setattr(runner, "launch", fail)
        with pytest.raises(RequestFailedError, match="FloatingPointError"):
            generate(
                llm, "A prompt that is long enough to fill a block of sixteen tokens, twice " * 3
            )
    again = "A prompt that is long enough to fill a block of sixteen tokens, twice " * 3
    choice = llm.generate(
        again, SamplingParams(temperature=0.0, max_tokens=2), use_progress_bar=False
    )[0][0]
    assert choice.num_cached_tokens == 0  # what the failed step was to compute is not in the index
    assert generate(llm, "The quick brown fox", max_tokens=24) == before


def test_a_broken_model_file_is_a_clear_error(smollm2_gguf: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    with smollm2_gguf.open("rb") as whole:
        broken.write_bytes(whole.read(3_000_000))
    with pytest.raises(ModelError, match=r"broken\.gguf"):
        LLM(str(broken))

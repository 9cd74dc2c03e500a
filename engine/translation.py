"""From a submitted sequence to what the scheduler and the sampler know of it."""

import hashlib
import time
from collections.abc import Collection

from ..models.sampling_spec import SamplingSpec
from ..scheduler import Request, StopRule
from .messages import Submit

LARGEST_TOP_K = 2**31 - 1  # beyond any vocabulary, and what a kernel's integer holds


class Translation:
    """Checks sequences for one model, and translates them."""

    def __init__(self, vocab_size: int, max_model_len: int, model_identity: bytes) -> None:
        self._vocab_size = vocab_size
        self._max_model_len = max_model_len
        self._model_identity = model_identity

    def check(self, submit: Submit) -> None:
        """Raise ValueError for what would fail a step, and with it everybody in that step.

        Front ends refuse such requests themselves, but more than they may reach the engine.
        """
        params = submit.params
        named: tuple[tuple[str, Collection[int]], ...] = (
            ("prompt", submit.prompt_token_ids),
            ("output so far", submit.output_token_ids),
            ("logit_bias", params.logit_bias or ()),
            ("allowed_token_ids", params.allowed_token_ids or ()),
            ("stop_token_ids", params.stop_token_ids),
            *(("bad_words", word) for word in submit.bad_words_ids),
        )
        for name, token_ids in named:
            self._check_ids(name, token_ids)
        if not submit.prompt_token_ids:
            raise ValueError("the prompt is empty")
        if () in submit.bad_words_ids:
            raise ValueError("a word of bad_words has no tokens")
        for count in (params.logprobs, params.prompt_logprobs):
            if count is not None and not 0 <= count <= self._vocab_size:
                raise ValueError(
                    f"{count} log-probabilities a token: the vocabulary has {self._vocab_size}"
                )

    def request(self, submit: Submit, *, reads_output: bool) -> Request:
        """The sequence as the scheduler sees it; `reads_output` as in `Request`."""
        params = submit.params
        return Request(
            submit.request_id,
            submit.prompt_token_ids,
            StopRule(
                max_tokens=submit.max_tokens,
                max_total_tokens=self._max_model_len,
                min_tokens=params.min_tokens,
                eos_token_ids=frozenset(() if params.ignore_eos else submit.eos_token_ids),
                stop_token_ids=frozenset(params.stop_token_ids),
            ),
            priority=submit.priority,
            arrival_time=time.monotonic(),
            hash_extra=_hash_extra(self._model_identity, submit.cache_salt),
            # Else cached prompt tokens would not be computed, which gives their log-probabilities.
            use_prefix_cache=params.prompt_logprobs is None,
            reads_output=reads_output,
            output_token_ids=submit.output_token_ids,
        )

    def sampling_spec(self, submit: Submit) -> SamplingSpec:
        """How the sequence's tokens are drawn."""
        params = submit.params
        stops = (*(() if params.ignore_eos else submit.eos_token_ids), *params.stop_token_ids)
        return SamplingSpec(
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=min(max(0, params.top_k), LARGEST_TOP_K),
            min_p=params.min_p,
            presence_penalty=params.presence_penalty,
            frequency_penalty=params.frequency_penalty,
            repetition_penalty=params.repetition_penalty,
            seed=submit.seed,
            min_tokens=params.min_tokens,
            # The files of a model may name ends that are beyond its vocabulary.
            banned_until_min=tuple(one for one in dict.fromkeys(stops) if self._has(one)),
            logit_bias=tuple((params.logit_bias or {}).items()),
            allowed_token_ids=params.allowed_token_ids,
            bad_words=submit.bad_words_ids,
            logprobs=params.logprobs,
            prompt_logprobs=params.prompt_logprobs,
        )

    def _check_ids(self, name: str, token_ids: Collection[int]) -> None:
        if token_ids and not (self._has(min(token_ids)) and self._has(max(token_ids))):
            outside = next(one for one in token_ids if not self._has(one))
            raise ValueError(
                f"token id {outside} of {name} is out of vocabulary ({self._vocab_size} tokens)"
            )

    def _has(self, token_id: int) -> bool:
        return 0 <= token_id < self._vocab_size


def _hash_extra(model_identity: bytes, cache_salt: str) -> bytes:
    """What besides tokens decides a block's content: the model, and whose prefix it may be."""
    salt = hashlib.sha256(cache_salt.encode()).digest() if cache_salt else b""
    return model_identity + salt

"""From a submitted sequence to what the scheduler and the sampler know of it."""

import hashlib
import time

from ..models.sampling_spec import SamplingSpec
from ..scheduler import Request, StopRule
from .messages import Submit

LARGEST_TOP_K = 2**31 - 1  # beyond any vocabulary, and what a kernel's integer holds


def scheduler_request(
    submit: Submit, *, max_model_len: int, model_identity: bytes, reads_output: bool
) -> Request:
    """The sequence as the scheduler sees it; `reads_output` as in `Request`."""
    params = submit.params
    return Request(
        submit.request_id,
        submit.prompt_token_ids,
        StopRule(
            max_tokens=submit.max_tokens,
            max_total_tokens=max_model_len,
            min_tokens=params.min_tokens,
            eos_token_ids=frozenset(() if params.ignore_eos else submit.eos_token_ids),
            stop_token_ids=frozenset(params.stop_token_ids),
        ),
        priority=submit.priority,
        arrival_time=time.monotonic(),
        hash_extra=_hash_extra(model_identity, submit.cache_salt),
        use_prefix_cache=params.prompt_logprobs is None,  # which every prompt token computed gives
        reads_output=reads_output,
        output_token_ids=submit.output_token_ids,
    )


def sampling_spec(submit: Submit) -> SamplingSpec:
    """How the sequence's tokens are drawn."""
    params = submit.params
    stops = () if params.ignore_eos else submit.eos_token_ids
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
        banned_until_min=tuple(dict.fromkeys((*stops, *params.stop_token_ids))),
        logit_bias=tuple((params.logit_bias or {}).items()),
        allowed_token_ids=params.allowed_token_ids,
        bad_words=submit.bad_words_ids,
        logprobs=params.logprobs,
        prompt_logprobs=params.prompt_logprobs,
    )


def _hash_extra(model_identity: bytes, cache_salt: str) -> bytes:
    """What besides tokens decides a block's content: the model, and whose prefix it may be."""
    salt = hashlib.sha256(cache_salt.encode()).digest() if cache_salt else b""
    return model_identity + salt

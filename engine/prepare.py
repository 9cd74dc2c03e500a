"""From a prompt and sampling parameters to the sequences that the engine computes."""

import secrets

import msgspec

from .errors import BadRequestError
from .messages import Submit
from .sampling_params import MAX_LOGPROBS, SamplingParams
from .tokenizer import Tokenizer

SEED_MASK = 2**64 - 1
TokenSequences = tuple[tuple[int, ...], ...]


def validate_params(
    params: SamplingParams, *, vocab_size: int, max_logprobs: int = MAX_LOGPROBS
) -> SamplingParams:
    """Check parameters against the model and fill in numbers for `logprobs` -1.

    Raises BadRequestError for ids outside the vocabulary, or more than `max_logprobs`
    log-probabilities (-1: any number).
    """
    params.check_vocabulary(vocab_size)
    return params.with_logprobs_of(vocab_size, max_logprobs)


def validate_prompt(
    prompt_token_ids: list[int], params: SamplingParams, *, vocab_size: int, max_model_len: int
) -> SamplingParams:
    """Check a prompt against the model and fill in `max_tokens`.

    Raises BadRequestError for an empty prompt, ids outside the vocabulary, or a prompt that leaves
    no room for the tokens asked for.
    """
    if not prompt_token_ids:
        raise BadRequestError(
            "Either prompt or prompt_embeds must be provided and non-empty.", "prompt"
        )
    length = len(prompt_token_ids)
    if length >= max_model_len:  # before anything that takes time by the token
        wanted = params.max_tokens or 1
        raise BadRequestError(_too_long(max_model_len, wanted, length), "prompt")
    if min(prompt_token_ids) < 0 or max(prompt_token_ids) >= vocab_size:
        outside = next(token for token in prompt_token_ids if not 0 <= token < vocab_size)
        raise BadRequestError(
            f"Token id {outside} is out of vocabulary. Vocabulary size: {vocab_size}", "prompt"
        )
    if params.max_tokens is not None:
        if length + params.max_tokens > max_model_len:
            raise BadRequestError(_too_long(max_model_len, params.max_tokens, length), "max_tokens")
        return params
    room = max_model_len - length
    if params.min_tokens > room:
        raise BadRequestError(_too_long(max_model_len, params.min_tokens, length), "min_tokens")
    return msgspec.structs.replace(params, max_tokens=room)


def make_sequences(
    request_id: str,
    prompt_token_ids: list[int],
    params: SamplingParams,
    tokenizer: Tokenizer,
    bad_words_ids: TokenSequences,
    *,
    priority: int = 0,
    cache_salt: str = "",
) -> list[Submit]:
    """One Submit a choice; choice i draws with seed + i.

    `params` come from `validate_prompt`, `bad_words_ids` from `bad_word_ids`.
    """
    assert params.max_tokens is not None
    seed = secrets.randbits(64) if params.seed is None or params.seed == -1 else params.seed
    return [
        Submit(
            request_id=request_id if params.n == 1 else f"{request_id}#{index}",
            prompt_token_ids=prompt_token_ids,
            params=params,
            max_tokens=params.max_tokens,
            seed=(seed + index) & SEED_MASK,
            eos_token_ids=tuple(tokenizer.eos_token_ids),
            bad_words_ids=bad_words_ids,
            priority=priority,
            cache_salt=cache_salt,
        )
        for index in range(params.n)
    ]


def bad_word_ids(words: tuple[str, ...], tokenizer: Tokenizer) -> TokenSequences:
    """Each word as it is tokenized at the beginning of a text and after a space."""
    spellings = dict.fromkeys(
        tuple(tokenizer.encode(text, add_special_tokens=False))
        for word in words
        for text in (word.lstrip(), " " + word.lstrip())
    )
    return tuple(ids for ids in spellings if ids)


def _too_long(limit: int, wanted: int, prompt: int) -> str:
    return (
        f"This model's maximum context length is {limit} tokens. However, you requested {wanted} "
        f"output tokens and your prompt contains {prompt} input tokens, for a total of "
        f"{wanted + prompt} tokens. Please reduce the length of the input prompt or the number of "
        "requested output tokens."
    )

"""Whether a request can be served at all, before it is queued."""

from .request import Request


def count_blocks(num_tokens: int, block_size: int) -> int:
    """Blocks that so many tokens take."""
    return -(-num_tokens // block_size)


def check_feasible(
    request: Request, block_size: int, num_usable_blocks: int, max_model_len: int
) -> None:
    """Raise ValueError unless the request, alone on an idle engine, can run to its limits.

    This is what makes waiting and preemption always end: some request fits when all others are out
    of the way.
    """
    rule = request.stop_rule
    num_prompt_tokens = request.num_prompt_tokens
    if num_prompt_tokens == 0:
        raise ValueError("the prompt is empty")
    if rule.max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, got {rule.max_tokens}")
    if rule.max_total_tokens > max_model_len:
        raise ValueError(
            f"max_total_tokens={rule.max_total_tokens} is beyond the context of {max_model_len} "
            "tokens (--max-model-len)"
        )
    if num_prompt_tokens >= rule.max_total_tokens:
        raise ValueError(
            f"the prompt has {num_prompt_tokens} tokens and leaves no room for output: both "
            f"together may have {rule.max_total_tokens} (--max-model-len)"
        )
    if request.num_tokens >= request.max_num_tokens:
        raise ValueError(
            f"a prompt of {num_prompt_tokens} tokens with max_tokens={rule.max_tokens} brings "
            f"{request.num_output_tokens} output tokens, and may have no more"
        )
    # The last token that a request samples is never computed, so it needs no slot.
    num_slots = min(num_prompt_tokens + rule.max_tokens, rule.max_total_tokens) - 1
    num_blocks = count_blocks(num_slots, block_size)
    if num_blocks > num_usable_blocks:
        raise ValueError(
            f"a prompt of {num_prompt_tokens} tokens with max_tokens={rule.max_tokens} may need "
            f"{num_blocks} KV cache blocks of {block_size} tokens, and there are "
            f"{num_usable_blocks}: ask for fewer tokens, or give the server more "
            "(--kv-cache-memory, --num-blocks)"
        )

"""Tiny random checkpoints of each architecture, made and judged by transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from octavo import LLM, SamplingParams

VOCAB_SIZE = 320
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": 319,
    "pad_token_id": None,
    "initializer_range": 0.2,
}

CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama-untied-llama3-rope": lambda: transformers.LlamaConfig(
        **SIZES,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 128,
        },
    ),
    "mistral-window": lambda: transformers.MistralConfig(**SIZES, sliding_window=24),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, head_dim=16),
}


def save_checkpoint(folder: Path, config: Any) -> Any:
    """A seeded random model with its tokenizer (one token a byte) in `folder`."""
    torch.manual_seed(20)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_tokens_equal_those_of_transformers(
    name: str,
    tmp_path: Path,
    make_llm: Callable[..., LLM],
    greedy_reference: Callable[[Any, list[int], int], tuple[int, ...]],
) -> None:
    torch.set_num_threads(1)  # two threads spend their time waiting for each other in such a model
    reference = save_checkpoint(tmp_path, CONFIGS[name]())
    generator = torch.Generator().manual_seed(7)
    lengths = (1, 2, 15, 16, 17, 31, 32, 33, 48, 64, 65, 100, 150)
    prompts = [torch.randint(0, 256, (n,), generator=generator).tolist() for n in lengths]
    expected = [greedy_reference(reference, prompt, 64) for prompt in prompts]
    params = SamplingParams(temperature=0.0, max_tokens=64, ignore_eos=True)

    def tokens_of(llm: LLM, some: list[list[int]]) -> list[tuple[int, ...]]:
        return [c[0].token_ids for c in llm.generate(some, params, use_progress_bar=False)]

    roomy = make_llm(tmp_path, num_threads=1, num_blocks=512)
    assert [tokens_of(roomy, [prompt])[0] for prompt in prompts] == expected
    assert tokens_of(roomy, prompts) == expected  # at once, and from cache
    few = {"max_num_batched_tokens": 16, "max_num_seqs": 16}
    chunked = make_llm(tmp_path, num_threads=1, num_blocks=512, **few)
    assert tokens_of(chunked, prompts) == expected
    tight = make_llm(tmp_path, num_threads=1, num_blocks=30, max_model_len=240)
    assert tokens_of(tight, prompts) == expected
    assert tight.core.stats().num_preemptions > 0
    room = {"num_blocks": 30, "max_model_len": 240}
    ahead = make_llm(tmp_path, num_threads=1, **room, async_scheduling=True)
    assert tokens_of(ahead, prompts) == expected
    assert ahead.core.stats().num_preemptions > 0

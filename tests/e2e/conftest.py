"""Reference generation with transformers, and the prompts that exactness is checked on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo import LLM, SamplingParams

NUM_TOKENS = 64

PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "Explain in one sentence why the sky is blue.",
    "List three reasons to read books:\n1.",
    "Water boils at 100 degrees Celsius because",
    "To be, or not to be, that is",
    "Dear Sir or Madam,\n\nI am writing to",
    "Q: What is 17 + 25?\nA:",
    "def fibonacci(n):\n    ",
    "#include <stdio.h>\n\nint main(void) {\n",
    "SELECT name, COUNT(*) FROM users WHERE",
    "import numpy as np\n\ndef softmax(x):\n",
    '{"name": "Alice", "age": 30, "hobbies": [',
    "for (let i = 0; i < 10; i++) {",
    "今天天气很好，我们",
    "北京是中国的首都。",
    "你好！请介绍一下你自己。",
    "😀 😃 😄 😁",
    "I ❤️ pizza 🍕 and",
    "The quick brown 🦊 jumps over the lazy 🐶. The moral of the story is",
    "<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n",
)


@pytest.fixture(scope="session")
def prompts(smollm2_gguf: Path) -> list[list[int]]:
    """Token ids of the prompts, and of one of 1,500 tokens."""
    from octavo.engine.tokenizer import Tokenizer
    from octavo.models.resolve import resolve_model
    from octavo.models.tokenizer_files import load_tokenizer_files

    files = resolve_model(str(smollm2_gguf), smollm2_gguf.parent)
    tokenizer = Tokenizer(load_tokenizer_files(files))
    encoded = [tokenizer.encode(text, add_special_tokens=False) for text in PROMPTS]
    story = " ".join(f"On day {day} the traveller walked {day * 7} miles." for day in range(1, 200))
    encoded.append(tokenizer.encode(story, add_special_tokens=False)[:1500])
    assert len(encoded[-1]) == 1500
    return encoded


@pytest.fixture(scope="session")
def expected(smollm2_gguf: Path, prompts: list[list[int]]) -> list[tuple[int, ...]]:
    """What transformers generates greedily in float32 from its own reading of the same file.

    Our tokens are its draft: where each is the most likely one after those before it, they are
    what it would have generated, and one forward pass has shown it. Where one is not, it generates
    alone. The result does not depend on the draft, only the time it takes.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        smollm2_gguf.parent, gguf_file=smollm2_gguf.name, dtype=torch.float32
    )
    greedy = SamplingParams(temperature=0.0, max_tokens=NUM_TOKENS, ignore_eos=True)
    llm = LLM(str(smollm2_gguf), dtype="float32", device="cpu", kv_cache_memory="1GiB")
    drafts = [
        choices[0].token_ids for choices in llm.generate(prompts, greedy, use_progress_bar=False)
    ]
    return [
        draft
        if _most_likely(model, prompt, draft) == draft
        else _generate_greedily(model, prompt, NUM_TOKENS)
        for prompt, draft in zip(prompts, drafts, strict=True)
    ]


@pytest.fixture(scope="session")
def greedy_reference() -> Callable[[Any, list[int], int], tuple[int, ...]]:
    """Greedy generation by a transformers model: (model, prompt, number of tokens) to tokens."""
    return _generate_greedily


def _most_likely(model: Any, prompt: list[int], draft: tuple[int, ...]) -> tuple[int, ...]:
    """The most likely token after the prompt, and after each of the draft's but the last."""
    with torch.inference_mode():
        result = model(input_ids=torch.tensor([[*prompt, *draft[:-1]]]), logits_to_keep=len(draft))
    return tuple(result.logits[0].argmax(dim=-1).tolist())


def _generate_greedily(model: Any, prompt: list[int], num_tokens: int) -> tuple[int, ...]:
    """The plain loop: one sequence, its own cache, the most likely token each time."""
    tokens: list[int] = []
    cache = None
    step = torch.tensor([prompt])
    with torch.inference_mode():
        for _ in range(num_tokens):
            result = model(input_ids=step, past_key_values=cache, use_cache=True)
            cache = result.past_key_values
            tokens.append(int(result.logits[0, -1].argmax()))
            step = torch.tensor([tokens[-1:]])
    return tuple(tokens)


@pytest.fixture
def make_llm() -> Iterator[Callable[..., LLM]]:
    """Make an `LLM` in float32; after the test it must be idle with every block back."""
    made: list[LLM] = []

    def make(model: Path, **settings: Any) -> LLM:
        llm = LLM(str(model), **{"dtype": "float32", "device": "cpu", **settings})
        made.append(llm)
        return llm

    yield make
    for llm in made:
        assert_idle(llm)


def assert_idle(llm: LLM) -> None:
    """Nothing runs or waits, and no request holds a block."""
    stats = llm.core.stats()
    assert (stats.num_running, stats.num_waiting, stats.blocks_used) == (0, 0, 0)
    assert stats.blocks_free + stats.blocks_cached == stats.blocks_total

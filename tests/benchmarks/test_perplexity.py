"""Perplexity through the served path equals that of the plain model, however it is stepped."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks.perplexity import TEXT, Steps, compare, parse_settings, score

WINDOW = 48


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A tiny seeded model, one token a byte, and transformers' own reading of it."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=255,
        initializer_range=0.2,
    )
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder, (model, tokenizer)


def settings(folder: Path, dtype: str) -> dict[str, Any]:
    return {
        "model": str(folder),
        "dtype": dtype,
        "device": "cpu",
        "num_threads": 1,
        "kv_cache_memory": "16MiB",
    }


@pytest.mark.parametrize(("chunk_tokens", "sequences"), [(WINDOW, 1), (7, 1), (1, 3), (5, 2)])
def test_it_is_that_of_the_plain_model(
    checkpoint: tuple[Path, Any], chunk_tokens: int, sequences: int
) -> None:
    folder, (model, tokenizer) = checkpoint
    text = "It was the best of times, it was the worst of times; " * 4
    steps = Steps(WINDOW, chunk_tokens, sequences)
    scores = score(text, settings(folder, "float32"), steps, 3)
    ids = torch.tensor(tokenizer.encode(text).ids[: 3 * WINDOW]).view(3, WINDOW)
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[:, :-1].flatten(0, 1)
    expected = F.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none")
    torch.testing.assert_close(scores.nll.float(), expected, atol=1e-4, rtol=1e-4)
    assert scores.likeliest.tolist() == logits.argmax(-1).tolist()
    assert math.isclose(scores.perplexity, math.exp(float(expected.mean())), rel_tol=1e-4)


def test_options_are_compared_with_float32(checkpoint: tuple[Path, Any]) -> None:
    folder, _ = checkpoint
    text = "A cat may look at a king. " * 8
    result = compare(text, settings(folder, "bfloat16"), Steps(WINDOW, 16, 1))
    assert result.dtype == "bfloat16, KV bfloat16"
    assert result.num_predictions == (WINDOW - 1) * (len(text) // WINDOW)
    assert 0 < abs(result.difference_percent) < 5
    assert 80 < result.same_likeliest_percent <= 100
    same = compare(text, settings(folder, "float32"), Steps(WINDOW, 16, 1))
    assert same.difference_percent == 0
    assert same.same_likeliest_percent == 100


def test_a_text_shorter_than_a_window_is_refused(checkpoint: tuple[Path, Any]) -> None:
    folder, _ = checkpoint
    with pytest.raises(ValueError, match="fewer than a window of 48"):
        score("too short", settings(folder, "float32"), Steps(WINDOW, 16, 1), None)


def test_the_text_is_there_and_plain() -> None:
    text = TEXT.read_text(encoding="utf-8")
    assert 80_000 < len(text) < 100_000
    assert text.isascii()
    assert text.startswith("CHAPTER 1\n")


def test_settings_are_written_as_flags_of_serve() -> None:
    flags = ["--dtype", "float32", "--block-size=32", "--enforce-eager", "--no-async-scheduling"]
    assert parse_settings(flags) == {
        "dtype": "float32",
        "block_size": "32",
        "enforce_eager": True,
        "async_scheduling": False,
    }
    with pytest.raises(ValueError, match="stray"):
        parse_settings(["stray"])

"""The same offline batch through Octavo's loop, transformers, and vLLM where it is installed.

One random-weight model of the 0.6B shape, the same weights for all; greedy, a fixed number of
tokens. How many tokens agree with `generate` is told as well: in bfloat16 random weights leave many
near-ties, so that agreement ends early without an error anywhere.
"""

import random
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from harness import Bench, Case, Row, Skipped
from random_models import BLOCK_SIZE, QWEN_600M, TINY, make_model, make_runner, model_dtype
from step_loop import StepLoop

from octavo.models.config import ModelConfig
from octavo.models.decode_graphs import graph_ladder
from octavo.models.sampling_spec import SamplingSpec

_MOST_SECONDS = 60.0  # for two runs of transformers' continuous batching


@dataclass
class _Offline:
    """The batch, the model that all run, and what each made of it in tokens/s."""

    bench: Bench
    config: ModelConfig
    prompts: list[list[int]]
    output_tokens: int
    model: Any = None
    rates: dict[str, float] = field(default_factory=dict)
    outputs: list[list[int]] = field(default_factory=list)

    def reference_model(self) -> Any:
        """The transformers model, made once."""
        if self.model is None:
            self.model = _transformers_model(self.config, self.bench)
        return self.model

    @property
    def num_tokens(self) -> int:
        return len(self.prompts) * self.output_tokens


def cases(bench: Bench) -> Iterator[Case]:
    config = TINY if bench.tiny else QWEN_600M
    count, shortest, longest, output = (2, 3, 6, 3) if bench.tiny else (256, 64, 512, 128)
    prompts = [
        [random.randrange(config.vocab_size) for _ in range(random.randint(shortest, longest))]
        for _ in range(count)
    ]
    work = _Offline(bench, config, prompts, output)
    sizes = (count,) if bench.tiny else (256,) if bench.quick else (64, 256)
    for size in sizes:
        yield Case(f"generate, batches of {size}", lambda n=size: [_generate(work, n)])
    yield Case("Octavo", lambda: [_ours(work)])
    yield Case("continuous batching", lambda: [_continuous(work)])
    yield Case("vLLM", lambda: [_vllm(work)])
    yield Case("ratios", lambda: [_ratios(work)])


def _transformers_model(config: ModelConfig, bench: Bench) -> Any:
    try:
        from transformers import AutoModelForCausalLM, Qwen3Config
    except ImportError as error:
        raise Skipped(f"transformers cannot be imported: {error}") from None
    shape = Qwen3Config(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        rms_norm_eps=config.rms_norm_eps,
        rope_theta=config.rope_theta,
        max_position_embeddings=config.max_position_embeddings,
        tie_word_embeddings=config.tie_word_embeddings,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    with torch.device(bench.device):
        model = AutoModelForCausalLM.from_config(
            shape, dtype=model_dtype(bench), attn_implementation="sdpa"
        )
    return model.to(bench.device).eval()


def _timed(bench: Bench, work: Any) -> tuple[float, Any]:
    """Seconds of a second run (a first one compiles and warms up), and what it gave."""
    work()
    if bench.on_gpu:
        torch.cuda.synchronize()
    began = time.perf_counter()
    result = work()
    if bench.on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - began, result


def _row(work: _Offline, name: str, seconds: float) -> Row:
    work.rates[name] = work.num_tokens / seconds
    return {"case": name, "seconds": seconds, "out_tok_per_s": work.rates[name]}


@torch.inference_mode()
def _generate(work: _Offline, size: int) -> Row:
    """Left-padded batches of prompts of similar length: what transformers is best at."""
    model, device = work.reference_model(), work.bench.device
    order = sorted(range(len(work.prompts)), key=lambda i: len(work.prompts[i]))

    def run() -> dict[int, list[int]]:
        outputs: dict[int, list[int]] = {}
        for first in range(0, len(order), size):
            part = order[first : first + size]
            width = max(len(work.prompts[i]) for i in part)
            ids = torch.zeros((len(part), width), dtype=torch.int64)
            mask = torch.zeros_like(ids)
            for row, i in enumerate(part):
                count = len(work.prompts[i])
                ids[row, width - count :] = torch.tensor(work.prompts[i])
                mask[row, width - count :] = 1
            result = model.generate(
                ids.to(device),
                attention_mask=mask.to(device),
                max_new_tokens=work.output_tokens,
                do_sample=False,
                pad_token_id=0,
            )
            outputs |= dict(zip(part, result[:, width:].tolist(), strict=True))
        return outputs

    seconds, outputs = _timed(work.bench, run)
    work.outputs = [outputs[i] for i in range(len(work.prompts))]
    return _row(work, f"transformers generate, batches of {size}", seconds)


def _continuous(work: _Offline) -> Row:
    if not work.bench.on_gpu:
        raise Skipped("transformers' continuous batching is measured on a GPU only")
    model = work.reference_model()
    if not hasattr(model, "generate_batch"):
        raise Skipped("this transformers has no generate_batch")
    from transformers import GenerationConfig

    settings = GenerationConfig(
        max_new_tokens=work.output_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    answer: list[Any] = []

    def run() -> None:
        answer.append(_timed(work.bench, lambda: model.generate_batch(work.prompts, settings)))

    # It starts threads of its own, and waits for them without end if one fails.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_MOST_SECONDS)
    if not answer:
        raise RuntimeError(f"it failed, or took more than {_MOST_SECONDS:.0f} s")
    seconds, results = answer[0]
    drawn = sum(len(result.generated_tokens) for result in results.values())
    if drawn < 0.99 * work.num_tokens:
        raise RuntimeError(f"{drawn} tokens came back of {work.num_tokens}")
    return _row(work, "transformers continuous batching", seconds)


def _vllm(work: _Offline) -> Row:
    try:
        from vllm import LLM, SamplingParams
    except ImportError:
        raise Skipped("vLLM is not installed") from None
    model = work.reference_model()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        llm = LLM(
            folder,
            skip_tokenizer_init=True,
            enable_prefix_caching=False,
            max_model_len=1024,
            gpu_memory_utilization=0.6,
        )
        params = SamplingParams(
            temperature=0.0, max_tokens=work.output_tokens, ignore_eos=True, detokenize=False
        )
        prompts = [{"prompt_token_ids": prompt} for prompt in work.prompts]
        seconds, _ = _timed(work.bench, lambda: llm.generate(prompts, params, use_tqdm=False))
    return _row(work, "vLLM", seconds)


def _ours(work: _Offline) -> Row:
    longest = max(map(len, work.prompts)) + work.output_tokens
    row_blocks = -(-(longest + BLOCK_SIZE) // BLOCK_SIZE)
    shared = {
        "num_blocks": len(work.prompts) * row_blocks + 8,
        "max_num_seqs": len(work.prompts),
        "max_model_len": row_blocks * BLOCK_SIZE,
        "max_num_batched_tokens": 16 if work.bench.tiny else 8192,
    }
    weights = work.reference_model().state_dict().items()
    model = make_model("peer", work.config, work.bench, shared["max_model_len"], weights)
    runner = make_runner(model, work.bench, graph_sizes=graph_ladder(len(work.prompts)), **shared)

    def run() -> list[list[int]]:
        loop = StepLoop(runner, **shared)
        for i, prompt in enumerate(work.prompts):
            loop.submit(str(i), prompt, work.output_tokens, SamplingSpec(temperature=0.0))
        while loop.has_work:
            loop.step()
        return [loop.served[str(i)].token_ids for i in range(len(work.prompts))]

    seconds, outputs = _timed(work.bench, run)
    row = _row(work, "Octavo", seconds)
    if work.outputs:
        row["agrees"] = _agreement(outputs, work.outputs)
    return row


def _ratios(work: _Offline) -> Row:
    """Octavo over the best of transformers, and over vLLM."""
    peers = [rate for name, rate in work.rates.items() if name.startswith("transformers")]
    if "Octavo" not in work.rates or not peers:
        raise Skipped("one of the two sides was not measured")
    ratio = work.rates["Octavo"] / max(peers)
    row: Row = {"case": "Octavo over its peers", "vs_transformers": ratio}
    if "vLLM" in work.rates:
        row["vs_vllm"] = work.rates["Octavo"] / work.rates["vLLM"]
    return row | {"target": "offline throughput", "value": ratio}


def _agreement(ours: list[list[int]], theirs: list[list[int]]) -> float:
    """Share of tokens before the first that differs, over all sequences."""
    same = total = 0
    for a, b in zip(ours, theirs, strict=True):
        total += len(b)
        same += next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(b))
    return same / total

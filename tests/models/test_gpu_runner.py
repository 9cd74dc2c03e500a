"""The GPU's runner and kernels give the tokens of the reference runner; without a GPU, interpreted.

Steps ahead, chunked prompts, prefix hits and preemption all pass through the device's own block
tables and drawn tokens, so the same requests are run in several ways.
"""

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import transformers

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when a kernel is first imported

from octavo.engine.constraints import TokenConstraint
from octavo.engine.core import EngineCore
from octavo.engine.grammars import Grammars
from octavo.engine.messages import SequenceDelta, Submit
from octavo.engine.plan import EngineConfig, make_plan
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.settings import Settings
from octavo.engine.structured import StructuredOutput
from octavo.engine.translation import Translation
from octavo.kernels import torch_operations
from octavo.kernels.gpu import deterministic_operations
from octavo.kernels.gpu import operations as gpu_operations
from octavo.models.config import load_config
from octavo.models.constraint import Words
from octavo.models.decode_graphs import graph_ladder
from octavo.models.decoder import Decoder
from octavo.models.gpu_runner import GpuRunner
from octavo.models.load import kv_layout
from octavo.models.resolve import resolve_model
from octavo.models.runner import ModelRunner
from octavo.models.weights import read_tensors
from octavo.paged_cache.kv_tensors import KVCache

pytestmark = pytest.mark.slow

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PROMPTS = ([5, 6, 7], list(range(17)), list(range(3, 37)), [*range(17), 9])
GROWING = tuple(list(range(i, i + 15)) for i in range(4))  # each soon needs a second block
GREEDY = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)
SAMPLED = SamplingParams(
    temperature=0.8, top_p=0.9, top_k=2**40, max_tokens=4, logprobs=2, ignore_eos=True
)
PENALISED = SamplingParams(
    temperature=0.9,
    repetition_penalty=1.2,
    frequency_penalty=0.7,
    presence_penalty=-0.4,
    max_tokens=4,
    ignore_eos=True,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded random Qwen3 of two layers: head size 16, biases none, norms of Q and K."""
    torch.manual_seed(3)
    config = transformers.Qwen3Config(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        initializer_range=0.3,
    )
    folder = tmp_path_factory.mktemp("tiny")
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def make_core(
    folder: Path,
    *,
    gpu: bool,
    deterministic: bool = False,
    kv_dtype: str = "float32",
    grammars: Grammars | None = None,
    **settings: object,
) -> tuple[EngineCore, EngineConfig]:
    files = resolve_model(str(folder), folder)
    model = load_config(files)
    device = torch.device(DEVICE if gpu else "cpu")
    loaded = Settings.load(
        {"dtype": "float32", "device": device.type, "num_blocks": 32, **settings}
    )
    config, _ = make_plan(loaded, model, str(folder))
    kernels = deterministic_operations if deterministic else gpu_operations
    decoder = Decoder(
        model,
        read_tensors(files, model),
        dtype=torch.float32,
        device=device,
        max_positions=config.max_model_len,
        operations=kernels if gpu else torch_operations,
    )
    cache = KVCache(kv_layout(model, config.block_size, kv_dtype), config.num_blocks, device)
    sizes = {
        "device": device,
        "block_size": config.block_size,
        "max_num_seqs": config.max_num_seqs,
        "max_model_len": config.max_model_len,
    }
    runner: GpuRunner | ModelRunner
    if gpu:
        graphs = graph_ladder(config.max_num_seqs) if device.type == "cuda" else []
        budget = config.max_num_batched_tokens
        runner = GpuRunner(
            decoder,
            cache,
            **sizes,
            max_num_batched_tokens=budget,
            graph_sizes=[] if deterministic else graphs,
            deterministic=deterministic,
        )
    else:
        runner = ModelRunner(decoder, cache, **sizes)
    translation = Translation(model.vocab_size, config.max_model_len, b"tiny")
    core = EngineCore(config, runner, translation, grammars or Grammars.of_model("none"))
    return core, config


def generate(
    core: EngineCore, params: SamplingParams, prompts: tuple[list[int], ...] = PROMPTS
) -> dict[str, list[SequenceDelta]]:
    """Everything that each prompt's sequence gave, run together."""
    for number, prompt in enumerate(prompts):
        core.add(
            Submit(str(number), list(prompt), params, max_tokens=params.max_tokens, seed=number)
        )
    deltas: dict[str, list[SequenceDelta]] = {}
    while core.has_work:
        for delta in core.step().deltas:
            assert delta.error is None
            deltas.setdefault(delta.request_id, []).append(delta)
    assert core.stats().blocks_used == 0
    return deltas


def tokens_of(deltas: dict[str, list[SequenceDelta]]) -> dict[str, list[int]]:
    return {name: [t for delta in some for t in delta.token_ids] for name, some in deltas.items()}


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> dict[str, dict[str, list[SequenceDelta]]]:
    core, _ = make_core(checkpoint, gpu=False)
    each = {"greedy": GREEDY, "sampled": SAMPLED, "penalised": PENALISED}
    return {name: generate(core, params) for name, params in each.items()}


def test_greedy_sampled_and_penalised_tokens_are_the_reference_s(checkpoint, reference) -> None:
    core, _ = make_core(checkpoint, gpu=True, async_scheduling=True, max_num_seqs=8)
    assert tokens_of(generate(core, GREEDY)) == tokens_of(reference["greedy"])
    sampled = generate(core, SAMPLED)  # from cache
    assert tokens_of(sampled) == tokens_of(reference["sampled"])
    for name, deltas in sampled.items():
        for ours, theirs in zip(deltas, reference["sampled"][name], strict=True):
            assert ours.scores[0].logprob == pytest.approx(theirs.scores[0].logprob, abs=1e-4)
            best = [token for token, _ in ours.scores[0].top]
            assert best == [token for token, _ in theirs.scores[0].top]
    assert tokens_of(generate(core, PENALISED)) == tokens_of(reference["penalised"])


class EvenOrOdd(Grammars):
    """A grammar without its library: tokens alternate between even and odd, beginning with even."""

    def __init__(self) -> None:
        super().__init__(lambda: pytest.fail("there is no tokenizer"))

    def constraint(self, params: SamplingParams, stop_token_ids: tuple[int, ...]) -> Any:
        return _Alternating()


class _Alternating(TokenConstraint):
    def __init__(self) -> None:
        super().__init__(128)
        self.num_accepted = 0

    @property
    def is_active(self) -> bool:
        return True

    def fill(self, words: Words) -> None:
        words &= np.array([0x55555555, -0x55555556], dtype=np.int32)[self.num_accepted % 2]

    def accept(self, token_id: int) -> None:
        assert token_id % 2 == self.num_accepted % 2
        self.num_accepted += 1


@pytest.mark.parametrize("gpu", [False, True])
def test_constraints_hold_in_a_step_with_free_sequences(checkpoint, reference, gpu) -> None:
    """Some rows of each step are masked, others not; a step ahead would lack the token before."""
    settings = {"async_scheduling": True, "max_num_seqs": 8}
    core, _ = make_core(checkpoint, gpu=gpu, grammars=EvenOrOdd(), **settings)
    form = StructuredOutput("regex", "")
    params = {"free": GREEDY, "held": msgspec.structs.replace(GREEDY, structured=form)}
    for kind, one in params.items():
        for number, prompt in enumerate(PROMPTS):
            name = f"{kind}{number}"
            core.add(Submit(name, list(prompt), one, max_tokens=one.max_tokens, seed=number))
    tokens: dict[str, list[int]] = {}
    while core.has_work:
        for delta in core.step().deltas:
            assert delta.error is None
            tokens.setdefault(delta.request_id, []).extend(delta.token_ids)
    for number, expected in tokens_of(reference["greedy"]).items():
        assert tokens[f"free{number}"] == expected
        held = tokens[f"held{number}"]
        assert [token % 2 for token in held] == [i % 2 for i in range(len(held))]
        assert len(held) == GREEDY.max_tokens


def test_prompt_scores_are_the_reference_s_whole_or_in_chunks(checkpoint) -> None:
    params = msgspec.structs.replace(GREEDY, prompt_logprobs=2)
    plain, _ = make_core(checkpoint, gpu=False)
    small = {"max_num_seqs": 4, "max_num_batched_tokens": 8, "long_prefill_token_threshold": 3}
    chunked, _ = make_core(checkpoint, gpu=True, async_scheduling=True, **small)
    expected, ours = generate(plain, params), generate(chunked, params)
    for number, prompt in enumerate(PROMPTS):
        # Of a prompt in chunks, a delta without tokens tells that its first chunk was computed.
        silent = [delta for delta in ours[str(number)] if not delta.token_ids]
        first, *rest = [delta for delta in ours[str(number)] if delta.token_ids]
        assert len(silent) == (len(prompt) > small["long_prefill_token_threshold"])
        assert not any(delta.prompt_scores for delta in [*silent, *rest])
        wanted, *_ = expected[str(number)]
        assert len(first.prompt_scores) == len(wanted.prompt_scores) == len(prompt) - 1
        for mine, theirs in zip(first.prompt_scores, wanted.prompt_scores, strict=True):
            assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-4)
            assert [token for token, _ in mine.top] == [token for token, _ in theirs.top]


def test_chunks_and_preemption_change_nothing(checkpoint) -> None:
    expected = generate(make_core(checkpoint, gpu=False)[0], GREEDY, GROWING)
    few = {"num_blocks": 6, "max_model_len": 64, "max_num_seqs": 4, "max_num_batched_tokens": 16}
    core, _ = make_core(checkpoint, gpu=True, async_scheduling=True, **few)
    assert tokens_of(generate(core, GREEDY, GROWING)) == tokens_of(expected)
    assert core.stats().num_preemptions > 0


def test_without_room_for_a_step_smaller_ones_follow(checkpoint, reference, monkeypatch) -> None:
    core, _ = make_core(checkpoint, gpu=False, async_scheduling=True)
    launch = core._runner.launch
    largest = []

    def launch_if_small(batch):
        num_tokens = sum(len(item.token_ids) for item in batch)
        if num_tokens > 40:
            raise torch.OutOfMemoryError("made to fail")
        largest.append(num_tokens)
        return launch(batch)

    monkeypatch.setattr(core._runner, "launch", launch_if_small)
    assert tokens_of(generate(core, GREEDY)) == tokens_of(reference["greedy"])
    assert 20 < max(largest) <= 40


def test_the_largest_step_can_be_computed_on_padding(checkpoint) -> None:
    sizes = {"max_num_batched_tokens": 40, "max_num_seqs": 4, "max_model_len": 16, "num_blocks": 2}
    core, _ = make_core(checkpoint, gpu=True, **sizes)
    core._runner.compute_largest_step()  # its memory is what is measured on a GPU
    assert core.stats().blocks_used == 0


def test_deterministic_kernels_give_the_reference_s_tokens(checkpoint, reference) -> None:
    few = {"max_num_batched_tokens": 24, "max_num_seqs": 8}
    core, _ = make_core(checkpoint, gpu=True, deterministic=True, **few)
    assert tokens_of(generate(core, GREEDY)) == tokens_of(reference["greedy"])


def test_an_eight_bit_cache_keeps_the_distribution(checkpoint, reference) -> None:
    core, _ = make_core(checkpoint, gpu=True, kv_dtype="float8_e4m3fn", max_num_seqs=8)
    scored = SamplingParams(temperature=0.0, max_tokens=1, logprobs=5)
    plain, _ = make_core(checkpoint, gpu=False)
    expected, given = (
        {name: dict(deltas[0].scores[0].top) for name, deltas in generate(one, scored).items()}
        for one in (plain, core)
    )
    for name, best in expected.items():
        shared = best.keys() & given[name].keys()
        assert len(shared) >= 3  # of 5
        # 3 bits of mantissa: an error of some per cent in keys and values
        assert all(abs(best[token] - given[name][token]) < 0.3 for token in shared)

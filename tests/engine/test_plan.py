"""The memory plan: exact figures for the real model, and errors that say what would fit."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from octavo.engine.build import plan_model
from octavo.engine.devices import has_native_kernels
from octavo.engine.errors import ConfigurationError
from octavo.engine.plan import make_plan
from octavo.engine.settings import Settings
from octavo.models.native_support import PackedSize


def test_blocks_follow_from_bytes(smollm2_gguf: Path) -> None:
    planned = plan_model(
        Settings.load(
            {
                "model": str(smollm2_gguf),
                "kv_cache_memory": "64MiB",
                "dtype": "float32",
                "device": "cpu",
            }
        )
    )
    # 30 layers x (key + value) x 3 heads x 64 x 4 bytes
    assert planned.plan.kv_bytes_per_token == 46080
    assert planned.config.num_blocks == 64 * 1024**2 // (46080 * 16) == 91
    assert planned.plan.kv_tokens == 90 * 16
    assert planned.config.max_model_len == 1440  # what fits, since no length was asked for
    assert 134_000_000 < planned.model.num_parameters < 135_000_000
    embedding_bytes = 49152 * 576 * 4
    assert planned.plan.weight_bytes in (
        planned.model.num_parameters * 4,  # plain torch, where no compiler was there
        planned.model.num_parameters * 4 + embedding_bytes,  # its rows, and laid out as the head
    )


@pytest.mark.skipif(not has_native_kernels(64), reason="the native CPU kernels were not compiled")
def test_packed_weights_are_planned_as_they_are_kept(smollm2_gguf: Path) -> None:
    settings = {"model": str(smollm2_gguf), "device": "cpu"}
    planned = plan_model(Settings.load(settings))
    assert planned.config.keep_packed
    assert (planned.config.dtype, planned.config.kv_dtype) == ("float32", "bfloat16")
    embedding_bytes = 49152 * 576 // 32 * 34  # Q8_0: 2 + 32 bytes for 32 weights
    header_bytes = 2 * 1024**2
    weights = smollm2_gguf.stat().st_size + embedding_bytes
    assert weights - header_bytes < planned.plan.weight_bytes < weights
    exact = plan_model(Settings.load({**settings, "dtype": "float32"}))
    assert not exact.config.keep_packed
    assert exact.config.kv_dtype == "float32"


@pytest.mark.skipif(not has_native_kernels(64), reason="the native CPU kernels were not compiled")
def test_a_file_with_nothing_to_keep_packed_is_planned_dense(smollm2_gguf: Path) -> None:
    planned = plan_model(Settings.load({"model": str(smollm2_gguf), "device": "cpu"}))
    size = PackedSize(num_packable=0, num_bytes=1)
    settings = Settings.load({"model": str(smollm2_gguf), "device": "cpu"})
    config, plan = make_plan(settings, planned.model, str(smollm2_gguf), 1, size)
    assert not config.keep_packed
    assert config.kv_dtype == "float32"
    assert plan.weight_bytes > planned.model.num_parameters * 4


def test_wide_heads_are_left_to_torch(smollm2_gguf: Path) -> None:
    model = replace(plan_model(Settings.load({"model": str(smollm2_gguf)})).model, head_dim=320)
    settings = {"model": str(smollm2_gguf), "device": "cpu", "num_blocks": 64}
    config, _ = make_plan(Settings.load(settings), model, str(smollm2_gguf))
    assert config.kv_dtype == config.dtype
    with pytest.raises(ConfigurationError, match="heads of at most 256"):
        make_plan(Settings.load({**settings, "deterministic": True}), model, str(smollm2_gguf))


def test_a_context_that_cannot_fit_fails_with_the_length_that_would(smollm2_gguf: Path) -> None:
    wanted = {"model": str(smollm2_gguf), "num_blocks": 11, "max_model_len": 161, "device": "cpu"}
    with pytest.raises(ConfigurationError, match="use --max-model-len 160 or"):
        plan_model(Settings.load(wanted))
    assert plan_model(Settings.load({**wanted, "max_model_len": 160})).config.num_blocks == 11


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_model_len": 9000}, "9000 is longer than the model's context of 8192"),
        ({"kv_cache_memory": 1000}, "no room for KV blocks"),
        ({"num_blocks": 10**9}, "larger than"),
        ({"max_num_seqs": 100, "max_num_batched_tokens": 50}, "less than --max-num-seqs 100"),
    ],
)
def test_what_cannot_work_is_refused(
    smollm2_gguf: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plan_model(Settings.load({"model": str(smollm2_gguf), "device": "cpu", **settings}))


def test_planning_needs_no_torch(smollm2_gguf: Path) -> None:
    script = (
        "import sys\n"
        "from octavo.engine.build import plan_model\n"
        "from octavo.engine.settings import Settings\n"
        f"plan_model(Settings.load({{'model': {str(smollm2_gguf)!r}, 'device': 'cpu'}}))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)

"""The memory plan: exact figures for the real model, and errors that say what would fit."""

import subprocess
import sys
from pathlib import Path

import pytest

from octavo.engine.build import plan_model
from octavo.engine.errors import ConfigurationError
from octavo.engine.settings import Settings


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
    assert planned.plan.weight_bytes == planned.model.num_parameters * 4
    assert 134_000_000 < planned.model.num_parameters < 135_000_000


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

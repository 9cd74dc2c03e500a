"""GGUF weights that stay packed are the same numbers, in their right place."""

from pathlib import Path

import pytest
import torch

from octavo.kernels import torch_operations
from octavo.kernels.quantised import Int4Weight, dense
from octavo.models.config import load_config
from octavo.models.decoder import Decoder
from octavo.models.resolve import resolve_model
from octavo.models.weights import read_tensors

pytestmark = pytest.mark.slow


def test_packed_tensors_equal_the_dequantised_ones(smollm2_gguf: Path) -> None:
    files = resolve_model(str(smollm2_gguf), smollm2_gguf.parent)
    config = load_config(files)
    plain = dict(read_tensors(files, config))
    num_packed = 0
    for name, tensor in read_tensors(files, config, keep_packed=True):
        if isinstance(tensor, Int4Weight):
            num_packed += 1
            tensor = dense(tensor)
        assert torch.equal(tensor, plain[name]), name
    assert num_packed == 7 * config.num_layers  # Q, K, V, output, gate, up, down


def test_a_packed_decoder_fuses_its_weights(smollm2_gguf: Path) -> None:
    files = resolve_model(str(smollm2_gguf), smollm2_gguf.parent)
    config = load_config(files)
    packed, plain = (
        Decoder(
            config,
            read_tensors(files, config, keep_packed=keep_packed),
            dtype=torch.float32,
            device=torch.device("cpu"),
            max_positions=16,
            operations=torch_operations,
        )
        for keep_packed in (True, False)
    )
    for ours, theirs in zip(packed._layers[:3], plain._layers[:3], strict=True):
        for name in ("qkv", "output", "gate_up", "down"):
            weight = getattr(ours, name)
            assert isinstance(weight, Int4Weight)
            assert torch.equal(dense(weight), getattr(theirs, name)), name

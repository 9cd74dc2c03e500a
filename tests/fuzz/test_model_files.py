"""Broken model files: the loader loads them, or says in its own words what is wrong."""

import struct
import tempfile
from pathlib import Path

import pytest

from ..faults.drill_result import DrillResult
from .base_models import write_base_models
from .load_broken import load, outcome
from .try_files import try_files

pytestmark = pytest.mark.slow


def drill(files: int, seed: int) -> DrillResult:
    """So many broken files of a seed, each loaded in a process that is watched."""
    with tempfile.TemporaryDirectory() as folder:
        write_base_models(Path(folder))
        trial = try_files(Path(folder), seed, files)
    for number, why in sorted(trial.failures.items())[:10]:
        print(f"model files, seed {seed}, file {number}: {why}")
    return DrillResult(
        name="broken model files",
        tried=trial.tried,
        survived=trial.tried - len(trial.failures),
        seeds=(seed,) if trial.failures else (),
        note=f"GGUF and safetensors; {trial.outcomes['refused']} refused with a message, "
        f"{trial.outcomes['loaded']} loaded",
    )


def test_sound_files_load(tmp_path: Path) -> None:
    for path in write_base_models(tmp_path).values():
        load(path)


def test_broken_files_are_loaded_or_refused() -> None:
    result = drill(300, 5)
    assert result.is_passed, result
    assert "refused" in result.note


# Found with seed 1: names out of a corrupt file were quoted whole, kilobytes of them.


def test_a_tensor_name_that_swallows_what_follows_is_not_quoted_whole(tmp_path: Path) -> None:
    path = write_base_models(tmp_path)["dense"]
    data = path.read_bytes()
    at = data.index(b"blk.0.attn_k.weight") - 8
    path.write_bytes(data[:at] + struct.pack("<Q", 20_000) + data[at + 8 :])
    assert outcome(path) == {"outcome": "refused"}


def test_an_index_that_is_no_text_is_not_quoted_whole(tmp_path: Path) -> None:
    path = write_base_models(tmp_path)["sharded"]
    index = path / "model.safetensors.index.json"
    index.write_bytes(index.read_bytes() + b" " * 5000 + b"\xff")
    assert outcome(path) == {"outcome": "refused"}

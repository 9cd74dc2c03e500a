"""Installing without a C compiler: everything but the native kernels is there, and says so once."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
GENERATE = """
import json, logging, sys
from pathlib import Path

class Counter(logging.Handler):
    messages = []
    def emit(self, record):
        if record.levelno >= logging.WARNING:
            self.messages.append(record.getMessage())

logging.getLogger().addHandler(Counter())

import octavo
from octavo import LLM, SamplingParams
from octavo.kernels.cpu.operations import open_operations

operations = [open_operations() for _ in range(3)]
llm = LLM(sys.argv[1], dtype="float32", device="cpu", max_model_len=512, num_threads=2)
params = SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True)
prompts = ["The capital of France is", "Once upon a time, in a small village by the sea,"]
choices = llm.generate(prompts, params, use_progress_bar=False)
print(json.dumps({
    "package": str(Path(octavo.__file__).parent),
    "is_native": [made is not None for made in operations],
    "warnings": [text for text in Counter.messages if "native CPU kernels" in text],
    "tokens": [list(choice[0].token_ids) for choice in choices],
}))
"""


def copy_of_tree(target: Path) -> Path:
    """What a clone would hold, with what is not committed yet; nothing that was built."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    return target


def can_build_here() -> bool:
    """Whether this environment's setuptools is what pyproject.toml asks for."""
    try:
        return int(version("setuptools").split(".")[0]) >= 77
    except PackageNotFoundError:
        return False


def generate(model: Path, **variables: str) -> dict[str, Any]:
    """Tokens of a process of its own; what it says of its package and its kernels."""
    done = subprocess.run(
        [sys.executable, "-c", GENERATE, str(model)],
        env={**os.environ, **variables},
        cwd=model.parent,  # not here, where the rooms would hide installed packages
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_without_a_compiler_plain_torch_gives_the_same_tokens(
    tmp_path: Path, smollm2_gguf: Path
) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site]
    if can_build_here():
        command.append("--no-build-isolation")
    done = subprocess.run(
        [*command, copy_of_tree(tmp_path / "source")],
        env={**os.environ, "CC": "/bin/false", "CXX": "/bin/false"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (site / "octavo/kernels/cpu/library.py").is_file()
    assert not list(site.rglob("_native*"))

    plain = generate(smollm2_gguf, PYTHONPATH=str(site))
    assert plain["package"] == str(site / "octavo")
    assert plain["is_native"] == [False] * 3
    assert len(plain["warnings"]) == 1
    assert "found no C compiler" in plain["warnings"][0]

    native = generate(smollm2_gguf)
    assert native["package"] == str(ROOT / "octavo")
    if not native["is_native"][0]:
        pytest.skip("this environment has no native kernels either: nothing to compare with")
    assert native["warnings"] == []
    assert plain["tokens"] == native["tokens"]
    assert [len(tokens) for tokens in plain["tokens"]] == [24, 24]

"""What is read of a model: numbers and text, never anything that could run."""

import ast
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from octavo.models.errors import ModelFormatError, ModelNotFoundError
from octavo.models.gguf_header import MAX_KEY_BYTES, MAX_NAME_BYTES, read_header
from octavo.models.resolve import resolve_model

ROOT = Path(__file__).parents[2]
ROOMS = ("bench", "cli", "engine", "kernels", "models", "octavo", "paged_cache", "scheduler")
UNSAFE_MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
}
UNSAFE_CALLS = {
    "torch.load",
    "torch.jit.load",
    "torch.hub.load",
    "np.load",
    "numpy.load",
    "yaml.load",
    "yaml.unsafe_load",
    "eval",
    "exec",
    "__import__",
    "trust_remote_code",
}
SOURCES = [path for room in (*ROOMS, "server") for path in sorted((ROOT / room).rglob("*.py"))]


def unsafe_parts(source: str) -> set[str]:
    """Names of modules and functions in a source that make objects, or run code, from data."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name in UNSAFE_MODULES}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} & UNSAFE_MODULES
            found |= {f"{node.module}.{name.name}" for name in node.names} & UNSAFE_CALLS
        elif isinstance(node, ast.Call):
            found |= {ast.unparse(node.func)} & UNSAFE_CALLS
            keywords = {keyword.arg or "" for keyword in node.keywords}
            found |= keywords & {"allow_pickle", "trust_remote_code"}
    return found


def test_the_search_finds_what_it_is_for() -> None:
    for source in (
        "import pickle",
        "from pickle import loads",
        "from torch import load",
        "import torch\ntorch.load('x')",
        "x = eval('1')",
        "np.load('x', allow_pickle=True)",
        "f(trust_remote_code=True)",
    ):
        assert unsafe_parts(source), source
    assert not unsafe_parts("import json, yaml\nyaml.safe_load('')\nmodel.eval()")


def test_no_source_reads_pickles_or_runs_what_it_reads() -> None:
    assert len(SOURCES) > 100
    unsafe = {str(path.relative_to(ROOT)): unsafe_parts(path.read_text()) for path in SOURCES}
    assert not {path: parts for path, parts in unsafe.items() if parts}


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it ran"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"])
def test_a_folder_of_pickled_weights_is_refused_unread(
    name: str, tmp_path: Path, mark: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    torch.save({"weight": Bomb(mark)}, folder / name)
    with pytest.raises(ModelNotFoundError, match="pickled weights are never loaded"):
        resolve_model(str(folder), tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"not \.gguf"):
        resolve_model(str(folder / name), tmp_path)
    assert not mark.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf"])
def test_a_pickle_by_another_name_is_no_model(
    name: str, tiny_model: Path, tmp_path: Path, mark: Path
) -> None:
    folder = tmp_path / "model"
    if name.endswith(".safetensors"):
        shutil.copytree(tiny_model, folder)
    else:
        folder.mkdir()
    (folder / name).write_bytes(pickle.dumps(Bomb(mark)))
    command = [sys.executable, "-m", "octavo", "serve", str(folder), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert name in done.stderr
    assert not mark.exists()


def _header(*parts: bytes, keys: int = 0, tensors: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + b"".join(parts)


def _text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (_header(_text(b"k" * (MAX_KEY_BYTES + 1)), bytes(5), keys=1), "bytes of a text"),
        (_header(_text(b"t" * (MAX_NAME_BYTES + 1)), bytes(20), tensors=1), "bytes of a text"),
        (_header(*[_text(b"k" * 60_000), b"\0\0\0\0\1"] * 2, keys=2), "occurs twice"),
        (
            _header(_text(b"t"), struct.pack("<IQQIQ", 2, 0, 4, 0, 0), bytes(64), tensors=1),
            "nothing",
        ),
    ],
)
def test_an_odd_header_is_refused_in_few_words(data: bytes, words: str) -> None:
    with pytest.raises(ModelFormatError, match=words) as caught:
        read_header(memoryview(data))
    assert len(str(caught.value)) < 200


def test_an_index_that_is_no_text_is_refused_in_few_words(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_bytes(b"\xff" * 100_000)
    with pytest.raises(ModelFormatError) as caught:
        resolve_model(str(tmp_path), tmp_path)
    assert len(str(caught.value)) < 500

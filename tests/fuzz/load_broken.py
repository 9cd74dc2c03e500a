"""Load broken model files one after another: `python -m tests.fuzz.load_broken FOLDER SEED A B`.

FOLDER holds the sound models; the files A to B - 1 of the seed are made, and loaded as `octavo
serve` does it. For each a line of JSON is written before (`{"begin": 7}`) and after it. Memory is
limited, so that a file which makes the loader ask for too much of it shows as a failure.
"""

import contextlib
import json
import logging
import os
import random
import resource
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import torch

from octavo.engine.build import load_tokenizer, plan_model
from octavo.engine.errors import OctavoError
from octavo.engine.load_core import load_core
from octavo.engine.settings import Settings
from octavo.models.errors import ModelError

from .broken_files import break_file

ALLOWED_BYTES = 512 << 20  # of address space beyond what the process has when it begins
OVERRIDES: dict[str, Any] = {"device": "cpu", "num_blocks": 9, "max_num_seqs": 2, "num_threads": 1}
KINDS = ("dense", "packed", "single", "sharded")
TEXTS_OF_FOLDERS = ("config.json", "tokenizer.json", "tokenizer_config.json")


def break_model(base: Path, number: int, seed: int, target: Path) -> Path:
    """Make the broken model of this number; the result is what to give to `octavo serve`."""
    rng = random.Random(f"{seed}/{number}")
    kind = KINDS[number % len(KINDS)]
    if kind in ("dense", "packed"):
        path = target / f"{number}.gguf"
        path.write_bytes(break_file((base / f"{kind}.gguf").read_bytes(), rng))
        return path
    folder = target / str(number)
    shutil.copytree(base / kind, folder)
    weights = sorted(folder.glob("*.safetensors*"))
    is_of_weights = rng.random() < 0.6
    victim = rng.choice(weights) if is_of_weights else folder / rng.choice(TEXTS_OF_FOLDERS)
    victim.write_bytes(break_file(victim.read_bytes(), rng))
    return folder


def load(path: Path) -> None:
    """Everything that `octavo serve` does with a model before it listens."""
    settings = Settings.load({**OVERRIDES, "model": str(path)})
    planned = plan_model(settings)
    tokenizer = load_tokenizer(planned, settings)
    tokenizer.decode(tokenizer.encode("A <|start|> b\n", add_special_tokens=True)[:50])
    load_core(planned.config)


def outcome(path: Path) -> dict[str, Any]:
    """How loading ends: `loaded`, `refused` with a message, or `failed` with a traceback."""
    try:
        load(path)
    except (ModelError, OctavoError) as error:
        message = str(error)
        is_short = 0 < len(message) < 4000
        return {"outcome": "refused"} if is_short else {"outcome": "failed", "why": message[:500]}
    except BaseException:
        return {"outcome": "failed", "why": traceback.format_exc()[-4000:]}
    return {"outcome": "loaded"}


def main(base: Path, seed: int, begin: int, end: int) -> None:
    """Limit this process, then load the files."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    load(base / "dense.gguf")  # imports everything, begins every thread
    address_space = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf(
        "SC_PAGE_SIZE"
    )
    limit = address_space + ALLOWED_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with tempfile.TemporaryDirectory() as folder:
        for number in range(begin, end):
            print(json.dumps({"begin": number}), flush=True)
            path = break_model(base, number, seed, Path(folder))
            print(json.dumps({"end": number, **outcome(path)}), flush=True)
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))

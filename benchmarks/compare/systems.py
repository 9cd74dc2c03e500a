"""The servers that can be compared, and how each is started."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

OCTAVO = "octavo"
LLAMA_CPP = "llama.cpp"
TRANSFORMERS = "transformers"
URL = "url"
PORT = "{port}"
"""Stands in a command for the port that a run chooses."""

SHIPPED = "shipped"
FORMATS = (SHIPPED, "Q4_0", "Q8_0", "BF16")
LLAMA_FLAGS = ("-np", "32", "-c", "32768", "-cb", "-kvu", "--no-webui")
VERSION_TIMEOUT_S = 30


class SystemMissingError(Exception):
    """A server that was asked for is not installed; the message says how to get it."""


@dataclass(frozen=True)
class System:
    """One server with one set of options.

    Either `command`, with `PORT` in it, starts it, or it runs already at `url`. `workloads` names
    the only ones that it can take; None is all.
    """

    name: str
    family: str
    command: tuple[str, ...] | None = None
    url: str | None = None
    version: str = ""
    workloads: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def takes(self, workload: str) -> bool:
        """Whether it can take this workload."""
        return self.workloads is None or workload in self.workloads


def octavo_systems(options: list[str], model: Path | None, threads: int) -> list[System]:
    """One Octavo for each "NAME:FLAGS" of `options`, or one with its defaults.

    Raises ValueError for an option without a name.
    """
    served = [] if model is None else [str(model)]
    systems = []
    for option in options or [f"{OCTAVO}:"]:
        name, colon, flags = option.partition(":")
        if not colon or not name:
            raise ValueError(f"--octavo {option!r} is not NAME:FLAGS, like 'exact:--dtype float32'")
        command = (
            *(sys.executable, "-m", "octavo", "serve", *served),
            *("--host", "127.0.0.1", "--port", PORT, "--num-threads", str(threads)),
            *shlex.split(flags),
        )
        systems.append(System(name, OCTAVO, command, version=version("octavo")))
    return systems


def llama_systems(model: Path, formats: list[str], cache: Path, threads: int) -> list[System]:
    """llama.cpp's server once for each format of the same weights, requantised where needed.

    Raises SystemMissingError if the server, or the tool for a wanted format, is not there.
    """
    server = _find("llama-server", "LLAMA_SERVER")
    if server is None:
        raise SystemMissingError(
            "llama-server is neither in $LLAMA_SERVER nor in PATH; benchmarks/README.md says how "
            "to build it"
        )
    told = _first_line([server, "--version"])
    systems = []
    for wanted in formats:
        path = model if wanted == SHIPPED else _requantise(server, model, wanted, cache)
        command = (
            *(server, "-m", str(path), "--host", "127.0.0.1", "--port", PORT),
            *("-t", str(threads), *LLAMA_FLAGS),
        )
        label = _format_of(model) if wanted == SHIPPED else wanted
        systems.append(System(f"{LLAMA_CPP} {label}", LLAMA_CPP, command, version=told))
    return systems


def transformers_system(model: Path, threads: int) -> System:
    """`generate` of transformers behind a small server: one request at a time, so W1 only.

    Raises SystemMissingError if transformers is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise SystemMissingError("transformers is not installed: pip install transformers")
    script = Path(__file__).with_name("generate_server.py")
    command = (sys.executable, str(script), str(model), "--port", PORT, "--threads", str(threads))
    return System(
        TRANSFORMERS, TRANSFORMERS, command, version=version("transformers"), workloads=("W1",)
    )


def url_system(option: str) -> System:
    """A server that runs already, from "NAME=URL". Raises ValueError if it is not of that form."""
    name, equals, url = option.partition("=")
    if not equals or not name or not url.startswith(("http://", "https://")):
        raise ValueError(f"--url {option!r} is not NAME=URL, like vllm=http://127.0.0.1:8001")
    return System(name, URL, url=url)


def _requantise(server: str, model: Path, wanted: str, cache: Path) -> Path:
    """The model's weights in another format, made once and kept in `cache`."""
    path = cache / f"{model.stem}.as.{wanted}.gguf"
    if path.exists():
        return path
    beside = Path(server).resolve().with_name("llama-quantize")
    tool = str(beside) if beside.exists() else shutil.which("llama-quantize")
    if tool is None:
        raise SystemMissingError(
            f"llama-quantize, which makes {wanted}, is neither beside {server} nor in PATH; "
            f"leave it out with --formats {SHIPPED}"
        )
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    command = [tool, "--allow-requantize", str(model), str(unfinished), wanted]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if run.returncode != 0:
        unfinished.unlink(missing_ok=True)
        raise SystemMissingError(f"{shlex.join(command)} failed:\n{run.stdout}{run.stderr}")
    unfinished.rename(path)
    return path


def _format_of(model: Path) -> str:
    """The format that the file's name ends with, like Q4_1."""
    match = re.search(r"[.-]((?:I?Q\d\w*)|BF16|F16|F32)$", model.stem, re.IGNORECASE)
    return match.group(1).upper() if match else SHIPPED


def _find(name: str, variable: str) -> str | None:
    named = os.environ.get(variable)
    return shutil.which(named) if named else shutil.which(name)


def _first_line(command: list[str]) -> str:
    run = subprocess.run(command, capture_output=True, text=True, timeout=VERSION_TIMEOUT_S)
    lines = (run.stdout + run.stderr).strip().splitlines()
    return lines[0] if lines else ""

"""What the device offers, read without importing torch: kind, free memory, best type."""

import importlib.util
import math
import os
import subprocess
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from ..models.native_support import MAX_HEAD_DIM
from .errors import ConfigurationError

_NVIDIA_QUERY = (
    "nvidia-smi",
    "--query-gpu=memory.free,memory.total",
    "--format=csv,noheader,nounits",
)


def choose_device(wanted: str) -> str:
    """`wanted` (auto, cpu or cuda) as cpu or cuda. Raises ConfigurationError if it is not there."""
    if wanted == "cpu":
        return "cpu"
    has_cuda = _nvidia_free_bytes() is not None
    if wanted == "cuda" and not has_cuda:
        raise ConfigurationError("--device cuda: nvidia-smi finds no GPU here; use --device cpu")
    return "cuda" if has_cuda else "cpu"


def choose_dtype(wanted: str, device: str, stored: str, has_native: bool) -> str:
    """`wanted` type's name, or for auto the best for a model that is `stored` in its own type.

    On a GPU that is bfloat16. The native kernels of a CPU compute in float32 and read bfloat16
    weights as they are; plain torch is fast in bfloat16 if the processor multiplies that.
    """
    if wanted != "auto":
        return wanted
    if device == "cuda":
        return "bfloat16"
    if has_native:
        return "bfloat16" if stored == "bfloat16" else "float32"
    return "bfloat16" if _cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"} else "float32"


def has_native_kernels(head_dim: int) -> bool:
    """Whether the package build compiled the CPU's kernels, and they can run heads so wide.

    Looks for the file that this Python would load; imports nothing.
    """
    spec = importlib.util.find_spec("octavo.kernels")
    folders = (spec.submodule_search_locations or []) if spec is not None else []
    names = [f"_native{suffix}" for suffix in EXTENSION_SUFFIXES]
    is_there = any(Path(folder, "cpu", name).exists() for folder in folders for name in names)
    return is_there and head_dim <= MAX_HEAD_DIM


def free_memory(device: str) -> int:
    """Bytes that a new process can take on the device, within the container's limit on a CPU."""
    if device == "cuda":
        free = _nvidia_free_bytes()
        if free is None:
            raise ConfigurationError("--device cuda: nvidia-smi does not answer")
        return free
    limits = [_available_host_bytes()]
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            limits.append(int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no container limit to be read
    return max(0, min(limits))


def usable_cores() -> int:
    """CPU cores this process may use: by its affinity, and by the container's quota of time."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores  # no container, or "max": no limit


def _available_host_bytes() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cpu_flags() -> set[str]:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return set(line.split(":", 1)[1].split())
    except OSError:
        pass
    return set()


def _nvidia_free_bytes() -> int | None:
    """Free bytes of the first GPU, None where there is none."""
    try:
        answer = subprocess.run(
            _NVIDIA_QUERY, capture_output=True, text=True, timeout=10, check=True
        ).stdout
        return int(answer.splitlines()[0].split(",")[0]) * 1024**2
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None

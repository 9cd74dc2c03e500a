"""What a figure was measured on: chip, instruction sets that matter, versions, date."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8")
PACKAGES = ("octavo", "torch", "transformers", "numpy")
CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """One machine at one time. `cores` are those this process may use."""

    chip: str
    cores: int
    flags: tuple[str, ...]
    system: str
    python: str
    versions: dict[str, str]
    commit: str
    date: str

    @property
    def line(self) -> str:
        """One line for the head of a table."""
        shown = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        flags = " ".join(self.flags) or "no vector extensions listed"
        return f"{self.chip}, {self.cores} cores ({flags}); {shown}; {self.date}"


def describe_machine() -> Machine:
    """This machine, now."""
    info = CPU_INFO.read_text() if CPU_INFO.exists() else ""
    listed = set(_cpu_field(info, "flags").split())
    return Machine(
        chip=_chip(info),
        cores=len(os.sched_getaffinity(0)),
        flags=tuple(flag for flag in FLAGS if flag in listed),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions={name: found for name in PACKAGES if (found := _version(name))},
        commit=_commit(),
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _chip(info: str) -> str:
    name = _cpu_field(info, "model name") or platform.processor() or platform.machine()
    family, model = _cpu_field(info, "cpu family"), _cpu_field(info, "model")
    return f"{name} (family {family}, model {model})" if family and model else name


def _cpu_field(info: str, name: str) -> str:
    match = re.search(rf"^{name}\s*:\s*(.*)$", info, re.MULTILINE)
    return match.group(1).strip() if match else ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    """The checkout's commit, marked if files differ from it; empty outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    folder = Path(__file__).parent
    try:
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""

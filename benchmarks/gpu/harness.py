"""A section is a list of cases; each is measured by itself, so that none takes others with it."""

import gc
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

Row = dict[str, Any]
"""What one case gave: `case`, its figures, and for a goal of the project `target` and `value`."""


@dataclass(frozen=True)
class Case:
    """One measurement. `measure` gives its rows; what it raises is reported and no more."""

    name: str
    measure: Callable[[], list[Row]]


class Skipped(Exception):  # noqa: N818 -- it is no error
    """A case that cannot be measured here; the message says why."""


@dataclass
class Section:
    """What a section gave."""

    rows: list[Row] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Bench:
    """What every section is told: the device, the scale of the shapes, and what was measured.

    `tiny` is for showing on a CPU that the script runs; `quick` leaves out the long cases.
    `copy_bytes_per_s` and `matmul_flops` are the ceilings, set by their section.
    """

    device: torch.device
    tiny: bool
    quick: bool
    copy_bytes_per_s: float = 0.0
    matmul_flops: float = 0.0

    @property
    def on_gpu(self) -> bool:
        """Whether there is a GPU (else Triton's interpreter runs the kernels)."""
        return self.device.type == "cuda"

    def copy_share(self, num_bytes: float, seconds: float) -> float:
        """Achieved bytes/s over those of a device copy; NaN if that was not measured."""
        return (
            num_bytes / seconds / self.copy_bytes_per_s if self.copy_bytes_per_s else float("nan")
        )

    def matmul_share(self, num_operations: float, seconds: float) -> float:
        """Achieved FLOP/s over those of a large matrix product; NaN if that was not measured."""
        return num_operations / seconds / self.matmul_flops if self.matmul_flops else float("nan")

    def require_bytes(self, num_bytes: float) -> None:
        """Raise Skipped unless so much GPU memory is free."""
        if not self.on_gpu:
            return
        torch.cuda.empty_cache()
        free = torch.cuda.mem_get_info()[0]
        if num_bytes > free * 0.95:
            raise Skipped(f"needs {num_bytes / 2**30:.1f} GiB, {free / 2**30:.1f} are free")


def run_section(cases: Iterable[Case], deadline: float) -> Section:
    """Measure the cases one after the other until the deadline (monotonic seconds)."""
    section = Section()
    began = time.monotonic()
    try:
        for case in cases:
            if time.monotonic() > deadline:
                section.skipped.append(f"{case.name}: no time left")
                continue
            _measure(case, section)
            _free_memory()
    except Exception as error:  # of the section itself: its import, or what all its cases share
        _report(section, "the section", error)
    section.seconds = time.monotonic() - began
    return section


def _measure(case: Case, section: Section) -> None:
    try:
        section.rows.extend(case.measure())
    except Skipped as reason:
        section.skipped.append(f"{case.name}: {reason}")
    except Exception as error:
        _report(section, case.name, error)


def _report(section: Section, name: str, error: Exception) -> None:
    lines = str(error).strip().splitlines() or [""]
    section.errors.append(f"{name}: {type(error).__name__}: {lines[0][:300]}")
    traceback.print_exc(limit=-4, file=sys.stderr)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

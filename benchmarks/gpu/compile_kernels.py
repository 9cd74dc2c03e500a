"""Compile every Triton kernel variant ahead of time, without a GPU, and print what each takes.

    python benchmarks/gpu/compile_kernels.py [--arch 80 90] [--only NAME] [--markdown FILE]

Registers are a thread's, shared memory a block's. A spill in a kernel that must not spill makes it
fail. The compiler is Triton's own with the ptxas it brings. A markdown file that has the two
comments MARKERS gets the table between them, and else becomes the table.
"""

import argparse
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024}  # bytes a block may take (CUDA C++ guide, table 30)

MARKERS = ("<!-- kernel table: begin -->", "<!-- kernel table: end -->")


@dataclass(frozen=True)
class Resources:
    """What ptxas and Triton say of one compiled variant."""

    arch: int
    name: str
    registers: int
    spill_bytes: int
    shared_bytes: int
    warps: int
    seconds: float
    problem: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", type=int, nargs="+", default=[80, 90])
    parser.add_argument("--only", default="", help="variants whose name contains this")
    parser.add_argument("--markdown", type=Path, default=None)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    chosen = [variant for name, variant in _variants() if options.only in name]
    tasks = [(v.name, arch) for v in chosen for arch in options.arch if arch in v.archs]
    if not tasks:
        sys.exit(f"no variant for these architectures has {options.only!r} in its name")
    with ProcessPoolExecutor(options.jobs) as pool:
        results = list(pool.map(_compile, *zip(*tasks, strict=True)))
    table = _table(results)
    print("\n".join(table))
    if options.markdown is not None:
        _write_markdown(options.markdown, [_without_last_column(line) for line in table])
    problems = [f"{r.name} (sm_{r.arch}): {r.problem}" for r in results if r.problem]
    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(results)} compilations, none spills where it must not")


def _without_last_column(line: str) -> str:
    return line.removesuffix("|").rpartition("|")[0] + "|"


def _write_markdown(path: Path, lines: list[str]) -> None:
    """The table, without compile times, between the markers of the file if it has them."""
    text = "\n".join(lines) + "\n"
    old = path.read_text() if path.exists() else ""
    before, begin, rest = old.partition(MARKERS[0])
    _, end, after = rest.partition(MARKERS[1])
    path.write_text(f"{before}{begin}\n\n{text}\n{end}{after}" if end else text)


def _variants() -> Iterator[tuple[str, Any]]:
    """Every kernel family's variants, by name."""
    package = importlib.import_module("octavo.kernels.gpu")
    for module in pkgutil.iter_modules(package.__path__):
        family = importlib.import_module(f"octavo.kernels.gpu.{module.name}")
        if hasattr(family, "variants"):
            yield from ((variant.name, variant) for variant in family.variants())


def _compile(name: str, arch: int) -> Resources:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    variant = dict(_variants())[name]
    order = {argument: index for index, argument in enumerate(variant.kernel.arg_names)}
    signature = {
        argument: variant.signature.get(argument, "constexpr")
        for argument in variant.kernel.arg_names
    }
    pointers = {a for a, kind in variant.signature.items() if kind.startswith("*")}
    attributes = {
        (order[a],): [["tt.divisibility", 16]] for a in sorted(pointers | variant.aligned)
    }
    constants = {(order[a],): value for a, value in variant.constants.items()}
    began = time.perf_counter()
    try:
        compiled = triton.compile(
            ASTSource(variant.kernel, signature, constants, attributes),
            target=GPUTarget("cuda", arch, 32),
            options={"num_warps": variant.num_warps, "num_stages": variant.num_stages},
        )
    except Exception as error:
        message = f"does not compile: {type(error).__name__}: {str(error)[-300:]}"
        return Resources(arch, name, 0, 0, 0, variant.num_warps, 0.0, message)
    seconds = time.perf_counter() - began
    registers, spilled = _assemble(compiled.asm["ptx"], arch)
    shared = compiled.metadata.shared
    problem = ""
    if spilled and not variant.may_spill:
        problem = f"spills {spilled} bytes"
    elif shared > SHARED_LIMIT[arch]:
        problem = f"needs {shared} bytes of shared memory, {SHARED_LIMIT[arch]} are there"
    return Resources(arch, name, registers, spilled, shared, variant.num_warps, seconds, problem)


def _assemble(ptx: str, arch: int) -> tuple[int, int]:
    """Registers a thread and bytes spilled, as ptxas reports them."""
    from triton.backends.nvidia.compiler import get_ptxas

    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as source:
        source.write(ptx)
        source.flush()
        target = f"sm_{arch}a" if arch == 90 else f"sm_{arch}"
        ptxas = get_ptxas(arch).path
        command = [ptxas, "-v", f"--gpu-name={target}", source.name, "-o", os.devnull]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    used = re.search(r"Used (\d+) registers", report)
    stores = re.search(r"(\d+) bytes spill stores", report)
    if used is None or stores is None:
        raise RuntimeError(f"ptxas said something else:\n{report}")
    return int(used.group(1)), int(stores.group(1))


def _table(results: list[Resources]) -> list[str]:
    lines = [
        "| kernel variant | sm | registers | spilled bytes | shared bytes | warps | compile s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r.name} | {r.arch} | {r.registers} | {r.spill_bytes} | {r.shared_bytes:,} | {r.warps} "
        f"| {r.seconds:.1f} |"
        for r in results
    ]
    return lines


if __name__ == "__main__":
    main()

"""Check the GPU kernels, then time them, whole steps, serving and peers: one command, one table.

    python benchmarks/gpu/run.py [--quick] [--only SECTION ...] [--json FILE] [--budget-s 480]

Needs torch, triton and numpy beside this repository, which need not be installed. `--tiny` shows on
a CPU that everything runs, with shapes so small that no figure means anything.
"""

import argparse
import os
import random
import sys
import threading
import time
from pathlib import Path

import repository  # noqa: F401 -- binds `octavo` to this tree
import torch
from harness import Bench, Section, run_section
from parallel import all_cases, run_in_processes
from report import environment, judge, print_section, print_verdicts, write_json

# Section, its modules, and the share of the time budget after which it must end.
SECTIONS: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("ceilings", ("ceilings",), 0.06),
    ("checks", ("check_attention", "check_layers"), 0.30),
    ("kernels", ("time_attention", "time_layers"), 0.52),
    ("steps", ("decode_steps",), 0.72),
    ("serving", ("serving",), 0.86),
    ("peers", ("peers",), 1.0),
)


def main() -> None:
    options = _options()
    if not options.tiny and not torch.cuda.is_available():
        sys.exit("no GPU here: --tiny shows on a CPU that the script runs")
    began = time.monotonic()
    seed = int(time.time())
    torch.manual_seed(seed)
    random.seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(device=device, tiny=options.tiny, quick=options.quick)
    facts = environment(device) | {"seed": seed}
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    sections: dict[str, Section] = {}
    for name, modules, share in SECTIONS:
        if options.only and name not in options.only and name != "ceilings":
            continue
        # What earlier sections left is this one's too; of a selection each may use it all.
        deadline = began + options.budget_s * (1.0 if options.only else share)
        if name == "checks" and options.jobs > 1:
            sections[name] = run_in_processes(modules, bench, deadline, options.jobs)
        else:
            sections[name] = run_section(all_cases(modules, bench), deadline)
        print_section(name, sections[name])
        verdicts = judge([row for s in sections.values() for row in s.rows], not options.tiny)
        if options.json is not None:
            write_json(options.json, facts, sections, verdicts)
    print_verdicts(verdicts)
    failed = _count_failures(sections)
    print(f"\n{time.monotonic() - began:.0f} s, {failed} failures")
    sys.stdout.flush()
    if threading.active_count() > 1:  # a peer's thread that hangs must not keep the process
        os._exit(1 if failed else 0)
    sys.exit(1 if failed else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [name for name, _, _ in SECTIONS]
    out = os.environ.get("OUT")
    parser.add_argument("--only", nargs="+", choices=names, help="these, and the ceilings")
    parser.add_argument("--quick", action="store_true", help="leave the long cases out")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, on a CPU as well")
    parser.add_argument("--budget-s", type=float, default=480.0)
    parser.add_argument("--json", type=Path, default=Path(out) / "gpu.json" if out else None)
    default = min(8, (os.cpu_count() or 2) // 2) if torch.cuda.is_available() else 1
    parser.add_argument("--jobs", type=int, default=default, help="processes that run checks")
    return parser.parse_args()


def _count_failures(sections: dict[str, Section]) -> int:
    """Errors, and checks beyond their tolerance."""
    errors = sum(len(section.errors) for section in sections.values())
    return errors + sum(not row.get("pass", True) for s in sections.values() for row in s.rows)


if __name__ == "__main__":
    main()

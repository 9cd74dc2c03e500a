"""Compare Octavo with the servers that are installed, on this machine.

python -m benchmarks.compare [--workloads W1,W4] [--systems octavo,llama.cpp] [--repeats 3]
"""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import describe_machine
from octavo.bench import BenchError
from octavo.engine.settings import Settings
from octavo.models.resolve import resolve_model

from .figures import Measurement
from .measure import measure_all
from .report import Report, describe
from .server_process import ServerFailedError
from .systems import (
    FORMATS,
    LLAMA_CPP,
    OCTAVO,
    TRANSFORMERS,
    URL,
    System,
    SystemMissingError,
    llama_systems,
    octavo_systems,
    transformers_system,
    url_system,
)
from .workloads import WORKLOADS, ComparedWorkload

TERMINATED = 128 + signal.SIGTERM


def main(arguments: Sequence[str]) -> int:
    """Measure and report. Returns the exit code: 1 if something could not be measured."""
    parser = _parser()
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that servers are stopped
    try:
        systems = _systems(options)
        workloads = _workloads(options)
    except (SystemMissingError, ValueError) as error:
        parser.error(str(error))
    command = shlex.join(["python", "-m", "benchmarks.compare", *arguments])
    report = Report(describe_machine(), command, systems, workloads, options.repeats)

    def note(measurement: Measurement) -> None:
        report.measurements.append(measurement)
        print(describe(measurement, options.repeats), file=sys.stderr, flush=True)
        _save(report, options)

    code = 0
    try:
        measure_all(systems, workloads, options.repeats, note)
    except (ServerFailedError, BenchError) as error:
        print(f"stopped: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("interrupted: what was measured until then follows", file=sys.stderr)
        code = 128 + signal.SIGINT
    print(report.text())
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description="Octavo beside other servers."
    )
    parser.add_argument("--model", type=Path, help="a .gguf file; default: the embedded model")
    parser.add_argument(
        "--octavo",
        action="append",
        default=[],
        metavar="NAME:FLAGS",
        help="flags of `octavo serve` to run under a name; may be given several times",
    )
    parser.add_argument(
        "--url",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="a server that runs already; may be given several times",
    )
    parser.add_argument(
        "--systems",
        help=f"families ({OCTAVO}, {LLAMA_CPP}, {TRANSFORMERS}, {URL}) or names; default: "
        f"{OCTAVO}, {LLAMA_CPP} if it is installed, and every --url",
    )
    parser.add_argument("--formats", default=",".join(FORMATS), help="of llama.cpp's weights")
    parser.add_argument("--workloads", default=",".join(w.name for w in WORKLOADS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--requests", type=int, help="at most so many a workload, for a trial")
    parser.add_argument("--output-tokens", type=int, help="at most so many each, for a trial")
    parser.add_argument("--save-json", type=Path, help="written anew after every run")
    parser.add_argument("--save-markdown", type=Path)
    return parser


def _systems(options: argparse.Namespace) -> list[System]:
    """Those asked for, Octavo first. Raises SystemMissingError or ValueError."""
    wanted = None if options.systems is None else options.systems.split(",")

    def is_wanted(family: str) -> bool:
        if wanted is None:
            return family != TRANSFORMERS
        return any(name == family or name.startswith(family + " ") for name in wanted)

    cache = Settings.load({}).cache_dir
    threads = options.threads
    systems = octavo_systems(options.octavo, options.model, threads)
    if is_wanted(LLAMA_CPP) or is_wanted(TRANSFORMERS):
        model = options.model or resolve_model(None, cache).path
    if is_wanted(LLAMA_CPP):
        formats = options.formats.split(",")
        try:
            systems += llama_systems(model, formats, cache / "compare", threads)
        except SystemMissingError as error:
            if wanted is not None:
                raise
            print(f"without {LLAMA_CPP}: {error}", file=sys.stderr)
    if is_wanted(TRANSFORMERS):
        systems.append(transformers_system(model, threads))
    systems += [url_system(option) for option in options.url]
    if wanted is not None:
        known = {name for system in systems for name in (system.name, system.family)}
        if unknown := [name for name in wanted if name not in known]:
            raise ValueError(f"--systems: no {', '.join(unknown)} among {', '.join(sorted(known))}")
        systems = [s for s in systems if s.name in wanted or s.family in wanted]
    names = [system.name for system in systems]
    if len(set(names)) < len(names):
        raise ValueError(f"two systems have one name: {', '.join(names)}")
    return systems


def _workloads(options: argparse.Namespace) -> list[ComparedWorkload]:
    """Those asked for, scaled down if asked. Raises ValueError for an unknown name."""
    known = {workload.name: workload for workload in WORKLOADS}
    names = options.workloads.split(",")
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"--workloads: no {', '.join(unknown)}; there are {', '.join(known)}")
    return [
        known[name].scaled(
            options.requests or known[name].num_requests,
            options.output_tokens or known[name].prompts.output_len,
        )
        for name in names
    ]


def _save(report: Report, options: argparse.Namespace) -> None:
    if options.save_json is not None:
        report.save_json(options.save_json)
    if options.save_markdown is not None:
        options.save_markdown.write_text(report.markdown(), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

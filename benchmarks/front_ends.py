"""What the hub between an engine and its front ends costs: one front end against several.

    python -m benchmarks.front_ends [--count 2] [--rounds 3] [--json FILE]

Servers with one and with `--count` front ends take turns, each with 16 streams: once with a random
model so small that everything around it is what costs, once with the embedded one. Client, front
ends and engine share this machine's cores.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import describe_machine
from tests.conftest import running_server
from tests.faults.engine_faults import Streams
from tests.fuzz.base_models import write_folder

NUM_STREAMS = 16


def tokens_per_s(log: Path, arguments: list[str], max_tokens: int) -> float:
    """Output tokens a second of all streams together, on a server that is warm."""

    def run(length: int) -> None:
        bodies: list[dict[str, Any]] = [
            {"prompt": f"{i}", "max_tokens": length, "ignore_eos": True, "seed": i}
            for i in range(NUM_STREAMS)
        ]
        streams = Streams(server.url, bodies)
        streams.run()
        assert not streams.errors

    with running_server(log, *arguments) as server:
        run(16)
        began = time.perf_counter()
        run(max_tokens)
        return NUM_STREAMS * max_tokens / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2, help="front ends of the second kind")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folder(folder / "tiny", context_length=4096)
        models = {
            "a tiny random model": ([str(folder / "tiny"), "--num-blocks", "3000"], 1500),
            "the embedded model": (["--max-model-len", "1024"], 150),
        }
        for model, (arguments, max_tokens) in models.items():
            rates: dict[int, list[float]] = {1: [], chosen.count: []}
            for _ in range(chosen.rounds):
                for count, found in rates.items():
                    flags = [*arguments, "--api-server-count", str(count)]
                    found.append(tokens_per_s(folder / "log", flags, max_tokens))
            row = {"model": model, **{str(count): found for count, found in rates.items()}}
            rows.append(row)
            one, several = (median(found) for found in rates.values())
            print(f"{model}: {several:.0f} against {one:.0f} tokens/s: {several / one:.2f}")
    if chosen.json:
        result = {"machine": asdict(describe_machine()), "streams": NUM_STREAMS, "rows": rows}
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Medians, the best format of a peer, ratios, and how they are written."""

import json
import math
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import WORKLOADS, Figures, Measurement, summarise
from benchmarks.compare.__main__ import main
from benchmarks.compare.report import Report
from benchmarks.compare.systems import (
    System,
    SystemMissingError,
    llama_systems,
    octavo_systems,
    url_system,
)
from benchmarks.machine import describe_machine


def measurement(
    system: str, family: str, repeat: int, rate: float, ttft: float = 100.0, **options: Any
) -> Measurement:
    return Measurement(
        system=system,
        family=family,
        workload=options.get("workload", "W1"),
        repeat=repeat,
        figures=Figures(rate, ttft, options.get("itl", 10.0), 1000.0),
        input_tokens=600,
        output_tokens=768,
        cached_tokens=0,
        failed=options.get("failed", 0),
        errors={},
        duration_s=10.0,
    )


def test_medians_and_ratios_are_to_the_best_format() -> None:
    (summary,) = summarise(
        [
            *(measurement("octavo", "octavo", i, rate, 50) for i, rate in enumerate((30, 10, 20))),
            *(measurement("llama.cpp Q4_1", "llama.cpp", i, rate) for i, rate in enumerate((8, 9))),
            *(measurement("llama.cpp Q8_0", "llama.cpp", i, r, 200) for i, r in enumerate((9, 11))),
            measurement("vllm", "url", 1, 40.0),
            measurement("other", "url", 1, 5.0),
        ]
    )
    assert summary.workload == "W1"
    octavo = summary.rows[0]
    assert (octavo.median.output_tok_s, octavo.num_repeats) == (20, 3)
    assert (octavo.least.output_tok_s, octavo.greatest.output_tok_s) == (10, 30)
    assert [(ratio.peer, ratio.over.output_tok_s) for ratio in summary.ratios] == [
        ("llama.cpp Q8_0", 2.0),
        ("vllm", 0.5),
        ("other", 4.0),
    ]
    assert summary.ratios[0].over.ttft_ms == 0.25


def test_every_octavo_has_its_ratio_and_peers_alone_have_none() -> None:
    (summary,) = summarise(
        [
            measurement("fast", "octavo", 1, 30),
            measurement("exact", "octavo", 1, 15),
            measurement("transformers", "transformers", 1, 10),
        ]
    )
    assert {ratio.system: ratio.over.output_tok_s for ratio in summary.ratios} == {
        "fast": 3.0,
        "exact": 1.5,
    }
    (alone,) = summarise([measurement("transformers", "transformers", 1, 10)])
    assert alone.ratios == ()


def test_what_a_run_lacks_is_nan_and_breaks_nothing() -> None:
    (summary,) = summarise(
        [
            measurement("octavo", "octavo", 1, 30, itl=math.nan),
            measurement("peer", "url", 1, 10, itl=math.nan),
        ]
    )
    assert math.isnan(summary.rows[0].median.itl_ms)
    assert math.isnan(summary.ratios[0].over.itl_ms)


def test_a_report_names_machine_commands_and_failures(tmp_path: Path) -> None:
    systems = [
        System("octavo", "octavo", ("octavo", "serve", "--port", "{port}"), version="0.1.0"),
        System("vllm", "url", url="http://127.0.0.1:8001"),
    ]
    report = Report(describe_machine(), "python -m benchmarks.compare", systems, WORKLOADS[:1], 1)
    report.measurements.append(measurement("octavo", "octavo", 1, 30.0))
    report.save_json(tmp_path / "partial.json")
    assert not json.loads((tmp_path / "partial.json").read_text())["is_complete"]
    report.measurements.append(measurement("vllm", "url", 1, 20.0, failed=2))
    report.save_json(tmp_path / "whole.json")
    whole = json.loads((tmp_path / "whole.json").read_text())
    assert whole["is_complete"]
    assert whole["machine"]["chip"] and whole["machine"]["date"]
    assert whole["systems"][0]["command"] == ["octavo", "serve", "--port", "{port}"]
    assert whole["workloads"][0]["prompts"]["input_len"] == 100
    page = report.markdown()
    assert "`octavo serve --port '{port}'`" in page
    assert "<http://127.0.0.1:8001>" in page
    assert "| vllm | 20.0 | 100.0 | 10.0 | 1,000.0 | 2 |" in page
    assert "| octavo / vllm | 1.50× | 1.00× | 1.00× | 1.00× |" in page
    assert "octavo / vllm" in report.text()


def test_octavo_runs_with_several_option_sets() -> None:
    options = ["fast:", "exact:--dtype float32 --num-blocks 64"]
    fast, exact = octavo_systems(options, Path("m.gguf"), 2)
    assert (fast.name, exact.name) == ("fast", "exact")
    assert exact.command is not None and fast.command is not None
    assert exact.command == (*fast.command, "--dtype", "float32", "--num-blocks", "64")
    assert "m.gguf" in fast.command
    with pytest.raises(ValueError, match="NAME:FLAGS"):
        octavo_systems(["--dtype float32"], None, 2)
    with pytest.raises(ValueError, match="NAME=URL"):
        url_system("127.0.0.1:8000")


@pytest.fixture
def fake_llama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """llama-server that tells a version, and llama-quantize that copies its input."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "llama-server": 'echo "version: 1234 (abc)"',
        "llama-quantize": f'echo "$@" >> {tmp_path}/calls; cp "$2" "$3"',
    }
    for name, body in scripts.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("LLAMA_SERVER", str(folder / "llama-server"))
    return folder


def test_formats_are_made_once_and_kept(tmp_path: Path, fake_llama: Path) -> None:
    model = tmp_path / "Some-Model.Q4_1.gguf"
    model.write_bytes(b"weights")
    for _ in range(2):
        systems = llama_systems(model, ["shipped", "Q8_0"], tmp_path / "cache", 3)
    assert [system.name for system in systems] == ["llama.cpp Q4_1", "llama.cpp Q8_0"]
    assert {system.version for system in systems} == {"version: 1234 (abc)"}
    made = tmp_path / "cache" / "Some-Model.Q4_1.as.Q8_0.gguf"
    assert made.read_bytes() == b"weights"
    assert systems[1].command is not None and str(made) in systems[1].command
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


def test_a_failed_requantisation_leaves_nothing_behind(tmp_path: Path, fake_llama: Path) -> None:
    missing = tmp_path / "absent.gguf"
    with pytest.raises(SystemMissingError, match="llama-quantize"):
        llama_systems(missing, ["Q8_0"], tmp_path / "cache", 2)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_peer_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], smollm2_gguf: Path
) -> None:
    monkeypatch.delenv("LLAMA_SERVER", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit):
        main(["--systems", "llama.cpp"])
    assert "benchmarks/README.md" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workloads", "W1,W9"], "no W9"),
        (["--systems", "octavo,nonsense"], "no nonsense"),
        (["--systems", "octavo", "--octavo", "a:", "--octavo", "a:"], "two systems have one name"),
    ],
)
def test_unknown_names_are_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert words in capsys.readouterr().err


def test_workloads_are_the_agreed_ones() -> None:
    shapes = {w.name: (w.concurrency, w.num_requests, w.prompts.output_len) for w in WORKLOADS}
    assert shapes == {"W1": (1, 6, 128), "W2": (8, 32, 128), "W3": (32, 64, 64), "W4": (8, 32, 32)}
    short = WORKLOADS[3].scaled(num_requests=2, output_len=100)
    assert (short.num_requests, short.prompts.output_len) == (2, 32)
    assert WORKLOADS[3].num_requests == 32

"""`octavo bench` as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def bench(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "octavo", "bench", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stderr
    return done


def test_serve_measures_a_real_server(server, tmp_path: Path) -> None:
    json_path, html_path, markdown_path = (
        tmp_path / f"r.{kind}" for kind in ("json", "html", "md")
    )
    done = bench(
        "serve", "--base-url", server.url, "--concurrency", "1,3", "--num-requests", "3",
        "--input-len", "12", "--output-len", "4", "--goodput", "ttft:60000", "itl:60000",
        "--save-json", str(json_path), "--save-html", str(html_path),
        "--save-markdown", str(markdown_path),
    )  # fmt: skip
    assert "Output token throughput (tok/s)" in done.stdout
    assert "<title>Octavo bench</title>" in html_path.read_text()
    assert "| Successful requests | 3 | 3 |" in markdown_path.read_text()
    report = json.loads(json_path.read_text())
    assert report["settings"]["goodput"] == "ttft:60000 itl:60000"
    assert report["versions"]["server"] and report["versions"]["octavo"]
    for run, concurrency in zip(report["runs"], (1, 3), strict=True):
        summary = run["summary"]
        assert (summary["successful"], summary["failed"]) == (3, 0)
        assert summary["output_tokens"] == 12 and summary["input_tokens"] >= 3 * 12
        assert summary["cached_tokens"] == 0  # each load has prompts of its own
        assert summary["request_goodput"] == summary["request_throughput"]
        assert summary["peak_concurrency"] == concurrency
        assert run["gauges"] and all(0 <= sample["kv_usage"] <= 1 for sample in run["gauges"])


def test_serve_reuses_what_turns_have_in_common(server, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    bench(
        "serve", "--base-url", server.url, "--endpoint", "chat", "--dataset", "multi-turn",
        "--turns", "2", "--num-requests", "2", "--num-warmups", "0", "--input-len", "24",
        "--output-len", "4", "--request-rate", "inf", "--save-json", str(path),
    )  # fmt: skip
    [run] = json.loads(path.read_text())["runs"]
    first, second = run["requests"]
    assert (first["turn"], second["turn"]) == (0, 1)
    assert second["prompt_tokens"] > first["prompt_tokens"] + 24
    assert second["cached_tokens"] >= first["prompt_tokens"] // 16 * 16 > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--base-url", "http://127.0.0.1:1"], "is a server there?"),
        (["--model", "m", "--concurrency", "1", "--request-rate", "2"], "not both"),
        (["--model", "m", "--concurrency", "1,x"], "'1,x' is no list of numbers"),
        (["--model", "m", "--dataset", "poems"], "--dataset must be random"),
        (["--model", "m", "--dataset", "sharegpt"], "needs --dataset-path"),
        (["--model", "m", "ttft:5"], "unexpected argument 'ttft:5'"),
    ],
)
def test_serve_says_what_is_wrong_in_one_line(arguments: list[str], words: str) -> None:
    done = bench("serve", *arguments, code=1)
    assert words in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_latency_and_throughput_run_offline(smollm2_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    sizes = ["--input-len", "8", "--output-len", "3", "--save-json", str(path)]
    model = str(smollm2_gguf)
    done = bench(
        "latency", model, *sizes, "--batch-size", "2", "--num-iters", "3", "--num-iters-warmup", "1"
    )
    assert "Latency of a batch (s), 3 times" in done.stdout
    assert len(json.loads(path.read_text())["seconds"]) == 3
    done = bench("throughput", model, *sizes, "--num-prompts", "3")
    saved = json.loads(path.read_text())
    assert saved["Request throughput (req/s)"] == pytest.approx(3 / saved["Duration (s)"])
    assert saved["Total token throughput (tok/s)"] == pytest.approx(33 / saved["Duration (s)"])


@pytest.mark.slow
def test_startup_starts_real_servers(tmp_path: Path) -> None:
    path = tmp_path / "startup.json"
    bench("startup", "--num-iters", "1", "--save-json", str(path), "--max-model-len", "256")
    saved = json.loads(path.read_text())
    assert saved["arguments"] == ["--max-model-len", "256"]
    assert 0 < saved["ready_s"][0] < saved["first_token_s"][0]

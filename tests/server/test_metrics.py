"""Metrics: vLLM's exact counts, gauges that move with the work, and Prometheus' own linter."""

import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest

from octavo.server.metrics import one_two_five

NUM_REQUESTS = 3
MAX_TOKENS = 5
PROMPT = "Hello, my name is"  # shorter than a block, so nothing of it is ever cached


def total(samples: dict[str, float], name: str) -> float:
    """The sum over all label sets of the samples with this name; there must be one at least."""
    found = [value for sample, value in samples.items() if sample.split("{")[0] == name]
    assert found, f"no sample {name}"
    return sum(found)


def test_identical_requests_count_exactly_as_vllms_contract_says(
    start_server: Callable[..., AbstractContextManager],
) -> None:
    with start_server("--dtype", "float32", "--metrics-prefix", "vllm:") as server:
        before = server.full_metrics()
        body = {"prompt": PROMPT, "max_tokens": MAX_TOKENS, "temperature": 0, "ignore_eos": True}
        answers = [server.post("/v1/completions", json=body).json() for _ in range(NUM_REQUESTS)]
        after = server.full_metrics()
    prompt_tokens = answers[0]["usage"]["prompt_tokens"]
    assert prompt_tokens < 16

    expected = {
        "time_to_first_token_seconds_count": NUM_REQUESTS,
        "inter_token_latency_seconds_count": NUM_REQUESTS * (MAX_TOKENS - 1),
        "request_time_per_output_token_seconds_count": NUM_REQUESTS,
        "e2e_request_latency_seconds_count": NUM_REQUESTS,
        "request_queue_time_seconds_count": NUM_REQUESTS,
        "request_inference_time_seconds_count": NUM_REQUESTS,
        "request_prefill_time_seconds_count": NUM_REQUESTS,
        "request_decode_time_seconds_count": NUM_REQUESTS,
        "request_prompt_tokens_sum": NUM_REQUESTS * prompt_tokens,
        "request_prompt_tokens_count": NUM_REQUESTS,
        "request_generation_tokens_sum": NUM_REQUESTS * MAX_TOKENS,
        "request_generation_tokens_count": NUM_REQUESTS,
        "request_prefill_kv_computed_tokens_sum": NUM_REQUESTS * prompt_tokens,
        "request_params_n_sum": NUM_REQUESTS,
        "request_params_n_count": NUM_REQUESTS,
        "request_params_max_tokens_sum": NUM_REQUESTS * MAX_TOKENS,
        "request_params_max_tokens_count": NUM_REQUESTS,
        "iteration_tokens_total_sum": NUM_REQUESTS * (prompt_tokens + MAX_TOKENS),
        "iteration_tokens_total_count": NUM_REQUESTS * MAX_TOKENS,
        "prompt_tokens_total": NUM_REQUESTS * prompt_tokens,
        "prompt_tokens_cached_total": 0,
        "generation_tokens_total": NUM_REQUESTS * MAX_TOKENS,
        "prefix_cache_queries_total": NUM_REQUESTS * prompt_tokens,
        "prefix_cache_hits_total": 0,
        "num_preemptions_total": 0,
        "prompt_tokens_by_source_total": NUM_REQUESTS * prompt_tokens,
        "request_max_num_generation_tokens_sum": NUM_REQUESTS * MAX_TOKENS,
        "request_max_num_generation_tokens_count": NUM_REQUESTS,
        "step_duration_seconds_count": NUM_REQUESTS * MAX_TOKENS * 4,  # four stages
        "requests_aborted_total": 0,
        "requests_rejected_total": 0,
        "request_success_total": NUM_REQUESTS,
        "num_requests_running": 0,
        "num_requests_waiting": 0,
        "kv_cache_usage_perc": 0,
        "cache_config_info": 1,
    }
    assert {name: total(after, f"vllm:{name}") for name in expected} == expected
    counted = [name for name in expected if name != "cache_config_info"]
    assert {name: total(before, f"vllm:{name}") for name in counted} == dict.fromkeys(counted, 0)
    by_length = [v for k, v in after.items() if 'finished_reason="length"' in k]
    assert by_length == [NUM_REQUESTS]
    # Times nest: a request's parts are no longer than the whole.
    times = {
        name: total(after, f"vllm:{name}_seconds_sum")
        for name in (
            *("request_queue_time", "request_prefill_time", "request_decode_time"),
            *("request_inference_time", "e2e_request_latency", "time_to_first_token"),
        )
    }
    assert times["request_inference_time"] == pytest.approx(
        times["request_prefill_time"] + times["request_decode_time"]
    )
    inside = times["request_queue_time"] + times["request_inference_time"]
    assert 0 < inside <= times["e2e_request_latency"]
    assert 0 < times["time_to_first_token"] <= times["e2e_request_latency"]


def test_the_step_histogram_keeps_prometheus_rules_under_our_own_prefix(server) -> None:
    before = server.metrics()
    server.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": 3, "ignore_eos": True})
    samples = server.metrics()
    name = "octavo_iteration_tokens_count"
    assert total(samples, name) == total(before, name) + 3
    assert not [name for name in samples if "iteration_tokens_total" in name]


def test_every_sample_of_ours_is_labelled_with_model_and_engine(server) -> None:
    ours = [name for name in server.metrics() if name.startswith("octavo_")]
    assert ours
    for name in ours:
        assert 'model_name="SmolLM2-135M-Instruct"' in name
        assert 'engine="0"' in name


@pytest.mark.parametrize("reason", ["stop", "length", "abort", "error"])
def test_every_finish_reason_has_a_counter_before_it_first_happens(reason: str, server) -> None:
    assert [n for n in server.metrics() if f'finished_reason="{reason}"' in n]


def test_gauges_move_with_a_running_stream_and_return_to_zero(server) -> None:
    body = {"prompt": "Hello", "max_tokens": 2000, "ignore_eos": True, "stream": True}
    names = ("num_requests_running", "kv_blocks_used", "kv_cache_usage_perc")
    with httpx.stream("POST", server.url + "/v1/completions", json=body, timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        during = server.full_metrics()
        assert total(during, "octavo_num_requests_running") == 1
        assert total(during, "octavo_kv_blocks_used") >= 1
        assert 0 < total(during, "octavo_kv_cache_usage_perc") < 0.01
        total_blocks = sum(
            total(during, f"octavo_kv_blocks_{state}") for state in ("used", "cached", "free")
        )
    server.wait_idle()
    after = server.full_metrics()
    assert [total(after, f"octavo_{name}") for name in names] == [0, 0, 0]
    assert total_blocks == sum(
        total(after, f"octavo_kv_blocks_{state}") for state in ("used", "cached", "free")
    )


def test_prefix_counters_count_looked_up_and_found_tokens(server) -> None:
    body = {"prompt": list(range(1000, 1040)), "max_tokens": 1, "cache_salt": "prefix counters"}
    names = ("prefix_cache_queries_total", "prefix_cache_hits_total", "prompt_tokens_cached_total")

    def counts() -> list[float]:
        samples = server.metrics()
        return [total(samples, f"octavo_{name}") for name in names]

    start = counts()
    server.post("/v1/completions", json=body)
    first = counts()
    server.post("/v1/completions", json=body)
    second = counts()
    assert [b - a for a, b in zip(start, first, strict=True)] == [40, 0, 0]
    assert [b - a for a, b in zip(first, second, strict=True)] == [40, 32, 32]


def test_a_request_that_was_refused_counts_nowhere(server) -> None:
    names = ("request_success_total", "request_params_n_count", "prompt_tokens_total")
    before = server.metrics()
    assert server.post("/v1/completions", json={"prompt": [-1]}).status_code == 400
    after = server.metrics()
    for name in names:
        assert total(before, f"octavo_{name}") == total(after, f"octavo_{name}")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_no_complaint(server) -> None:
    server.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 2})
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=server.get("/metrics").content,
        capture_output=True,
        timeout=60,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_metrics_are_served_in_prometheus_text_format(server) -> None:
    answer = server.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "_created" not in answer.text


@pytest.mark.parametrize(
    ("limit", "buckets"),
    [
        (0, [1]),
        (1, [1]),
        (2, [1, 2]),
        (99, [1, 2, 5, 10, 20, 50]),
        (100, [1, 2, 5, 10, 20, 50, 100]),
    ],
)
def test_length_buckets_are_a_one_two_five_series(limit: int, buckets: list[int]) -> None:
    assert one_two_five(limit) == buckets

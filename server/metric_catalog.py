"""Every metric that Octavo exports, as data: the exposition and docs/metrics.md are made from it.

Names and buckets are vLLM's where it has the metric (`v1/metrics/loggers.py`); they are part of the
public face, and change only with an entry in the changelog.
"""

from dataclasses import dataclass
from typing import Literal

TTFT_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
TOKEN_TIME_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
REQUEST_TIME_BUCKETS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
BLOCK_TIME_BUCKETS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0),
    *(60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0),
)
STAGE_BUCKETS = (
    *(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3),
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)
HTTP_TIME_BUCKETS = (
    0.005,
    0.01,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
)
STEP_TOKEN_BUCKETS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
CHOICE_BUCKETS = (1, 2, 5, 10, 20)

FINISH_REASONS = ("stop", "length", "abort", "error")
ABORT_REASONS = (
    *("client_gone", "operator", "drain_timeout", "invalid"),
    *("queue_timeout", "deadline"),
)
REJECTION_REASONS = (
    *("queue_full", "not_ready", "draining"),
    *("invalid", "unauthorized", "too_large", "not_found"),
    *("rate_limited", "too_many_concurrent", "too_many_connections"),
    *("header_timeout", "body_timeout", "headers_too_large"),
)
STAGES = ("schedule", "execute", "sample", "deliver")
SOURCES = ("local_compute", "local_cache_hit")

BY_KEY = "--metrics-by-key"
KV_LIVES = "--kv-cache-metrics"


@dataclass(frozen=True)
class Metric:
    """One metric family. `labels` come after `model_name` and `engine`.

    `by_length` gives a histogram the buckets 1, 2, 5, 10, … up to the longest context. Without
    `only_with`, a flag, it is always exported. `is_bare`: no prefix and none of the common labels.
    """

    kind: Literal["gauge", "counter", "histogram"]
    name: str
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    by_length: bool = False
    only_with: str | None = None
    is_bare: bool = False


def _histogram(name: str, text: str, buckets: tuple[float, ...] = ()) -> Metric:
    return Metric("histogram", name, text, buckets=buckets, by_length=not buckets)


def _block_time(name: str, text: str) -> Metric:
    return Metric("histogram", name, text, buckets=BLOCK_TIME_BUCKETS, only_with=KV_LIVES)


CATALOG = (
    # State, read from the engine at each scrape
    Metric("gauge", "engine_up", "Whether the model is loaded and the engine's process lives."),
    Metric("gauge", "draining", "Whether the server is ending and takes no new requests."),
    Metric(
        "gauge",
        "last_step_age_seconds",
        "How long open work has waited for a step to finish; 0 without work.",
    ),
    Metric("gauge", "num_requests_running", "Choices that hold blocks."),
    Metric("gauge", "num_requests_waiting", "Choices that wait for admission."),
    Metric(
        "gauge",
        "num_requests_waiting_by_reason",
        "The same by what they wait for: capacity, or deferred until their grammar is compiled.",
        ("reason",),
    ),
    Metric(
        "gauge",
        "num_requests_waiting_by_priority",
        "The same by priority, with what is beyond -10 and 10 counted there; always 0 under "
        "--scheduling-policy fcfs.",
        ("priority",),
    ),
    Metric("gauge", "max_num_requests_running", "Most choices that run at once (--max-num-seqs)."),
    Metric(
        "gauge",
        "max_num_requests_waiting",
        "Most choices that may wait beyond the running ones (--max-queued-requests).",
    ),
    Metric(
        "gauge",
        "kv_cache_usage_perc",
        "Part of the KV blocks that requests hold, 0 to 1; cached ones count as free.",
    ),
    Metric("gauge", "kv_blocks_used", "KV blocks that requests hold."),
    Metric("gauge", "kv_blocks_cached", "Free KV blocks with reusable content."),
    Metric("gauge", "kv_blocks_free", "Free KV blocks without content."),
    Metric("counter", "kv_block_evictions", "Cached KV blocks taken for something else."),
    Metric(
        "gauge",
        "cache_config_info",
        "How the KV cache is set up; always 1.",
        ("block_size", "cache_dtype", "enable_prefix_caching", "num_gpu_blocks"),
    ),
    Metric(
        "gauge",
        "build_info",
        "What runs here; always 1.",
        ("version", "python_version", "torch_version", "device"),
    ),
    Metric(
        "gauge",
        "startup_seconds",
        "How long the phases of starting took; `total` is from the command to readiness.",
        ("phase",),
    ),
    Metric("gauge", "engine_resident_memory_bytes", "Memory of the engine's process (RSS)."),
    Metric(
        "counter",
        "engine_restarts",
        "Engines that were started because the one before died or hung (--engine-timeout).",
    ),
    # Tokens
    Metric("counter", "prompt_tokens", "Prompt tokens, cached ones included."),
    Metric("counter", "prompt_tokens_cached", "Prompt tokens found in the prefix cache."),
    Metric(
        "counter",
        "prompt_tokens_by_source",
        "Prompt tokens by where their keys and values came from.",
        ("source",),
    ),
    Metric("counter", "generation_tokens", "Generated tokens."),
    Metric("counter", "prefix_cache_queries", "Tokens looked up in the prefix cache at admission."),
    Metric("counter", "prefix_cache_hits", "Tokens found in the prefix cache."),
    Metric("counter", "num_preemptions", "Requests preempted for lack of blocks."),
    Metric("counter", "recomputed_tokens", "Tokens computed again after a preemption."),
    # Requests
    Metric("counter", "request_success", "Choices ended, by reason.", ("finished_reason",)),
    Metric(
        "counter",
        "requests_aborted",
        "Choices ended before they were done: the client went away, an operator ended them, the "
        "time to drain ran out, or the form they asked for cannot go on (invalid).",
        ("reason",),
    ),
    Metric(
        "counter",
        "requests_rejected",
        "API requests turned away, by reason: 503 (queue_full, not_ready, draining), 401 and 403 "
        "(unauthorized), 429 (rate_limited, too_many_concurrent), 503 (too_many_connections), 408 "
        "(header_timeout, body_timeout), 431 (headers_too_large), 413 (too_large), 404 "
        "(not_found), any other 4xx (invalid).",
        ("reason",),
    ),
    _histogram(
        "time_to_first_token_seconds",
        "From arrival at the server to the first token (TTFT).",
        TTFT_BUCKETS,
    ),
    _histogram(
        "inter_token_latency_seconds",
        "Between two deliveries of tokens of one choice (ITL).",
        TOKEN_TIME_BUCKETS,
    ),
    _histogram(
        "request_time_per_output_token_seconds",
        "Decode time by generated tokens less one (TPOT).",
        TOKEN_TIME_BUCKETS,
    ),
    _histogram(
        "e2e_request_latency_seconds", "From arrival to the last token.", REQUEST_TIME_BUCKETS
    ),
    _histogram(
        "request_queue_time_seconds",
        "From arrival in the engine to the first step.",
        REQUEST_TIME_BUCKETS,
    ),
    _histogram(
        "request_inference_time_seconds",
        "From the first step to the last token.",
        REQUEST_TIME_BUCKETS,
    ),
    _histogram(
        "request_prefill_time_seconds",
        "From the first step to the first token.",
        REQUEST_TIME_BUCKETS,
    ),
    _histogram(
        "request_decode_time_seconds", "From the first to the last token.", REQUEST_TIME_BUCKETS
    ),
    _histogram("request_prompt_tokens", "Prompt lengths."),
    _histogram("request_generation_tokens", "Generated lengths."),
    _histogram(
        "request_max_num_generation_tokens", "Generated length of a prompt's longest choice."
    ),
    _histogram("request_params_max_tokens", "Limits asked for."),
    _histogram("request_params_n", "Choices asked for.", CHOICE_BUCKETS),
    _histogram(
        "request_prefill_kv_computed_tokens", "Prompt tokens computed, cached ones left out."
    ),
    # Steps
    _histogram("iteration_tokens", "Tokens computed and generated in a step.", STEP_TOKEN_BUCKETS),
    Metric(
        "histogram",
        "step_duration_seconds",
        "A step's stages: choosing its batch (schedule), the model (execute), drawing tokens "
        "(sample; on a GPU part of execute), handing them out (deliver).",
        ("stage",),
        STAGE_BUCKETS,
    ),
    # On demand
    _block_time("kv_block_lifetime_seconds", "From taking a block to evicting its content."),
    _block_time(
        "kv_block_idle_before_evict_seconds",
        "From when a block was last taken or found to its eviction.",
    ),
    _block_time("kv_block_reuse_gap_seconds", "Between two uses of an evicted block's content."),
    Metric(
        "counter", "requests_by_key", "Prompts answered, by API key.", ("key",), only_with=BY_KEY
    ),
    Metric(
        "counter", "prompt_tokens_by_key", "Prompt tokens, by API key.", ("key",), only_with=BY_KEY
    ),
    Metric(
        "counter",
        "generation_tokens_by_key",
        "Generated tokens, by API key: the first 12 hexadecimal digits of its SHA-256, or "
        "anonymous.",
        ("key",),
        only_with=BY_KEY,
    ),
    # The front door; probes and /metrics do not count
    Metric(
        "counter",
        "http_requests",
        "HTTP answers by route, method and status.",
        ("handler", "method", "status"),
        is_bare=True,
    ),
    Metric(
        "histogram",
        "http_request_duration_seconds",
        "From the request's head to its answer's last byte.",
        ("handler", "method"),
        HTTP_TIME_BUCKETS,
        is_bare=True,
    ),
)

NOT_EXPORTED = {
    "engine_sleep_state": "there is no sleep mode",
    "external_prefix_cache_queries, external_prefix_cache_hits": "there is no KV connector",
    "mm_cache_queries, mm_cache_hits": "text models only",
    "lora_requests_info": "LoRA adapters are not served",
    "spec_decode_*": "there is no speculative decoding",
    "corrupted_requests": "logits are not searched for NaN",
    "estimated_flops_per_gpu_total and the like": "not estimated",
}
"""vLLM's metrics that have nothing to say here, and why."""

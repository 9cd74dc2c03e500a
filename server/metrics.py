"""Prometheus metrics: vLLM's names and buckets under a prefix of one's own.

Counters and histograms grow as the engine client reports events; gauges are read from the engine
when somebody scrapes, so that none can be stale. Definitions: vLLM, `v1/metrics/loggers.py` and
`v1/metrics/stats.py`. Every metric has the labels `model_name` (first served name) and `engine`.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..engine.messages import EngineStats
from ..engine.plan import EngineConfig
from ..engine.telemetry import FinishedRequest, StepTelemetry

CONTENT_TYPE = CONTENT_TYPE_LATEST
FINISH_REASONS = ("stop", "length", "abort", "error")

_TTFT_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_TOKEN_TIME_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
_REQUEST_TIME_BUCKETS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_STEP_TOKEN_BUCKETS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_CHOICE_BUCKETS = (1, 2, 5, 10, 20)

disable_created_metrics()  # type: ignore[no-untyped-call]


class ServerMetrics:
    """All metrics of one server; a `TelemetryListener` for the engine client."""

    def __init__(self, prefix: str, model_name: str, config: EngineConfig) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._state = _StateCollector(prefix, model_name, config)
        self._registry.register(self._state)
        labels = {"model_name": model_name, "engine": "0"}

        def counter(name: str, text: str) -> Counter:
            metric = Counter(prefix + name, text, [*labels], registry=self._registry)
            return metric.labels(**labels)

        def histogram(name: str, text: str, buckets: Iterable[float]) -> Histogram:
            metric = Histogram(
                prefix + name, text, [*labels], registry=self._registry, buckets=tuple(buckets)
            )
            return metric.labels(**labels)

        lengths = one_two_five(config.max_model_len)
        self._prompt_tokens = counter("prompt_tokens", "Prompt tokens, cached ones included.")
        self._prompt_tokens_cached = counter(
            "prompt_tokens_cached", "Prompt tokens found in the prefix cache."
        )
        self._generation_tokens = counter("generation_tokens", "Generated tokens.")
        self._prefix_queries = counter(
            "prefix_cache_queries", "Tokens looked up in the prefix cache at first admission."
        )
        self._prefix_hits = counter("prefix_cache_hits", "Tokens found in the prefix cache.")
        self._preemptions = counter("num_preemptions", "Requests preempted for lack of blocks.")
        self._recomputed_tokens = counter(
            "recomputed_tokens", "Tokens computed again after a preemption."
        )
        success = Counter(
            prefix + "request_success",
            "Choices ended, by reason.",
            [*labels, "finished_reason"],
            registry=self._registry,
        )
        self._finished = {
            reason: success.labels(**labels, finished_reason=reason) for reason in FINISH_REASONS
        }
        # vLLM calls this histogram a total, which Prometheus' own rules keep for counters. Prefixes
        # with a colon are for dashboards made for vLLM, and no metric of theirs passes those rules.
        step_tokens = "iteration_tokens_total" if ":" in prefix else "iteration_tokens"
        self._step_tokens = histogram(
            step_tokens, "Tokens computed and generated in a step.", _STEP_TOKEN_BUCKETS
        )
        self._choices = histogram("request_params_n", "Choices asked for.", _CHOICE_BUCKETS)
        self._max_tokens = histogram("request_params_max_tokens", "Limits asked for.", lengths)
        self._prompt_length = histogram("request_prompt_tokens", "Prompt lengths.", lengths)
        self._generation_length = histogram(
            "request_generation_tokens", "Generated lengths.", lengths
        )
        self._computed_length = histogram(
            "request_prefill_kv_computed_tokens",
            "Prompt tokens computed, cached ones not.",
            lengths,
        )
        self._ttft = histogram(
            "time_to_first_token_seconds",
            "From arrival at the server to the first token.",
            _TTFT_BUCKETS,
        )
        self._itl = histogram(
            "inter_token_latency_seconds", "Between two deliveries of tokens.", _TOKEN_TIME_BUCKETS
        )
        self._tpot = histogram(
            "request_time_per_output_token_seconds",
            "Decode time by generated tokens less one.",
            _TOKEN_TIME_BUCKETS,
        )
        self._e2e, self._queue, self._inference, self._prefill, self._decode = (
            histogram(f"{name}_seconds", text, _REQUEST_TIME_BUCKETS)
            for name, text in (
                ("e2e_request_latency", "From arrival to the last token."),
                ("request_queue_time", "From arrival in the engine to the first step."),
                ("request_inference_time", "From the first step to the last token."),
                ("request_prefill_time", "From the first step to the first token."),
                ("request_decode_time", "From the first to the last token."),
            )
        )

    def render(self, stats: EngineStats | None, is_ready: bool, last_step_age_s: float) -> bytes:
        """The exposition text with the engine's present state (None: it does not answer)."""
        self._state.show(stats, is_ready, last_step_age_s)
        return generate_latest(self._registry)

    def on_request(self, n: int) -> None:
        """An API request with `n` choices was accepted."""
        self._choices.observe(n)

    def on_step(self, step: StepTelemetry) -> None:
        """The engine finished a step."""
        self._generation_tokens.inc(step.num_generation_tokens)
        self._prefix_queries.inc(step.prefix_query_tokens)
        self._prefix_hits.inc(step.prefix_hit_tokens)
        self._preemptions.inc(step.num_preemptions)
        self._recomputed_tokens.inc(step.num_recomputed_tokens)
        self._step_tokens.observe(step.num_prompt_tokens + step.num_generation_tokens)

    def on_first_token(self, ttft_s: float, prompt_tokens: int, cached_tokens: int) -> None:
        """A choice produced its first token."""
        self._ttft.observe(ttft_s)
        self._prompt_tokens.inc(prompt_tokens)
        self._prompt_tokens_cached.inc(cached_tokens)

    def on_inter_token(self, itl_s: float) -> None:
        """A choice produced tokens after its first; `itl_s` since the ones before."""
        self._itl.observe(itl_s)

    def on_finished(self, request: FinishedRequest) -> None:
        """A choice ended, by itself or by being cancelled."""
        self._finished[request.finish_reason].inc()
        self._e2e.observe(request.e2e_s)
        self._prompt_length.observe(request.prompt_tokens)
        self._generation_length.observe(request.generation_tokens)
        self._max_tokens.observe(request.max_tokens)
        self._computed_length.observe(request.prompt_tokens - request.cached_tokens)
        for histogram, value in (
            (self._queue, request.queue_s),
            (self._prefill, request.prefill_s),
            (self._decode, request.decode_s),
            (self._inference, request.inference_s),
            (self._tpot, request.tpot_s),
        ):
            if value is not None:
                histogram.observe(value)


class _StateCollector(Collector):
    """Gauges and counters that the engine itself keeps, as they were when it was last asked."""

    def __init__(self, prefix: str, model_name: str, config: EngineConfig) -> None:
        self._prefix = prefix
        self._labels = {"model_name": model_name, "engine": "0"}
        self._config = {
            "block_size": str(config.block_size),
            "cache_dtype": config.kv_dtype,
            "enable_prefix_caching": str(config.enable_prefix_caching),
        }
        self._stats: EngineStats | None = None
        self._is_ready = False
        self._last_step_age_s = 0.0

    def show(self, stats: EngineStats | None, is_ready: bool, last_step_age_s: float) -> None:
        self._stats, self._is_ready, self._last_step_age_s = stats, is_ready, last_step_age_s

    def collect(self) -> Iterator[Metric]:
        yield self._gauge("engine_up", "Whether requests can be served.", float(self._is_ready))
        yield self._gauge(
            "last_step_age_seconds",
            "How long open work has waited for a step to finish.",
            self._last_step_age_s,
        )
        stats = self._stats
        if stats is None:
            return
        yield self._gauge(
            "cache_config_info",
            "How the KV cache is set up; always 1.",
            1.0,
            {**self._config, "num_gpu_blocks": str(stats.blocks_total)},
        )
        for name, text, value in (
            ("num_requests_running", "Choices that hold blocks.", stats.num_running),
            ("num_requests_waiting", "Choices that wait for admission.", stats.num_waiting),
            ("kv_cache_usage_perc", "Used part of the KV blocks, 0 to 1.", stats.kv_usage),
            ("kv_blocks_used", "KV blocks that requests hold.", stats.blocks_used),
            ("kv_blocks_cached", "Free KV blocks with reusable content.", stats.blocks_cached),
            ("kv_blocks_free", "Free KV blocks without content.", stats.blocks_free),
        ):
            yield self._gauge(name, text, float(value))
        evictions = CounterMetricFamily(
            self._prefix + "kv_block_evictions",
            "Cached KV blocks taken for something else.",
            labels=[*self._labels],
        )
        evictions.add_metric([*self._labels.values()], stats.num_evictions)
        yield evictions

    def _gauge(
        self, name: str, text: str, value: float, more: dict[str, str] | None = None
    ) -> GaugeMetricFamily:
        labels = {**self._labels, **(more or {})}
        family = GaugeMetricFamily(self._prefix + name, text, labels=[*labels])
        family.add_metric([*labels.values()], value)
        return family


def one_two_five(limit: int) -> list[float]:
    """1, 2, 5, 10, 20, 50, … up to `limit`; always at least [1]."""
    buckets: list[float] = []
    scale = 1
    while scale <= limit:
        buckets.extend(float(digit * scale) for digit in (1, 2, 5) if digit * scale <= limit)
        scale *= 10
    return buckets or [1.0]

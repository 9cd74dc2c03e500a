"""Prometheus metrics: vLLM's names and buckets under a prefix of one's own.

Counters and histograms grow as the engine client reports events; gauges are read from the engine
when somebody scrapes, so that none can be stale. What there is stands in `metric_catalog`. Every
metric has the labels `model_name` (first served name) and `engine`.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.samples import Sample

from ..engine.messages import StepResult
from ..engine.plan import EngineConfig
from ..engine.settings import Settings
from ..engine.telemetry import FinishedChoice, FinishedPrompt
from .metric_catalog import (
    ABORT_REASONS,
    BY_KEY,
    CATALOG,
    FINISH_REASONS,
    KV_LIVES,
    REJECTION_REASONS,
    SOURCES,
    STAGES,
    Metric,
)
from .shared_counts import SharedCounts
from .state_collector import ServerState, StateCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST

disable_created_metrics()  # type: ignore[no-untyped-call]


class ServerMetrics:
    """All metrics of one server; a `TelemetryListener` for the engine client.

    A front end of several counts by itself, and tells of all (`is_shared`).
    """

    def __init__(
        self,
        settings: Settings,
        model_name: str,
        config: EngineConfig,
        *,
        is_shared: bool = False,
    ) -> None:
        self._prefix = settings.metrics_prefix
        self._labels = {"model_name": model_name, "engine": "0"}
        self._longest = config.max_model_len
        self._registry = CollectorRegistry(auto_describe=False)
        self._shared = SharedCounts() if is_shared else None
        self._shown = self._registry if self._shared is None else self._shared.registry
        PlatformCollector(registry=self._shown)
        if self._shared is None:  # which of several processes answers is chance
            ProcessCollector(registry=self._registry)
            GCCollector(registry=self._registry)
        self._state = StateCollector(
            self._prefix, self._labels, config, settings.max_queued_requests
        )
        self._shown.register(self._state)
        self._by_key = settings.metrics_by_key
        flags = {
            BY_KEY: settings.metrics_by_key,
            KV_LIVES: settings.kv_cache_metrics,
        }
        # What the engine itself counts comes with its gauges, from the state.
        own = {"kv_block_evictions", "engine_restarts"}
        wanted = {
            metric.name: metric
            for metric in CATALOG
            if metric.name not in own and (metric.only_with is None or flags[metric.only_with])
        }
        self._counters = {
            name: self._counter(metric)
            for name, metric in wanted.items()
            if metric.kind == "counter"
        }
        self._histograms = {
            name: self._histogram(metric)
            for name, metric in wanted.items()
            if metric.kind == "histogram"
        }
        self._finished = self._children("request_success", "finished_reason", FINISH_REASONS)
        self._aborted = self._children("requests_aborted", "reason", ABORT_REASONS)
        self._rejected = self._children("requests_rejected", "reason", REJECTION_REASONS)
        self._sources = self._children("prompt_tokens_by_source", "source", SOURCES)
        stages = self._histograms["step_duration_seconds"]
        self._stages = {
            stage: stages.labels(**self._labels, stage=stage)
            for stage in STAGES
            if stage != "sample" or config.device == "cpu"
        }
        # Those without labels of their own, ready to count.
        self._plain = {
            name: family.labels(**self._labels)
            for name, family in self._counters.items()
            if not wanted[name].labels
        }
        self._timings = {
            name: family.labels(**self._labels)
            for name, family in self._histograms.items()
            if not wanted[name].labels
        }

    def render(self, state: ServerState) -> bytes:
        """The exposition text with the server's present state."""
        self._state.show(state)
        return generate_latest(self._shown)

    def add_up(self) -> None:
        """Let `count`, `counts_by` and `buckets` tell of now."""
        if self._shared is not None:
            self._shared.add_up()

    def count(self, name: str) -> float:
        """A counter without labels of its own."""
        return sum(sample.value for sample in self._samples(self._counters[name], "_total"))

    def counts_by(self, name: str, label: str) -> dict[str, float]:
        """A counter by the values of a label of its own."""
        samples = self._samples(self._counters[name], "_total")
        return {sample.labels[label]: sample.value for sample in samples}

    def buckets(self, name: str) -> list[tuple[float, float]]:
        """A histogram without labels of its own: (upper bound, how many were at most that)."""
        samples = self._samples(self._histograms[name], "_bucket")
        return [(float(sample.labels["le"]), sample.value) for sample in samples]

    def _samples(self, metric: Counter | Histogram, kind: str) -> list[Sample]:
        (family,) = metric.collect()
        if self._shared is not None:
            family = self._shared.family(family.name)
        return [sample for sample in family.samples if sample.name.endswith(kind)]

    def on_request(self, n: int) -> None:
        """A prompt with `n` choices was accepted."""
        self._timings["request_params_n"].observe(n)

    def on_step(self, step: StepResult) -> None:
        """The engine finished a step."""
        plain = self._plain
        plain["generation_tokens"].inc(step.num_generation_tokens)
        plain["prefix_cache_queries"].inc(step.prefix_query_tokens)
        plain["prefix_cache_hits"].inc(step.prefix_hit_tokens)
        plain["num_preemptions"].inc(step.num_preemptions)
        plain["recomputed_tokens"].inc(step.num_recomputed_tokens)
        num_tokens = step.num_prompt_tokens + step.num_generation_tokens
        self._timings["iteration_tokens"].observe(num_tokens)
        for stage, seconds in (
            ("schedule", step.schedule_seconds),
            ("execute", step.execute_seconds),
            ("sample", step.sample_seconds),
            ("deliver", step.deliver_seconds),
        ):
            if stage in self._stages:
                self._stages[stage].observe(seconds)
        for life in step.block_lives:
            self._timings["kv_block_lifetime_seconds"].observe(life.lifetime_s)
            self._timings["kv_block_idle_before_evict_seconds"].observe(life.idle_s)
            for gap_s in life.reuse_gaps_s:
                self._timings["kv_block_reuse_gap_seconds"].observe(gap_s)

    def on_first_token(self, ttft_s: float, prompt_tokens: int, cached_tokens: int) -> None:
        """A choice produced its first token."""
        self._timings["time_to_first_token_seconds"].observe(ttft_s)
        self._plain["prompt_tokens"].inc(prompt_tokens)
        self._plain["prompt_tokens_cached"].inc(cached_tokens)
        self._sources["local_cache_hit"].inc(cached_tokens)
        self._sources["local_compute"].inc(prompt_tokens - cached_tokens)

    def on_inter_token(self, itl_s: float) -> None:
        """A choice produced tokens after its first; `itl_s` since the ones before."""
        self._timings["inter_token_latency_seconds"].observe(itl_s)

    def on_choice_finished(self, choice: FinishedChoice) -> None:
        """A choice ended, by itself or by being cancelled."""
        self._finished[choice.finish_reason].inc()
        if choice.abort_reason is not None:
            self._aborted[choice.abort_reason].inc()
        for name, value in (
            ("request_prompt_tokens", choice.prompt_tokens),
            ("request_generation_tokens", choice.generation_tokens),
            ("request_params_max_tokens", choice.max_tokens),
            ("request_prefill_kv_computed_tokens", choice.prompt_tokens - choice.cached_tokens),
            ("e2e_request_latency_seconds", choice.e2e_s),
            ("request_queue_time_seconds", choice.queue_s),
            ("request_prefill_time_seconds", choice.prefill_s),
            ("request_decode_time_seconds", choice.decode_s),
            ("request_inference_time_seconds", choice.inference_s),
            ("request_time_per_output_token_seconds", choice.tpot_s),
        ):
            if value is not None:
                self._timings[name].observe(value)

    def on_prompt_finished(self, prompt: FinishedPrompt) -> None:
        """The last choice of a prompt ended."""
        self._timings["request_max_num_generation_tokens"].observe(prompt.longest_choice)
        if not self._by_key:
            return
        labels = {**self._labels, "key": prompt.origin.key or "anonymous"}
        self._counters["requests_by_key"].labels(**labels).inc()
        self._counters["prompt_tokens_by_key"].labels(**labels).inc(prompt.prompt_tokens)
        self._counters["generation_tokens_by_key"].labels(**labels).inc(prompt.generation_tokens)

    def on_rejected(self, reason: str) -> None:
        """An API request was turned away."""
        self._rejected[reason].inc()

    def on_answer(self, handler: str, method: str, status: int, seconds: float) -> None:
        """An HTTP answer is complete; `handler` is the route's template."""
        self._counters["http_requests"].labels(handler, method, str(status)).inc()
        self._histograms["http_request_duration_seconds"].labels(handler, method).observe(seconds)

    def _counter(self, metric: Metric) -> Counter:
        name, labels = self._named(metric)
        return Counter(name, metric.text, labels, registry=self._registry)

    def _histogram(self, metric: Metric) -> Histogram:
        name, labels = self._named(metric)
        buckets = tuple(one_two_five(self._longest)) if metric.by_length else metric.buckets
        return Histogram(name, metric.text, labels, registry=self._registry, buckets=buckets)

    def _named(self, metric: Metric) -> tuple[str, list[str]]:
        if metric.is_bare:
            return metric.name, [*metric.labels]
        name = metric.name
        # vLLM calls this histogram a total, which Prometheus' own rules keep for counters. Prefixes
        # with a colon are for dashboards made for vLLM, and no metric of theirs passes those rules.
        if name == "iteration_tokens" and ":" in self._prefix:
            name += "_total"
        return self._prefix + name, [*self._labels, *metric.labels]

    def _children(self, name: str, label: str, values: tuple[str, ...]) -> dict[str, Counter]:
        """A counter's children by their own label: made now, so that each begins at 0."""
        family = self._counters[name]
        return {value: family.labels(**self._labels, **{label: value}) for value in values}


def one_two_five(limit: int) -> list[float]:
    """1, 2, 5, 10, 20, 50, … up to `limit`; always at least [1]."""
    buckets: list[float] = []
    scale = 1
    while scale <= limit:
        buckets.extend(float(digit * scale) for digit in (1, 2, 5) if digit * scale <= limit)
        scale *= 10
    return buckets or [1.0]

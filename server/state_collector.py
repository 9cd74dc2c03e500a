"""Gauges and counters that the engine itself keeps, as they were when it was last asked."""

import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .. import __version__
from ..engine.messages import EngineStats
from ..engine.plan import EngineConfig
from .metric_catalog import CATALOG

FARTHEST_PRIORITY = 10  # clients choose priorities: labels must stay few


@dataclass(frozen=True)
class ServerState:
    """What a scrape shows. `stats` is None if the engine does not answer."""

    stats: EngineStats | None
    is_ready: bool
    is_draining: bool
    last_step_age_s: float
    startup_seconds: dict[str, float]
    resident_bytes: int
    num_restarts: int


class StateCollector(Collector):
    """Yields the catalogue's gauges for the state it was last shown."""

    def __init__(
        self, prefix: str, labels: dict[str, str], config: EngineConfig, max_waiting: int
    ) -> None:
        self._prefix = prefix
        self._labels = labels
        self._config = config
        self._max_waiting = max_waiting
        self._state = ServerState(None, False, False, 0.0, {}, 0, 0)
        self._texts = {metric.name: metric.text for metric in CATALOG}

    def show(self, state: ServerState) -> None:
        """Let the next `collect` tell of this."""
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """The families, in the catalogue's order."""
        state = self._state
        yield self._gauge("engine_up", state.is_ready)
        yield self._gauge("draining", state.is_draining)
        yield self._gauge("last_step_age_seconds", state.last_step_age_s)
        yield self._gauge("max_num_requests_running", self._config.max_num_seqs)
        yield self._gauge("max_num_requests_waiting", self._max_waiting)
        yield self._gauge("engine_resident_memory_bytes", state.resident_bytes)
        yield self._info("build_info", _build(self._config.device))
        phases = {name.replace(" ", "_"): s for name, s in state.startup_seconds.items()}
        yield self._gauges("startup_seconds", "phase", phases)
        yield self._counter("engine_restarts", state.num_restarts)
        if state.stats is not None:
            yield from self._of_engine(state.stats)

    def _of_engine(self, stats: EngineStats) -> Iterator[Metric]:
        yield self._gauge("num_requests_running", stats.num_running)
        yield self._gauge("num_requests_waiting", stats.num_waiting)
        by_reason = {
            "capacity": stats.num_waiting - stats.num_deferred,
            "deferred": stats.num_deferred,
        }
        yield self._gauges("num_requests_waiting_by_reason", "reason", by_reason)
        by_priority = Counter({"0": 0})
        for priority, count in stats.waiting_by_priority.items():
            shown = max(-FARTHEST_PRIORITY, min(FARTHEST_PRIORITY, priority))
            by_priority[str(shown)] += count
        yield self._gauges("num_requests_waiting_by_priority", "priority", by_priority)
        yield self._gauge("kv_cache_usage_perc", stats.kv_usage)
        yield self._gauge("kv_blocks_used", stats.blocks_used)
        yield self._gauge("kv_blocks_cached", stats.blocks_cached)
        yield self._gauge("kv_blocks_free", stats.blocks_free)
        yield self._counter("kv_block_evictions", stats.num_evictions)
        cache = {
            "block_size": str(self._config.block_size),
            "cache_dtype": self._config.kv_dtype,
            "enable_prefix_caching": str(self._config.enable_prefix_caching),
            "num_gpu_blocks": str(stats.blocks_total),
        }
        yield self._info("cache_config_info", cache)

    def _gauge(self, name: str, value: float) -> GaugeMetricFamily:
        family = self._family(name)
        family.add_metric([*self._labels.values()], float(value))
        return family

    def _gauges(self, name: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
        family = self._family(name, label)
        for of_label, value in values.items():
            family.add_metric([*self._labels.values(), of_label], float(value))
        return family

    def _info(self, name: str, labels: dict[str, str]) -> GaugeMetricFamily:
        family = self._family(name, *labels)
        family.add_metric([*self._labels.values(), *labels.values()], 1.0)
        return family

    def _family(self, name: str, *more: str) -> GaugeMetricFamily:
        labels = [*self._labels, *more]
        return GaugeMetricFamily(self._prefix + name, self._texts[name], labels=labels)

    def _counter(self, name: str, value: float) -> CounterMetricFamily:
        family = CounterMetricFamily(self._prefix + name, self._texts[name], labels=[*self._labels])
        family.add_metric([*self._labels.values()], float(value))
        return family


def _build(device: str) -> dict[str, str]:
    try:
        torch_version = version("torch")  # without importing it
    except PackageNotFoundError:
        torch_version = "unknown"
    return {
        "version": __version__,
        "python_version": platform.python_version(),
        "torch_version": torch_version,
        "device": device,
    }

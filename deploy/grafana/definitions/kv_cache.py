"""Where the KV blocks are, what the prefix cache saves, and what a lack of blocks costs."""

from . import limits
from .histogram_panels import heat_map
from .panels import Dashboard, Panel, Query, Row
from .queries import gauge, largest, mean, quantile, rate, rate_of, share, total

_HIT_RATE = share(rate("prefix_cache_hits"), rate("prefix_cache_queries"))
# The tokens of `iteration_tokens` are those computed for the first time.
_RECOMPUTED = share(
    rate("recomputed_tokens"),
    f"({rate('recomputed_tokens')} + {rate_of(gauge('iteration_tokens_sum'))})",
)
_OPT_IN = " Only with --kv-cache-metrics, and of a sample of the blocks."


def _block_interval(title: str, description: str, histogram: str) -> tuple[Panel, Panel]:
    """A heat map and the quantiles of one of the block histograms."""
    lines = [Query(quantile(q, histogram), f"p{round(q * 100)}") for q in (0.5, 0.95)]
    text = description + _OPT_IN
    return (
        heat_map(title, text, histogram, "s", width=16),
        Panel(f"{title}, quantiles", text, (*lines, Query(mean(histogram), "mean")), "s"),
    )


_BLOCKS = Row(
    "Blocks",
    (
        Panel(
            "Blocks by state",
            "Used: requests hold them. Cached: nobody does, but their content can be reused until "
            "they are needed. Free: without content. A server at work has few free ones: that is "
            "a warm cache, not a full one.",
            (
                Query(total(gauge("kv_blocks_used")), "used"),
                Query(total(gauge("kv_blocks_cached")), "cached"),
                Query(total(gauge("kv_blocks_free")), "free"),
            ),
            "short",
            stacked=True,
            width=16,
        ),
        Panel(
            "Usage",
            "Used blocks as a share of all.",
            (Query(largest(gauge("kv_cache_usage_perc"), "instance"), "{{instance}}"),),
            "percentunit",
            thresholds=limits.KV_USAGE,
            maximum=1,
        ),
        Panel(
            "Cache set-up",
            "Block size in tokens, type of keys and values, number of blocks.",
            (
                Query(
                    largest(
                        gauge("cache_config_info"),
                        "instance, model_name, num_gpu_blocks, block_size, cache_dtype, "
                        "enable_prefix_caching",
                    )
                ),
            ),
            "short",
            "table",
            width=24,
            height=5,
        ),
    ),
)

_PREFIXES = Row(
    "Prefix reuse",
    (
        Panel(
            "Hit rate",
            "Tokens found in the prefix cache as a share of those looked up, at first admission.",
            (Query(_HIT_RATE, "hit rate"),),
            "percentunit",
            maximum=1,
        ),
        Panel(
            "Looked up and found",
            "Tokens a second that were looked up in the prefix cache, and that were found.",
            (
                Query(rate("prefix_cache_queries"), "looked up"),
                Query(rate("prefix_cache_hits"), "found"),
            ),
            "suffix: tokens/s",
        ),
        Panel(
            "Prompt tokens by source",
            "Where prompt tokens' keys and values came from: computed here, or found here.",
            (Query(rate("prompt_tokens_by_source", "source"), "{{source}}"),),
            "suffix: tokens/s",
            stacked=True,
        ),
        Panel(
            "Prompt tokens computed per request",
            "How much of a request's prompt was left to compute after the prefix hit.",
            (
                Query(quantile(0.5, "request_prefill_kv_computed_tokens"), "p50"),
                Query(quantile(0.95, "request_prefill_kv_computed_tokens"), "p95"),
                Query(mean("request_prefill_kv_computed_tokens"), "mean"),
            ),
            "suffix: tokens",
        ),
        Panel(
            "Evictions",
            "Cached blocks a second that lost their content because the block was needed. With "
            "evictions and a falling hit rate the cache is too small for its prefixes.",
            (Query(rate("kv_block_evictions", "instance"), "{{instance}}"),),
            "suffix: blocks/s",
        ),
    ),
)

_PREEMPTION = Row(
    "Preemption",
    (
        Panel(
            "Preemptions",
            "Requests a second that gave their blocks back because there were none left, and wait "
            "again.",
            (Query(rate("num_preemptions", "instance"), "{{instance}}"),),
            "reqps",
        ),
        Panel(
            "Recomputed tokens",
            "Tokens a second that were computed again after a preemption.",
            (Query(rate("recomputed_tokens", "instance"), "{{instance}}"),),
            "suffix: tokens/s",
        ),
        Panel(
            "Recomputed share",
            "Recomputed tokens as a share of all computed ones: what preemption costs. More "
            "blocks or a lower --max-num-seqs bring it down.",
            (
                Query(
                    _RECOMPUTED,
                    "recomputed",
                ),
            ),
            "percentunit",
            thresholds=limits.RECOMPUTED_SHARE,
            maximum=1,
        ),
    ),
)

_INTERVALS = Row(
    "Life of a block (--kv-cache-metrics)",
    (
        *_block_interval(
            "Life time",
            "From the moment a block was handed out until its content was given up.",
            "kv_block_lifetime_seconds",
        ),
        *_block_interval(
            "Idle before eviction",
            "How long an evicted block had not been used. Short times: what is cached is thrown "
            "away before it can be reused.",
            "kv_block_idle_before_evict_seconds",
        ),
        *_block_interval(
            "Reuse gap",
            "Between two uses of a block's content, told once it is evicted. Where gaps come near "
            "the times that blocks stay idle before eviction, a larger cache would hit more often.",
            "kv_block_reuse_gap_seconds",
        ),
    ),
)

DASHBOARD = Dashboard(
    "octavo-kv-cache",
    "Octavo / KV cache",
    "Block states, prefix reuse, evictions and preemptions of Octavo servers.",
    (_BLOCKS, _PREFIXES, _PREEMPTION, _INTERVALS),
)

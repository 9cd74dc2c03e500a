"""Is it up, how much does it do, how fast, what fails, what is full: the four golden signals."""

from . import limits
from .histogram_panels import quantiles
from .panels import Dashboard, Panel, Query, Row, State, Threshold
from .queries import (
    gauge,
    http_quantile,
    largest,
    mean,
    or_zero,
    process,
    quantile,
    rate,
    rate_of,
    share,
    total,
)

_HTTP = "http_requests_total"
_FAILED_HTTP = rate_of(process(_HTTP, 'status=~"5..",status!="503"'))
_FAILURES = share(
    rate("request_success", matchers='finished_reason="error"'), rate("request_success")
)


_STATE = Row(
    "State",
    (
        Panel(
            "Ready servers",
            "Servers that take requests: their engine is up and they do not drain.",
            (Query(total(f"{gauge('engine_up')} * (1 - {gauge('draining')})"), "ready"),),
            "short",
            "stat",
            width=3,
            height=5,
        ),
        Panel(
            "Firing alerts",
            "Alerts of deploy/prometheus/rules that fire now; what to do about each stands in "
            "docs/monitoring.md.",
            (Query(or_zero('count(ALERTS{alertname=~"Octavo.+",alertstate="firing"})'), "firing"),),
            "short",
            "stat",
            thresholds=(Threshold(1, "red"),),
            width=3,
            height=5,
        ),
        Panel(
            "TTFT, p95",
            "Time from a request's arrival to its first token that 95 of 100 requests stay under.",
            (Query(quantile(0.95, "time_to_first_token_seconds"), "p95"),),
            "s",
            "stat",
            thresholds=limits.TTFT_SECONDS,
            width=3,
            height=5,
        ),
        Panel(
            "Failures",
            "Choices that ended with an error, in a stream or not, as a share of all that ended.",
            (Query(_FAILURES, "failures"),),
            "percentunit",
            "stat",
            thresholds=limits.FAILED_SHARE,
            width=3,
            height=5,
        ),
        Panel(
            "Fullest KV cache",
            "Blocks that requests hold, as a share of all, on the fullest server. Cached blocks "
            "count as free: they are given up when they are needed.",
            (Query(largest(gauge("kv_cache_usage_perc")), "used"),),
            "percentunit",
            "stat",
            thresholds=limits.KV_USAGE,
            maximum=1,
            width=3,
            height=5,
        ),
        Panel(
            "Oldest step",
            "How long open work has waited for a step to finish, on the slowest server; an idle "
            "server has 0. It keeps growing when an engine hangs.",
            (Query(largest(gauge("last_step_age_seconds")), "age"),),
            "s",
            "stat",
            thresholds=limits.STEP_AGE_SECONDS,
            width=3,
            height=5,
        ),
        Panel(
            "Server state",
            "What each server was over time. Draining: it finishes what runs after SIGTERM and "
            "takes nothing new. A gap: Prometheus could not reach it.",
            (
                Query(
                    f"{total(gauge('engine_up'), 'instance')} * "
                    f"(1 + {total(gauge('draining'), 'instance')})",
                    "{{instance}}",
                ),
            ),
            "short",
            "state-timeline",
            states=(
                State(0, "not ready", "red"),
                State(1, "ready", "green"),
                State(2, "draining", "orange"),
            ),
            width=6,
            height=5,
        ),
        Panel(
            "Builds",
            "Which version runs where, on which device.",
            (
                Query(
                    largest(
                        gauge("build_info"),
                        "instance, model_name, version, device, torch_version, python_version",
                    )
                ),
            ),
            "short",
            "table",
            width=18,
            height=5,
        ),
        Panel(
            "Up time",
            "How long each front-end process has been running.",
            (Query(f"time() - {process('process_start_time_seconds')}", "{{instance}}"),),
            "s",
            "stat",
            width=6,
            height=5,
        ),
    ),
)

_TRAFFIC = Row(
    "Traffic",
    (
        Panel(
            "Requests",
            "Choices that ended, a second; a request with n choices counts n times.",
            (Query(rate("request_success", "model_name"), "{{model_name}}"),),
            "reqps",
        ),
        Panel(
            "Tokens",
            "Tokens a second: prompt tokens that were computed, prompt tokens that came from the "
            "prefix cache, and generated tokens.",
            (
                Query(
                    f"{rate('prompt_tokens')} - {rate('prompt_tokens_cached')}", "prompt, computed"
                ),
                Query(rate("prompt_tokens_cached"), "prompt, cached"),
                Query(rate("generation_tokens"), "generated"),
            ),
            "suffix: tokens/s",
            stacked=True,
        ),
        Panel(
            "HTTP requests",
            "HTTP requests a second by route, refused ones included.",
            (Query(rate_of(process(_HTTP), "method, handler"), "{{method}} {{handler}}"),),
            "reqps",
        ),
    ),
)

_LATENCY = Row(
    "Latency",
    (
        quantiles(
            "TTFT",
            "Time to first token, from the request's arrival; waiting included.",
            "time_to_first_token_seconds",
            thresholds=limits.TTFT_SECONDS,
        ),
        quantiles(
            "ITL",
            "Inter-token latency: between two successive deliveries of tokens of one choice, which "
            "is how steadily a stream reads.",
            "inter_token_latency_seconds",
        ),
        quantiles(
            "End to end",
            "From a request's arrival to its last token.",
            "e2e_request_latency_seconds",
        ),
        quantiles(
            "TPOT",
            "Time per output token: a choice's decode time divided by its tokens less one.",
            "request_time_per_output_token_seconds",
        ),
        Panel(
            "Where the time goes",
            "Mean of a request's parts: waiting for admission, from the first step to the first "
            "token, and from there to the last.",
            (
                Query(mean("request_queue_time_seconds"), "queue"),
                Query(mean("request_prefill_time_seconds"), "prefill"),
                Query(mean("request_decode_time_seconds"), "decode"),
            ),
            "s",
            stacked=True,
        ),
        Panel(
            "HTTP duration, p95",
            "Time to the end of the answer by route, streams included: it grows with the length of "
            "the answers.",
            (
                Query(
                    http_quantile(0.95, "http_request_duration_seconds", "handler"), "{{handler}}"
                ),
            ),
            "s",
        ),
    ),
)

_ERRORS = Row(
    "Errors",
    (
        Panel(
            "Failures",
            "The same share as above over time; the alert OctavoHighErrorRate fires beyond the "
            "red line if more than three fail in five minutes, and for HTTP answers of 5xx alike.",
            (Query(_FAILURES, "failures"),),
            "percentunit",
            thresholds=limits.FAILED_SHARE,
        ),
        Panel(
            "Refusals and failures by status",
            "HTTP answers of 4xx and 5xx, a second.",
            (
                Query(or_zero(rate_of(process(_HTTP, 'status=~"4.."'))), "4xx, the client's fault"),
                Query(or_zero(rate_of(process(_HTTP, 'status="503"'))), "503, full or draining"),
                Query(or_zero(_FAILED_HTTP), "other 5xx, the server's fault"),
            ),
            "reqps",
        ),
        Panel(
            "Aborted and rejected",
            "Requests that were given up while they ran, and requests that were refused, a second; "
            "the Requests dashboard has the reasons.",
            (
                Query(rate("requests_aborted"), "aborted"),
                Query(rate("requests_rejected"), "rejected"),
            ),
            "reqps",
        ),
        Panel(
            "Engine restarts",
            "How often an engine process was replaced since its server started.",
            (Query(total(gauge("engine_restarts_total"), "instance"), "{{instance}}"),),
            "short",
            thresholds=(Threshold(1, "orange"),),
        ),
    ),
)

_SATURATION = Row(
    "Saturation",
    (
        Panel(
            "Running",
            "Choices that hold blocks, and how many may at once (--max-num-seqs).",
            (
                Query(total(gauge("num_requests_running"), "instance"), "{{instance}}"),
                Query(total(gauge("max_num_requests_running")), "limit of all"),
            ),
            "short",
        ),
        Panel(
            "Waiting",
            "Choices that wait for admission, and how many may before new ones are refused "
            "(--max-queued-requests).",
            (
                Query(total(gauge("num_requests_waiting"), "instance"), "{{instance}}"),
                Query(total(gauge("max_num_requests_waiting")), "limit of all"),
            ),
            "short",
        ),
        Panel(
            "KV cache",
            "Blocks that requests hold, as a share of all. Near 1 with requests waiting: memory "
            "limits the throughput.",
            (Query(largest(gauge("kv_cache_usage_perc"), "instance"), "{{instance}}"),),
            "percentunit",
            thresholds=limits.KV_USAGE,
            maximum=1,
        ),
        Panel(
            "Oldest step",
            "How long open work has waited for a step to finish; the alert OctavoEngineStalled "
            "fires beyond the red line.",
            (Query(largest(gauge("last_step_age_seconds"), "instance"), "{{instance}}"),),
            "s",
            thresholds=limits.STEP_AGE_SECONDS,
        ),
        Panel(
            "Memory",
            "Resident memory of the front-end process and of the engine process (on a CPU with "
            "weights and KV cache; on a GPU without).",
            (
                Query(process("process_resident_memory_bytes"), "{{instance}} front end"),
                Query(gauge("engine_resident_memory_bytes"), "{{instance}} engine"),
            ),
            "bytes",
        ),
        Panel(
            "Front end: processor",
            "Cores that the front-end process keeps busy. It runs on one: near 1 it limits the "
            "server, whatever the engine could do.",
            (Query(rate_of(process("process_cpu_seconds_total"), "instance"), "{{instance}}"),),
            "suffix: cores",
            thresholds=(Threshold(0.9, "red"),),
        ),
        Panel(
            "Front end: file descriptors",
            "Open file descriptors as a share of the limit; each connection takes one.",
            (
                Query(
                    f"{process('process_open_fds')} / {process('process_max_fds')}", "{{instance}}"
                ),
            ),
            "percentunit",
            thresholds=(Threshold(0.9, "red"),),
            maximum=1,
        ),
    ),
)

DASHBOARD = Dashboard(
    "octavo-overview",
    "Octavo / Overview",
    "State, traffic, latency, errors and saturation of Octavo servers.",
    (_STATE, _TRAFFIC, _LATENCY, _ERRORS, _SATURATION),
)

"""What requests look like, how they end, where they wait, and what a step does with them."""

from .histogram_panels import heat_map, quantiles
from .panels import Dashboard, Panel, Query, Row
from .queries import (
    gauge,
    mean,
    observations,
    process,
    quantile,
    rate,
    rate_of,
    total,
)

_BY_KEY = (
    " Only with --metrics-by-key. A key appears as the first 12 hex digits of its SHA-256, and "
    "requests without one as anonymous."
)


_LENGTHS = Row(
    "Lengths",
    (
        heat_map(
            "Prompt length",
            "Tokens of the prompts of the choices that ended, cached tokens included.",
            "request_prompt_tokens",
            "suffix: tokens",
        ),
        heat_map(
            "Generated length",
            "Tokens generated for the choices that ended.",
            "request_generation_tokens",
            "suffix: tokens",
        ),
        heat_map(
            "Limit asked for",
            "max_tokens of the choices that ended; what was left of the context where a request "
            "named none.",
            "request_params_max_tokens",
            "suffix: tokens",
        ),
        Panel(
            "Mean lengths",
            "Mean prompt, mean answer, and the mean of the longest answer of each request.",
            (
                Query(mean("request_prompt_tokens"), "prompt"),
                Query(mean("request_generation_tokens"), "generated"),
                Query(mean("request_max_num_generation_tokens"), "longest of a request"),
            ),
            "suffix: tokens",
        ),
        Panel(
            "Choices asked for",
            "n of the requests: how many answers one of them wants.",
            (
                Query(mean("request_params_n"), "mean"),
                Query(quantile(0.95, "request_params_n"), "p95"),
            ),
            "short",
        ),
        Panel(
            "API requests and choices",
            "API requests accepted and choices ended, a second.",
            (
                Query(observations("request_params_n"), "API requests"),
                Query(rate("request_success"), "choices"),
            ),
            "reqps",
        ),
    ),
)

_ENDS = Row(
    "How requests end",
    (
        Panel(
            "Finish reasons",
            "Choices that ended, a second, by reason: stop (end of text or a stop string), length "
            "(max_tokens or the context), abort (given up), error.",
            (Query(rate("request_success", "finished_reason"), "{{finished_reason}}"),),
            "reqps",
            stacked=True,
        ),
        Panel(
            "Aborted by reason",
            "Choices given up while they ran or waited, a second: the client left, an operator "
            "said so, the drain timeout passed, or the form they asked for cannot go on (invalid).",
            (Query(rate("requests_aborted", "reason"), "{{reason}}"),),
            "reqps",
        ),
        Panel(
            "Rejected by reason",
            "Requests refused before they began, a second.",
            (Query(rate("requests_rejected", "reason"), "{{reason}}"),),
            "reqps",
        ),
        Panel(
            "HTTP by status",
            "HTTP answers a second by status code.",
            (Query(rate_of(process("http_requests_total"), "status"), "{{status}}"),),
            "reqps",
            stacked=True,
        ),
    ),
)

_WAITING = Row(
    "Waiting",
    (
        Panel(
            "Waiting by priority",
            "Choices that wait for admission, by the priority they were sent with; the lowest "
            "value goes first under --scheduling-policy priority. Those beyond -10 and 10 count "
            "there.",
            (Query(total(gauge("num_requests_waiting_by_priority"), "priority"), "{{priority}}"),),
            "short",
        ),
        Panel(
            "Waiting by reason",
            "capacity: no room among the running ones or no blocks. deferred: something else has "
            "to be ready first, such as a compiled grammar.",
            (Query(total(gauge("num_requests_waiting_by_reason"), "reason"), "{{reason}}"),),
            "short",
            stacked=True,
        ),
        quantiles(
            "Time in the queue",
            "From arrival in the engine to the first step; later preemptions do not count.",
            "request_queue_time_seconds",
        ),
    ),
)

_TIMES = Row(
    "Times",
    (
        heat_map(
            "TTFT",
            "Time to first token. Two bands: some requests hit the prefix cache, or some wait.",
            "time_to_first_token_seconds",
            "s",
        ),
        heat_map(
            "ITL",
            "Inter-token latency. A second band of long ones: prefills of others share the steps.",
            "inter_token_latency_seconds",
            "s",
        ),
        heat_map(
            "End to end",
            "From a request's arrival to its last token.",
            "e2e_request_latency_seconds",
            "s",
        ),
        quantiles(
            "Prefill time",
            "From a request's first step to its first token.",
            "request_prefill_time_seconds",
        ),
        quantiles(
            "Decode time",
            "From a request's first token to its last.",
            "request_decode_time_seconds",
        ),
        quantiles(
            "Inference time",
            "From a request's first step to its last token: prefill and decode.",
            "request_inference_time_seconds",
        ),
    ),
)

_MODELS = Row(
    "By model",
    (
        Panel(
            "Choices ended",
            "Choices that ended, a second, by model.",
            (Query(rate("request_success", "model_name"), "{{model_name}}"),),
            "reqps",
            width=6,
        ),
        Panel(
            "Running",
            "Choices that hold blocks, by model.",
            (Query(total(gauge("num_requests_running"), "model_name"), "{{model_name}}"),),
            "short",
            width=6,
        ),
        Panel(
            "Generated tokens",
            "Generated tokens a second, by model.",
            (Query(rate("generation_tokens", "model_name"), "{{model_name}}"),),
            "suffix: tokens/s",
            width=6,
        ),
        Panel(
            "TTFT, p95",
            "Time to first token that 95 of 100 requests stay under, by model.",
            (Query(quantile(0.95, "time_to_first_token_seconds", "model_name"), "{{model_name}}"),),
            "s",
            width=6,
        ),
    ),
)

_STEPS = Row(
    "Steps",
    (
        Panel(
            "Step duration by stage",
            "Mean time of a step's stages: choosing the batch, running the model, drawing tokens, "
            "handing them out. On a GPU drawing is a part of running.",
            (Query(mean("step_duration_seconds", "stage"), "{{stage}}"),),
            "s",
            stacked=True,
        ),
        Panel(
            "Step duration, p95",
            "The same stages, their 95th percentile.",
            (Query(quantile(0.95, "step_duration_seconds", "stage"), "{{stage}}"),),
            "s",
        ),
        Panel(
            "Steps",
            "Steps of the engine a second; 0 while it is idle.",
            (Query(observations("iteration_tokens", "instance"), "{{instance}}"),),
            "suffix: steps/s",
        ),
        heat_map(
            "Tokens in a step",
            "Prompt tokens computed and tokens generated in a step. Mostly few: decode alone. "
            "At --max-num-batched-tokens: prefill fills the steps.",
            "iteration_tokens",
            "suffix: tokens",
        ),
        Panel(
            "Start-up",
            "Seconds that each phase of the start took.",
            (Query(gauge("startup_seconds"), "{{instance}} {{phase}}"),),
            "s",
            "bargauge",
            width=16,
        ),
    ),
)

_KEYS = Row(
    "By API key (--metrics-by-key)",
    (
        Panel(
            "Requests",
            "API requests a second by key." + _BY_KEY,
            (Query(rate("requests_by_key", "key"), "{{key}}"),),
            "reqps",
        ),
        Panel(
            "Prompt tokens",
            "Prompt tokens a second by key." + _BY_KEY,
            (Query(rate("prompt_tokens_by_key", "key"), "{{key}}"),),
            "suffix: tokens/s",
        ),
        Panel(
            "Generated tokens",
            "Generated tokens a second by key." + _BY_KEY,
            (Query(rate("generation_tokens_by_key", "key"), "{{key}}"),),
            "suffix: tokens/s",
        ),
    ),
)

DASHBOARD = Dashboard(
    "octavo-requests",
    "Octavo / Requests",
    "Lengths, ends, waiting, times and steps of the requests of Octavo servers.",
    (_LENGTHS, _ENDS, _WAITING, _TIMES, _MODELS, _STEPS, _KEYS),
)

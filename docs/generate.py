"""Writes docs/metrics.md and docs/configuration.md from the code; `--check` only compares.

.venv/bin/python docs/generate.py [--check]
"""

import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from octavo.engine.setting_types import ByteSize
from octavo.engine.settings import Settings
from octavo.server.metric_catalog import BY_KEY, CATALOG, KV_LIVES, NOT_EXPORTED, Metric

HERE = Path(__file__).parent

METRICS_HEAD = """\
# Metrics

<!-- Written by docs/generate.py from server/metric_catalog.py: edit that. -->

`GET /metrics` answers in Prometheus' text format; gauges are read from the engine at each scrape,
so none is stale. Names have the prefix `octavo_` (`--metrics-prefix`; with `vllm:` dashboards and
autoscalers made for vLLM work, and `iteration_tokens` is called `iteration_tokens_total` as there).
Counters end in `_total` on the wire, histograms in `_bucket`, `_sum` and `_count`. Every metric has
the labels `model_name` (the first served name) and `engine` (always `0`), but for those marked
*bare*. Names are part of the public face: a change stands in the changelog. What they mean in
practice, with dashboards and alerts: [Monitoring](monitoring.md).

Times: `time_to_first_token_seconds` and `e2e_request_latency_seconds` begin when the front end has
received a request; all others are differences of the engine's own clock. "Choice" is one of the `n`
continuations of a prompt.

"""

METRICS_FOOT = """
Beside these: `process_*` (of the front end's process), `python_info` and `python_gc_*` of the
Prometheus client library. With `--api-server-count` above 1 every front end tells of all of them
together, and `process_*` and `python_gc_*` are not there.

## Metrics of vLLM that are not here

| metric | why |
| --- | --- |
"""

CONFIGURATION_HEAD = """\
# Configuration

<!-- Written by docs/generate.py from engine/settings.py: edit that. -->

Every setting is a flag of `octavo serve`, a variable of the environment and a key of a YAML file.
The command line goes over the environment, the environment over the file, the file over the
defaults here.

```console
$ octavo serve --max-num-seqs 32            # a flag
$ OCTAVO_MAX_NUM_SEQS=32 octavo serve       # a variable: OCTAVO_ and the name in capitals
$ octavo serve --config octavo.yaml         # a file: max_num_seqs: 32 (or OCTAVO_CONFIG=…)
```

`octavo config` takes the same flags, prints every setting as it would be in force and where its
value came from; `octavo config --format yaml` prints a file that `--config` reads. An unknown key
in a file is an error; an unknown `OCTAVO_…` variable is a warning. Sizes are bytes, or a number
with a unit (`2GiB`, `500MB`). Lists are given as one text with commas, or by repeating the flag.
Names are vLLM's where vLLM has the same setting ([Migrating from vLLM](migrating-from-vllm.md)).

API keys are best kept in files (`--api-key-file`, `--admin-key-file`: one a line; lines that begin
with `#` are none), which is how Docker, Kubernetes and systemd hand out secrets; they are never
printed.

"""

GROUPS = (
    ("Model", "model"),
    ("Server", "host"),
    ("Memory", "max_model_len"),
    ("Scheduling and execution", "max_num_seqs"),
)


def metrics_page() -> str:
    """docs/metrics.md."""
    bare = [metric for metric in CATALOG if metric.is_bare]
    by_key = [metric for metric in CATALOG if metric.only_with == BY_KEY]
    lives = [metric for metric in CATALOG if metric.only_with == KV_LIVES]
    special = {metric.name for metric in (*bare, *by_key, *lives)}
    usual = [metric for metric in CATALOG if metric.name not in special]
    parts = [METRICS_HEAD]
    for title, metrics in (
        ("Gauges", [metric for metric in usual if metric.kind == "gauge"]),
        ("Counters", [metric for metric in usual if metric.kind == "counter"]),
        ("Histograms", [metric for metric in usual if metric.kind == "histogram"]),
        (f"Only with `{KV_LIVES}`", lives),
        (f"Only with `{BY_KEY}`", by_key),
        ("Bare: of the HTTP front", bare),
    ):
        parts.append(f"## {title}\n\n| name | labels | meaning |\n| --- | --- | --- |\n")
        parts += [_metric_row(metric) for metric in metrics]
        parts.append("\n")
    parts.append(METRICS_FOOT.removeprefix("\n"))
    parts += [f"| {_code_list(name)} | {why} |\n" for name, why in NOT_EXPORTED.items()]
    return "".join(parts)


def configuration_page() -> str:
    """docs/configuration.md."""
    begins = {first: title for title, first in GROUPS}
    parts = [CONFIGURATION_HEAD.rstrip("\n") + "\n"]
    for name, field in Settings.model_fields.items():
        if name in begins:
            parts.append(f"\n## {begins[name]}\n\n")
            parts.append("| flag | values | default | meaning |\n| --- | --- | --- | --- |\n")
        flag = "MODEL" if name == "model" else "--" + name.replace("_", "-")
        kind, default = _kind(field.annotation, field.metadata), _default(field)
        text = _cell(field.description or "")
        parts.append(f"| `{flag}` | {kind} | {default} | {text} |\n")
    return "".join(parts)


def _metric_row(metric: Metric) -> str:
    name = metric.name + ("_total" if metric.kind == "counter" else "")
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{name}` | {labels} | {_cell(metric.text)} |\n"


def _kind(annotation: Any, metadata: list[Any]) -> str:
    members = [member for member in get_args(annotation) if member is not type(None)]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if annotation is bool or members == [bool]:
        return "on, off"
    if get_origin(annotation) is list:
        return "list"
    is_size = any(item in get_args(ByteSize)[1:] for item in metadata)
    if is_size or any(get_args(member)[1:] == get_args(ByteSize)[1:] for member in members):
        return "size"
    kinds = {int: "integer", float: "number", str: "text", Path: "path"}
    first = members[0] if members else annotation
    return kinds.get(first, "JSON" if "dict" in str(first) else "text")


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value == []:
        return "unset"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code_list(names: str) -> str:
    return ", ".join(f"`{name}`" if " " not in name else name for name in names.split(", "))


def main() -> int:
    """Write the pages, or with `--check` tell which differ."""
    stale = []
    for name, text in (("metrics", metrics_page()), ("configuration", configuration_page())):
        path = HERE / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(text)
    if "--check" in sys.argv and stale:
        print(f"not as the code has it: {', '.join(stale)}; run docs/generate.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`octavo bench`: serve (load any OpenAI endpoint), latency, throughput and startup."""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..engine.settings import Settings
from .options import SERVER_ONLY, with_settings

if TYPE_CHECKING:
    from ..bench import Distribution, Workload

app = typer.Typer(
    help="Measure a server over HTTP, or the engine without one.", no_args_is_help=True
)

_SaveJson = Annotated[Path | None, typer.Option("--save-json", help="Write all of it as JSON.")]


@app.command()
def serve(
    base_url: Annotated[
        str, typer.Option(help="The server's root, with or without /v1.")
    ] = "http://127.0.0.1:8000",
    endpoint: Annotated[str, typer.Option(help="completions or chat.")] = "completions",
    model: Annotated[
        str | None, typer.Option(help="Name in the API; unset: the first of /v1/models.")
    ] = None,
    api_key: Annotated[str | None, typer.Option(help="Sent as Bearer token.")] = None,
    concurrency: Annotated[
        str | None,
        typer.Option(help="Requests open at once; several like 1,4,16 run in turn; 1 if unset."),
    ] = None,
    request_rate: Annotated[
        str | None,
        typer.Option(help="Conversations begun a second, whatever is open; several, or inf."),
    ] = None,
    burstiness: Annotated[
        float, typer.Option(help="Of the arrivals: 1 Poisson, below 1 bursts, above 1 even.")
    ] = 1.0,
    num_requests: Annotated[
        int | None, typer.Option(help="Requests for each load; 100 if no duration is set.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(help="Seconds of sending for each load.")
    ] = None,
    num_warmups: Annotated[int, typer.Option(help="Requests before anything is measured.")] = 1,
    dataset: Annotated[
        str, typer.Option(help="random, shared-prefix, multi-turn or sharegpt.")
    ] = "random",
    dataset_path: Annotated[Path | None, typer.Option(help="The file for sharegpt.")] = None,
    input_len: Annotated[int, typer.Option(help="Words of a prompt or turn.")] = 256,
    output_len: Annotated[
        int | None,
        typer.Option(help="Most tokens of an answer; if unset 128, for sharegpt as in the file."),
    ] = None,
    range_ratio: Annotated[
        float, typer.Option(help="Lengths vary by this share, 0 to below 1.")
    ] = 0.0,
    prefix_len: Annotated[int, typer.Option(help="Words of a shared prefix.")] = 256,
    num_prefixes: Annotated[int, typer.Option(help="Different shared prefixes.")] = 1,
    turns: Annotated[int, typer.Option(help="Turns of a multi-turn conversation.")] = 4,
    ignore_eos: Annotated[
        bool, typer.Option(help="Answers have exactly --output-len tokens (an extension).")
    ] = True,
    temperature: Annotated[float, typer.Option(help="0: greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed asks the same.")] = 0,
    goodput: Annotated[
        list[str] | None,
        typer.Option(help="Limits in ms like ttft:500 itl:50 (also tpot, e2el)."),
    ] = None,
    more_limits: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    timeout: Annotated[float, typer.Option(help="Longest silence of a request in s.")] = 600.0,
    save_json: _SaveJson = None,
    save_markdown: Annotated[
        Path | None, typer.Option("--save-markdown", help="Write the table as Markdown.")
    ] = None,
    save_html: Annotated[
        Path | None, typer.Option("--save-html", help="Write a page with plots.")
    ] = None,
) -> None:
    """Load an OpenAI-compatible server and report latencies and throughput."""
    settings = dict(locals())
    with _explained():
        from ..bench import BenchError, Endpoint, Goodput, Limit, served_model
        from ..bench.report import Report, local_versions, to_json, to_markdown, to_text
        from ..bench.report_html import to_html
        from .bench_loads import Plan, parse_loads, run_loads, server_version

        if endpoint not in ("completions", "chat"):
            raise BenchError(f"--endpoint must be completions or chat, not {endpoint}")
        if num_requests is None and duration is None:
            num_requests = 100
        workload = _workload(
            dataset,
            dataset_path,
            lengths=(input_len, output_len, range_ratio),
            prefixes=(prefix_len, num_prefixes),
            turns=turns,
        )
        plan = Plan(
            endpoint=Endpoint(
                base_url,
                model or served_model(base_url, api_key),
                "chat" if endpoint == "chat" else "completions",
                api_key,
                temperature,
                ignore_eos,
                timeout_s=timeout,
            ),
            workload=workload,
            loads=parse_loads(concurrency, request_rate, burstiness),
            limit=Limit(num_requests, duration),
            num_warmups=num_warmups,
            seed=seed,
        )
        if more_limits and not goodput:
            raise BenchError(f"unexpected argument {more_limits[0]!r}")
        settings["goodput"] = " ".join([*(goodput or ()), *(settings.pop("more_limits") or ())])
        terms = settings["goodput"].split()
        runs, summaries = run_loads(plan, Goodput.parse(terms) if terms else None)
        settings["model"] = plan.endpoint.model
        settings["num_requests"] = num_requests
        report = Report(
            title="Octavo bench",
            settings=_shown(settings),
            versions={**server_version(plan.endpoint), **local_versions()},
            runs=runs,
            summaries=summaries,
        )
        sys.stdout.write(to_text(report))
        for path, make in (
            (save_json, to_json),
            (save_markdown, to_markdown),
            (save_html, to_html),
        ):
            if path is not None:
                path.write_text(make(report), encoding="utf-8")
    if not any(summary.successful for summary in summaries):
        raise typer.Exit(1)


@app.command()
@with_settings(leave_out=SERVER_ONLY)
def latency(
    settings: Settings,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts in one batch.")] = 8,
    input_len: Annotated[int, typer.Option(min=1, help="Tokens of each prompt.")] = 32,
    output_len: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 128,
    num_iters: Annotated[int, typer.Option(min=1, help="Measured repetitions.")] = 10,
    num_iters_warmup: Annotated[int, typer.Option(min=0, help="Repetitions before.")] = 2,
    save_json: _SaveJson = None,
) -> None:
    """Time one batch from its prompts to its last tokens, again and again, without HTTP."""
    from ..bench import Distribution
    from ..engine.llm import LLM
    from .bench_offline import generate_batch

    llm = LLM(**_quiet(settings))
    sizes = {"batch_size": batch_size, "input_len": input_len, "output_len": output_len}
    for number in range(num_iters_warmup):
        generate_batch(llm, **sizes, seed=f"warm-up {number}")
    runs = [generate_batch(llm, **sizes, seed=number) for number in range(num_iters)]
    seconds = [run.seconds for run in runs]
    _print_distribution("Latency of a batch", Distribution.of(seconds))
    _save(save_json, {**sizes, "seconds": seconds})


@app.command()
@with_settings(leave_out=SERVER_ONLY)
def throughput(
    settings: Settings,
    num_prompts: Annotated[int, typer.Option(min=1, help="Prompts, all given at once.")] = 64,
    input_len: Annotated[int, typer.Option(min=1, help="Tokens of each prompt.")] = 128,
    output_len: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 64,
    save_json: _SaveJson = None,
) -> None:
    """Complete many prompts as fast as the engine can, without HTTP."""
    from ..engine.llm import LLM
    from .bench_offline import generate_batch

    llm = LLM(**_quiet(settings))
    generate_batch(llm, batch_size=1, input_len=16, output_len=4, seed="warm-up")
    run = generate_batch(
        llm, batch_size=num_prompts, input_len=input_len, output_len=output_len, seed=0
    )
    figures = {
        "Duration (s)": run.seconds,
        "Request throughput (req/s)": run.num_requests / run.seconds,
        "Output token throughput (tok/s)": run.output_tokens / run.seconds,
        "Total token throughput (tok/s)": (run.input_tokens + run.output_tokens) / run.seconds,
    }
    for name, value in figures.items():
        print(f"{name:<34} {value:>10.2f}")
    sizes = {"num_prompts": num_prompts, "input_len": input_len, "output_len": output_len}
    _save(save_json, {**sizes, **figures})


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def startup(
    context: typer.Context,
    num_iters: Annotated[int, typer.Option(min=1, help="How many times to start it.")] = 3,
    save_json: _SaveJson = None,
) -> None:
    """Start `octavo serve` on a free port: seconds until ready and until a first token.

    Further arguments are given to `octavo serve`, such as a model.
    """
    with _explained(), tempfile.TemporaryDirectory() as folder:
        from ..bench import Distribution
        from ..bench.startup import free_port, measure_startup

        starts = []
        for number in range(num_iters):
            port = free_port()
            command = [sys.executable, "-m", "octavo", "serve", *context.args, "--port", str(port)]
            log_path = Path(folder, f"server-{number}.log")
            try:
                start = measure_startup(command, f"http://127.0.0.1:{port}", log_path=log_path)
            except Exception:
                sys.stderr.write(log_path.read_text(errors="replace"))
                raise
            starts.append(start)
        _print_distribution("Until ready", Distribution.of(s.ready_s for s in starts))
        _print_distribution(
            "Until the first token", Distribution.of(s.first_token_s for s in starts)
        )
        _save(
            save_json,
            {
                "arguments": context.args,
                "ready_s": [start.ready_s for start in starts],
                "first_token_s": [start.first_token_s for start in starts],
            },
        )


@contextmanager
def _explained() -> Iterator[None]:
    """Known errors become one line on standard error and exit code 1."""
    from ..bench import BenchError

    try:
        yield
    except BenchError as error:
        print(f"octavo: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def _workload(
    dataset: str,
    path: Path | None,
    *,
    lengths: tuple[int, int | None, float],
    prefixes: tuple[int, int],
    turns: int,
) -> "Workload":
    from ..bench import BenchError, MultiTurn, RandomPrompts, SharedPrefix, ShareGPT

    input_len, given_output_len, range_ratio = lengths
    output_len = given_output_len or 128
    if dataset == "random":
        return RandomPrompts(input_len, output_len, range_ratio)
    if dataset == "shared-prefix":
        return SharedPrefix(*prefixes, input_len, output_len, range_ratio)
    if dataset == "multi-turn":
        return MultiTurn(turns, input_len, output_len, range_ratio)
    if dataset != "sharegpt":
        raise BenchError(
            f"--dataset must be random, shared-prefix, multi-turn or sharegpt, not {dataset}"
        )
    if path is None:
        raise BenchError("--dataset sharegpt needs --dataset-path FILE")
    return ShareGPT.read(path, output_len=given_output_len)


def _shown(settings: dict[str, Any]) -> dict[str, Any]:
    """The options for the report: without secrets, files to write, and what was left unset."""
    hidden = ("api_key", "save_json", "save_markdown", "save_html")
    return {k: v for k, v in settings.items() if k not in hidden and v not in (None, "")}


def _quiet(settings: Settings) -> dict[str, Any]:
    """The settings that were given, with log lines below warnings off."""
    import logging

    from ..engine.logs import configure_logging

    configure_logging(settings.log_level, settings.log_format)
    logging.getLogger().setLevel(max(logging.WARNING, logging.getLogger().level))
    return settings.model_dump(exclude_unset=True)


def _print_distribution(name: str, found: "Distribution | None") -> None:
    assert found is not None
    print(f"{name} (s), {found.num} times")
    marks = [("mean", found.mean_ms), ("min", found.min_ms), ("max", found.max_ms)]
    marks += [(f"p{p}", found.percentiles_ms[p]) for p in (10, 25, 50, 75, 90, 99)]
    for mark, value in marks:
        print(f"  {mark:<6} {value / 1000:>9.3f}")


def _save(path: Path | None, content: dict[str, Any]) -> None:
    if path is not None:
        from ..bench.report import local_versions

        path.write_text(json.dumps({**content, "versions": local_versions()}, indent=1) + "\n")

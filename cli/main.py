"""The `octavo` command: serve, generate, pull, info, config, bench."""

import contextlib
import sys
from typing import Annotated, Literal

import typer

from ..engine.errors import OctavoError
from ..engine.settings import Settings
from .bench import app as bench_app
from .options import SERVER_ONLY, with_settings

app = typer.Typer(
    name="octavo",
    help="Octavo: a paged-KV LLM serving server with an OpenAI-compatible API.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(bench_app, name="bench")


def main() -> None:
    """Run the command; known errors become one line on standard error and exit code 1."""
    try:
        app()
    except (OctavoError, ValueError) as error:
        if not isinstance(error, OctavoError) and not _is_model_error(error):
            raise
        with contextlib.suppress(OSError):  # a disk that is full
            print(f"octavo: {error}", file=sys.stderr)
        sys.exit(1)


def _is_model_error(error: Exception) -> bool:
    from ..models.errors import ModelError

    return isinstance(error, ModelError)


def _version(value: bool) -> None:
    if value:
        from .. import __version__

        print(f"octavo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Octavo: a paged-KV LLM serving server with an OpenAI-compatible API."""


@app.command()
@with_settings()
def serve(
    settings: Settings,
    plan: Annotated[bool, typer.Option("--plan", help="Print the memory plan and exit.")] = False,
) -> None:
    """Serve a model over the OpenAI API (with no MODEL: the embedded SmolLM2-135M-Instruct)."""
    if plan:
        from .serve import print_plan

        print_plan(settings)
        return
    from ..engine.launch import EngineProcess
    from .signals import leave_at_signals

    leave_at_signals()  # or the engine's process and socket would outlive us
    process = EngineProcess()  # before anything else: it takes the longest
    try:
        from .serve import run_server

        code = run_server(settings, process)
    finally:
        process.discard()
    sys.exit(code)


@app.command()
@with_settings(leave_out=SERVER_ONLY | {"model"})
def generate(
    settings: Settings,
    prompt: Annotated[str, typer.Argument(help="What to answer or to continue.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="As in `serve`.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens to generate.")] = 256,
    temperature: Annotated[float, typer.Option(help="0: the most likely token, always.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text; do not apply the chat template.")
    ] = False,
) -> None:
    """Answer one prompt in the terminal, streaming."""
    from .generate import stream_answer

    if model is not None:
        settings = settings.model_copy(update={"model": model})
    stream_answer(
        settings, prompt, max_tokens=max_tokens, temperature=temperature, seed=seed, raw=raw
    )


@app.command()
@with_settings(leave_out=frozenset(Settings.model_fields) - {"model", "revision", "cache_dir"})
def pull(settings: Settings) -> None:
    """Fetch a model, so that serving it needs no network."""
    from ..models.resolve import resolve_model

    files = resolve_model(settings.model, settings.cache_dir, revision=settings.revision)
    print(files.path)


@app.command()
@with_settings()
def config(
    settings: Settings,
    output: Annotated[
        Literal["table", "yaml", "json"],
        typer.Option("--format", help="yaml is what --config reads."),
    ] = "table",
) -> None:
    """Print every setting as it is in force, and where its value came from."""
    from .config import print_config

    print_config(settings, output)


@app.command()
@with_settings(leave_out=SERVER_ONLY)
def info(settings: Settings) -> None:
    """Describe a model and the memory that serving it would take; loads no weights."""
    from .serve import print_info

    print_info(settings)

"""Command-line options made from `Settings`, so that names, help and defaults have one source."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from ..engine.setting_sources import CONFIG_VARIABLE
from ..engine.settings import Settings

SERVER_ONLY = frozenset(
    {
        "host",
        "port",
        "api_key",
        "admin_key",
        "generation_config",
        "trust_request_chat_template",
        "tool_call_parser",
        "reasoning_parser",
        "override_generation_config",
        "max_body_bytes",
        "body_timeout",
        "max_header_bytes",
        "header_timeout",
        "keep_alive_timeout",
        "write_timeout",
        "max_connections",
        "max_concurrent_requests_per_key",
        "rate_limit_per_key",
        "max_logprobs",
        "max_queued_requests",
        "max_queued_tokens",
        "queue_timeout",
        "request_timeout",
        "metrics_prefix",
        "ui",
        "metrics_by_key",
        "kv_cache_metrics",
        "kv_cache_metrics_sample",
        "otlp_traces_endpoint",
        "api_server_count",
        "drain_timeout",
        "engine_timeout",
        "api_key_file",
        "admin_key_file",
        "isolate_tenants",
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_ca_certs",
        "allowed_origins",
        "served_model_name",
    }
)

_CONFIG = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar=CONFIG_VARIABLE,
        help="YAML file with settings, beneath the environment.",
    ),
]


def with_settings(
    *, leave_out: frozenset[str] = frozenset()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command every setting as an option (`model` as its argument).

    The command receives the resulting `Settings` as its first argument. Options that were not given
    are left to the environment, the YAML file and the defaults, in that order.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        names = [name for name in Settings.model_fields if name not in leave_out]

        def run(config: Path | None = None, **values: Any) -> None:
            given = {name: values.pop(name) for name in names}
            overrides = {name: value for name, value in given.items() if _was_given(value)}
            command(Settings.load(overrides, config), **values)

        own = list(inspect.signature(command).parameters.values())[1:]
        keyword_only = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            inspect.Parameter(name, keyword_only, default=None, annotation=_option(name))
            for name in names
        ]
        parameters.append(
            inspect.Parameter("config", keyword_only, default=None, annotation=_CONFIG)
        )
        arguments = [parameter.replace(kind=keyword_only) for parameter in own]
        run.__signature__ = inspect.Signature(arguments + parameters)  # type: ignore[attr-defined]
        run.__doc__ = command.__doc__
        run.__name__ = command.__name__
        return run

    return decorate


def _was_given(value: object) -> bool:
    return value is not None and value != []


def _option(name: str) -> Any:
    field = Settings.model_fields[name]
    flag = "--" + name.replace("_", "-")
    shown = field.get_default(call_default_factory=True)
    text = field.description or ""
    if name == "model":
        return Annotated[str | None, typer.Argument(metavar="MODEL", help=text)]
    kind = field.annotation
    if kind is bool or bool in get_args(kind):
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
        return Annotated[bool | None, typer.Option(flag, help=_with_default(text, shown))]
    return Annotated[
        _optional(kind), typer.Option(flag, help=_with_default(text, shown), show_default=False)
    ]


def _with_default(text: str, default: object) -> str:
    return text if default is None or default == [] else f"{text} [default: {default}]"


def _optional(kind: Any) -> Any:
    """The type typer should parse: sizes and choices stay strings, validation is Settings' own."""
    members = [member for member in get_args(kind) if member is not type(None)]
    if get_origin(kind) is Annotated or kind is None:
        return str | None
    if get_origin(kind) is Literal:
        return Union[str, None]  # noqa: UP007 - typer reads it at run time
    if get_origin(kind) is list:
        return list[str] | None
    if members:
        return _optional(members[0])
    return kind | None

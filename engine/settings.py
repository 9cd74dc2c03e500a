"""Every setting of Octavo, in one model with one source of defaults.

Order of precedence: command line (passed to `Settings.load`), environment (`OCTAVO_…`), YAML file
(`--config`), the defaults here. Nothing else in Octavo reads the environment. Flags that exist in
vLLM with the same meaning bear vLLM's name.
"""

import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from .errors import ConfigurationError
from .secret_files import read_keys
from .setting_sources import (
    CONFIG_VARIABLE,
    PREFIX,
    explain,
    read_yaml,
    refuse_empty_keys,
    variable,
)
from .setting_types import ByteSize, JsonObject, Names


class Settings(BaseSettings):
    """All settings of the server and the engine. Raises ConfigurationError through `load`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="ignore",
        frozen=True,
        protected_namespaces=(),
        cli_parse_args=False,
    )

    # Model
    model: str | None = Field(
        None, description="Folder, .gguf file or Hugging Face name; unset: the embedded model."
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the Hugging Face hub.")
    served_model_name: Names = Field(
        default_factory=list, description="Name(s) in the API; the first one labels the metrics."
    )
    cache_dir: Path = Field(
        Path("~/.cache/octavo"), description="Where the embedded model is kept."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Type of weights, activations and KV cache; auto: best for the device, and "
        "on a CPU a GGUF file's weights stay packed. float32 is exact.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the model runs.")
    chat_template: Path | None = Field(
        None, description="File with a Jinja chat template, instead of the model's own."
    )

    trust_request_chat_template: bool = Field(
        False,
        description="Let requests bring a chat template of their own. It runs in a sandbox, in a "
        "process of its own with limits of time and memory.",
    )
    tool_call_parser: Literal[
        "auto", "none", "hermes", "llama3_json", "pythonic", "mistral", "mistral_named", "json"
    ] = Field("auto", description="How the model writes calls; auto: by its chat template.")
    reasoning_parser: Literal["auto", "none", "qwen3", "deepseek_r1", "mistral"] = Field(
        "auto", description="How the model marks its reasoning; auto: by its chat template."
    )
    generation_config: str = Field(
        "auto",
        description="Where requests' sampling defaults come from: auto (the model's "
        "generation_config.json), none, or a file or folder.",
    )
    override_generation_config: JsonObject = Field(
        None, description='Sampling defaults as JSON, like {"temperature": 0.6}.'
    )

    # Server
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    api_key: Names = Field(
        default_factory=list, description="Key(s) that clients must send as Bearer token."
    )
    api_key_file: Path | None = Field(
        None, description="File with such keys, one a line (a mounted secret)."
    )
    admin_key: Names = Field(
        default_factory=list,
        description="Key(s) for /server_info, /reset_prefix_cache and /abort_requests, which are "
        "closed without one.",
    )
    admin_key_file: Path | None = Field(None, description="File with such keys, one a line.")
    isolate_tenants: bool = Field(
        False,
        description="Share KV blocks among requests of the same API key only, so that answering "
        "times tell no client what another one asked.",
    )
    ssl_certfile: Path | None = Field(
        None, description="Certificate (PEM, with its chain) to serve HTTPS with."
    )
    ssl_keyfile: Path | None = Field(
        None, description="Its private key (PEM, without a passphrase), if not in the same file."
    )
    ssl_ca_certs: Path | None = Field(
        None,
        description="Certificates (PEM) of which one must have signed each client's own; without "
        "it clients need none.",
    )
    allowed_origins: Names = Field(
        default_factory=list,
        description="Origins whose pages may read answers in a browser (CORS), like "
        "https://chat.example.org, or * for all; none unless given.",
    )
    max_body_bytes: ByteSize = Field(
        8 * 1024**2, ge=1024, description="Largest request body; beyond it 413."
    )
    body_timeout: float = Field(
        30.0,
        gt=0.0,
        allow_inf_nan=False,
        description="Seconds that a request's body may take to arrive, and one more for each "
        "64 KiB of it; beyond it 408.",
    )
    max_header_bytes: ByteSize = Field(
        64 * 1024, ge=1024, description="Largest head of a request; beyond it 431."
    )
    header_timeout: float = Field(
        10.0,
        gt=0.0,
        allow_inf_nan=False,
        description="Seconds that a request's head may take to arrive on a new connection, or "
        "from its first byte on a used one; beyond it 408. A TLS handshake may take as long.",
    )
    keep_alive_timeout: float = Field(
        75.0,
        gt=0.0,
        allow_inf_nan=False,
        description="Seconds that a connection may wait for its next request; then it is closed.",
    )
    write_timeout: float = Field(
        60.0,
        gt=0.0,
        allow_inf_nan=False,
        description="Seconds that a client may leave what is ready for it unread; then its "
        "connection is closed and its request cancelled.",
    )
    max_connections: int = Field(
        4096, ge=1, description="Open connections; what comes over further ones gets 503."
    )
    max_concurrent_requests_per_key: int | None = Field(
        None, ge=1, description="Requests that one API key may have open; beyond it 429."
    )
    rate_limit_per_key: int | None = Field(
        None,
        ge=1,
        description="Requests a minute for each API key, as many of them in a burst; beyond it "
        "429.",
    )
    max_logprobs: int = Field(
        20, ge=-1, description="Most log-probabilities a token that requests may ask for; -1: all."
    )
    max_queued_requests: int = Field(
        1024, ge=0, description="Choices that may wait beyond the running ones; beyond it 503."
    )
    max_queued_tokens: int = Field(
        0, ge=0, description="Prompt tokens that may wait for their first step; 0: no limit."
    )
    queue_timeout: float = Field(
        0.0,
        ge=0.0,
        allow_inf_nan=False,
        description="Seconds that a choice may wait for its first step, then 503 (in a stream: an "
        "event that says so); 0: no limit.",
    )
    request_timeout: float = Field(
        0.0,
        ge=0.0,
        allow_inf_nan=False,
        description="Seconds that a request may take in all; X-Request-Timeout may ask for less. "
        "What there is then is the answer, with `finish_reason` abort; 0: no limit.",
    )
    engine_timeout: float = Field(
        60.0,
        gt=0.0,
        allow_inf_nan=False,
        description="Seconds that open work may wait for a step to end; then another engine "
        "takes over. One of several front ends that is silent for so long is replaced too.",
    )
    api_server_count: int = Field(
        1,
        ge=1,
        le=64,
        description="Front ends, each a process with its own HTTP server and tokenizer, that share "
        "the engine; limits on requests hold for each of them.",
    )
    drain_timeout: float = Field(
        30.0,
        ge=0.0,
        allow_inf_nan=False,
        description="Seconds that running requests get to end after SIGTERM or SIGINT; then they "
        "are cut short.",
    )
    ui: bool = Field(True, description="Serve the chat page at / and the dashboard at /dashboard.")
    metrics_prefix: str = Field(
        "octavo_", description="Prefix of metric names; `vllm:` fits vLLM's dashboards."
    )
    metrics_by_key: bool = Field(
        False, description="Count requests and tokens by API key (by the beginning of its hash)."
    )
    kv_cache_metrics: bool = Field(
        False, description="Measure how long KV blocks live, idle and wait for reuse."
    )
    kv_cache_metrics_sample: float = Field(
        0.01, gt=0.0, le=1.0, description="Share of KV blocks that --kv-cache-metrics follows."
    )
    otlp_traces_endpoint: str | None = Field(
        None,
        description="Send traces to this OpenTelemetry collector, like "
        "http://localhost:4318/v1/traces (extra `otel`).",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Log level."
    )
    log_format: Literal["text", "json"] = Field("text", description="Log lines as text or JSON.")

    # Memory
    max_model_len: int | None = Field(
        None, ge=1, description="Longest context in tokens; unset: the model's, or what fits."
    )
    block_size: int = Field(16, ge=1, le=1024, description="Tokens in a KV block.")
    gpu_memory_utilization: float | None = Field(
        None,
        gt=0.0,
        le=1.0,
        description="Share of free memory to use; unset: 0.9 (but on a CPU at most 4 GiB of KV).",
    )
    kv_cache_memory: ByteSize | None = Field(
        None, ge=1, description="Bytes for the KV cache, like 2GiB, instead of a share of memory."
    )
    kv_cache_dtype: Literal["auto", "float32", "bfloat16", "fp8"] = Field(
        "auto",
        description="Type of the KV cache; auto: --dtype (bfloat16 on a CPU beside packed "
        "weights); fp8 on CUDA only.",
    )
    num_blocks: int | None = Field(
        None, ge=2, description="Number of KV blocks, instead of a size; one is kept as padding."
    )
    enable_prefix_caching: bool = Field(
        True, description="Reuse the KV of equal prompt beginnings."
    )

    # Scheduling
    max_num_seqs: int | None = Field(
        None, ge=1, description="Sequences that run at once; unset: 256 on CUDA, 64 on CPU."
    )
    max_num_batched_tokens: int | None = Field(
        None, ge=1, description="Tokens computed in a step; unset: 2048 on CUDA, 512 on CPU."
    )
    long_prefill_token_threshold: int | None = Field(
        None,
        ge=0,
        description="Most prompt tokens of one request in a step while others wait; 0: no cap; "
        "unset: half of --max-num-batched-tokens.",
    )
    scheduling_policy: Literal["fcfs", "priority"] = Field(
        "fcfs", description="Who is admitted first: first come, or lowest `priority` value."
    )
    async_scheduling: bool | None = Field(
        None,
        description="Schedule a step while the one before runs; unset: on CUDA.",
    )
    deterministic: bool = Field(
        False,
        description="On CUDA, make results bit-for-bit independent of what else runs; slower.",
    )
    enforce_eager: bool = Field(
        False, description="On CUDA, launch every kernel by itself instead of by graphs."
    )
    num_threads: int | None = Field(
        None, ge=1, description="CPU threads of the engine; unset: the cores it may use."
    )

    @field_validator("metrics_prefix")
    @classmethod
    def _prefix_is_a_metric_name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", value):
            raise ValueError(f"{value!r} cannot begin a Prometheus metric name")
        return value

    @field_validator("otlp_traces_endpoint")
    @classmethod
    def _endpoint_holds_no_password(cls, value: str | None) -> str | None:
        if value is not None and "@" in value:
            raise ValueError(
                "an address without user and password is wanted; OTEL_EXPORTER_OTLP_HEADERS in the "
                "environment takes credentials"
            )
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins_are_what_browsers_send(cls, value: list[str]) -> list[str]:
        for origin in value:
            if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+", origin):
                raise ValueError(
                    f"{origin!r} is no origin: write scheme://host or scheme://host:port without "
                    "a path, or *"
                )
        return value

    @model_validator(mode="after")
    def _parts_come_with_what_they_need(self) -> "Settings":
        if self.isolate_tenants and not self.api_key and self.api_key_file is None:
            raise ValueError("--isolate-tenants tells tenants by their keys: give --api-key-file")
        if self.ssl_certfile is None and (self.ssl_keyfile or self.ssl_ca_certs):
            raise ValueError("--ssl-keyfile and --ssl-ca-certs need --ssl-certfile")
        return self

    @field_validator("cache_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser()

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What `load` has put together, and nothing besides."""
        return (init_settings,)

    @classmethod
    def load(cls, overrides: dict[str, Any], config_file: Path | None = None) -> "Settings":
        """Settings from the command line's `overrides`, the environment and a YAML file.

        Keys from files join those given directly. Raises ConfigurationError that names the flag,
        the value and the rule it breaks.
        """
        document = {} if config_file is None else read_yaml(config_file, cls.model_fields)
        # A blank variable is what templates make of an unset one.
        given = EnvSettingsSource(cls, env_ignore_empty=True)()
        refuse_empty_keys(document, overrides)
        try:
            settings = cls(**{**document, **given, **overrides})
        except ValidationError as error:
            raise ConfigurationError(explain(error, overrides)) from None
        settings._sources = {
            **dict.fromkeys(document, f"file {config_file}"),
            **{name: f"environment {variable(name)}" for name in given},
            **dict.fromkeys(overrides, "command line"),
        }
        return settings

    def source_of(self, name: str) -> str:
        """Where a setting's value came from: command line, environment, file or default."""
        return self._sources.get(name, "default")

    @property
    def has_secret_files(self) -> bool:
        """Whether there are files that SIGHUP has read again."""
        return any((self.api_key_file, self.admin_key_file, self.ssl_certfile))

    def all_api_keys(self) -> list[str]:
        """The keys of clients, those in --api-key-file included. Raises ConfigurationError."""
        return [*self.api_key, *read_keys(self.api_key_file, "--api-key-file")]

    def all_admin_keys(self) -> list[str]:
        """The operators' keys, those in --admin-key-file included. Raises ConfigurationError."""
        return [*self.admin_key, *read_keys(self.admin_key_file, "--admin-key-file")]


def unknown_variables() -> list[str]:
    """Variables of the environment that begin as ours do and set nothing: misspelt, mostly."""
    known = {variable(name) for name in Settings.model_fields} | {CONFIG_VARIABLE}
    return sorted(
        name for name in os.environ if name.startswith(PREFIX) and name.upper() not in known
    )

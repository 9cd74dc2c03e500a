"""Sampling defaults of the served model: what a request that leaves a parameter unset gets."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import BadRequestError, ConfigurationError
from .sampling_params import SamplingParams

logger = logging.getLogger(__name__)

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True)
class GenerationDefaults:
    """`sampling` by parameter name; `max_new_tokens` also bounds what requests may ask for."""

    sampling: Mapping[str, float] = field(default_factory=dict)
    max_new_tokens: int | None = None

    @classmethod
    def choose(
        cls, source: str, of_model: Mapping[str, Any], overrides: Mapping[str, Any] | None
    ) -> "GenerationDefaults":
        """Those of the model's generation_config.json (`auto`), of another such file, or `none`.

        `overrides` replace single values of it. A value that no request may have is left out with
        a warning. Raises ConfigurationError for a file that cannot be read.
        """
        values: Mapping[str, Any] = {}
        if source == "auto":
            values = of_model
        elif source != "none":
            values = _read(Path(source))
        return cls._of({**values, **(overrides or {})})

    @classmethod
    def _of(cls, values: Mapping[str, Any]) -> "GenerationDefaults":
        sampling = {}
        for name in _SAMPLING:
            value = values.get(name)
            if value is not None and _is_valid(name, value):
                sampling[name] = value
        longest = values.get("max_new_tokens")
        if longest is not None and not _is_valid("max_tokens", longest):
            longest = None
        return cls(sampling, longest)

    def describe(self) -> str:
        """One line for the log."""
        shown = dict(self.sampling)
        if self.max_new_tokens is not None:
            shown["max_new_tokens"] = self.max_new_tokens
        return ", ".join(f"{name} {value}" for name, value in shown.items()) or "none"


NO_DEFAULTS = GenerationDefaults()


def _read(path: Path) -> dict[str, Any]:
    file = path / "generation_config.json" if path.is_dir() else path
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--generation-config {path}: {error}") from None
    if not isinstance(values, dict):
        raise ConfigurationError(f"--generation-config {path}: {file} is not a JSON object")
    return values


def _is_valid(name: str, value: object) -> bool:
    """Whether a request might have this value; if not, the log says so."""
    is_whole = name in ("top_k", "max_tokens")
    try:
        if isinstance(value, bool) or not isinstance(value, int if is_whole else int | float):
            raise BadRequestError(f"{name} must be a number, got {value!r}.")
        arguments: dict[str, Any] = {name: value}
        SamplingParams(**arguments)
    except BadRequestError as error:
        logger.warning("the model's generation defaults: ignored: %s", error.message)
        return False
    return True

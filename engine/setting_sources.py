"""Where settings come from besides the command line: the environment and a YAML file."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .errors import ConfigurationError
from .setting_types import split_commas

PREFIX = "OCTAVO_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
SECRETS = frozenset({"api_key", "admin_key"})


def refuse_empty_keys(document: dict[str, Any], overrides: dict[str, Any]) -> None:
    """Raise ConfigurationError: a server that was meant to be locked must not come up open."""
    blank = {name.upper() for name, value in os.environ.items() if not value.strip(" ,")}
    for name in SECRETS:
        given = {**document, **overrides}.get(name)
        if variable(name) in blank or (given is not None and not split_commas(given)):
            raise ConfigurationError(
                f"--{name.replace('_', '-')} is given, but holds no key; leave it out "
                f"({variable(name)} in the environment too) to serve without"
            )


def variable(name: str) -> str:
    """The environment's name of a setting."""
    return PREFIX + name.upper()


def read_yaml(path: Path, known: Collection[str]) -> dict[str, Any]:
    """The settings of a file. Raises ConfigurationError, also for a name that is not known."""
    from yaml import MarkedYAMLError, YAMLError, safe_load

    try:
        document = safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigurationError(f"--config {path}: no such file") from None
    except OSError as error:
        raise ConfigurationError(f"--config {path}: {error.strerror or error}") from None
    except MarkedYAMLError as error:  # whose text would quote a line, perhaps one with a key
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise ConfigurationError(f"--config {path}: not YAML: {line}{error.problem}") from None
    except (YAMLError, ValueError):
        raise ConfigurationError(f"--config {path}: not YAML in UTF-8") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigurationError(f"--config {path}: not a YAML mapping of settings")
    document = {str(name).replace("-", "_"): value for name, value in document.items()}
    unknown = sorted(name for name in document if name not in known)
    if unknown:
        raise ConfigurationError(f"--config {path}: unknown setting(s) {', '.join(unknown)}")
    return document


def explain(error: ValidationError, overrides: dict[str, Any]) -> str:
    """A line for each problem: the flag, the rule, the value and its source."""
    lines = []
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:  # a rule about several settings, which names them
            lines.append(message)
            continue
        name = str(problem["loc"][0])
        flag = name if name == "model" else "--" + name.replace("_", "-")
        is_secret = name in SECRETS or name == "otlp_traces_endpoint"
        shown = "a secret" if is_secret else repr(problem["input"])
        from_environment, hint = os.environ.get(variable(name)), ""
        if name not in overrides and from_environment is not None:
            shown += f" from the environment variable {variable(name)}"
            if from_environment.startswith("tcp://"):
                hint = (
                    "; Kubernetes sets it for a Service named octavo: set enableServiceLinks: "
                    "false, or give the flag"
                )
        lines.append(f"{flag}: {message} (got {shown}){hint}")
    return "\n".join(lines)

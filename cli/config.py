"""`octavo config`: every setting as it is in force, and where its value came from."""

import json
import sys
from typing import Any

from ..engine.setting_sources import SECRETS
from ..engine.settings import Settings


def print_config(settings: Settings, output: str) -> None:
    """Print all settings on standard output, as a table, as YAML for `--config`, or as JSON.

    Keys are never printed: of a YAML file made here they are left out, with a warning. Raises
    ConfigurationError if a file of keys cannot be read.
    """
    settings.all_api_keys()  # a file that cannot be read is an error here as in `serve`
    settings.all_admin_keys()
    values = settings.model_dump(mode="json")
    if output == "json":
        rows = {
            name: {"value": _masked(name, value), "source": settings.source_of(name)}
            for name, value in values.items()
        }
        print(json.dumps(rows, indent=2))
    elif output == "yaml":
        _print_yaml(values)
    else:
        _print_table(settings, values)


def _print_table(settings: Settings, values: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("setting", "value", "from", box=None, header_style="bold")
    for name, value in values.items():
        source = settings.source_of(name)
        style = "dim" if source == "default" else None
        table.add_row(name, _text(_masked(name, value)), source, style=style)
    # Redirected, a table keeps its lines whole; a terminal folds them.
    Console(width=None if sys.stdout.isatty() else 200, soft_wrap=False).print(table)


def _print_yaml(values: dict[str, Any]) -> None:
    import yaml

    for name in SECRETS:
        if keys := values.pop(name):
            print(f"# {name}: {len(keys)} key(s), not shown")
            print(f"octavo: {name} is left out; use {name}_file to keep it", file=sys.stderr)
    known = {name: value for name, value in values.items() if value is not None}
    print(yaml.safe_dump(known, sort_keys=False, allow_unicode=True), end="")


def _masked(name: str, value: Any) -> Any:
    return f"{len(value)} key(s)" if name in SECRETS and value else value


def _text(value: Any) -> str:
    if value is None or value == []:
        return "unset"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | bool) else str(value)

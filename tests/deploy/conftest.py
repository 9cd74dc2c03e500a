"""The committed dashboards, and PromQL as Grafana would send it."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
_SPECIAL = re.compile(r"([\\^$*+?.()|\[\]{}])")


@dataclass(frozen=True)
class DashboardFile:
    """One dashboard's JSON."""

    name: str
    content: dict[str, Any]

    def panels(self) -> list[dict[str, Any]]:
        """The panels, without the rows' headings."""
        return [panel for panel in self.content["panels"] if panel["type"] != "row"]

    def expressions(self) -> Iterator[tuple[str, str]]:
        """Each PromQL expression with the title of its panel."""
        for panel in self.panels():
            for target in panel["targets"]:
                yield panel["title"], target["expr"]

    def variable(self, name: str) -> dict[str, Any]:
        """The templating variable with this name."""
        [found] = [v for v in self.content["templating"]["list"] if v["name"] == name]
        return found


@pytest.fixture(scope="session")
def deploy() -> Path:
    """The folder that this one tests."""
    return DEPLOY


@pytest.fixture(scope="session")
def dashboards() -> list[DashboardFile]:
    """The dashboards as they are committed."""
    paths = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
    return [DashboardFile(path.stem, json.loads(path.read_text())) for path in paths]


@pytest.fixture(scope="session")
def alerts() -> list[dict[str, Any]]:
    """The committed alert rules."""
    rules = []
    for path in sorted((DEPLOY / "prometheus" / "rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            rules.extend(group["rules"])
    return rules


@pytest.fixture(scope="session")
def interpolate() -> Callable[[str, Mapping[str, Sequence[str]], str], str]:
    """Put variables into an expression as Grafana's Prometheus data source does.

    A value is escaped for a regular expression inside a string; several become `(a|b)`.
    """

    def put(expression: str, variables: Mapping[str, Sequence[str]], rate_interval: str) -> str:
        expression = expression.replace("$__rate_interval", rate_interval)
        for name, values in variables.items():
            escaped = [_SPECIAL.sub(r"\\\\\1", value) for value in values]
            text = escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
            expression = expression.replace(f"${name}", text)
        assert "$" not in expression, f"not all variables are known: {expression}"
        return expression

    return put

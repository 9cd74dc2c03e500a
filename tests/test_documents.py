"""Documents: what they link to is there, and what they name exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from octavo.engine.settings import Settings
from octavo.server.metric_catalog import CATALOG

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
ROOMS = ("cli", "server", "engine", "scheduler", "models", "paged_cache", "kernels")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum", "")}
COMMAND_OPTIONS = {"help", "version", "config", "plan", "format"}


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _anchors(document: Path) -> set[str]:
    """The names that headings of a page get, as forges and the site make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {text.strip().replace(" ", "-") for text in kept}


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_relative_links_lead_to_files(document: Path) -> None:
    targets = [match.group(1) for match in LINK.finditer(document.read_text())]
    ours = [target for target in targets if "://" not in target]
    missing = [target for target in ours if not (document.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_anchors_are_headings(document: Path) -> None:
    missing = []
    for target, anchor in LINK.findall(document.read_text()):
        page = (document.parent / target) if target else document
        is_ours = anchor and "://" not in target and page.suffix == ".md"
        if is_ours and anchor not in _anchors(page):
            missing.append(f"{target}#{anchor}")
    assert not missing


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    (navigation,) = re.findall(r"^nav:\n.*", text, re.MULTILINE | re.DOTALL)
    sections = yaml.safe_load(navigation)["nav"]
    named = {page for section in sections for entry in section.values() for page in _pages(entry)}
    decisions = {path.relative_to(DOCS).as_posix() for path in DOCS.glob("adr/*.md")}
    ours = {path.relative_to(DOCS).as_posix() for path in DOCS.glob("**/*.md")}
    assert ours - decisions <= named  # docs/site_hooks.py puts the decisions there


def _pages(entry: str | list[str]) -> list[str]:
    return [entry] if isinstance(entry, str) else entry


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_flags_of_serve_and_config_exist(document: Path) -> None:
    known = {name.replace("_", "-") for name in Settings.model_fields}
    text = document.read_text().replace("\\\n", " ")
    given = {
        flag
        for command in re.findall(r"octavo(?::cpu|:cuda)? (?:serve|config)\b([^`#\n]*)", text)
        for flag in re.findall(r"--([a-z][a-z-]*)", command)
    }
    without_no = {re.sub("^no-", "", flag) for flag in given}
    assert without_no - known - COMMAND_OPTIONS == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_metrics_exist(document: Path) -> None:
    exported = {
        f"octavo_{metric.name}{suffix}" for metric in CATALOG for suffix in SUFFIXES[metric.kind]
    }
    exported |= {f"octavo_{metric.name}" for metric in CATALOG}  # in prose, without suffix
    words = set(re.findall(r"(?<![\w/.-])octavo_[a-z_]*[a-z]\b", document.read_text()))
    assert words - exported == set()


def test_each_alert_has_its_section() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules/octavo-alerts.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    headings = re.findall(r"^### (Octavo\w+)$", (DOCS / "monitoring.md").read_text(), re.MULTILINE)
    assert alerts == set(headings)


def test_messages_in_troubleshooting_are_printed_by_the_code() -> None:
    printed = "\n".join(_texts_of_code())
    page = (DOCS / "troubleshooting.md").read_text()
    messages = [span for span in re.findall(r"`([^`]+)`", page) if "…" in span]
    pieces = [piece.strip(" .:;()") for message in messages for piece in message.split("…")]
    unknown = [piece for piece in pieces if len(piece) >= 8 and piece not in printed]
    assert len(pieces) > 50
    assert not unknown


def _texts_of_code() -> Iterator[str]:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.JoinedStr(values=values):
                        parts = [part.value for part in values if isinstance(part, ast.Constant)]
                        yield "…".join(str(part) for part in parts)
                    case ast.Constant(value=str(text)):
                        yield re.sub(r"%[-.0-9]*[sdrfg]", "…", text)

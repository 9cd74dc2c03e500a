"""The site's hooks for MkDocs: what differs between these pages in a repository and on a site.

In the repository a page may link to any file, and the documents at its root are beside `docs/`. On
the site the latter become pages of it (`BROUGHT`), and a link to any other file leads to the
repository if `extra.source_url` says where that is published; else its text alone remains. A link
to a file that does not exist is a warning, so `mkdocs build --strict` fails.
"""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

logger = logging.getLogger("mkdocs.hooks.site_hooks")

BROUGHT = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/gpu/README.md": "benchmarks-gpu.md",
}
DECISIONS = "adr"
MERMAID = "assets/mermaid.min.js"
_LINK = re.compile(r"(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
_FENCE = re.compile(r"(^(?:```|~~~).*?^(?:```|~~~)[ \t]*$)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the navigation's list of decisions, and take Mermaid from here if it is here."""
    pages = [f"{DECISIONS}/{path.name}" for path in _decisions(config)]
    for section in config.nav or []:
        if isinstance(section, dict) and "Decisions" in section:
            section["Decisions"] = [f"{DECISIONS}/index.md", *pages]
    if config.extra.get("mermaid_js"):
        config.extra_javascript.append(MERMAID)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages whose files lie outside of `docs/`, and the list of decisions."""
    for source, page in BROUGHT.items():
        files.append(File.generated(config, page, abs_src_path=str(_root(config) / source)))
    lines = [f"- [{_title(path)}]({path.name})" for path in _decisions(config)]
    content = "# Decisions\n\nWhat someone may want to undo, and why it is so.\n\n"
    index = f"{DECISIONS}/index.md"
    files.append(File.generated(config, index, content=content + "\n".join(lines) + "\n"))
    mermaid = config.extra.get("mermaid_js")
    if mermaid:
        files.append(File.generated(config, MERMAID, abs_src_path=str(Path(mermaid).resolve())))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links that hold in the repository into links that hold on the site."""
    pieces = _FENCE.split(markdown)  # every second piece is a fenced block

    def rewrite(match: "re.Match[str]") -> str:
        return _rewrite(match, page.file.src_uri, config)

    pieces[::2] = [_LINK.sub(rewrite, piece) for piece in pieces[::2]]
    return "".join(pieces)


def _rewrite(match: "re.Match[str]", page: str, config: MkDocsConfig) -> str:
    target = match["target"]
    if ":" in target or target.startswith("/"):
        return match[0]
    source = next((source for source, brought in BROUGHT.items() if brought == page), None)
    here = posixpath.dirname(f"docs/{page}" if source is None else source)
    wanted = posixpath.normpath(posixpath.join(here, target))
    if not (_root(config) / wanted).exists():
        logger.warning("%s: no such file: %s", source or page, target)
        return match[0]
    mark, text, anchor = match["mark"], match["text"], match["anchor"] or ""
    site = _on_site(wanted, config)
    if site is not None:
        return f"{mark}[{text}]({posixpath.relpath(site, posixpath.dirname(page) or '.')}{anchor})"
    base: Any = config.extra.get("source_url")
    return f"[{text}]({base}/{wanted})" if base else text


def _on_site(path: str, config: MkDocsConfig) -> str | None:
    """Where a path of the repository is on the site, None if it is not."""
    if path in BROUGHT:
        return BROUGHT[path]
    if not path.startswith("docs/"):
        return None
    inside = path.removeprefix("docs/")
    return f"{inside}/index.md" if (_root(config) / path).is_dir() else inside


def _root(config: MkDocsConfig) -> Path:
    return Path(config.docs_dir).parent


def _decisions(config: MkDocsConfig) -> list[Path]:
    return sorted(Path(config.docs_dir, DECISIONS).glob("[0-9]*.md"))


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")

"""This machine's settings of pip, handed to the build as secrets and mounted folders.

So a build works behind a proxy or on a private index as the machine itself does, and nothing of it
is in the image or the repository.
"""

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# What decides where packages come from. Other settings, such as constraints, are for other work:
# the lock files leave nothing open.
_HANDED_ON = frozenset({"index-url", "extra-index-url", "find-links", "trusted-host", "proxy"})
_CERTIFICATES = "/run/secrets/ca_certificates"


@dataclass(frozen=True)
class PackageIndex:
    """Options and arguments that a build needs to find packages here."""

    build_options: tuple[str, ...]
    build_arguments: dict[str, str]


def package_index(scratch: Path) -> PackageIndex:
    """Read pip's settings; `scratch` keeps the file that becomes the secret.

    An index in a folder (file://) is left out, since its pages point to files anywhere: what the
    lock files name is on the index proper too.
    """
    found = _settings()
    lines, options = ["[global]"], []
    for name in sorted(found.keys() & _HANDED_ON):
        values = [value for value in found[name].split() if not value.startswith("file:")]
        if values:
            lines.append(f"{name} = {' '.join(values)}")
    if "cert" in found:
        lines.append(f"cert = {_CERTIFICATES}")
        options += ["--secret", f"id=ca_certificates,src={found['cert']}"]
    config = scratch / "pip.conf"
    config.write_text("\n".join(lines) + "\n")
    options += ["--secret", f"id=pip_conf,src={config}"]
    folders = [Path(link) for link in found.get("find-links", "").split() if Path(link).is_dir()]
    for folder in folders:
        options += ["--volume", f"{folder}:{folder}:ro"]
    # A folder with torch's CPU wheel replaces its index, which may be out of reach.
    has_torch = any(any(folder.glob("torch-*+cpu-*.whl")) for folder in folders)
    arguments = {"TORCH_INDEX_URL": ""} if has_torch else {}
    return PackageIndex(tuple(options), arguments)


def _settings() -> dict[str, str]:
    """pip's settings by name; those of the environment come last in pip's list and win."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    settings = {}
    for line in sorted(listed.splitlines(), key=lambda one: one.startswith(":env:")):
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    return settings

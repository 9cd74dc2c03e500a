"""Writes what an image holds as a CycloneDX 1.6 document to standard output.

Runs inside the image, on its Python alone: the distributions of the environment it runs in, the
packages of Debian, the interpreter, and the embedded model if it is there. The same image gives the
same document: it holds no time and no random serial number.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

Component = dict[str, Any]


def python_component(distribution: Distribution) -> Component:
    """One distribution of the environment, with its SPDX licence where its metadata name one."""
    name, version = distribution.metadata["Name"], distribution.version
    normal = name.lower().replace("_", "-").replace(".", "-")
    component = _component("library", name, version, f"pkg:pypi/{normal}@{quote(version, safe='')}")
    if "License-Expression" in distribution.metadata:
        component["licenses"] = [{"expression": distribution.metadata["License-Expression"]}]
    return component


def debian_components() -> list[Component]:
    """Every installed package of Debian."""
    fields = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n"
    listed = subprocess.run(
        ["dpkg-query", "--show", f"--showformat={fields}"],
        check=True,
        capture_output=True,
        text=True,
    )
    release = platform.freedesktop_os_release().get("VERSION_ID", "")
    components = []
    for line in listed.stdout.splitlines():
        status, name, version, architecture = line.split("\t")
        if status == "installed":
            purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={architecture}"
            components.append(
                _component("library", name, version, f"{purl}&distro=debian-{release}")
            )
    return components


def interpreter_component() -> Component:
    """The Python that serves; the official images compile it themselves, so dpkg lacks it."""
    version = platform.python_version()
    return _component("platform", "python", version, f"pkg:generic/python@{version}")


def model_components(folder: Path) -> list[Component]:
    """Each model file in the image, by its SHA-256."""
    components = []
    for path in sorted(folder.rglob("*.gguf")):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        component = _component("machine-learning-model", path.stem, digest[:12], None)
        component["hashes"] = [{"alg": "SHA-256", "content": digest}]
        components.append(component)
    return components


def document(components: list[Component], version: str) -> dict[str, Any]:
    """The CycloneDX document of an image of this version of Octavo."""
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": "octavo",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": components,
    }


def _component(kind: str, name: str, version: str, purl: str | None) -> Component:
    component: Component = {
        "type": kind,
        "bom-ref": purl or f"{kind}/{name}@{version}",
        "name": name,
        "version": version,
    }
    if purl is not None:
        component["purl"] = purl
    return component


def main() -> None:
    """List this image."""
    installed = sorted(distributions(), key=lambda one: one.metadata["Name"].lower())
    versions = {one.metadata["Name"]: one.version for one in installed}
    components = [interpreter_component()]
    components += [python_component(one) for one in installed]
    components += debian_components()
    components += model_components(Path(os.environ["OCTAVO_CACHE_DIR"]))
    json.dump(document(components, versions["octavo"]), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()

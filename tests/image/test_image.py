"""What the built image is: its size, its metadata, what is in it."""

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import LABELS, Build
from .containers import Store

pytestmark = pytest.mark.image

MIB = 1024**2
MAX_MIB = 1.2 * 1024
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def test_image_takes_at_most_1200_mib(
    store: Store, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    size_mib = store.inspect("image", image)["Size"] / MIB
    history = store.podman("history", "--human=false", "--no-trunc", "--format=json", image)
    layers = [layer for layer in json.loads(history.stdout) if layer["size"] > 0]
    with capsys.disabled():
        print(f"\n{image}: {size_mib:.0f} MiB")
        for layer in layers:
            # `CMD [...]` of the shell that buildah writes before each instruction says nothing.
            created_by = " ".join(layer["CreatedBy"].removeprefix("/bin/sh -c #(nop) ").split())
            print(f"  {layer['size'] / MIB:6.1f} MiB  {created_by[:80]}")
    assert size_mib <= MAX_MIB


def test_image_tells_what_it_is_and_how_it_is_run(store: Store, image: str) -> None:
    config: dict[str, Any] = store.inspect("image", image)["Config"]
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in config["Labels"].items()
    }
    assert labels["title"] == "Octavo"
    assert labels["licenses"] == "Apache-2.0"
    assert {name: labels[name.lower()] for name in LABELS} == LABELS
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["tini", "--", "octavo"]
    assert config["Cmd"] == ["serve"]
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert list(config["ExposedPorts"]) == ["8000/tcp"]
    environment = dict(line.split("=", 1) for line in config["Env"])
    assert environment["OCTAVO_HOST"] == "0.0.0.0"
    assert not [name for name in environment if name.startswith("PIP_")]


def test_embedded_model_needs_no_network(store: Store, image: str) -> None:
    finished = store.run_once(image, "pull")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip().startswith("/usr/share/octavo/models/")
    assert "fetching" not in finished.stderr


def test_nothing_of_the_build_is_left(store: Store, image: str) -> None:
    script = (
        "cat /etc/pip.conf /run/secrets/ca_certificates 2>/dev/null; "
        "command -v gcc; python3 -m pip --version 2>/dev/null; ls -A /var/lib/apt/lists; true"
    )
    finished = store.podman(
        *("run", "--rm", "--network=none", "--ulimit", "nofile=4096:4096"),
        *("--ulimit", "nproc=4096:4096", "--entrypoint", "sh", image, "-c", script),
    )
    assert finished.stdout == ""


def test_bill_of_materials_lists_python_debian_and_the_model(build: Build, tmp_path: Path) -> None:
    build("sbom", "--output", f"type=local,dest={tmp_path}")
    document = json.loads((tmp_path / "sbom.cdx.json").read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    components = {component["name"]: component for component in document["components"]}
    assert components["torch"]["purl"] == "pkg:pypi/torch@2.13.0%2Bcpu"
    assert components["tini"]["purl"].startswith("pkg:deb/debian/tini@")
    assert components["python"]["version"].startswith("3.11.")
    assert "octavo" in components
    [digest] = components["SmolLM2-135M-Instruct.Q4_1"]["hashes"]
    assert digest == {"alg": "SHA-256", "content": MODEL_SHA256}
    references = [component["bom-ref"] for component in document["components"]]
    assert len(references) == len(set(references))

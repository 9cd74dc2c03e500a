"""The scrape configurations of docs/monitoring.md, and what Kubernetes' pods become through one.

Debian's Prometheus is built without the discovery of Kubernetes. So the pods are given to it as a
static list with the labels that the discovery would put on them; the relabelling is Prometheus'.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

META = "__meta_kubernetes_"

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian package prometheus) is missing"
)


def promtool(*arguments: object) -> str:
    """What promtool prints on standard output; it must exit with 0."""
    command = ["promtool", *(str(argument) for argument in arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture
def jobs(deploy: Path) -> list[dict[str, Any]]:
    """The page's scrape jobs: by address, and in Kubernetes."""
    page = (deploy.parent / "docs/monitoring.md").read_text()
    blocks = [
        yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    ]
    return [job for block in blocks for job in block.get("scrape_configs", ())]


@pytest.fixture
def pod(deploy: Path) -> dict[str, Any]:
    """A running pod as the manifest's Deployment makes it."""
    documents = yaml.safe_load_all((deploy / "kubernetes/octavo.yaml").read_text())
    (deployment,) = (document for document in documents if document["kind"] == "Deployment")
    template = deployment["spec"]["template"]
    return {
        "metadata": {"name": "octavo-1", "namespace": "llm", **template["metadata"]},
        "spec": template["spec"],
        "status": {"phase": "Running", "podIP": "10.0.0.1"},
    }


def as_discovered(pod: dict[str, Any]) -> dict[str, Any]:
    """The target that the discovery makes of a pod with one container and one port."""
    metadata, (container,) = pod["metadata"], pod["spec"]["containers"]
    (port,) = container["ports"]
    labels = {
        f"{META}namespace": metadata["namespace"],
        f"{META}pod_name": metadata["name"],
        f"{META}pod_ip": pod["status"]["podIP"],
        f"{META}pod_phase": pod["status"]["phase"],
    }
    for kind in ("label", "annotation"):
        for name, value in metadata[f"{kind}s"].items():
            labels[f"{META}pod_{kind}_{re.sub('[^a-zA-Z0-9_]', '_', name)}"] = value
    return {"targets": [f"{pod['status']['podIP']}:{port['containerPort']}"], "labels": labels}


@pytest.fixture
def scraped(jobs: list[dict[str, Any]], tmp_path: Path) -> Callable[..., list[dict[str, str]]]:
    """What Prometheus would scrape of pods: the labels of each target."""

    def relabelled(*pods: dict[str, Any]) -> list[dict[str, str]]:
        job = jobs[1]
        del job["kubernetes_sd_configs"]
        job["static_configs"] = [as_discovered(pod) for pod in pods]
        path = tmp_path / "prometheus.yml"
        path.write_text(yaml.safe_dump({"scrape_configs": [job]}))
        found = json.loads(promtool("check", "service-discovery", "--timeout=1s", path, "octavo"))
        assert len(found) == len(pods)
        return [target["labels"] for target in found if target["labels"]]

    return relabelled


def test_promtool_accepts_the_jobs_and_they_are_named_as_the_rules_want(jobs, tmp_path) -> None:
    assert [job["job_name"] for job in jobs] == ["octavo", "octavo"]
    assert jobs[1].pop("kubernetes_sd_configs") == [{"role": "pod"}]
    for job in jobs:
        path = tmp_path / "prometheus.yml"
        path.write_text(yaml.safe_dump({"scrape_configs": [job]}))
        assert "SUCCESS" in promtool("check", "config", path)


def test_a_pod_of_the_manifest_is_scraped(scraped, pod) -> None:
    (labels,) = scraped(pod)
    assert labels["__address__"] == "10.0.0.1:8000"
    assert labels["__metrics_path__"] == "/metrics"
    shown = {name: value for name, value in labels.items() if not name.startswith("__")}
    assert shown == {"job": "octavo", "namespace": "llm", "instance": "octavo-1"}


@pytest.mark.parametrize("host", ["10.0.0.1", "[fd00::1]"])
def test_annotations_name_port_and_path(scraped, pod, host) -> None:
    pod["status"]["podIP"] = host
    pod["metadata"]["annotations"]["prometheus.io/port"] = "9000"
    pod["metadata"]["annotations"]["prometheus.io/path"] = "/elsewhere"
    (labels,) = scraped(pod)
    assert labels["__address__"] == f"{host}:9000"
    assert labels["__metrics_path__"] == "/elsewhere"


def test_other_pods_and_ended_ones_are_left_out(scraped, pod) -> None:
    def like(number: int, phase: str = "Running", **changed: Any) -> dict[str, Any]:
        metadata = {**pod["metadata"], "name": f"octavo-{number}", **changed}
        return {
            "metadata": metadata,
            "spec": pod["spec"],
            "status": {"phase": phase, "podIP": f"10.0.0.{number}"},
        }

    found = scraped(
        like(1),
        like(2, labels={"app.kubernetes.io/name": "other"}),
        like(3, annotations={}),
        like(4, phase="Succeeded"),
        like(5, phase="Failed"),
    )
    assert [labels["instance"] for labels in found] == ["octavo-1"]

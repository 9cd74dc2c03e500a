"""deploy/kubernetes: the manifests agree with the server, and with Kubernetes' schemas."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from octavo.engine.settings import Settings
from octavo.server import operations

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"


def documents(name: str) -> list[dict[str, Any]]:
    """All documents of one file."""
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def of_kind(name: str, kind: str) -> dict[str, Any]:
    """The one document of a kind in a file."""
    (found,) = (document for document in documents(name) if document["kind"] == kind)
    return found


@dataclass(frozen=True)
class Pod:
    """A Deployment's pod template with its only container."""

    spec: dict[str, Any]

    @property
    def container(self) -> dict[str, Any]:
        (container,) = self.spec["containers"]
        assert isinstance(container, dict)
        return container

    @property
    def flags(self) -> dict[str, str]:
        """`--name=value` arguments by name."""
        arguments = [arg for arg in self.container["args"] if arg.startswith("--")]
        return dict(arg.removeprefix("--").split("=", 1) for arg in arguments)


def cpu_pod() -> Pod:
    """The pod of octavo.yaml."""
    return Pod(of_kind("octavo.yaml", "Deployment")["spec"]["template"]["spec"])


def gpu_pod() -> Pod:
    """The same as octavo-gpu.yaml patches it."""
    deployment = of_kind("octavo.yaml", "Deployment")
    (patch,) = documents("octavo-gpu.yaml")
    return Pod(_patched(deployment, patch)["spec"]["template"]["spec"])


def _patched(base: Any, patch: Any) -> Any:
    """A strategic merge as far as Deployments need it: lists of named objects merge by name."""
    if isinstance(base, dict) and isinstance(patch, dict):
        both = {key: _patched(base[key], patch[key]) for key in base.keys() & patch.keys()}
        return {**base, **patch, **both}
    if _is_named(base) and _is_named(patch):
        merged = {item["name"]: item for item in base}
        for item in patch:
            merged[item["name"]] = _patched(merged.get(item["name"], {}), item)
        return list(merged.values())
    return patch


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, dict) and "name" in item for item in value
    )


PODS = [pytest.param(cpu_pod(), id="cpu"), pytest.param(gpu_pod(), id="gpu")]
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


@pytest.mark.parametrize("name", ["octavo.yaml", "octavo-keys.example.yaml"])
def test_each_document_is_valid_for_kubernetes(name: str) -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    for document in documents(name):
        schemas.validate(document, schemas.latest_version(), strict=True)


def test_the_patched_deployment_is_valid_for_kubernetes() -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    deployment = of_kind("octavo.yaml", "Deployment")
    deployment["spec"]["template"]["spec"] = gpu_pod().spec
    schemas.validate(deployment, schemas.latest_version(), strict=True)


@pytest.mark.parametrize("pod", PODS)
@pytest.mark.parametrize("probe", PROBES)
def test_probes_ask_for_routes_that_need_no_key(pod: Pod, probe: str) -> None:
    target = pod.container[probe]["httpGet"]
    routes = {getattr(route, "path", None) for route in operations.router.routes}
    assert target["path"] in routes & {"/livez", "/readyz", "/health"}
    (port,) = (one for one in pod.container["ports"] if one["name"] == target["port"])
    assert port["containerPort"] == int(pod.flags["port"])


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_is_not_ended_while_its_engine_is_replaced(pod: Pod) -> None:
    # Its open streams go on with another engine; /health and /readyz say 503 until then.
    assert pod.container["livenessProbe"]["httpGet"]["path"] == "/livez"


@pytest.mark.parametrize("pod", PODS)
def test_nobody_is_killed_before_draining_has_ended(pod: Pod) -> None:
    (_, pre_stop_s) = pod.container["lifecycle"]["preStop"]["exec"]["command"]
    drain_s = float(pod.flags["drain-timeout"])
    assert pod.spec["terminationGracePeriodSeconds"] >= int(pre_stop_s) + drain_s + 10


@pytest.mark.parametrize("pod", PODS)
def test_every_argument_is_a_setting_with_a_valid_value(pod: Pod) -> None:
    names = {name.replace("-", "_") for name in pod.flags}
    assert names <= set(Settings.model_fields)
    unread = {"api_key_file", "admin_key_file"}  # exist in the pod only
    values = {name.replace("-", "_"): value for name, value in pod.flags.items()}
    Settings.load({name: value for name, value in values.items() if name not in unread})


@pytest.mark.parametrize("pod", PODS)
def test_the_key_files_are_those_of_the_mounted_secret(pod: Pod) -> None:
    secret = of_kind("octavo-keys.example.yaml", "Secret")
    (volume,) = (one for one in pod.spec["volumes"] if "secret" in one)
    (mount,) = (one for one in pod.container["volumeMounts"] if one["name"] == volume["name"])
    assert volume["secret"]["secretName"] == secret["metadata"]["name"]
    for flag in ("api-key-file", "admin-key-file"):
        folder, file = pod.flags[flag].rsplit("/", 1)
        assert folder == mount["mountPath"]
        assert file in secret["stringData"]


@pytest.mark.parametrize("pod", PODS)
def test_the_container_has_no_rights_it_does_not_need(pod: Pod) -> None:
    assert pod.spec["securityContext"]["runAsNonRoot"] is True
    assert pod.spec["securityContext"]["runAsUser"] > 0
    assert pod.spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod.container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "/tmp" in {mount["mountPath"] for mount in pod.container["volumeMounts"]}


@pytest.mark.parametrize("pod", PODS)
def test_the_environment_of_services_cannot_be_taken_for_settings(pod: Pod) -> None:
    # For a Service named octavo Kubernetes would set OCTAVO_PORT.
    assert pod.spec["enableServiceLinks"] is False


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget"])
def test_selectors_find_the_pods(kind: str) -> None:
    labels = of_kind("octavo.yaml", "Deployment")["spec"]["template"]["metadata"]["labels"]
    selector = of_kind("octavo.yaml", kind)["spec"]["selector"]
    wanted = selector.get("matchLabels", selector)
    assert wanted.items() <= labels.items()


def test_no_manifest_is_left_out_of_these_tests() -> None:
    named = {"octavo.yaml", "octavo-gpu.yaml", "octavo-keys.example.yaml"}
    assert {path.name for path in FOLDER.iterdir()} == named

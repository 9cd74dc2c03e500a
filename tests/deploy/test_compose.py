"""The compose files: mounts exist, variables are explained, and little is open."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from octavo.engine.settings import Settings

VARIANTS = (
    ("compose.yaml",),
    ("compose.yaml", "compose.gpu.yaml"),
    ("compose.yaml", "compose.keys.yaml"),
    ("compose.yaml", "compose.gpu.yaml", "compose.keys.yaml"),
)


def compose_command() -> list[str] | None:
    """`docker compose` or the older `docker-compose`, whichever is there."""
    if shutil.which("docker"):
        version = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=60)
        if version.returncode == 0:
            return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


@pytest.fixture(scope="module")
def compose(deploy: Path) -> dict:
    return yaml.safe_load((deploy / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def example(deploy: Path) -> dict[str, str]:
    """The variables of .env.example, those commented out as well."""
    text = (deploy / ".env.example").read_text()
    return dict(re.findall(r"^(?:# )?([A-Z][A-Z_]+)=(.*)$", text, re.MULTILINE))


@pytest.fixture
def configured(deploy: Path, tmp_path: Path):
    """Run `compose config` in a copy of the folder, with a `.env` made of the example."""
    command = compose_command()
    if command is None:
        pytest.skip("neither `docker compose` nor `docker-compose` is installed")
    copy = shutil.copytree(deploy, tmp_path / "deploy")
    example_text = (deploy / ".env.example").read_text()

    def run(
        folder: str, *arguments: str, password: str = "a-password", files: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        text = example_text.replace(
            "GRAFANA_ADMIN_PASSWORD=\n", f"GRAFANA_ADMIN_PASSWORD={password}\n"
        )
        if files:
            text = text.replace("# COMPOSE_FILE=compose.yaml", f"COMPOSE_FILE={':'.join(files)}")
        (copy / ".env").write_text(text)
        return subprocess.run(
            [*command, *arguments, "config"],
            cwd=tmp_path / folder,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.mark.parametrize("files", VARIANTS, ids="+".join)
def test_compose_accepts_the_files_that_the_environment_names(
    files: tuple[str, ...], configured
) -> None:
    finished = configured("deploy", files=files)
    assert finished.returncode == 0, finished.stderr
    services = yaml.safe_load(finished.stdout)["services"]
    assert set(services) == {"octavo", "prometheus", "grafana"}
    octavo = services["octavo"]
    with_gpu = "compose.gpu.yaml" in files
    assert octavo["build"]["target"] == ("cuda" if with_gpu else "cpu")
    assert octavo["image"] == ("octavo:cuda" if with_gpu else "octavo:cpu")
    assert ("reservations" in octavo["deploy"]["resources"]) == with_gpu
    assert ("secrets" in octavo) == ("compose.keys.yaml" in files)


def test_compose_finds_everything_from_the_root_of_the_checkout_too(configured) -> None:
    finished = configured(".", "--project-directory", "deploy")
    assert finished.returncode == 0, finished.stderr


def test_compose_refuses_to_start_grafana_without_a_password(configured) -> None:
    finished = configured("deploy", password="")
    assert finished.returncode != 0
    assert "set it in deploy/.env" in finished.stderr


def test_everything_mounted_from_the_checkout_exists(compose: dict, deploy: Path) -> None:
    mounted = 0
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            if source.startswith("."):
                assert (deploy / source).is_dir(), source
                assert mode == ["ro"], volume
                mounted += 1
            else:
                assert source in compose["volumes"]
            assert target.startswith("/")
    assert mounted == 3
    prometheus = (deploy / "prometheus/prometheus.yml").read_text()
    for pattern in yaml.safe_load(prometheus)["rule_files"]:
        assert list((deploy / "prometheus").glob(pattern)), pattern


def test_every_variable_is_in_the_example_and_no_other(deploy: Path, example) -> None:
    used = set()
    for name in VARIANTS[-1]:
        text = (deploy / name).read_text()
        used |= set(re.findall(r"\$\{([A-Z_]+)", text))
        for service in yaml.safe_load(text)["services"].values():
            environment = service.get("environment", {})
            used |= {key for key, value in environment.items() if value is None}
    compose_own = {"COMPOSE_FILE", "COMPOSE_PROJECT_NAME"}
    assert used | compose_own == set(example)


def test_the_example_shows_the_real_defaults(deploy: Path, example) -> None:
    text = (deploy / "compose.yaml").read_text()  # those of a GPU differ, and are named beside
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]+)\}", text):
        assert example[name] == default


def test_octavos_variables_are_settings_of_octavo(deploy: Path) -> None:
    for name in VARIANTS[-1]:
        octavo = yaml.safe_load((deploy / name).read_text())["services"]["octavo"]
        for variable in octavo.get("environment", {}):
            if variable.startswith("OCTAVO_"):
                assert variable.removeprefix("OCTAVO_").lower() in Settings.model_fields
        for argument in octavo.get("command", []):
            if argument.startswith("--"):
                assert argument.removeprefix("--").replace("-", "_") in Settings.model_fields


def test_every_service_is_closed_up(compose: dict) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["deploy"]["resources"]["limits"]["memory"]
        for port in service["ports"]:
            assert port.startswith("${BIND_ADDRESS:-127.0.0.1}:")
        if "build" not in service:
            assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"])
    grafana = compose["services"]["grafana"]["environment"]
    assert grafana["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert grafana["GF_SECURITY_ADMIN_PASSWORD"].startswith("${GRAFANA_ADMIN_PASSWORD:?")


def test_running_requests_get_their_drain_timeout_before_the_kill(example) -> None:
    drain_s = float(example["OCTAVO_DRAIN_TIMEOUT"])
    assert drain_s == Settings.model_fields["drain_timeout"].default
    assert float(example["OCTAVO_STOP_GRACE_PERIOD"].removesuffix("s")) >= drain_s + 10


def test_targets_and_health_check_are_those_of_the_dockerfile(compose: dict, deploy: Path) -> None:
    dockerfile = (deploy.parent / "Dockerfile").read_text()
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE))
    gpu = yaml.safe_load((deploy / "compose.gpu.yaml").read_text())
    assert {"cpu", "cuda"} <= targets
    assert compose["services"]["octavo"]["build"] == {"context": "..", "target": "cpu"}
    assert gpu["services"]["octavo"]["build"] == {"target": "cuda"}
    [command] = re.findall(r"^HEALTHCHECK [^\[]*CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert compose["services"]["octavo"]["healthcheck"]["test"] == ["CMD", *json.loads(command)]

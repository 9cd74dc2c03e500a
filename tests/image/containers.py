"""Images and containers through buildah and podman, in a store of their own.

What these need beyond the documented `docker run` is owed to the place where tests run, often a
container itself: isolation `chroot` for the build's commands, the host's network, and limits that
do not exceed what the caller may have.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

READY_DEADLINE_S = 120.0
# STORAGE_DRIVER=vfs works where the kernel refuses overlay, but copies every layer whole: none is
# kept then, and the second target is built from its beginning.
STORAGE_DRIVER = os.environ.get("STORAGE_DRIVER", "overlay")
TMPFS_OPTIONS = "rw,noexec,nosuid,nodev,size=64m"  # noexec and nosuid as Docker's own
# crun refuses a host that mounts cgroup v2 beside v1; it is hidden from podman alone.
_HIDE_HYBRID_CGROUPS = (
    *("unshare", "--mount", "sh", "-c"),
    'umount /sys/fs/cgroup/unified && exec "$@"',
    "sh",
)


@dataclass(frozen=True)
class Container:
    """One container that serves on 127.0.0.1."""

    store: "Store"
    name: str
    url: str

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60, verify=False)

    def chat(self, content: str, **parameters: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": content}], **parameters}
        url = self.url + "/v1/chat/completions"
        return httpx.post(url, json=body, timeout=120, verify=False)

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command inside, as the image's user."""
        return self.store.podman("exec", self.name, *command, check=False)

    def state(self) -> dict[str, Any]:
        """What podman knows of its process."""
        found: dict[str, Any] = self.store.inspect("container", self.name)["State"]
        return found

    def logs(self) -> str:
        finished = self.store.podman("logs", self.name, check=False)
        return finished.stdout + finished.stderr

    def wait_ready(self) -> None:
        """Until /readyz answers 200."""
        end = time.monotonic() + READY_DEADLINE_S
        while not self._is_ready():
            assert self.state()["Running"], f"the container ended:\n{self.logs()}"
            assert time.monotonic() < end, f"not ready:\n{self.logs()}"
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            return self.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False


@dataclass(frozen=True)
class Store:
    """A folder with images and containers that no other run sees."""

    folder: Path

    @classmethod
    @contextmanager
    def temporary(cls, folder: Path) -> Iterator["Store"]:
        """A store whose content is removed at the end."""
        store = cls(folder)
        try:
            yield store
        finally:
            store.podman("rm", "--all", "--force", "--time", "0", check=False)
            store.podman("rmi", "--all", "--force", check=False)
            # podman leaves its folder mounted on itself, which would keep it from being removed.
            _run(["umount", str(folder / "root" / STORAGE_DRIVER)])
            shutil.rmtree(folder, ignore_errors=True)

    def load(self, archive: Path, name: str) -> str:
        """Make an image of a root filesystem in a tar archive. Returns its name."""
        self.podman("import", str(archive), name)
        return name

    def build(
        self,
        context: Path,
        target: str,
        arguments: Mapping[str, str],
        options: Sequence[str],
    ) -> None:
        """Build a target of the folder's Dockerfile."""
        layers = "false" if STORAGE_DRIVER == "vfs" else "true"
        command = ["buildah", *self._places(), "build", "--isolation=chroot"]
        command += [f"--layers={layers}", "--format=docker", "--target", target, *options]
        for name, value in arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        finished = _run([*command, str(context)])
        output = finished.stdout + finished.stderr
        assert finished.returncode == 0, f"{' '.join(command)}:\n{output[-8000:]}"

    @contextmanager
    def run(self, image: str, port: int, flags: Sequence[str]) -> Iterator[Container]:
        """A container as docs/deployment.md starts it, with a root that cannot be written to."""
        name = f"octavo-{port}"
        options = ["--read-only", "--read-only-tmpfs=false", "--tmpfs", f"/tmp:{TMPFS_OPTIONS}"]
        options += ["--cap-drop=ALL", "--security-opt=no-new-privileges"]
        options += ["--network=host", "--env", "OCTAVO_HOST=127.0.0.1"]
        options += ["--env", f"OCTAVO_PORT={port}", "--env", "OMP_WAIT_POLICY=passive"]
        options += ["--env", "OCTAVO_KV_CACHE_MEMORY=256MiB"]
        command = ["serve", *flags] if flags else []
        self.podman("run", "--detach", "--name", name, *options, *_LIMITS, image, *command)
        try:
            yield Container(self, name, f"http://127.0.0.1:{port}")
        finally:
            self.podman("rm", "--force", "--time", "0", name, check=False)

    def run_once(self, image: str, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in a container without any network."""
        options = ["--rm", "--network=none", "--read-only", *_LIMITS]
        return self.podman("run", *options, image, *command, check=False)

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """What podman knows of an image or container."""
        [found] = json.loads(self.podman(kind, "inspect", name).stdout)
        assert isinstance(found, dict)
        return found

    def podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman; with `check`, assert that it succeeds."""
        hide = _HIDE_HYBRID_CGROUPS if os.path.ismount("/sys/fs/cgroup/unified") else ()
        options = ("--events-backend=none", "--cgroup-manager=cgroupfs")
        finished = _run([*hide, "podman", *self._places(), *options, *arguments])
        assert not check or finished.returncode == 0, f"podman {arguments}:\n{finished.stderr}"
        return finished

    def _places(self) -> list[str]:
        root, state = self.folder / "root", self.folder / "run"
        return ["--storage-driver", STORAGE_DRIVER, "--root", str(root), "--runroot", str(state)]


_LIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    # There is no systemd here that would run the health check at intervals.
    environment = {**os.environ, "DISABLE_HC_SYSTEMD": "true"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

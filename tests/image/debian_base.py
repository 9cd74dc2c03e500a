"""The base image of the tests: Debian with Python, made by debootstrap.

The Dockerfile's own default lies on a registry that test machines often cannot reach. This one has
Python of the same version from Debian's package, so that the rest of the Dockerfile is what it is.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

RELEASE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-venv")
_FETCHED_ONLY = ("var/cache/apt", "var/lib/apt/lists")


def base_archive(cache: Path) -> Path:
    """A tar archive of the root filesystem, made if the cache folder lacks it. Needs root."""
    archive = cache / f"{RELEASE}-{'-'.join(PACKAGES)}.tar"
    if archive.is_file():
        return archive
    cache.mkdir(parents=True, exist_ok=True)
    # `ignore_cleanup_errors`: a mount that debootstrap left behind must not hide why it failed.
    with tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as scratch:
        root, unfinished = Path(scratch) / "root", Path(scratch) / "base.tar"
        included = f"--include={','.join(PACKAGES)}"
        _run(["debootstrap", "--variant=minbase", included, RELEASE, str(root)])
        for name in _FETCHED_ONLY:
            shutil.rmtree(root / name)
            (root / name).mkdir()
        _run(["tar", "--directory", str(root), "--create", "--file", str(unfinished), "."])
        os.replace(unfinished, archive)
    return archive


def _run(command: list[str]) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{' '.join(command)}:\n{finished.stdout[-4000:]}"

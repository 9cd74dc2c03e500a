"""deploy/systemd: the unit is one that systemd takes, and its times and flags fit the server."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from octavo.engine.settings import Settings

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "octavo.service"


def _value(name: str) -> str:
    match = re.search(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert match is not None
    return match[1]


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here (Debian package systemd)")
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/opt/octavo/bin/octavo", "/bin/true"))
    verified = subprocess.run([analyze, "verify", str(here)], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_stopping_takes_longer_than_draining() -> None:
    assert float(_value("TimeoutStopSec")) >= Settings.load({}).drain_timeout + 10
    assert _value("KillMode") == "mixed"
    assert _value("KillSignal") == "SIGTERM"


def test_every_flag_is_a_setting() -> None:
    flags = set(re.findall(r"--([a-z-]+)", _value("ExecStart")))
    settings = {name.replace("_", "-") for name in Settings.model_fields}
    assert flags <= settings | {"config"}


def test_key_files_come_from_credentials() -> None:
    names = re.findall(r"\$\{CREDENTIALS_DIRECTORY\}/(\S+)", _value("ExecStart"))
    loaded = re.findall(r"^LoadCredential=(\S+):", UNIT.read_text(), re.MULTILINE)
    assert names == loaded == ["api-keys", "admin-keys"]

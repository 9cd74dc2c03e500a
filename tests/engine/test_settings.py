"""Settings: precedence, sizes, and errors that name the flag."""

from pathlib import Path

import pytest

from octavo.engine.errors import ConfigurationError
from octavo.engine.settings import Settings, parse_bytes


def test_command_line_goes_over_environment_over_file_over_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "octavo.yaml"
    file.write_text("port: 1\nblock_size: 2\nhost: from-file\nmax_num_seqs: 9\n")
    monkeypatch.setenv("OCTAVO_PORT", "3")
    monkeypatch.setenv("OCTAVO_HOST", "from-env")
    settings = Settings.load({"port": 5}, file)
    assert (settings.port, settings.host, settings.block_size) == (5, "from-env", 2)
    assert (settings.max_num_seqs, settings.dtype) == (9, "auto")


def test_lists_are_comma_separated_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_API_KEY", "one, two")
    assert Settings.load({}).api_key == ["one", "two"]
    assert Settings.load({"api_key": ["three"]}).api_key == ["three"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1048576", 1048576), ("2GiB", 2 * 1024**3), ("2 gib", 2 * 1024**3), ("1.5MB", 1500000)],
)
def test_sizes_have_units(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    ("field", "value", "flag"),
    [
        ("port", 70000, "--port"),
        ("kv_cache_memory", "much", "--kv-cache-memory"),
        ("gpu_memory_utilization", 1.5, "--gpu-memory-utilization"),
        ("metrics_prefix", "1x", "--metrics-prefix"),
        ("dtype", "int3", "--dtype"),
    ],
)
def test_an_impossible_value_names_its_flag_and_itself(
    field: str, value: object, flag: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{flag}: .*{value}"):
        Settings.load({field: value})


@pytest.mark.parametrize("text", ["prot: 1\n", "- a\n- b\n", "a: [\n", "\xff"])
def test_a_bad_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "octavo.yaml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"octavo\.yaml"):
        Settings.load({}, file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        Settings.load({}, tmp_path / "none.yaml")


def test_names_may_be_repeated_and_separated_by_commas() -> None:
    settings = Settings.load({"served_model_name": ["a,b", "c"], "api_key": "k1, k2"})
    assert settings.served_model_name == ["a", "b", "c"]
    assert settings.api_key == ["k1", "k2"]

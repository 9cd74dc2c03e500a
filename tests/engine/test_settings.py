"""Settings: precedence, sizes, and errors that name the flag."""

from pathlib import Path

import pytest

from octavo.engine.errors import ConfigurationError
from octavo.engine.setting_types import parse_bytes
from octavo.engine.settings import Settings, unknown_variables


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


def test_every_value_names_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "octavo.yaml"
    file.write_text("max_num_seqs: 3\nport: 1\nhost: 0.0.0.0\n")
    monkeypatch.setenv("OCTAVO_PORT", "2")
    monkeypatch.setenv("octavo_host", "127.0.0.2")
    settings = Settings.load({"port": 4}, file)
    assert (settings.port, settings.host, settings.max_num_seqs) == (4, "127.0.0.2", 3)
    sources = {name: settings.source_of(name) for name in ("port", "host", "max_num_seqs", "dtype")}
    assert sources == {
        "port": "command line",
        "host": "environment OCTAVO_HOST",
        "max_num_seqs": f"file {file}",
        "dtype": "default",
    }


def test_what_kubernetes_puts_into_the_environment_is_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OCTAVO_PORT", "tcp://10.0.0.1:8000")
    with pytest.raises(ConfigurationError, match=r"OCTAVO_PORT.*enableServiceLinks"):
        Settings.load({})
    assert Settings.load({"port": 1}).port == 1


def test_misspelt_variables_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_PROT", "1")
    monkeypatch.setenv("OCTAVO_PORT", "1")
    monkeypatch.setenv("OCTAVO_CONFIG", "x.yaml")
    assert unknown_variables() == ["OCTAVO_PROT"]


def test_keys_come_from_files_too(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# of the team\nsk-one\n\n  sk-two \n")
    settings = Settings.load({"api_key": ["sk-three"], "api_key_file": file})
    assert settings.all_api_keys() == ["sk-three", "sk-one", "sk-two"]
    assert settings.all_admin_keys() == []


@pytest.mark.parametrize("text", [None, "", "# nothing\n", "\xff"])
def test_a_file_without_keys_leaves_no_server_open(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "keys"
    if text is not None:
        file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=rf"^--api-key-file {file}"):
        Settings.load({"api_key_file": file}).all_api_keys()


def test_errors_do_not_show_keys() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load({"api_key": {"sk-secret": 1}})
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("value", ["", " ", ",", " , "])
@pytest.mark.parametrize("source", ["environment", "command line", "file"])
def test_empty_keys_leave_no_server_open(
    source: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "octavo.yaml"
    file.write_text(f'api-key: "{value}"\n' if source == "file" else "")
    if source == "environment":
        monkeypatch.setenv("OCTAVO_API_KEY", value)
    overrides = {"api_key": [value]} if source == "command line" else {}
    with pytest.raises(ConfigurationError, match="--api-key is given, but holds no key"):
        Settings.load(overrides, file)


def test_a_blank_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "PORT", "API_KEY_FILE", "OVERRIDE_GENERATION_CONFIG", "MAX_MODEL_LEN"):
        monkeypatch.setenv(f"OCTAVO_{name}", "")
    assert Settings.load({}).model_dump() == Settings.load({"port": 8000}).model_dump()


def test_a_file_may_spell_names_as_flags_are(tmp_path: Path) -> None:
    file = tmp_path / "octavo.yaml"
    file.write_text("max-num-seqs: 3\nenable-prefix-caching: false\n")
    settings = Settings.load({}, file)
    assert (settings.max_num_seqs, settings.enable_prefix_caching) == (3, False)


@pytest.mark.parametrize("text", ["api_key: sk-hidden: 1\n", 'api_key: "sk-hidden\nport: 1\n'])
def test_a_file_that_is_no_yaml_is_not_quoted(text: str, tmp_path: Path) -> None:
    file = tmp_path / "octavo.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"octavo\.yaml: not YAML: line \d") as caught:
        Settings.load({}, file)
    assert "hidden" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_a_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(b"\xef\xbb\xbfsk-one\n")
    assert Settings.load({"api_key_file": file}).all_api_keys() == ["sk-one"]

"""Sampling defaults: where they come from, and which of them are fit to be used."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from octavo.engine.errors import ConfigurationError
from octavo.engine.generation_defaults import NO_DEFAULTS, GenerationDefaults

OF_MODEL = {"temperature": 0.6, "top_k": 20, "eos_token_id": [1, 2], "transformers_version": "4"}


def test_auto_takes_the_models_and_leaves_out_what_is_no_sampling_parameter() -> None:
    defaults = GenerationDefaults.choose("auto", OF_MODEL, None)
    assert defaults == GenerationDefaults({"temperature": 0.6, "top_k": 20})


def test_none_takes_nothing() -> None:
    assert GenerationDefaults.choose("none", OF_MODEL, None) == NO_DEFAULTS
    assert NO_DEFAULTS.describe() == "none"


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_file_or_the_folder_with_it_takes_the_models_place(
    as_folder: bool, tmp_path: Path
) -> None:
    file = tmp_path / "generation_config.json"
    file.write_text('{"min_p": 0.1, "max_new_tokens": 100}')
    source = tmp_path if as_folder else file
    defaults = GenerationDefaults.choose(str(source), OF_MODEL, None)
    assert defaults == GenerationDefaults({"min_p": 0.1}, max_new_tokens=100)
    assert defaults.describe() == "min_p 0.1, max_new_tokens 100"


def test_overrides_replace_single_values() -> None:
    overrides = {"temperature": 1.0, "repetition_penalty": 1.1}
    defaults = GenerationDefaults.choose("auto", OF_MODEL, overrides)
    assert defaults.sampling == {"temperature": 1.0, "top_k": 20, "repetition_penalty": 1.1}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 3),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_k", 1.5),
        ("min_p", True),
        ("repetition_penalty", -1.0),
        ("max_new_tokens", 0),
        ("max_new_tokens", [5]),
    ],
)
def test_a_value_that_no_request_may_have_is_ignored_with_a_warning(
    name: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        defaults = GenerationDefaults.choose("auto", {name: value}, None)
    assert defaults == NO_DEFAULTS
    (record,) = caplog.records
    assert name.replace("max_new_tokens", "max_tokens") in record.getMessage()


@pytest.mark.parametrize("text", [None, "{", "[1]", json.dumps("x")])
def test_a_file_that_holds_no_configuration_is_a_configuration_error(
    text: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "defaults.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match="--generation-config"):
        GenerationDefaults.choose(str(file), OF_MODEL, None)

"""The lock files fit pyproject.toml; no image is needed to tell."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
EXTRAS = {"cpu": ("structured", "otel"), "cuda": ("structured", "otel", "cuda")}
_PIN = re.compile(r"^([\w.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M)


@pytest.mark.parametrize("variant", EXTRAS)
def test_every_dependency_is_pinned_within_its_range(variant: str) -> None:
    pins = _pins(variant)
    for requirement in _requirements(variant):
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement}: not in the lock file; run `make lock`"
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{requirement}: the lock file has {version}; run `make lock`"
        )


@pytest.mark.parametrize("variant", [*EXTRAS, "build"])
def test_every_line_is_a_pin_with_hashes_or_a_comment(variant: str) -> None:
    remainder = re.sub(r"^ *#.*\n", "", _PIN.sub("", _text(variant)), flags=re.M)
    assert remainder == ""


def test_only_the_cpu_image_has_the_small_torch() -> None:
    assert _pins("cpu")["torch"].endswith("+cpu")
    assert "+" not in _pins("cuda")["torch"]
    assert not [name for name in _pins("cpu") if name.startswith(("nvidia", "triton"))]


def _text(variant: str) -> str:
    return (REPOSITORY / f"deploy/docker/requirements-{variant}.lock").read_text()


def _pins(variant: str) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version, _ in _PIN.findall(_text(variant))}


def _requirements(variant: str) -> list[Requirement]:
    # Python 3.10 has no reader of TOML; pyproject.toml's lists hold one string a line or a pair.
    document = (REPOSITORY / "pyproject.toml").read_text()
    found = []
    for name in ("dependencies", *EXTRAS[variant]):
        match = re.search(rf"^{name} = \[(.*?)\]$", document, re.M | re.S)
        assert match is not None, f"pyproject.toml has no list {name}"
        found += [Requirement(text) for text in re.findall(r'"([^"]+)"', match[1])]
    assert len(found) > len(EXTRAS[variant])
    return found

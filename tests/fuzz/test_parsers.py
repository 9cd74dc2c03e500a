"""Every parser on inputs that Hypothesis makes up: few here, many by `make drills`."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, seed, settings

from ..faults.drill_result import DrillResult
from .parser_properties import PROPERTIES

RELAXED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def check(run: Callable[[], None], examples: int, chosen_seed: int) -> int:
    """Run a property on so many examples of a seed. Returns how many there were."""
    # Hypothesis puts this attribute on what it decorates, and its annotations do not say so.
    inner = run.hypothesis.inner_test  # type: ignore[attr-defined]
    count = 0

    def counted(*arguments: object, **named: object) -> None:
        nonlocal count
        count += 1
        inner(*arguments, **named)

    run.hypothesis.inner_test = counted  # type: ignore[attr-defined]
    limits = settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=RELAXED
    )
    try:
        limits(seed(chosen_seed)(run))()
    finally:
        run.hypothesis.inner_test = inner  # type: ignore[attr-defined]
    return count


def drill(examples: int, seed: int) -> DrillResult:
    """So many examples of each property."""
    counts: Counter[str] = Counter()
    failed = []
    for name, run in PROPERTIES.items():
        try:
            counts[name] = check(run, examples, seed)
        except Exception as error:
            counts[name] = examples
            failed.append(name)
            print(f"parsers, seed {seed}, {name}: {error!r}\n{getattr(error, '__notes__', '')}")
    return DrillResult(
        name="parsers",
        tried=sum(counts.values()),
        survived=sum(counts.values()) - len(failed),
        seeds=(seed,) if failed else (),
        note=f"inputs by Hypothesis for {', '.join(PROPERTIES)}".replace("_", " "),
    )


@pytest.mark.parametrize("name", PROPERTIES)
def test_any_input_is_read_or_refused(name: str) -> None:
    assert check(PROPERTIES[name], 150, 3) >= 100

"""Steps that raise, and the record of those who might be the end of an engine."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from octavo.engine import constraint_builder
from octavo.engine.constraints import TokenConstraint
from octavo.engine.core import EngineCore
from octavo.engine.device_errors import is_out_of_memory
from octavo.engine.flight_recorder import FlightRecorder
from octavo.engine.llm import LLM
from octavo.engine.load_core import load_core
from octavo.engine.messages import SequenceDelta, Submit
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.structured import StructuredOutput

MOST_STEPS = 2000
REGEX = StructuredOutput("regex", "[a-z]+")


@pytest.fixture(scope="module")
def llm(tiny_model: Path) -> LLM:
    return LLM(str(tiny_model), num_blocks=64, max_model_len=256, device="cpu")


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "flight"
    FlightRecorder.create(path)
    return path


@pytest.fixture
def core(llm: LLM, record: Path) -> Iterator[EngineCore]:
    core, _ = load_core(llm.config, llm._grammars, FlightRecorder(record))
    yield core
    stats = core.stats()
    assert (stats.num_running, stats.num_waiting, stats.blocks_used) == (0, 0, 0)


def submit(name: str, num_tokens: int = 3, **fields: Any) -> Submit:
    own = {key: fields.pop(key) for key in list(fields) if key in Submit.__struct_fields__}
    params = SamplingParams(temperature=0.0, ignore_eos=True, **fields)
    return Submit(name, [97 + i % 20 for i in range(num_tokens)], params, 4, **{"seed": 7, **own})


def run(core: EngineCore) -> list[SequenceDelta]:
    """What comes until nothing is left to do."""
    deltas: list[SequenceDelta] = []
    for _ in range(MOST_STEPS):
        if not core.has_work:
            return deltas
        deltas.extend(core.step().deltas)
    pytest.fail("it has no end")


def tokens_of(deltas: list[SequenceDelta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


def see(target: Any, name: str, record: Path, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """What is in the record whenever this method is called."""
    seen: list[set[str]] = []
    original: Callable[..., Any] = getattr(target, name)

    def look(*arguments: Any, **named: Any) -> Any:
        seen.append(FlightRecorder.read(record))
        return original(*arguments, **named)

    monkeypatch.setattr(target, name, look)
    return seen


def fail(batch: object) -> None:
    raise FloatingPointError("made to fail")


def test_a_step_that_raises_is_named_for_who_can_start_another_engine(
    core: EngineCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        core.add(submit(name))
    core.step()
    assert core.failure is None
    monkeypatch.setattr(core._runner, "launch", fail)
    ends = {delta.request_id: delta.error for delta in run(core)}
    assert ends.keys() == {"a", "b"} and "FloatingPointError" in str(ends["a"])
    assert core.failure == "FloatingPointError: made to fail"


def test_a_device_that_is_lost_ends_the_sequences_too(
    core: EngineCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who calls an `LLM` would wait without end."""

    def lose(batch: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    core.add(submit("a"))
    monkeypatch.setattr(core._runner, "launch", lose)
    (end,) = run(core)
    assert end.finish_reason == "error"
    assert "illegal memory access" in str(core.failure)


def no_host_memory() -> Exception:
    """As torch says it."""
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    return caught.value


def test_a_host_without_memory_gets_smaller_steps(
    core: EngineCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_out_of_memory(no_host_memory())
    assert not is_out_of_memory(RuntimeError("CUDA error: unspecified launch failure"))
    core.add(submit("a", 100))
    quiet = tokens_of(run(core))
    core.reset_prefix_cache()
    launch, error = core._runner.launch, no_host_memory()

    def launch_if_small(batch: Any) -> Any:
        if sum(len(item.token_ids) for item in batch) > 64:
            raise error
        return launch(batch)

    monkeypatch.setattr(core._runner, "launch", launch_if_small)
    core.add(submit("b", 100))
    assert tokens_of(run(core)) == quiet and len(quiet) == 4
    assert core.failure is None


def test_who_enters_is_in_the_record_and_who_waits_is_not(
    core: EngineCore, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = see(core._translation, "check", record, monkeypatch)
    core.add(submit("a"))
    assert FlightRecorder.read(record) == set()
    core.add(submit("b"))
    assert seen == [{"a"}, {"b"}]
    core.step()
    assert FlightRecorder.read(record) == {"a", "b"}
    with pytest.raises(ValueError, match="out of vocabulary"):
        core.add(submit("c", logit_bias={9999: 1.0}))
    assert seen[2] == {"a", "b", "c"}
    run(core)
    assert FlightRecorder.read(record) == set()


def test_who_has_a_grammar_built_is_in_the_record(
    core: EngineCore, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    build = core._builder._grammars.constraint

    def build_later(*arguments: Any) -> Any:
        may_end.wait()
        return build(*arguments)

    monkeypatch.setattr(core._builder._grammars, "constraint", build_later)
    replayed = see(TokenConstraint, "accept", record, monkeypatch)
    core.add(submit("formed", structured=REGEX, output_token_ids=[97, 98]))
    assert FlightRecorder.read(record) == {"formed"} and core.is_compiling
    core.add(submit("other"))
    assert not core.is_compiling
    for _ in range(3):
        core.step()
        assert "formed" in FlightRecorder.read(record), "while others run"
    core.add(submit("left", structured=REGEX))
    core.cancel(["left", "other"])
    may_end.set()
    run(core)
    assert replayed[:2] == [{"formed", "left"}] * 2  # its old tokens are read
    core.add(submit("another"))
    run(core)
    assert FlightRecorder.read(record) == set()


def test_a_grammar_that_takes_too_long_is_no_progress(
    core: EngineCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    monkeypatch.setattr(core._builder._grammars, "constraint", lambda *_: may_end.wait())
    core.add(submit("formed", structured=REGEX))
    assert core.is_compiling
    monkeypatch.setattr(constraint_builder, "LONGEST_COMPILATION_S", 0.0)
    assert not core.is_compiling and core.has_work
    core.cancel(["formed"])
    may_end.set()

"""Requests that make engines fail in other ways than by a crash in a step, and starts that hang."""

import textwrap
from pathlib import Path
from typing import Any

import pytest

from ..conftest import StartServer
from .engine_faults import DIE, Streams, break_engines, once, patch, taken

pytestmark = pytest.mark.slow

FLAGS = ("--dtype", "float32", "--deterministic", "--max-model-len", "1024")
FORM = {"structured_outputs": {"regex": "[a-z]{40}"}}
POISON: dict[str, Any] = {
    "prompt": [40, 250, 41],
    "max_tokens": 60,
    "ignore_eos": True,
    "temperature": 0,
    "request_id": "poison",
}
IS_POISON = "it.request_id.startswith('cmpl-poison')"


def good_bodies() -> list[dict[str, Any]]:
    """Seeded streams of several kinds."""
    kinds: list[dict[str, Any]] = [
        {"temperature": 0.9},
        {"temperature": 0},
        {"temperature": 0.7, "top_k": 20, "repetition_penalty": 1.2},
        {"temperature": 0.8, **FORM},
    ]
    return [
        {"prompt": f"Story {i}", "max_tokens": 40 + i, "ignore_eos": True, "seed": i}
        | kinds[i % len(kinds)]
        for i in range(6)
    ]


def check_that_poison_alone_is_ended(server: Any, poison: dict[str, Any]) -> None:
    """Others' texts are those of a quiet run, and what made engines fail is not taken again."""
    good = good_bodies()
    quiet = Streams(server.url, good)
    quiet.run()
    assert not quiet.errors
    disturbed = Streams(server.url, [*good, poison])
    disturbed.run()
    assert set(disturbed.errors) == {len(good)}
    assert "made the engine fail" in disturbed.errors[len(good)]["message"]
    assert disturbed.texts[: len(good)] == quiet.texts
    server.wait_idle()
    num_restarts = server.gauge("octavo_engine_restarts_total")
    assert 2 <= num_restarts <= 4
    again = server.post("/v1/completions", json={**poison, "max_tokens": 50})
    assert again.status_code == 400
    assert "not taken again" in again.json()["error"]["message"]
    assert server.gauge("octavo_engine_restarts_total") == num_restarts


@pytest.mark.parametrize(
    "condition",
    [f"any({IS_POISON} for it in batch)", f"any({IS_POISON} and it.start >= 12 for it in batch)"],
    ids=["in its prompt", "in its tenth step"],
)
def test_a_step_that_raises_costs_nobody_but_its_cause(
    condition: str, start_tiny: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deed = "raise FloatingPointError('made to fail')"
    monkeypatch.setenv("PYTHONPATH", break_engines(tmp_path, condition, deed))
    with start_tiny(*FLAGS) as server:
        check_that_poison_alone_is_ended(server, POISON)


OUTSIDE_STEPS = {
    "while it is added": """
        from octavo.engine.translation import Translation as target
        name, is_poison = "check", lambda submit: submit.request_id.startswith("cmpl-poison")
        """,
    "while its grammar is built": """
        from octavo.engine.grammars import Grammars as target
        name, is_poison = "constraint", lambda params, stops: "poison" in str(params.structured)
        """,
    "by a grammar without end": """
        from octavo.engine import constraint_builder
        constraint_builder.LONGEST_COMPILATION_S = 1.0
        os.abort = lambda: time.sleep(10**6)
        from octavo.engine.grammars import Grammars as target
        name, is_poison = "constraint", lambda params, stops: "poison" in str(params.structured)
        """,
    "while its old tokens are read": """
        from octavo.engine.constraints import TokenConstraint as target
        num_read = {}
        def is_poison(token_id):
            caller = sys._getframe(2)
            submit = caller.f_locals.get("submit")
            is_read = caller.f_code.co_name == "_enqueue"
            return is_read and submit.request_id.startswith("cmpl-poison")
        name = "accept"
        """,
}
ABORT = """
        original = getattr(target, name)

        def call_or_abort(self, *arguments):
            if is_poison(*arguments):
                os.abort()
            return original(self, *arguments)

        setattr(target, name, call_or_abort)
        """


@pytest.mark.parametrize("where", OUTSIDE_STEPS)
def test_who_kills_engines_outside_steps_is_found(
    where: str, start_tiny: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = textwrap.dedent(OUTSIDE_STEPS[where]) + textwrap.dedent(ABORT)
    monkeypatch.setenv("PYTHONPATH", patch(tmp_path, "octavo.engine.process", code))
    poison = POISON
    if "grammar" in where or "tokens" in where:
        poison = POISON | {"structured_outputs": {"regex": "(poison|[a-z]){50}"}}
    flag = tmp_path / "flag"
    has_tokens = f"any({IS_POISON} and it.start >= 6 for it in batch)"
    break_engines(tmp_path, f"{has_tokens} and {taken(flag)}", DIE)
    flags = ("--engine-timeout", "8") if "without end" in where else ()
    with start_tiny(*FLAGS, *flags) as server:
        if where != "while its old tokens are read":
            check_that_poison_alone_is_ended(server, poison)
            return
        flag.touch()
        streams = Streams(server.url, [*good_bodies(), poison])
        streams.run()
        assert not flag.exists()
        assert set(streams.errors) == {6}
        server.wait_idle()


def test_a_grammar_that_takes_longer_than_the_time_out_is_waited_for(
    start_tiny: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
        from octavo.engine.grammars import Grammars
        original = Grammars.constraint

        def slow(self, *arguments):
            time.sleep(9.0)
            return original(self, *arguments)

        Grammars.constraint = slow
        """
    monkeypatch.setenv("PYTHONPATH", patch(tmp_path, "octavo.engine.process", code))
    with start_tiny(*FLAGS, "--engine-timeout", "7") as server:
        answer = server.post(
            "/v1/completions", json={"prompt": "Hi", "max_tokens": 9, **FORM, "temperature": 0}
        )
        assert answer.status_code == 200 and answer.json()["choices"][0]["text"].isalpha()
        assert server.gauge("octavo_engine_restarts_total") == 0


def test_a_replacement_that_hangs_while_it_loads_is_followed_by_another(
    start_tiny: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second engine hangs; the front end is patched to lose patience sooner."""
    count = tmp_path / "starts"
    code = f"""
        from octavo.models import load
        original = load.load_runner

        def load_or_hang(*arguments):
            with open({str(count)!r}, "a+") as file:
                file.write("x")
                file.seek(0)
                if file.read() == "xx":
                    time.sleep(10**6)
            return original(*arguments)

        load.load_runner = load_or_hang
        """
    patch(tmp_path, "octavo.engine.process", code)
    with (tmp_path / "sitecustomize.py").open("a") as file:
        file.write(
            "if 'serve' in sys.orig_argv:\n"
            "    from octavo.engine import supervisor\n"
            "    supervisor.SHORTEST_START_LIMIT_S = 12.0\n"
        )
    flag = tmp_path / "flag"
    monkeypatch.setenv("PYTHONPATH", break_engines(tmp_path, once(flag, 6, 12), DIE))
    with start_tiny(*FLAGS) as server:
        quiet = Streams(server.url, good_bodies())
        quiet.run()
        flag.touch()
        streams = Streams(server.url, good_bodies())
        streams.run()
        assert not flag.exists()
        assert not streams.errors and streams.texts == quiet.texts
        assert server.gauge("octavo_engine_restarts_total") == 1
        assert "it has not loaded the model in" in server.log_path.read_text()
        assert count.read_text() == "xxx"

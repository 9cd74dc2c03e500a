"""Who is submitted when after an engine's death, and who not again."""

from pathlib import Path
from typing import Any

import pytest

from octavo.engine.errors import BadRequestError
from octavo.engine.flight_recorder import SIZE, FlightRecorder
from octavo.engine.kept_sequence import KeptSequence
from octavo.engine.messages import Submit
from octavo.engine.replay import MOST_QUARANTINED, Quarantine, Replay
from octavo.engine.sampling_params import SamplingParams
from octavo.engine.structured import StructuredOutput
from octavo.engine.trials import TRIAL_TOKENS


def sequence(name: str, prompt: int = 1) -> KeptSequence:
    return KeptSequence(Submit(name, [prompt], SamplingParams(), max_tokens=9, seed=1))


class Engine:
    """What was submitted, in which parcels."""

    def __init__(self) -> None:
        self.parcels: list[list[str]] = []
        self.replay = Replay(
            lambda sequences: self.parcels.append([c.submit.request_id for c in sequences])
        )


def pass_all(engine: Engine, sequences: list[KeptSequence]) -> None:
    """Each has got its first tokens."""
    for one in sequences:
        engine.replay.note_tokens(one, TRIAL_TOKENS)


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_nobody_suspected_all_go_on_at_once(engine: Engine) -> None:
    sequences = [sequence(name) for name in "abc"]
    assert engine.replay.note_death(sequences, set(), was_killed=True) == []
    engine.replay.begin(sequences)
    assert engine.parcels == [["a", "b", "c"]]


def test_suspects_follow_one_at_a_time_when_the_one_before_has_passed(engine: Engine) -> None:
    a, b, c, d = sequences = [sequence(name) for name in "abcd"]
    engine.replay.note_death(sequences, {"b", "c"}, was_killed=True)
    engine.replay.begin(sequences)
    pass_all(engine, [a, d])
    assert engine.parcels == [["a", "d"], ["b"]]
    engine.replay.note_tokens(b, 1)
    engine.replay.note_tokens(a, 5)
    assert len(engine.parcels) == 2, "one token is not enough"
    engine.replay.note_tokens(b, 1)
    assert engine.parcels[2:] == [["c"]]
    assert b.num_deaths == 0 and c.num_deaths == 1
    engine.replay.note_tokens(c, 2)
    assert len(engine.parcels) == 3


def test_who_comes_during_a_trial_waits_for_its_end(engine: Engine) -> None:
    a, late = sequence("a"), sequence("late")
    engine.replay.note_death([a], {"a"}, was_killed=False)
    engine.replay.begin([a])
    engine.replay.submit([late])
    assert engine.parcels == [["a"]]
    engine.replay.note_tokens(a, 2)
    assert engine.parcels == [["a"], ["late"]]
    engine.replay.submit([sequence("later")])
    assert engine.parcels[2:] == [["later"]]


def test_a_suspect_is_not_tried_together_with_others(engine: Engine) -> None:
    """Who was on trial when somebody else's step was the end is not blamed for the next, too."""
    innocent, poison, other = sequences = [sequence(name) for name in ("i", "p", "o")]
    engine.replay.note_death(sequences, {"i"}, was_killed=False)  # p was beyond suspicion
    engine.replay.begin(sequences)
    assert engine.parcels == [["p", "o"]]
    engine.replay.submit([sequence("late")])
    engine.replay.note_tokens(other, 2)
    assert engine.replay.note_death(sequences, {"p"}, was_killed=False) == []
    engine.replay.begin(sequences)
    pass_all(engine, [other, innocent])
    assert engine.parcels[1:] == [["o"], ["i"], ["p"]]
    assert engine.replay.note_death(sequences, {"p"}, was_killed=False) == [poison]
    assert (innocent.num_deaths, other.num_deaths) == (0, 0)


def test_who_ends_while_held_is_let_go(engine: Engine) -> None:
    a, late, later = sequence("a"), sequence("late"), sequence("later")
    engine.replay.note_death([a], {"a"}, was_killed=False)
    engine.replay.begin([a])
    engine.replay.submit([late, later])
    late.is_closed = True
    engine.replay.note_end(late)
    assert list(engine.replay._held.values()) == [later]  # nor is its prompt kept
    pass_all(engine, [a])
    assert engine.parcels == [["a"], ["later"]]


def test_who_leaves_during_its_trial_or_before_it_makes_room(engine: Engine) -> None:
    a, b, _ = sequences = [sequence(name) for name in "abc"]
    engine.replay.note_death(sequences, {"a", "b", "c"}, was_killed=False)
    engine.replay.begin(sequences)
    b.is_closed = True
    engine.replay.note_end(b)
    a.is_closed = True
    engine.replay.note_end(a)
    assert engine.parcels == [["a"], ["c"]]


@pytest.mark.parametrize(("was_killed", "limit"), [(False, 2), (True, 3)])
def test_guilty_is_who_dies_so_often_in_a_row(engine: Engine, was_killed: bool, limit: int) -> None:
    a = sequence("a")
    for _ in range(limit - 1):
        assert engine.replay.note_death([a], {"a"}, was_killed=was_killed) == []
        engine.replay.begin([a])
    engine.replay.note_tokens(a, 2)  # passed: it begins again
    for _ in range(limit - 1):
        assert engine.replay.note_death([a], {"a"}, was_killed=was_killed) == []
        engine.replay.begin([a])
    assert engine.replay.note_death([a], {"a"}, was_killed=was_killed) == [a]


def test_a_new_engine_counts_tokens_anew(engine: Engine) -> None:
    a = sequence("a")
    engine.replay.note_tokens(a, 1)
    engine.replay.note_death([a], {"a"}, was_killed=False)
    engine.replay.begin([a])
    engine.replay.note_tokens(a, 1)
    assert a.num_deaths == 1


def test_quarantine_knows_content_and_no_name_or_seed() -> None:
    quarantine = Quarantine()
    quarantine.add(sequence("a", prompt=5).submit)
    again = Submit("b", [5], SamplingParams(seed=7), max_tokens=9, seed=77, priority=3)
    with pytest.raises(BadRequestError, match="not taken again"):
        quarantine.check([sequence("c", prompt=6).submit, again])
    quarantine.check([sequence("a", prompt=6).submit])
    for number in range(MOST_QUARANTINED):
        quarantine.add(sequence("a", prompt=1000 + number).submit)
    assert len(quarantine) == MOST_QUARANTINED
    quarantine.check([again])  # the oldest is forgotten


@pytest.mark.parametrize(
    "others",
    [
        {"max_tokens": 5},
        {"n": 3},
        {"stop": ("end",)},
        {"stop": ("end",), "include_stop_str_in_output": True},
        {"skip_special_tokens": False},
        {"shown_special_tokens": ("<tool>",)},
    ],
    ids=lambda others: ", ".join(others),
)
def test_what_no_step_reads_makes_no_other_content(others: dict[str, Any]) -> None:
    quarantine = Quarantine()
    quarantine.add(sequence("a").submit)
    again = Submit("b", [1], SamplingParams(**others), others.get("max_tokens", 8), seed=1)
    with pytest.raises(BadRequestError, match="not taken again"):
        quarantine.check([again])


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({"temperature": 0.5}, {}),
        ({"logprobs": 1}, {}),
        ({"structured": StructuredOutput("regex", "a")}, {}),
        ({}, {"bad_words_ids": ((1, 2),)}),
    ],
)
def test_what_a_step_reads_does(params: dict[str, Any], fields: dict[str, Any]) -> None:
    quarantine = Quarantine()
    quarantine.add(sequence("a").submit)
    quarantine.check([Submit("b", [1], SamplingParams(**params), 9, seed=1, **fields)])


def test_what_is_submitted_again_has_the_tokens_that_came() -> None:
    one = sequence("a")
    assert one.to_submit() is one.submit
    one.token_ids += [4, 5]
    assert one.to_submit().output_token_ids == [4, 5]
    assert one.to_submit().prompt_token_ids == [1]


def test_a_record_outlives_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "flight"
    assert FlightRecorder.read(path) == set()
    FlightRecorder.create(path)
    assert FlightRecorder.read(path) == set()
    recorder = FlightRecorder(path)
    recorder.write({"cmpl-1", "cmpl-2#3"})
    assert FlightRecorder.read(path) == {"cmpl-1", "cmpl-2#3"}
    recorder.write(())
    assert FlightRecorder.read(path) == set()
    recorder.write(f"cmpl-{number:0100}" for number in range(20_000))  # more than there is room for
    found = FlightRecorder.read(path)
    assert 9_000 < len(found) < 10_000
    assert path.stat().st_size == SIZE


def test_a_torn_record_tells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "flight"
    path.write_bytes(b"\xff\xff\xff\x7fabc")
    assert FlightRecorder.read(path) == set()

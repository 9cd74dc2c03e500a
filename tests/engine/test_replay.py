"""Who is submitted when after an engine's death, and who not again."""

from pathlib import Path

import pytest

from octavo.engine.errors import BadRequestError
from octavo.engine.flight_recorder import SIZE, FlightRecorder
from octavo.engine.kept_sequence import KeptSequence
from octavo.engine.messages import Submit
from octavo.engine.replay import MOST_QUARANTINED, Quarantine, Replay
from octavo.engine.sampling_params import SamplingParams


def sequence(name: str, prompt: int = 1) -> KeptSequence:
    return KeptSequence(Submit(name, [prompt], SamplingParams(), max_tokens=9, seed=1))


class Engine:
    """What was submitted, in which parcels."""

    def __init__(self) -> None:
        self.parcels: list[list[str]] = []
        self.replay = Replay(
            lambda sequences: self.parcels.append([c.submit.request_id for c in sequences])
        )


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_nobody_suspected_all_go_on_at_once(engine: Engine) -> None:
    sequences = [sequence(name) for name in "abc"]
    assert engine.replay.note_death(sequences, set(), was_killed=True) == []
    engine.replay.begin(sequences)
    assert engine.parcels == [["a", "b", "c"]]


def test_suspects_follow_one_at_a_time_when_the_one_before_has_passed(engine: Engine) -> None:
    a, b, c, _ = sequences = [sequence(name) for name in "abcd"]
    engine.replay.note_death(sequences, {"b", "c"}, was_killed=True)
    engine.replay.begin(sequences)
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

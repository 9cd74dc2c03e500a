import json
from itertools import islice
from pathlib import Path

import pytest

from octavo.bench import BenchError, MultiTurn, RandomPrompts, SharedPrefix, ShareGPT
from octavo.bench.words import WORDS


def first(workload, seed, count=8):
    return list(islice(workload.conversations(seed), count))


SHAREGPT = [
    {"conversations": [{"from": "human", "value": f"Question {n}?"}, {"value": "x" * 40}]}
    for n in range(6)
]


@pytest.fixture
def sharegpt_file(tmp_path: Path) -> Path:
    path = tmp_path / "sharegpt.json"
    path.write_text(json.dumps(SHAREGPT))
    return path


@pytest.mark.parametrize(
    "workload",
    [
        RandomPrompts(20, 5, 0.5),
        SharedPrefix(16, 2, 4, 5, 0.5),
        MultiTurn(3, 6, 5, 0.5),
        ShareGPT(tuple((f"question {n}", "answer") for n in range(20))),
    ],
    ids=lambda workload: type(workload).__name__,
)
def test_prompts_are_a_function_of_the_seed(workload) -> None:
    assert first(workload, 3) == first(workload, 3)
    assert first(workload, 3) != first(workload, 4)


def test_random_prompts_stay_the_same_between_versions() -> None:
    [conversation] = first(RandomPrompts(6, 3), 0, count=1)
    assert conversation.turns[0].text == "city will separate sheet mountain light"
    assert conversation.turns[0].output_len == 3


def test_words_are_many_and_different() -> None:
    assert len(WORDS) == len(set(WORDS)) > 300


def test_lengths_vary_by_the_ratio_and_reach_both_ends() -> None:
    turns = [c.turns[0] for c in first(RandomPrompts(10, 20, 0.3), 1, count=500)]
    assert {len(turn.text.split()) for turn in turns} == set(range(7, 14))
    assert {turn.output_len for turn in turns} == set(range(14, 27))


def test_shared_prefixes_are_as_many_as_asked_for() -> None:
    prompts = [c.turns[0].text.split() for c in first(SharedPrefix(12, 3, 4, 5), 1, count=60)]
    assert {len(words) for words in prompts} == {16}
    assert len({tuple(words[:12]) for words in prompts}) == 3
    assert len({tuple(words[12:]) for words in prompts}) == 60


def test_multi_turn_has_its_turns() -> None:
    [conversation] = first(MultiTurn(turns=3, input_len=4, output_len=9), 0, count=1)
    assert [len(turn.text.split()) for turn in conversation.turns] == [4, 4, 4]
    assert [turn.output_len for turn in conversation.turns] == [9, 9, 9]


def test_sharegpt_asks_everything_once_before_anything_twice(sharegpt_file: Path) -> None:
    workload = ShareGPT.read(sharegpt_file)
    asked = [c.turns[0].text for c in first(workload, 0, count=12)]
    questions = {f"Question {n}?" for n in range(6)}
    assert set(asked[:6]) == questions and set(asked[6:]) == questions
    assert {c.turns[0].output_len for c in first(workload, 0)} == {10}  # 40 characters


def test_sharegpt_leaves_out_what_is_too_long_or_no_exchange(tmp_path: Path) -> None:
    path = tmp_path / "mixed.json"
    long = [{"value": "y" * 400}, {"value": "z"}]
    odd = [{}, {"conversations": []}, {"conversations": [{"value": 3}, {"value": "a"}]}, "text"]
    path.write_text(json.dumps([*SHAREGPT[:1], {"conversations": long}, *odd]))
    workload = ShareGPT.read(path, output_len=4, max_input_len=99)
    assert workload.pairs == (("Question 0?", "x" * 40),)
    assert first(workload, 0, count=1)[0].turns[0].output_len == 4


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', "[[1, 2]]"])
def test_a_file_without_conversations_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(BenchError, match=r"bad\.json"):
        ShareGPT.read(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomPrompts(0, 5),
        lambda: RandomPrompts(5, 0),
        lambda: RandomPrompts(5, 5, 1.0),
        lambda: SharedPrefix(0, 1),
        lambda: MultiTurn(turns=0),
    ],
)
def test_impossible_lengths_are_refused(make) -> None:
    with pytest.raises(BenchError):
        make()

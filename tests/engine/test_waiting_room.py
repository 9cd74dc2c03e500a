"""How many choices may be open: those whose prompts are still being made are counted too."""

import pytest

from octavo.engine.errors import BadRequestError, OverloadedError
from octavo.engine.waiting_room import WaitingRoom


def room(max_open: int, max_tokens: int = 0) -> WaitingRoom:
    return WaitingRoom(max_open, max_tokens, 0.0, lambda choice, reason: None)


def test_what_is_prepared_takes_room_until_it_is_ready() -> None:
    waiting = room(3)
    with waiting.preparing(1, 1), waiting.preparing(1, 1):
        for entry in (lambda: waiting.preparing(1, 1).__enter__(), lambda: waiting.check(1, 1, 5)):
            with pytest.raises(OverloadedError, match="3 sequences are open and 1 more exceed"):
                entry()
        waiting.check(0, 1, 5)
    waiting.check(1, 2, 5)


def test_room_comes_back_from_a_preparation_that_fails() -> None:
    waiting = room(1)
    with pytest.raises(ValueError, match="no"), waiting.preparing(0, 1):
        raise ValueError("no")
    waiting.check(0, 1, 5)


def test_a_request_that_never_fits_is_not_told_to_come_again() -> None:
    waiting = room(3)
    with pytest.raises(BadRequestError, match=r"4 choices.*more than 3 \(--max-num-seqs") as caught:
        waiting.check(0, 4, 4)
    assert caught.value.param == "n"
    with pytest.raises(OverloadedError):
        waiting.check(1, 3, 3)


def test_a_full_queue_of_tokens_refuses_before_a_prompt_is_made() -> None:
    waiting = room(9, max_tokens=10)
    waiting.num_tokens = 11
    with pytest.raises(OverloadedError, match="--max-queued-tokens"):
        waiting.preparing(1, 1).__enter__()

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

from octavo.engine.detokenizer import Detokenizer, StopStringMatcher
from octavo.engine.tokenizer import Tokenizer
from octavo.models.resolve import resolve_model
from octavo.models.tokenizer_files import TokenizerFiles, load_tokenizer_files

TEXTS = st.text(
    st.sampled_from("ab 中文😀é👨‍👩‍👧\n\x00") | st.characters(exclude_categories=["Cs"])
)


@pytest.fixture(scope="module")
def smollm2(smollm2_gguf: Path) -> Tokenizer:
    return Tokenizer(load_tokenizer_files(resolve_model(str(smollm2_gguf), smollm2_gguf.parent)))


def push_all(detokenizer: Detokenizer, ids: list[int], sizes: list[int]) -> list[str]:
    """Texts of pushes of these sizes, repeated, and of the flush."""
    texts, begin, turn = [], 0, 0
    while begin < len(ids):
        size = sizes[turn % len(sizes)]
        texts.append(detokenizer.push(ids[begin : begin + size]))
        begin, turn = begin + size, turn + 1
    return [*texts, detokenizer.flush()]


@given(
    ids=st.lists(st.integers(0, 49151) | st.integers(0, 300), max_size=60),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    skip=st.booleans(),
)
@settings(deadline=None)
def test_pieces_of_random_tokens_join_to_their_decoding(
    smollm2: Tokenizer, ids: list[int], sizes: list[int], skip: bool
) -> None:
    pieces = push_all(Detokenizer(smollm2, skip_special_tokens=skip), ids, sizes)
    assert "".join(pieces) == smollm2.decode(ids, skip_special_tokens=skip)


@given(text=TEXTS)
@settings(deadline=None)
def test_no_piece_of_a_text_has_part_of_a_character(smollm2: Tokenizer, text: str) -> None:
    ids = smollm2.encode(text, add_special_tokens=False)
    pieces = push_all(Detokenizer(smollm2, skip_special_tokens=False), ids, [1])
    text = smollm2.decode(ids, skip_special_tokens=False)  # a few bytes are in no token
    assert "".join(pieces) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


def test_emoji_appears_with_its_last_token(smollm2: Tokenizer) -> None:
    ids = smollm2.encode("🍕", add_special_tokens=False)
    assert len(ids) > 1
    detokenizer = Detokenizer(smollm2)
    assert [detokenizer.push([token]) for token in ids] == [""] * (len(ids) - 1) + ["🍕"]
    assert detokenizer.flush() == ""


def test_cut_character_is_replaced_at_the_end(smollm2: Tokenizer) -> None:
    detokenizer = Detokenizer(smollm2)
    ids = smollm2.encode("a🍕", add_special_tokens=False)
    assert detokenizer.push(ids[:-1]) == "a"
    assert detokenizer.flush() == "\ufffd"


def test_sentence_piece_text_continues_the_prompt_with_its_space() -> None:
    vocabulary = {"▁Hello": 0, "▁world": 1, "<0xE4>": 2, "<0xB8>": 3, "<0xAD>": 4, "!": 5}
    backend = Backend(models.BPE(vocabulary, []))
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer = Tokenizer(TokenizerFiles(backend))
    pieces = push_all(Detokenizer(tokenizer), [1, 2, 3, 4, 5], [1])
    assert pieces == [" world", "", "", "中", "!", ""]
    assert tokenizer.decode([0]) + "".join(pieces) == tokenizer.decode([0, 1, 2, 3, 4, 5])


def test_cost_of_a_token_does_not_grow_with_the_text(smollm2: Tokenizer) -> None:
    detokenizer = Detokenizer(smollm2)
    begin = time.thread_time()
    for _ in range(50_000):
        detokenizer.push([1000])
    assert time.thread_time() - begin < 5.0


def first_stop(text: str, stop: tuple[str, ...]) -> tuple[int, str] | None:
    """Plainly: where the text first ends with a stop string, and the longest that it ends with."""
    for end in range(1, len(text) + 1):
        matches = [pattern for pattern in stop if text[:end].endswith(pattern)]
        if matches:
            return end, max(matches, key=len)
    return None


def longest_hold(text: str, stop: tuple[str, ...]) -> int:
    """Plainly: how much of the text's end may be the beginning of a stop string."""
    return max(
        size
        for size in range(len(text) + 1)
        if any(pattern.startswith(text[len(text) - size :]) for pattern in stop)
    )


@given(
    pieces=st.lists(st.text("abc", max_size=5), max_size=12),
    stop=st.lists(st.text("abc", min_size=1, max_size=7), min_size=1, max_size=4),
    include=st.booleans(),
)
def test_matcher_equals_a_plain_search(pieces: list[str], stop: list[str], include: bool) -> None:
    patterns = tuple(stop)
    matcher = StopStringMatcher(patterns, include=include)
    seen, shown = "", ""
    for piece in pieces:
        seen += piece
        text, matched = matcher.push(piece)
        shown += text
        found = first_stop(seen, patterns)
        assert matched == (None if found is None else found[1])
        if found is not None:
            end, pattern = found
            assert shown == seen[: end if include else end - len(pattern)]
            return
        assert shown == seen[: len(seen) - longest_hold(seen, patterns)]
    assert shown + matcher.flush() == seen


def test_stop_string_over_several_pieces_is_found_and_left_out() -> None:
    matcher = StopStringMatcher(("\n\nQ:",))
    assert matcher.push("An answer.\n") == ("An answer.", None)
    assert matcher.push("\nQ") == ("", None)
    assert matcher.push(": more") == ("", "\n\nQ:")


def test_included_stop_string_is_given_out_without_what_follows() -> None:
    matcher = StopStringMatcher(("END",), include=True)
    assert matcher.push("the EN") == ("the ", None)
    assert matcher.push("D is near") == ("END", "END")


def test_text_that_was_held_in_vain_comes_with_the_next_piece_or_the_flush() -> None:
    matcher = StopStringMatcher(("abcd",))
    assert matcher.push("xabc") == ("x", None)
    assert matcher.push("abc") == ("abc", None)
    assert matcher.flush() == "abc"


def test_cost_of_a_character_does_not_grow_with_the_stop_string() -> None:
    matcher = StopStringMatcher(("a" * 1_000_000 + "b", "c" * 1_000_000))
    begin = time.thread_time()
    for _ in range(20_000):
        assert matcher.push("aaaa") == ("", None)
    assert time.thread_time() - begin < 5.0

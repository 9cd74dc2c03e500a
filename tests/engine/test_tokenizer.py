from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

from octavo.engine.errors import BadRequestError
from octavo.engine.tokenizer import Tokenizer
from octavo.models.resolve import resolve_model
from octavo.models.tokenizer_files import TokenizerFiles, load_tokenizer_files


@pytest.fixture(scope="module")
def smollm2(smollm2_gguf: Path) -> Tokenizer:
    return Tokenizer(load_tokenizer_files(resolve_model(str(smollm2_gguf), smollm2_gguf.parent)))


def test_special_tokens_in_a_text_are_those_tokens(smollm2: Tokenizer) -> None:
    assert smollm2.encode("<|im_start|>a<|im_end|>", add_special_tokens=False)[::2] == [1, 2]
    assert smollm2.special_ids == frozenset(range(17))
    assert smollm2.vocab_size == 49152


def test_decode_leaves_out_special_tokens_unless_asked(smollm2: Tokenizer) -> None:
    ids = smollm2.encode("hi<|im_end|>", add_special_tokens=False)
    assert smollm2.decode(ids) == "hi"
    assert smollm2.decode(ids, skip_special_tokens=False) == "hi<|im_end|>"


@pytest.mark.parametrize("unknown", [-1, 49152, 2**32, 2**70])
def test_unknown_ids_add_nothing(smollm2: Tokenizer, unknown: int) -> None:
    ids = smollm2.encode("hi", add_special_tokens=False)
    assert smollm2.decode([unknown, *ids]) == "hi"
    assert smollm2.token_bytes(unknown) == b""


def test_half_a_surrogate_pair_is_a_bad_request(smollm2: Tokenizer) -> None:
    with pytest.raises(BadRequestError, match="surrogate"):
        smollm2.encode("a\ud83d", add_special_tokens=True)


def test_bytes_of_tokens_make_up_the_bytes_of_the_text(smollm2: Tokenizer) -> None:
    for text in ("Hello, wörld!\n\t", "今天天气", "😀👨‍👩‍👧", "a\x00b\x7f\xa0"):
        ids = smollm2.encode(text, add_special_tokens=False)
        assert b"".join(map(smollm2.token_bytes, ids)) == text.encode()


def test_every_token_has_bytes_and_part_of_a_character_shows_as_replacement(
    smollm2: Tokenizer,
) -> None:
    assert all(smollm2.token_bytes(token_id) for token_id in range(smollm2.vocab_size))
    part = smollm2.encode("😀", add_special_tokens=False)[-1]
    assert smollm2.token_text(part) == "\ufffd"


def test_pieces_spell_spaces_and_bytes() -> None:
    backend = Backend(models.BPE({"<0xE4>": 0, "▁a": 1, "<0xZZ>": 2, "▁": 3}, []))
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    tokenizer = Tokenizer(TokenizerFiles(backend))
    assert [tokenizer.token_bytes(i) for i in range(4)] == [b"\xe4", b" a", b"<0xZZ>", b" "]


def test_given_chat_template_replaces_that_of_the_model() -> None:
    files = TokenizerFiles(Backend(models.BPE()), chat_template="model's")
    assert Tokenizer(files).chat_template == "model's"
    assert Tokenizer(files, chat_template="").chat_template == ""

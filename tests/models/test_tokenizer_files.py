import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from octavo.models.errors import ModelFormatError, UnsupportedModelError
from octavo.models.gguf_tokenizer import tokenizer_from_gguf
from octavo.models.resolve import ModelFiles
from octavo.models.tokenizer_files import TokenizerFiles, load_tokenizer_files

from .conftest import BYTE_LEVEL_VOCABULARY, MakeGGUF

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@pytest.fixture(scope="module")
def smollm2(smollm2_gguf: Path) -> TokenizerFiles:
    return load_tokenizer_files(
        ModelFiles("smollm2", "gguf", smollm2_gguf, (smollm2_gguf,)),
    )


def encode(tokenizer: Tokenizer, text: str, add_special_tokens: bool = False) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
    return ids


def test_smollm2_has_its_special_tokens(smollm2: TokenizerFiles) -> None:
    assert smollm2.tokenizer.token_to_id("<|endoftext|>") == 0
    assert smollm2.tokenizer.token_to_id("<|im_start|>") == 1
    assert smollm2.tokenizer.token_to_id("<|im_end|>") == 2
    assert smollm2.tokenizer.get_vocab_size() == 49152
    assert (smollm2.bos_token, smollm2.bos_token_id) == ("<|im_start|>", 1)
    assert (smollm2.eos_token, smollm2.eos_token_ids) == ("<|im_end|>", (2,))
    assert smollm2.chat_template is not None
    assert "<|im_start|>" in smollm2.chat_template
    added = smollm2.tokenizer.get_added_tokens_decoder()
    assert sorted(added) == list(range(17))
    assert all(token.special for token in added.values())


def test_smollm2_tokenizes_as_published(smollm2: TokenizerFiles) -> None:
    tokenizer = smollm2.tokenizer
    assert encode(tokenizer, "Hello world", add_special_tokens=True) == [19556, 905]
    assert encode(tokenizer, "<|im_start|>user\nhi<|im_end|>") == [1, 4093, 198, 6004, 2]
    digits = encode(tokenizer, "4567")
    assert [tokenizer.id_to_token(token) for token in digits] == ["4", "5", "6", "7"]


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox, isn't it?",
        "def f(x):\n\treturn {x: 1_000}  # ok\n\n\n",
        "今天天气很好，我们去公园吧。",
        "😀 I ❤️ pizza 🍕👨‍👩‍👧",
        " \t leading and trailing  ",
        "e\u0301 é \u0000 \ufffd",
        "",
    ],
)
def test_smollm2_gives_texts_back(smollm2: TokenizerFiles, text: str) -> None:
    assert smollm2.tokenizer.decode(encode(smollm2.tokenizer, text)) == text


def byte_level(pre: str | None, **more: Any) -> Tokenizer:
    metadata = {**BYTE_LEVEL_VOCABULARY, "tokenizer.ggml.pre": pre, **more}
    return tokenizer_from_gguf(metadata)


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("gpt-2", "I ' LL Ġwait Ġ12345 ĊĊĠ Ġnow"),
        (None, "I ' LL Ġwait Ġ12345 ĊĊĠ Ġnow"),
        ("smollm", "I ' LL Ġwait Ġ 1 2 3 4 5 ĊĊĠ Ġnow"),
        ("llama-bpe", "I 'LL Ġwait Ġ 123 45 ĊĊ Ġ Ġnow"),
        ("qwen2", "I 'LL Ġwait Ġ 1 2 3 4 5 ĊĊ Ġ Ġnow"),
    ],
)
def test_each_rule_splits_as_its_models_do(pre: str | None, pieces: str) -> None:
    found = byte_level(pre).pre_tokenizer.pre_tokenize_str("I'LL wait 12345\n\n  now")
    assert [piece for piece, _ in found] == pieces.split()


def test_rules_differ_in_normalisation_merges_and_bos() -> None:
    assert byte_level("qwen2").normalizer.normalize_str("e\u0301") == "é"
    for pre in ("gpt-2", "smollm", "llama-bpe"):
        assert byte_level(pre).normalizer is None
    assert encode(byte_level("llama-bpe"), "ab", add_special_tokens=True) == [0, 5]
    assert encode(byte_level("smollm"), "ab", add_special_tokens=True) == [5]
    merges = {"tokenizer.ggml.merges": ["a b"]}  # none makes "abc"
    assert encode(byte_level("llama-bpe", **merges), "abc") == [6]
    assert encode(byte_level("smollm", **merges), "abc") == [5, 3]


def test_bos_and_eos_are_added_as_the_file_says() -> None:
    key = "tokenizer.ggml.add_bos_token"
    assert encode(byte_level("smollm", **{key: True}), "a", add_special_tokens=True) == [0, 1]
    assert encode(byte_level("llama-bpe", **{key: False}), "a", add_special_tokens=True) == [1]
    assert encode(byte_level("smollm", **{key: True}), "a") == [1]
    both = {key: True, "tokenizer.ggml.add_eos_token": True}
    assert encode(byte_level("smollm", **both), "a", add_special_tokens=True) == [0, 1, 0]


def test_control_and_user_defined_tokens_are_whole_but_only_control_is_special() -> None:
    tokenizer = byte_level("smollm")
    assert encode(tokenizer, "a<|end|>b<extra>c") == [1, 0, 2, 8, 3]
    assert tokenizer.decode([1, 0, 2, 8, 3], skip_special_tokens=True) == "ab<extra>c"
    assert tokenizer.decode([1, 0, 2, 8, 3], skip_special_tokens=False) == "a<|end|>b<extra>c"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tokenizer.ggml.model", None, "'tokenizer.ggml.model' is missing"),
        ("tokenizer.ggml.tokens", None, "'tokenizer.ggml.tokens' is missing"),
        ("tokenizer.ggml.tokens", [1, 2], "'tokenizer.ggml.tokens' must be a list of str"),
        ("tokenizer.ggml.merges", ["ab"], "'ab' in 'tokenizer.ggml.merges' is no pair"),
        ("tokenizer.ggml.merges", ["x y"], "the vocabulary is not sound"),
        ("tokenizer.ggml.add_bos_token", 1, "must be true or false"),
    ],
)
def test_unsound_vocabulary_is_a_format_error_naming_the_file(
    make_gguf: MakeGGUF, key: str, value: object, message: str
) -> None:
    path = make_gguf(metadata={**BYTE_LEVEL_VOCABULARY, key: value})
    with pytest.raises(ModelFormatError, match=message) as raised:
        load_tokenizer_files(ModelFiles("tiny", "gguf", path, (path,)))
    assert "tiny.gguf: " in str(raised.value)


def test_special_token_outside_the_vocabulary_is_a_format_error() -> None:
    more = {"tokenizer.ggml.bos_token_id": 99, "tokenizer.ggml.add_bos_token": True}
    with pytest.raises(ModelFormatError, match="bos_token_id' is 99, but there are 10 tokens"):
        byte_level("smollm", **more)


def test_unknown_kind_or_rule_is_named_with_what_is_supported() -> None:
    with pytest.raises(UnsupportedModelError, match=r"'tekken'.*gpt-2, default, smollm, llama-bpe"):
        byte_level("tekken")
    with pytest.raises(UnsupportedModelError, match=r"'bert'.*gpt2, llama"):
        byte_level("smollm", **{"tokenizer.ggml.model": "bert"})


def test_end_of_turn_counts_as_end_though_the_file_does_not_name_it(make_gguf: MakeGGUF) -> None:
    metadata = dict(BYTE_LEVEL_VOCABULARY)
    metadata["tokenizer.ggml.tokens"] = [*metadata["tokenizer.ggml.tokens"][:-1], "<|eot_id|>"]
    metadata["tokenizer.ggml.token_type"] = [*metadata["tokenizer.ggml.token_type"][:-1], 3]
    path = make_gguf(metadata=metadata)
    files = load_tokenizer_files(ModelFiles("tiny", "gguf", path, (path,)))
    assert files.eos_token_ids == (0, 9)
    assert files.chat_template == "{{ messages }}"


def sentence_piece_metadata(pieces: dict[str, float]) -> dict[str, Any]:
    tokens = ["<unk>", "<s>", "</s>", *BYTES, *pieces]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * 259 + list(pieces.values()),
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * len(pieces)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def merge_by_score(text: str, pieces: dict[str, float]) -> list[str]:
    """SentencePiece's BPE, plainly: join the best-scored neighbours, the leftmost of equals."""
    symbols = list(text)
    while True:
        joins = [
            (-pieces[left + right], i)
            for i, (left, right) in enumerate(itertools.pairwise(symbols))
            if left + right in pieces
        ]
        if not joins:
            return symbols
        _, i = min(joins)
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]


def test_sentence_piece_merges_best_scored_neighbours_first() -> None:
    rng = random.Random(4)
    alphabet = "▁abc"
    words = {"".join(rng.choices(alphabet, k=rng.randint(2, 5))) for _ in range(60)}
    # Scores fall with the rank, as in real models; single characters come last there.
    ordered = [*sorted(words, key=lambda word: (len(word), rng.random())), *alphabet]
    pieces = {piece: -float(rank) for rank, piece in enumerate(ordered)}
    tokenizer = tokenizer_from_gguf(sentence_piece_metadata(pieces))
    for _ in range(300):
        text = "".join(rng.choices(" abc", k=rng.randint(1, 20)))
        expected = merge_by_score("▁" + text.replace(" ", "▁"), pieces)
        assert tokenizer.encode(text, add_special_tokens=False).tokens == expected


def test_sentence_piece_falls_back_to_bytes_and_gives_texts_back() -> None:
    pieces = {"▁a": -1.0, "▁": -2.0, "a": -3.0, "b": -4.0}
    tokenizer = tokenizer_from_gguf(sentence_piece_metadata(pieces))
    encoding = tokenizer.encode("a 中b")
    assert encoding.tokens == ["<s>", "▁a", "▁", "<0xE4>", "<0xB8>", "<0xAD>", "b"]
    assert encoding.ids[:2] == [1, 259]
    for text in ("a 中b", " a", "😀\n\ta  b", "b</s>a"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False).replace("> ", ">") == text


def test_sentence_piece_space_and_bos_can_be_switched_off() -> None:
    metadata = sentence_piece_metadata({"▁a": -1.0, "▁": -2.0, "a": -3.0})
    metadata["tokenizer.ggml.add_space_prefix"] = False
    metadata["tokenizer.ggml.add_bos_token"] = False
    tokenizer = tokenizer_from_gguf(metadata)
    assert tokenizer.encode("a a").tokens == ["a", "▁a"]
    assert tokenizer.decode(tokenizer.encode(" a").ids) == " a"


def test_sentence_piece_scores_must_match_the_tokens() -> None:
    metadata = sentence_piece_metadata({"a": -1.0})
    metadata["tokenizer.ggml.scores"].pop()
    with pytest.raises(ModelFormatError, match="259 entries for 260 tokens"):
        tokenizer_from_gguf(metadata)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with a tokenizer.json of one token a byte, and <s>, </s>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def load(folder: Path, **companions: Any) -> TokenizerFiles:
    for name, content in companions.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return load_tokenizer_files(ModelFiles("tiny", "safetensors", folder, ()))


def test_tokenizer_json_suffices(folder: Path) -> None:
    files = load(folder)
    assert files.chat_template is None and files.bos_token_id is None
    assert files.eos_token_ids == ()


def test_limits_left_in_tokenizer_json_do_not_cut_prompts(folder: Path) -> None:
    assert len(encode(load(folder).tokenizer, "a longer text")) == 13
    assert len(encode(load(folder).tokenizer, "a")) == 1


def test_end_tokens_are_gathered_from_every_companion(folder: Path) -> None:
    files = load(
        folder,
        generation_config={"eos_token_id": [3, 257], "temperature": 0.6},
        config={"eos_token_id": 4},
        tokenizer_config={"eos_token": {"content": "</s>"}, "bos_token": "<s>"},
    )
    assert files.eos_token_ids == (3, 257, 4)
    assert (files.bos_token, files.bos_token_id) == ("<s>", 256)
    assert files.generation_defaults["temperature"] == 0.6


def test_explicit_choice_of_bos_replaces_that_of_tokenizer_json(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 256)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    bos = {"bos_token": "<s>"}
    for settings, begins in ((bos, True), ({**bos, "add_bos_token": False}, False)):
        ids = encode(load(folder, tokenizer_config=settings).tokenizer, "a", True)
        assert (ids[0] == 256) == begins
    ids = encode(load(folder, tokenizer_config={**bos, "add_bos_token": True}).tokenizer, "a", True)
    assert ids[0] == 256 and len(ids) == 2


def test_chat_template_of_its_own_file_comes_first(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("own — file", encoding="utf-8")
    assert load(folder, tokenizer_config={"chat_template": "x"}).chat_template == "own — file"


def test_chat_template_may_be_one_or_several_by_name(folder: Path) -> None:
    assert load(folder, tokenizer_config={"chat_template": "x"}).chat_template == "x"
    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    assert load(folder, tokenizer_config={"chat_template": several}).chat_template == "d"
    assert load(folder, tokenizer_config={"chat_template": several[:1]}).chat_template == "t"
    for odd in ([], [1], {}, 5, None):
        assert load(folder, tokenizer_config={"chat_template": odd}).chat_template is None


def test_sentence_piece_model_alone_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"tokenizer\.json is missing"):
        load(tmp_path)
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(UnsupportedModelError, match=r"tokenizer\.model.*save_pretrained"):
        load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": {"type": "X"}}', "\0" * 9])
def test_unsound_tokenizer_json_is_a_format_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelFormatError, match=r"tokenizer\.json: not a tokenizer"):
        load(tmp_path)


def test_unsound_companion_is_named(folder: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"generation_config\.json: not a JSON object"):
        load(folder, generation_config=[])
    with pytest.raises(ModelFormatError, match=r"generation_config\.json: 'eos_token_id' must be"):
        load(folder, generation_config={"eos_token_id": "</s>"})

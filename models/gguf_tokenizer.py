"""A `tokenizers` object from the vocabulary that a GGUF file carries.

Two kinds exist: byte-level BPE ("gpt2"), whose splitting rule the file only names, and
SentencePiece BPE ("llama"), whose merges follow from the scores of its tokens.
"""

from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pre

from .errors import ModelError, ModelFormatError, UnsupportedModelError
from .metadata import Metadata
from .special_tokens import add_at_ends

# Token types of the GGUF specification. Those of the last kind are matched whole in a text.
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4

_LONGEST_PIECE = 256  # SentencePiece trains none above 16 by default; bounds the search for merges

# The splitting rules of the models that these names stand for, as their tokenizer.json has them.
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class _Rule:
    """How a byte-level vocabulary was trained: how text is split, and what surrounds that."""

    split: str = ""  # a regex; empty: GPT-2's, which the byte-level step has built in
    splits_digits: bool = False
    normalizes: bool = False  # to Unicode's NFC
    ignores_merges: bool = False  # a word that is a token needs no merges
    adds_bos: bool = False


_GPT2 = _Rule()
_SMOLLM = _Rule(splits_digits=True)
_LLAMA3 = _Rule(_LLAMA3_SPLIT, ignores_merges=True, adds_bos=True)
_QWEN2 = _Rule(_QWEN2_SPLIT, normalizes=True)
_RULES = {
    "gpt-2": _GPT2,
    "default": _GPT2,
    "smollm": _SMOLLM,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
}


def tokenizer_from_gguf(metadata: dict[str, Any]) -> Tokenizer:
    """Build the tokenizer.

    Raises ModelFormatError (naming a key, not the file), UnsupportedModelError.
    """
    values = Metadata(metadata, "tokenizer.ggml.")
    kind = values.text("model")
    tokens = _list_of(values, "tokens", str)
    if not tokens:
        raise ModelFormatError("the key 'tokenizer.ggml.tokens' is missing")
    if kind not in ("gpt2", "llama"):
        raise UnsupportedModelError(
            f"tokenizer {kind!r} is not supported; supported are gpt2, llama"
        )
    try:
        if kind == "gpt2":
            rule = _rule(values)
            tokenizer, adds_bos = _byte_level(values, tokens, rule), rule.adds_bos
        else:
            tokenizer, adds_bos = _sentence_piece(values, tokens), True
        _mark_added(tokenizer, tokens, _list_of(values, "token_type", int))
        add_at_ends(
            tokenizer,
            bos=_token(values, tokens, "bos") if values.flag("add_bos_token", adds_bos) else None,
            eos=_token(values, tokens, "eos") if values.flag("add_eos_token", False) else None,
        )
    except ModelError:
        raise
    except Exception as error:  # the library raises plain Exception for a bad vocabulary
        raise ModelFormatError(f"the vocabulary is not sound: {error}") from None
    return tokenizer


def _rule(values: Metadata) -> _Rule:
    name = values.text("pre", "default")
    if name not in _RULES:
        raise UnsupportedModelError(
            f"pre-tokenizer {name!r} is not supported; supported are {', '.join(_RULES)}"
        )
    return _RULES[name]


def _byte_level(values: Metadata, tokens: list[str], rule: _Rule) -> Tokenizer:
    merges = [_split_merge(merge) for merge in _list_of(values, "merges", str)]
    vocabulary = {text: token_id for token_id, text in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=rule.ignores_merges))
    if rule.normalizes:
        tokenizer.normalizer = normalizers.NFC()
    steps: list[pre.PreTokenizer] = []
    if rule.splits_digits:
        steps.append(pre.Digits(individual_digits=True))
    if rule.split:
        steps.append(pre.Split(Regex(rule.split), behavior="isolated"))
    steps.append(pre.ByteLevel(add_prefix_space=False, use_regex=not rule.split))
    tokenizer.pre_tokenizer = pre.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _split_merge(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    if not left or not right:
        raise ModelFormatError(f"{merge[:60]!r} in 'tokenizer.ggml.merges' is no pair of tokens")
    return left, right


def _sentence_piece(values: Metadata, tokens: list[str]) -> Tokenizer:
    scores = _list_of(values, "scores", float)
    if len(scores) != len(tokens):
        raise ModelFormatError(
            f"'tokenizer.ggml.scores' has {len(scores)} entries for {len(tokens)} tokens"
        )
    vocabulary = {text: token_id for token_id, text in enumerate(tokens)}
    unknown = _token(values, tokens, "unknown")
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary,
            _merges_by_score(vocabulary, scores),
            unk_token=tokens[0] if unknown is None else unknown[0],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    begins_with_space = values.flag("add_space_prefix", True)
    tokenizer.normalizer = normalizers.Sequence(
        [
            *([normalizers.Prepend("▁")] if begins_with_space else []),
            normalizers.Replace(" ", "▁"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *([decoders.Strip(" ", 1, 0)] if begins_with_space else []),
        ]
    )
    return tokenizer


def _merges_by_score(vocabulary: dict[str, int], scores: list[float]) -> list[tuple[str, str]]:
    """Every pair of tokens whose join is a token, the best-scored join first.

    Pairs of equal score come in the order that transformers' converter gives them: longer left
    parts first, then longer right parts, then earlier tokens.
    """
    ranked = []
    for text, token_id in vocabulary.items():
        if len(text) > _LONGEST_PIECE:
            continue
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in vocabulary and right in vocabulary:
                rank = (scores[token_id], len(left), len(right))
                ranked.append((rank, left, right))
    ranked.sort(key=lambda item: item[0], reverse=True)
    return [(left, right) for _, left, right in ranked]


def _mark_added(tokenizer: Tokenizer, tokens: list[str], types: list[int]) -> None:
    """Control and user-defined tokens are never split; control ones are left out of plain text."""
    special, plain = [], []
    for text, kind in zip(tokens, types, strict=False):
        if text and kind in (_UNKNOWN, _CONTROL):
            special.append(AddedToken(text, special=True, normalized=False))
        elif text and kind == _USER_DEFINED:
            plain.append(AddedToken(text, special=False, normalized=False))
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens(plain)


def _token(values: Metadata, tokens: list[str], role: str) -> tuple[str, int] | None:
    """The token that the file names for a role (bos, say), None if it names none."""
    key = f"{role}_token_id"
    if values.get(key) is None:
        return None
    token_id = values.integer(key)
    if not 0 <= token_id < len(tokens):
        raise ModelFormatError(
            f"'tokenizer.ggml.{key}' is {token_id}, but there are {len(tokens)} tokens"
        )
    return tokens[token_id], token_id


def _list_of(values: Metadata, key: str, kind: type) -> list[Any]:
    """A list of one kind of value; the header's arrays are of one kind throughout."""
    found = values.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or (found and not isinstance(found[0], kind)):
        raise ModelFormatError(f"'tokenizer.ggml.{key}' must be a list of {kind.__name__}")
    return found

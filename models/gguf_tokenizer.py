"""A `tokenizers` object from the vocabulary that a GGUF file carries.

Two kinds exist: byte-level BPE ("gpt2"), whose splitting rule the file only names, and
SentencePiece BPE ("llama"), whose merges follow from the scores of its tokens.
"""

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors
from tokenizers import pre_tokenizers as pre

from .errors import ModelFormatError, UnsupportedModelError

_CONTROL, _USER_DEFINED = 3, 4  # token types of the GGUF specification

# The splitting rules of the tokenizers that these names stand for, as their tokenizer.json has them.
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {
    "llama-bpe": _LLAMA3_SPLIT,
    "llama3": _LLAMA3_SPLIT,
    "llama-v3": _LLAMA3_SPLIT,
    "qwen2": _QWEN2_SPLIT,
    "deepseek-r1-qwen": _QWEN2_SPLIT,
}


def tokenizer_from_gguf(metadata: dict[str, Any], path: Path) -> Tokenizer:
    """Build the tokenizer. Raises ModelFormatError, UnsupportedModelError."""
    kind = metadata.get("tokenizer.ggml.model")
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens:
        raise ModelFormatError(f"{path}: the key 'tokenizer.ggml.tokens' is missing")
    types = metadata.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    try:
        if kind == "gpt2":
            tokenizer = _byte_level(metadata, tokens, path)
        elif kind == "llama":
            tokenizer = _sentence_piece(metadata, tokens)
        else:
            raise UnsupportedModelError(
                f"{path}: tokenizer {kind!r} is not supported; supported are gpt2, llama"
            )
    except UnsupportedModelError:
        raise
    except ModelFormatError:
        raise
    except Exception as error:  # the library raises plain Exception for a bad vocabulary
        raise ModelFormatError(f"{path}: the vocabulary is not sound: {error}") from None
    special = [
        AddedToken(text, special=type_ == _CONTROL, normalized=False)
        for text, type_ in zip(tokens, types, strict=False)
        if type_ in (_CONTROL, _USER_DEFINED)
    ]
    tokenizer.add_special_tokens([token for token in special if token.special])
    tokenizer.add_tokens([token for token in special if not token.special])
    bos = metadata.get("tokenizer.ggml.bos_token_id")
    if _adds_bos(metadata, kind) and isinstance(bos, int) and bos < len(tokens):
        tokenizer.post_processor = processors.Sequence(
            [
                *([processors.ByteLevel(trim_offsets=False)] if kind == "gpt2" else []),
                processors.TemplateProcessing(
                    single=[tokens[bos], "$A"],
                    pair=[tokens[bos], "$A", tokens[bos], "$B"],
                    special_tokens=[(tokens[bos], bos)],
                ),
            ]
        )
    return tokenizer


def _adds_bos(metadata: dict[str, Any], kind: str) -> bool:
    default = kind == "llama" or metadata.get("tokenizer.ggml.pre") in ("llama-bpe", "llama3")
    return bool(metadata.get("tokenizer.ggml.add_bos_token", default))


def _byte_level(metadata: dict[str, Any], tokens: list[str], path: Path) -> Tokenizer:
    merges = [
        _split_merge(merge, path) for merge in metadata.get("tokenizer.ggml.merges") or []
    ]
    name = metadata.get("tokenizer.ggml.pre", "default")
    vocabulary = {text: token_id for token_id, text in enumerate(tokens)}
    ignore_merges = name in ("llama-bpe", "llama3", "llama-v3")
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = _pre_tokenizer(str(name), path)
    tokenizer.decoder = decoders.ByteLevel()
    if name in ("qwen2", "deepseek-r1-qwen"):
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def _pre_tokenizer(name: str, path: Path) -> pre.PreTokenizer:
    if name in ("gpt-2", "gpt2", "default"):
        return pre.ByteLevel(add_prefix_space=False)
    if name == "smollm":
        return pre.Sequence(
            [pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]
        )
    if name in _SPLITS:
        split = pre.Split(Regex(_SPLITS[name]), behavior="isolated")
        return pre.Sequence([split, pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    raise UnsupportedModelError(
        f"{path}: pre-tokenizer {name!r} is not supported; supported are gpt-2, smollm, "
        f"{', '.join(_SPLITS)}"
    )


def _split_merge(merge: object, path: Path) -> tuple[str, str]:
    left, _, right = str(merge).partition(" ")
    if not left or not right:
        raise ModelFormatError(f"{path}: {merge!r} is not a merge of two tokens")
    return left, right


def _sentence_piece(metadata: dict[str, Any], tokens: list[str]) -> Tokenizer:
    """BPE over pieces: of two neighbours, the pair whose joined piece scores best merges first."""
    scores = metadata.get("tokenizer.ggml.scores") or [0.0] * len(tokens)
    vocabulary = {text: token_id for token_id, text in enumerate(tokens)}
    merges: list[tuple[float, int, int, tuple[str, str]]] = []
    for text, score in zip(tokens, scores, strict=False):
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in vocabulary and right in vocabulary:
                merges.append((-score, vocabulary[left], vocabulary[right], (left, right)))
    merges.sort(key=lambda merge: merge[:3])
    unknown = metadata.get("tokenizer.ggml.unknown_token_id", 0)
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary,
            [merge[3] for merge in merges],
            unk_token=tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefix = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
    tokenizer.normalizer = normalizers.Sequence(
        [*([normalizers.Prepend("▁")] if prefix else []), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *([decoders.Strip(" ", 1, 0)] if prefix else []),
        ]
    )
    return tokenizer

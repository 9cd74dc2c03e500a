"""Text to token ids and back, over a `tokenizers` object. Imports no torch."""

import json
from collections.abc import Sequence
from functools import cached_property

from tokenizers import decoders

from ..models.tokenizer_files import TokenizerFiles
from .errors import BadRequestError

_SPACE_MARK = "▁"
_MAX_ID = 2**32 - 1  # what the library can be asked about


class Tokenizer:
    """The served model's tokenizer. `chat_template` overrides the model's own."""

    def __init__(self, files: TokenizerFiles, chat_template: str | None = None) -> None:
        self._tokenizer = files.tokenizer
        self._tokenizer.encode_special_tokens = False  # "<|im_end|>" in a text is that token
        self.chat_template = files.chat_template if chat_template is None else chat_template
        self.bos_token = files.bos_token
        self.eos_token = files.eos_token
        self.bos_token_id = files.bos_token_id
        self.eos_token_ids = files.eos_token_ids
        self.generation_defaults = files.generation_defaults
        added = files.tokenizer.get_added_tokens_decoder()
        self._added = {token_id: token.content for token_id, token in added.items()}
        self.special_ids = frozenset(i for i, token in added.items() if token.special)
        self._spelling = _spelling_of(files.tokenizer.decoder)
        self._bytes: dict[int, bytes] = {}

    @cached_property
    def vocab_size(self) -> int:
        """Number of tokens the tokenizer knows; the model's may be larger by padding."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @cached_property
    def longest_token_bytes(self) -> int:
        """Bytes of the longest token, so characters of text that one token may stand for at most.

        Special tokens count too, since text may spell them.
        """
        texts = self._tokenizer.get_vocab(with_added_tokens=True)
        return max((len(text.encode()) for text in texts), default=1)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """Token ids of a text, with a leading BOS (say) if it is wanted and the model has one.

        Raises BadRequestError for a text that is no Unicode (JSON can hold half a surrogate pair).
        """
        try:
            # Unlike `encode`, the batch lets other threads run meanwhile.
            (encoding,) = self._tokenizer.encode_batch(
                [text], add_special_tokens=add_special_tokens
            )
        except (TypeError, UnicodeEncodeError):
            raise BadRequestError(
                "the text is not valid Unicode: it contains half of a surrogate pair"
            ) from None
        ids: list[int] = encoding.ids
        return ids

    def to_json(self) -> str:
        """The tokenizer as the text of a tokenizer.json."""
        text: str = self._tokenizer.to_str()
        return text

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of token ids; bytes that are no UTF-8 become U+FFFD, unknown ids nothing."""
        known = [token_id for token_id in token_ids if 0 <= token_id <= _MAX_ID]
        text: str = self._tokenizer.decode(known, skip_special_tokens=skip_special_tokens)
        return text

    def token_id(self, text: str) -> int | None:
        """The id of the one token that this text is, None if there is none."""
        token_id: int | None = self._tokenizer.token_to_id(text)
        return token_id

    def special_token_id(self, text: str) -> int | None:
        """The id of the special token that this text is, None if it is none."""
        token_id = self.token_id(text)
        return token_id if token_id in self.special_ids else None

    def token_text(self, token_id: int) -> str:
        """The text of one token on its own; half a character shows as U+FFFD."""
        return self.token_bytes(token_id).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token adds to a text. Ids the tokenizer does not know add none."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._spell(token_id)
            if known:  # what is remembered is bounded by the vocabulary
                self._bytes[token_id] = known
        return known

    def _spell(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode()
        text = self._tokenizer.id_to_token(token_id) if 0 <= token_id <= _MAX_ID else None
        if text is None:
            return b""
        if self._spelling == "bytes":
            try:
                return bytes(_BYTE_OF_CHARACTER[character] for character in text)
            except KeyError:
                return str(text).encode()
        if self._spelling == "pieces":
            return _spell_piece(text)
        return str(text).encode()


def _spell_piece(text: str) -> bytes:
    """A SentencePiece token: `<0x0A>` is that byte, ▁ is a space."""
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        try:
            return bytes.fromhex(text[3:5])
        except ValueError:
            pass
    return text.replace(_SPACE_MARK, " ").encode()


def _spelling_of(decoder: decoders.Decoder | None) -> str:
    """How tokens spell text: "bytes" (byte-level BPE), "pieces" (SentencePiece) or "plain"."""
    if decoder is None:
        return "plain"
    state = json.dumps(json.loads(decoder.__getstate__()), ensure_ascii=False)
    if '"ByteLevel"' in state:
        return "bytes"
    return "pieces" if '"ByteFallback"' in state or _SPACE_MARK in state else "plain"


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte: itself if printable, else from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet.update({chr(256 + i): byte for i, byte in enumerate(others)})
    return alphabet


_BYTE_OF_CHARACTER = _byte_alphabet()

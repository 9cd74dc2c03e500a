"""A model's tokenizer, chat template and special tokens, whatever file they are in. No torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from .errors import ModelFormatError, UnsupportedModelError, naming_file
from .hf_config import read_json_object
from .metadata import Metadata
from .resolve import ModelFiles
from .special_tokens import add_at_ends

# Chat models' files of early 2024 name only the end of a text and not the end of a turn.
_ENDS_OF_TURN = ("<|eot_id|>", "<|im_end|>")


@dataclass(frozen=True)
class TokenizerFiles:
    """What text needs to become tokens and back."""

    tokenizer: Tokenizer
    chat_template: str | None = None
    bos_token: str | None = None
    eos_token: str | None = None
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    generation_defaults: dict[str, Any] = field(default_factory=dict)


def load_tokenizer_files(files: ModelFiles) -> TokenizerFiles:
    """Read tokenizer.json and its companions, or build a tokenizer from GGUF metadata.

    Raises ModelFormatError, UnsupportedModelError; both name the file.
    """
    if files.kind == "safetensors":
        return _from_folder(files.path)
    from .gguf_file import GGUFFile

    metadata = GGUFFile(files.path).metadata
    with naming_file(files.path):
        return _from_gguf(metadata)


def _from_gguf(metadata: dict[str, Any]) -> TokenizerFiles:
    from .gguf_tokenizer import tokenizer_from_gguf

    tokenizer = tokenizer_from_gguf(metadata)
    values = Metadata(metadata, "tokenizer.")
    bos = values.token_ids("ggml.bos_token_id")[:1]
    eos = values.token_ids("ggml.eos_token_id")[:1]
    ends = [*eos, *values.token_ids("ggml.eot_token_id"), *values.token_ids("ggml.eom_token_id")]
    special = {
        token.content: token_id
        for token_id, token in tokenizer.get_added_tokens_decoder().items()
        if token.special
    }
    ends.extend(special[text] for text in _ENDS_OF_TURN if text in special)
    template = values.get("chat_template")
    return TokenizerFiles(
        tokenizer=tokenizer,
        chat_template=template if isinstance(template, str) else None,
        bos_token=_text_of(tokenizer, bos),
        eos_token=_text_of(tokenizer, eos),
        bos_token_id=bos[0] if bos else None,
        eos_token_ids=_without_repeats(ends),
    )


def _from_folder(folder: Path) -> TokenizerFiles:
    path = folder / "tokenizer.json"
    if not path.is_file():
        if (folder / "tokenizer.model").is_file():
            raise UnsupportedModelError(
                f"{folder}: has only a SentencePiece tokenizer.model; convert it to tokenizer.json "
                "(transformers' AutoTokenizer.from_pretrained(…).save_pretrained(…) writes one)"
            )
        raise ModelFormatError(f"{folder}: tokenizer.json is missing")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ModelFormatError(f"{path}: not a tokenizer: {error}") from None
    # Some files keep the limits of their training, which would cut prompts silently.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    settings = _companion(folder / "tokenizer_config.json")
    generation = _companion(folder / "generation_config.json")
    bos_token = _token_text(settings.get("bos_token"))
    eos_token = _token_text(settings.get("eos_token"))
    bos, eos = _known(tokenizer, bos_token), _known(tokenizer, eos_token)
    if "add_bos_token" in settings or "add_eos_token" in settings:
        # As in transformers 5, an explicit choice replaces what tokenizer.json says.
        add_at_ends(
            tokenizer,
            bos if settings.get("add_bos_token") else None,
            eos if settings.get("add_eos_token") else None,
        )
    ends = list(_token_ids(folder / "generation_config.json", generation))
    ends.extend(_token_ids(folder / "config.json", _companion(folder / "config.json")))
    ends.extend([] if eos is None else [eos[1]])
    return TokenizerFiles(
        tokenizer=tokenizer,
        chat_template=_chat_template(folder, settings),
        bos_token=bos_token,
        eos_token=eos_token,
        bos_token_id=None if bos is None else bos[1],
        eos_token_ids=_without_repeats(ends),
        generation_defaults=generation,
    )


def _chat_template(folder: Path, settings: dict[str, Any]) -> str | None:
    """The template in its own file, else the one in the settings (of several, the default)."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFormatError(f"{file}: cannot be read: {error}") from None
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = [item for item in template if isinstance(item, dict)]
        chosen = [item for item in named if item.get("name") == "default"] or named[:1]
        template = chosen[0].get("template") if chosen else None
    return template if isinstance(template, str) else None


def _companion(path: Path) -> dict[str, Any]:
    """A JSON file that need not be there."""
    if not path.is_file():
        return {}
    with naming_file(path):
        return read_json_object(path)


def _token_ids(path: Path, settings: dict[str, Any]) -> tuple[int, ...]:
    with naming_file(path):
        return Metadata(settings).token_ids("eos_token_id")


def _token_text(value: object) -> str | None:
    """A token's text, which older files wrap in an object."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _known(tokenizer: Tokenizer, text: str | None) -> tuple[str, int] | None:
    token_id = None if text is None else tokenizer.token_to_id(text)
    return None if text is None or token_id is None else (text, token_id)


def _text_of(tokenizer: Tokenizer, ids: tuple[int, ...]) -> str | None:
    known = ids and 0 <= ids[0] < 2**32
    return tokenizer.id_to_token(ids[0]) if known else None


def _without_repeats(ids: list[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(token_id for token_id in ids if token_id >= 0))

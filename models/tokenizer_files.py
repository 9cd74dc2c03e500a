"""A model's tokenizer, chat template and special tokens, whatever file they are in. No torch."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from .errors import ModelFormatError, UnsupportedModelError
from .resolve import ModelFiles


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

    Raises ModelFormatError, UnsupportedModelError.
    """
    if files.kind == "gguf":
        from .gguf_file import GGUFFile
        from .gguf_tokenizer import tokenizer_from_gguf

        metadata = GGUFFile(files.path).metadata
        tokenizer = tokenizer_from_gguf(metadata, files.path)
        bos = _optional_id(metadata.get("tokenizer.ggml.bos_token_id"))
        eos = _optional_id(metadata.get("tokenizer.ggml.eos_token_id"))
        eot = _optional_id(metadata.get("tokenizer.ggml.eot_token_id"))
        ends = tuple(dict.fromkeys(token for token in (eos, eot) if token is not None))
        template = metadata.get("tokenizer.chat_template")
        return TokenizerFiles(
            tokenizer=tokenizer,
            chat_template=template if isinstance(template, str) else None,
            bos_token=None if bos is None else tokenizer.id_to_token(bos),
            eos_token=None if eos is None else tokenizer.id_to_token(eos),
            bos_token_id=bos,
            eos_token_ids=ends,
        )
    return _from_folder(files.path)


def _from_folder(folder: Path) -> TokenizerFiles:
    path = folder / "tokenizer.json"
    if not path.is_file():
        if (folder / "tokenizer.model").is_file():
            raise UnsupportedModelError(
                f"{folder}: has only a SentencePiece tokenizer.model; convert it to tokenizer.json "
                "(transformers' AutoTokenizer.save_pretrained writes one)"
            )
        raise ModelFormatError(f"{folder}: tokenizer.json is missing")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ModelFormatError(f"{path}: not a tokenizer: {error}") from None
    settings = _read_json(folder / "tokenizer_config.json")
    model = _read_json(folder / "config.json")
    generation = _read_json(folder / "generation_config.json")
    eos_token = _token_text(settings.get("eos_token"))
    bos_token = _token_text(settings.get("bos_token"))
    ends: list[int] = []
    for value in (generation.get("eos_token_id"), model.get("eos_token_id")):
        ends.extend(value if isinstance(value, list) else [] if value is None else [value])
    if eos_token is not None and tokenizer.token_to_id(eos_token) is not None:
        ends.append(tokenizer.token_to_id(eos_token))
    return TokenizerFiles(
        tokenizer=tokenizer,
        chat_template=_chat_template(folder, settings),
        bos_token=bos_token,
        eos_token=eos_token,
        bos_token_id=None if bos_token is None else tokenizer.token_to_id(bos_token),
        eos_token_ids=tuple(dict.fromkeys(end for end in ends if isinstance(end, int))),
        generation_defaults=generation,
    )


def _chat_template(folder: Path, settings: dict[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text()
    template = settings.get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {item.get("name"): item.get("template") for item in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise ModelFormatError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ModelFormatError(f"{path}: not a JSON object")
    return value


def _token_text(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _optional_id(value: object) -> int | None:
    return value if isinstance(value, int) else None

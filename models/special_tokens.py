"""Which special tokens surround a text that is tokenized as a whole prompt."""

from tokenizers import Tokenizer, processors

from .errors import ModelFormatError


def add_at_ends(
    tokenizer: Tokenizer, bos: tuple[str, int] | None, eos: tuple[str, int] | None
) -> None:
    """Make `encode(…, add_special_tokens=True)` add these (text, id) tokens and no others.

    Raises ModelFormatError for tokens that the library cannot write into a template.
    """
    before = [] if bos is None else [bos[0]]
    after = [] if eos is None else [eos[0]]
    special = list(dict.fromkeys(token for token in (bos, eos) if token is not None))
    try:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *after],
            pair=[*before, "$A", *after, *before, "$B", *after],
            special_tokens=special,
        )
    except ValueError as error:
        raise ModelFormatError(f"the special tokens {special} cannot be used: {error}") from None

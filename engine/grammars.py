"""The grammars of one engine or front end, ready when the first structured output comes."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..models.config import load_config
from ..models.resolve import resolve_model
from ..models.tokenizer_files import load_tokenizer_files
from .constraints import Thinking, TokenConstraint
from .errors import BadRequestError
from .sampling_params import SamplingParams
from .structured import StructuredOutput
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from .grammar_compiler import GrammarCompiler


class Grammars:
    """Compiles structured outputs and makes constraints of them. For use by any thread.

    `load` gives the tokenizer and the size of the model's vocabulary; it is called once, when first
    needed.
    """

    def __init__(self, load: Callable[[], tuple[Tokenizer, int]]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._loaded: tuple[Tokenizer, int] | None = None
        self._compiler: GrammarCompiler | None = None

    @classmethod
    def of_model(cls, model_path: str) -> "Grammars":
        """For a local model, whose tokenizer is read from its files."""

        def load() -> tuple[Tokenizer, int]:
            files = resolve_model(model_path, Path())
            return Tokenizer(load_tokenizer_files(files)), load_config(files).vocab_size

        return cls(load)

    def compile(self, wanted: StructuredOutput) -> "LLMatcher":
        """A matcher at its beginning. Raises BadRequestError for what is no usable grammar, or if
        llguidance is not installed.
        """
        return self._the_compiler().compile(wanted)

    def is_known(self, wanted: StructuredOutput) -> bool:
        """Whether `compile` has nothing left to do for it."""
        return self._compiler is not None and self._compiler.is_known(wanted)

    def constraint(
        self, params: SamplingParams, stop_token_ids: tuple[int, ...]
    ) -> TokenConstraint | None:
        """What decides which tokens a sequence with these parameters may draw, if anything does.

        Raises BadRequestError as `compile` does.
        """
        if not needs_constraint(params):
            return None
        matcher = None if params.structured is None else self.compile(params.structured)
        tokenizer, vocab_size = self._the_tokenizer()
        thinking = None
        if params.thinking is not None:
            thinking = Thinking(
                params.thinking,
                tokenizer.token_bytes,
                lambda text: tokenizer.encode(text, add_special_tokens=False),
            )
        return TokenConstraint(vocab_size, matcher, thinking, stop_token_ids)

    def _the_tokenizer(self) -> tuple[Tokenizer, int]:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _the_compiler(self) -> "GrammarCompiler":
        tokenizer, vocab_size = self._the_tokenizer()
        with self._lock:
            if self._compiler is None:
                try:
                    from .grammar_compiler import GrammarCompiler
                except ImportError:
                    raise BadRequestError(
                        "this server cannot hold an answer to a form: llguidance is not installed "
                        "(pip install 'octavo[structured]')",
                        "response_format",
                    ) from None
                self._compiler = GrammarCompiler(tokenizer, vocab_size)
            return self._compiler


def needs_constraint(params: SamplingParams) -> bool:
    """Whether there is a grammar, or a budget of reasoning."""
    has_budget = params.thinking is not None and params.thinking.budget is not None
    return params.structured is not None or has_budget

"""Chat messages to the text the model was trained on, by its Jinja template in a sandbox.

Templates come from model files, which are not trusted: they run without access to attributes of
Python objects, cannot change what they are given, and are held to a time and to sizes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from jinja2.meta import find_undeclared_variables

from .errors import BadRequestError, ConfigurationError
from .template_limits import TemplateLimitError, check_length, check_time, check_width, limited
from .template_sandbox import TemplateSandbox

if TYPE_CHECKING:
    from .tokenizer import Tokenizer

SECONDS = 5.0  # a rendering may take
_END_MARK = "\ufdd0end of the final message\ufdd0"  # U+FDD0 is never a character


class ChatTemplate:
    """A compiled template with the special tokens it may name.

    Raises ConfigurationError if the template is not valid Jinja.
    """

    def __init__(self, source: str, bos_token: str | None, eos_token: str | None) -> None:
        self.source = source
        environment = TemplateSandbox()
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _now
        self._special = {"bos_token": bos_token or "", "eos_token": eos_token or ""}
        try:
            self._template = environment.from_string(source)
            self._variables = find_undeclared_variables(environment.parse(source))
        except Exception as error:  # the compiler beneath has errors of its own for odd sources
            raise ConfigurationError(f"the chat template is not valid: {error}") from None

    @property
    def shows_tools(self) -> bool:
        """Whether it tells the model of the functions it may call."""
        return "tools" in self._variables

    @classmethod
    def for_tokenizer(cls, tokenizer: "Tokenizer") -> "ChatTemplate | None":
        """The tokenizer's template, None if the model has none."""
        if tokenizer.chat_template is None:
            return None
        return cls(tokenizer.chat_template, tokenizer.bos_token, tokenizer.eos_token)

    def render(
        self,
        messages: list[dict[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        extra: dict[str, Any] | None = None,
        seconds: float = SECONDS,
    ) -> str:
        """The conversation as one text.

        Raises BadRequestError where the template refuses it or fails, TemplateLimitError (a
        TemplateTimeError after `seconds`) where it wants more than it may have.
        """
        if continue_final_message and add_generation_prompt:
            raise BadRequestError(
                "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
                "continue_final_message",
            )
        if continue_final_message:
            messages = _mark_end(messages)
        variables = {
            **self._special,
            **(extra or {}),
            "messages": messages,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            with limited(seconds):
                text = "".join(_bounded(self._template.generate(**variables)))
        except TemplateLimitError:
            raise
        except TemplateError as error:
            raise BadRequestError(
                f"the chat template refused the messages: {error}", "messages"
            ) from None
        except Exception as error:  # whatever a foreign template does with these messages
            raise BadRequestError(
                f"the chat template failed on the messages: {type(error).__name__}: {error}",
                "messages",
            ) from None
        return _cut_at_mark(text) if continue_final_message else text


def plain_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages as templates expect them: content parts joined to one text.

    Raises BadRequestError for a part that is not text.
    """
    return [_plain({k: v for k, v in message.items() if v is not None}) for message in messages]


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, list):
        message["content"] = content or ""
        return message
    texts = []
    for part in content:
        kind = part.get("type", "text")
        text = part.get(kind) if kind in ("text", "refusal") else None
        if not isinstance(text, str):
            raise BadRequestError(
                f"content parts of type {kind!r} are not supported: this model reads text only.",
                "messages",
            )
        texts.append(text)
    message["content"] = "\n".join(texts)
    return message


def _mark_end(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with a mark after the final text, which the template's own words do not have."""
    final = str(messages[-1].get("content") or "").rstrip() if messages else ""
    if not final:
        raise _nothing_to_continue()
    return [*messages[:-1], {**messages[-1], "content": final + _END_MARK}]


def _cut_at_mark(text: str) -> str:
    end = text.rfind(_END_MARK)
    if end < 0:
        raise _nothing_to_continue()
    return text[:end]


def _bounded(pieces: Iterator[str]) -> Iterator[str]:
    num_characters = 0
    for piece in pieces:
        check_time()
        num_characters += len(piece)
        check_length(num_characters)
        yield piece


def _nothing_to_continue() -> BadRequestError:
    return BadRequestError(
        "`continue_final_message` needs a final message whose text the template keeps.",
        "continue_final_message",
    )


def _to_json(value: Any, indent: int | None = None, **options: Any) -> str:
    check_width(indent)
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)

"""A conversation in the form that chat templates expect, whatever form a client gave it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .chat_template import SECONDS, ChatTemplate, plain_messages
from .errors import BadRequestError
from .json_depth import refusing_depth
from .template_limits import TemplateLimitError
from .tool_instructions import explain_tools, spell_out_calls

Message = Mapping[str, Any]


@dataclass(frozen=True)
class TemplateInput:
    """All that a template is given, as it came."""

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)

    def render(self, template: ChatTemplate, seconds: float = SECONDS) -> str:
        """The prompt's text.

        Raises BadRequestError if the template refuses the messages or fails, TemplateLimitError if
        it wants more than it may have.
        """
        with refusing_depth("tools" if self.tools else "messages"):
            plain, extra = self._prepare(template)
            return template.render(
                plain,
                add_generation_prompt=self.add_generation_prompt,
                continue_final_message=self.continue_final_message,
                extra=extra,
                seconds=seconds,
            )

    def _prepare(self, template: ChatTemplate) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        plain = plain_messages([_plain(message) for message in self.messages])
        if "developer" not in template.source:
            plain = [_as_system(message) for message in plain]
        extra = dict(self.variables)
        if template.shows_tools:
            if self.tools:
                extra["tools"] = list(self.tools)
        else:
            plain = spell_out_calls(plain)
            if self.tools:
                plain = explain_tools(plain, self.tools)
        return plain, extra


def over_the_limit(error: TemplateLimitError, param: str) -> BadRequestError:
    """What the client is told of a template that was stopped."""
    return BadRequestError(f"the chat template was stopped: {error}.", param)


def _plain(message: Message) -> dict[str, Any]:
    """The message as templates expect it: arguments as objects, reasoning by both names, what has
    a newer name by that.
    """
    plain = dict(message)
    if plain.get("role") == "function":
        plain["role"] = "tool"
    calls = [dict(call) for call in plain.get("tool_calls") or ()]
    if plain.get("function_call") is not None:
        calls.append({"type": "function", "function": plain.pop("function_call")})
    if calls:
        plain["tool_calls"] = [_with_object(call) for call in calls]
    if not plain.get("content") and plain.get("refusal"):
        plain["content"] = plain["refusal"]
    reasoning = plain.get("reasoning") or plain.get("reasoning_content")
    if reasoning is not None:
        plain["reasoning"] = plain["reasoning_content"] = reasoning
    return plain


def _with_object(call: Mapping[str, Any]) -> dict[str, Any]:
    """The call with its arguments as an object, where they are the text of one."""
    function = dict(call.get("function") or {})
    arguments = function.get("arguments", "{}")
    if isinstance(arguments, str):
        function["arguments"] = _read_arguments(arguments)
    return {**call, "function": function}


def _read_arguments(text: str) -> Any:
    """An object where the text is one: models' templates go through it member by member."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def _as_system(message: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's newer name of the role, for templates that do not know it."""
    return {**message, "role": "system"} if message.get("role") == "developer" else message

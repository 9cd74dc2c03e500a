"""From a conversation to the prompt that the model's chat template makes of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .chat_template import ChatTemplate, plain_messages
from .errors import BadRequestError, ConfigurationError
from .json_depth import refusing_depth
from .tokenizer import Tokenizer
from .tool_instructions import explain_tools, spell_out_calls

Message = Mapping[str, Any]


class ChatPrompts:
    """Renders conversations for one model.

    `trusts_requests` lets a request bring a template of its own. Raises ConfigurationError if the
    model's is not valid.
    """

    def __init__(self, tokenizer: Tokenizer, *, trusts_requests: bool) -> None:
        self._tokenizer = tokenizer
        self._trusts_requests = trusts_requests
        self._template = ChatTemplate.for_tokenizer(tokenizer)
        self.source = tokenizer.chat_template or ""
        self.shows_tools = self._template is not None and self._template.shows_tools

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt's text. Raises BadRequestError if the template refuses the messages."""
        with refusing_depth("tools" if tools else "messages"):
            return self._render(
                messages,
                tools,
                template,
                add_generation_prompt,
                continue_final_message,
                variables or {},
            )

    def _render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None,
        template: str | None,
        add_generation_prompt: bool,
        continue_final_message: bool,
        variables: Mapping[str, Any],
    ) -> str:
        chosen, source = self._choose(template)
        plain = plain_messages([_plain(message) for message in messages])
        if "developer" not in source:
            plain = [_as_system(message) for message in plain]
        extra = dict(variables)
        if chosen.shows_tools:
            if tools:
                extra["tools"] = list(tools)
        else:
            plain = spell_out_calls(plain)
            if tools:
                plain = explain_tools(plain, tools)
        return chosen.render(
            plain,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            extra=extra,
        )

    def _choose(self, template: str | None) -> tuple[ChatTemplate, str]:
        if template is not None:
            if not self._trusts_requests:
                raise BadRequestError(
                    "`chat_template` of a request is used only if the server was started with "
                    "--trust-request-chat-template.",
                    "chat_template",
                )
            tokenizer = self._tokenizer
            try:
                own = ChatTemplate(template, tokenizer.bos_token, tokenizer.eos_token)
            except ConfigurationError as error:
                raise BadRequestError(str(error), "chat_template") from None
            return own, template
        if self._template is None:
            raise BadRequestError(
                "This model has no chat template: use /v1/completions, or start the server with "
                "--chat-template FILE.",
                "messages",
            )
        return self._template, self.source


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

"""Everything about a chat answer that is settled before the engine begins with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..engine.errors import BadRequestError
from ..engine.json_depth import refusing_depth
from ..engine.sampling_params import SamplingParams
from ..engine.structured import StructuredOutput, ThinkingRule
from ..engine.template_input import TemplateInput
from .chat_protocol import ChatCompletionRequest, as_mappings, num_characters
from .message_parser import MessageParser
from .reasoning import ReasoningParser
from .service import Service
from .tools.choice import ToolChoice, choose_tools
from .tools.forced import forced_calls, strict_calls
from .tools.formats import ToolFormat
from .tools.parser import ToolParser


@dataclass(frozen=True)
class ChatDraft:
    """What a chat request's body alone settles, before it is rendered and tokenized."""

    body: ChatCompletionRequest
    given: TemplateInput
    params: SamplingParams
    choice: ToolChoice | None
    tool_format: ToolFormat | None
    budget: int | None  # tokens that reasoning may take

    @classmethod
    def read(cls, body: ChatCompletionRequest, service: Service) -> "ChatDraft":
        """Raises BadRequestError for what cannot be, or is too long to be looked at."""
        formats = service.formats
        if body.truncate_prompt_tokens is None:
            service.prompts.check_length(num_characters(body.messages), "messages")
        with refusing_depth("tools"):
            choice = choose_tools(
                *body.offered_tools(), is_parallel=body.parallel_tool_calls is not False
            )
        if choice is not None and formats.tools is None and choice.is_forced:
            raise BadRequestError(
                "calls of tools are switched off on this server (--tool-call-parser none).",
                "tool_choice",
            )
        given = TemplateInput(
            as_mappings(body.messages),
            tools=None if choice is None else choice.tools,
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=body.continue_final_message,
            variables=_template_variables(body),
        )
        budget = body.thinking_budget()
        if formats.reasoning is None and budget is not None:
            raise BadRequestError(
                "the reasoning of this model is not told from its answers (--reasoning-parser), "
                "so it has no budget.",
                "thinking_token_budget",
            )
        tool_format = formats.tools if choice is not None else None
        with refusing_depth("tools"):
            form = _forced_form(body, choice, tool_format, service)
        params = body.sampling_params(
            body.token_limit,
            body.num_logprobs(service.engine.settings.max_logprobs),
            defaults=service.defaults,
            structured=form,
            shown_special_tokens=() if tool_format is None else tool_format.marks,
        )
        return cls(body, given, params, choice, tool_format, budget)

    async def plan(self, service: Service) -> "ChatPlan":
        """Render, tokenize and check. Raises BadRequestError for what does not fit."""
        body, params, thinking = self.body, self.params, None
        text = await service.chats.render_served(self.given, body.chat_template)
        if body.truncate_prompt_tokens is None:
            service.prompts.check_length(len(text), "messages")
        shortened = service.prompts.cut(text, body)
        (encoded,) = await service.prompts.encode([shortened], body.add_special_tokens)
        prompt = service.prompts.truncate(encoded, body, body.token_limit)
        reasoning = service.formats.reasoning
        if reasoning is not None:
            thinking = reasoning.rule(text, self.budget, continued=body.continued_text())
        if thinking is not None:
            marks = (*params.shown_special_tokens, thinking.start, thinking.end)
            params = msgspec.structs.replace(params, thinking=thinking, shown_special_tokens=marks)
        (checked,) = await service.check(body, [prompt], params)
        return ChatPlan(body, prompt, checked, self.choice, self.tool_format, thinking)


@dataclass(frozen=True)
class ChatPlan:
    """A chat request, ready for the engine."""

    body: ChatCompletionRequest
    prompt: list[int]
    params: SamplingParams
    choice: ToolChoice | None
    tool_format: ToolFormat | None
    thinking: ThinkingRule | None

    def parser(self) -> MessageParser:
        """A parser for one choice of the answer."""
        tools = None
        if self.tool_format is not None and self.choice is not None:
            names = {function.name for function in self.choice.functions}
            most = 128 if self.choice.is_parallel else 1
            tools = ToolParser(self.tool_format.frame, names, most)
        reasoning = None if self.thinking is None else ReasoningParser(self.thinking)
        return MessageParser(reasoning, tools)

    def finish_reason(self, reason: str | None, num_calls: int) -> str | None:
        """`tool_calls` where the model stopped after calls, but not after the one it had to make:
        OpenAI says `stop` then.
        """
        is_named = self.choice is not None and self.choice.mode == "named"
        return "tool_calls" if reason == "stop" and num_calls and not is_named else reason


def _template_variables(body: ChatCompletionRequest) -> Mapping[str, Any]:
    """What the template is told besides messages and tools; the request's own go before."""
    variables: dict[str, Any] = {}
    effort = body.reasoning_effort
    if effort is not None:
        variables = {"reasoning_effort": effort, "enable_thinking": effort != "none"}
    return {**variables, **(body.chat_template_kwargs or {})}


def _forced_form(
    body: ChatCompletionRequest,
    choice: ToolChoice | None,
    tool_format: ToolFormat | None,
    service: Service,
) -> StructuredOutput | None:
    """The grammar of forced or strict calls. BadRequestError if the body forces another form."""
    if choice is None or tool_format is None:
        return None
    special_token = service.engine.tokenizer.special_token_id
    if not choice.is_forced:
        has_own = body.structured_output() is not None
        if has_own:
            return None
        return strict_calls(
            tool_format,
            choice.functions,
            is_parallel=choice.is_parallel,
            special_token=special_token,
        )
    if body.structured_output() is not None:
        raise BadRequestError(
            "a forced call of a tool and a structured output exclude each other.", "tool_choice"
        )
    return forced_calls(
        tool_format,
        choice.functions,
        is_parallel=choice.is_parallel and choice.mode == "required",
        special_token=special_token,
    )

"""Chat answers, whole or in chunks, from the text of their choices."""

from collections.abc import AsyncIterator, Sequence

from ..engine.outputs import RequestOutput, TokenLogprob
from ..engine.request_stream import RequestStream
from .chat_plan import ChatPlan
from .completion_choices import prompt_logprobs
from .message_parts import MessageDelta, ToolCallDelta
from .responses import (
    AssistantMessage,
    CalledFunction,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatLogprobEntry,
    ChatLogprobs,
    ChatResponse,
    Delta,
    FunctionDelta,
    MessageToolCall,
    ToolCallChunk,
    TopLogprobEntry,
    Usage,
)
from .service import Heading, UsageCounter, WholeChoice
from .sse import event


def whole_answer(
    heading: Heading, plan: ChatPlan, choices: Sequence[WholeChoice], counter: UsageCounter
) -> ChatResponse:
    """The answer to a request that does not stream."""
    body = plan.body
    judged = choices[0].prompt_logprobs if choices else None
    return ChatResponse(
        id=heading.id,
        created=heading.created,
        model=heading.model,
        choices=[_whole_choice(plan, index, choice) for index, choice in enumerate(choices)],
        usage=counter.usage(),
        prompt_logprobs=prompt_logprobs(body, judged),
        prompt_token_ids=plan.prompt if body.return_token_ids else None,
    )


def _whole_choice(plan: ChatPlan, index: int, choice: WholeChoice) -> ChatChoice:
    parser = plan.parser()
    parsed = parser.parse(choice.texts)
    calls = [
        MessageToolCall(
            id=call.call_id or "",
            function=CalledFunction(name=call.name or "", arguments=call.arguments),
        )
        for call in parsed.tool_calls
    ]
    reasoning = (parsed.reasoning or None) if plan.body.include_reasoning else None
    return ChatChoice(
        index=index,
        message=AssistantMessage(
            content=None if calls and not parsed.content else parsed.content,
            tool_calls=calls or None,
            reasoning=reasoning,
            reasoning_content=reasoning,
        ),
        logprobs=_logprobs(choice.logprobs, plan),
        finish_reason=plan.finish_reason(choice.finish_reason, parser.num_calls),
        stop_reason=choice.stop_reason,
        token_ids=choice.token_ids if plan.body.return_token_ids else None,
    )


async def chunks(
    stream: RequestStream, heading: Heading, plan: ChatPlan, counter: UsageCounter
) -> AsyncIterator[bytes]:
    """The role of every choice, a chunk for every output, and the usage if that is wanted."""
    body = plan.body

    def chunk(choices: list[ChatChunkChoice], usage: Usage | None, *, first: bool = False) -> bytes:
        return event(
            ChatChunk(
                id=heading.id,
                created=heading.created,
                model=heading.model,
                choices=choices,
                usage=usage,
                prompt_token_ids=plan.prompt if first and body.return_token_ids else None,
            )
        )

    def continuous_usage() -> Usage | None:
        return counter.usage() if body.wants_continuous_usage else None

    writers = [_ChunkWriter(plan, index) for index in range(plan.params.n)]
    for index in range(plan.params.n):
        role = Delta(role="assistant", content="")
        choice = ChatChunkChoice(index=index, delta=role, logprobs=None, finish_reason=None)
        yield chunk([choice], continuous_usage(), first=index == 0)
    async for output in stream:
        counter.note(output)
        written = writers[output.index].write(output)
        if written is not None:
            yield chunk([written], continuous_usage())
    if body.wants_usage:
        yield chunk([], counter.usage())


class _ChunkWriter:
    """Writes the chunks of one choice. What belongs to text that is held back waits with it."""

    def __init__(self, plan: ChatPlan, index: int) -> None:
        self._plan = plan
        self._index = index
        self._parser = plan.parser()
        self._logprobs: list[TokenLogprob] = []
        self._token_ids: list[int] = []

    def write(self, output: RequestOutput) -> ChatChunkChoice | None:
        """The chunk that an output gives, None while there is nothing to show."""
        body, is_last = self._plan.body, output.finish_reason is not None
        parsed = self._parser.push(output.text, is_last=is_last)
        self._logprobs.extend(output.logprobs or ())
        self._token_ids.extend(output.token_ids)
        delta = _delta(parsed, body.include_reasoning)
        if delta is None and not is_last:
            return None
        choice = ChatChunkChoice(
            index=self._index,
            delta=delta or Delta(),
            logprobs=None if output.logprobs is None else _logprobs(self._logprobs, self._plan),
            finish_reason=self._plan.finish_reason(output.finish_reason, self._parser.num_calls),
            stop_reason=output.stop_reason,
            token_ids=list(self._token_ids) if body.return_token_ids else None,
        )
        self._logprobs.clear()
        self._token_ids.clear()
        return choice


def _delta(parsed: MessageDelta, shows_reasoning: bool) -> Delta | None:
    reasoning = (parsed.reasoning or None) if shows_reasoning else None
    calls = [_call_chunk(call) for call in parsed.tool_calls]
    if not (parsed.content or reasoning or calls):
        return None
    return Delta(
        content=parsed.content or None,
        reasoning=reasoning,
        reasoning_content=reasoning,
        tool_calls=calls or None,
    )


def _call_chunk(call: ToolCallDelta) -> ToolCallChunk:
    """Id, type and name come with the first piece of a call only: clients join what comes."""
    return ToolCallChunk(
        index=call.index,
        id=call.call_id,
        type=None if call.call_id is None else "function",
        function=FunctionDelta(name=call.name, arguments=call.arguments),
    )


def _logprobs(entries: Sequence[TokenLogprob] | None, plan: ChatPlan) -> ChatLogprobs | None:
    if entries is None:
        return None
    as_ids = bool(plan.body.return_tokens_as_token_ids)

    def name(token_id: int, text: str) -> str:
        return f"token_id:{token_id}" if as_ids else text

    return ChatLogprobs(
        content=[
            ChatLogprobEntry(
                token=name(entry.token_id, entry.token),
                logprob=entry.logprob,
                bytes=list(entry.bytes),
                top_logprobs=[
                    TopLogprobEntry(
                        token=name(top.token_id, top.token),
                        logprob=top.logprob,
                        bytes=list(top.bytes),
                    )
                    for top in entry.top
                ],
            )
            for entry in entries
        ]
    )

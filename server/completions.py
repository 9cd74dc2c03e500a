"""POST /v1/completions: texts or token ids, continued."""

import codecs
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter, Request, Response

from ..engine.async_engine import RequestStream
from ..engine.outputs import TokenLogprob
from .protocol import STRUCTURED_OUTPUT_FIELDS, CompletionRequest
from .responses import (
    CompletionChoice,
    CompletionLogprobs,
    CompletionResponse,
    ErrorResponse,
)
from .service import Heading, Service, ServiceOfApp, UsageCounter, collect
from .sse import EventStream, event, until_disconnect

router = APIRouter()

_NOT_YET = ("echo", "suffix", "prompt_logprobs", "prompt_embeds", *STRUCTURED_OUTPUT_FIELDS)


@router.post(
    "/v1/completions",
    response_model=CompletionResponse,
    responses={"4XX": {"model": ErrorResponse}, "5XX": {"model": ErrorResponse}},
)
async def create_completion(
    body: CompletionRequest, request: Request, service: ServiceOfApp
) -> Response:
    """Continue one or more prompts, streaming or not."""
    heading = Heading.of(request, body, "cmpl", service.served_name(body.model))
    body.check_stream_options()
    body.refuse_unsupported(_NOT_YET)
    body.refuse_response_format()
    params = body.sampling_params(body.max_tokens, body.logprobs)
    prompts = await _token_ids(service, body)
    counter = UsageCounter(prompts, params.n)
    stream = service.start(heading, body, prompts, params)
    if body.streams:
        events = _events(stream, heading, body, counter)
        return EventStream(events, stream.close)
    choices = await until_disconnect(
        request.receive, collect(stream, len(prompts) * params.n, counter)
    )
    whole = CompletionResponse(
        id=heading.id,
        created=heading.created,
        model=heading.model,
        choices=[
            CompletionChoice(
                index=index,
                text=choice.text,
                logprobs=None
                if choice.logprobs is None
                else _logprobs(choice.logprobs, _Offsets()),
                finish_reason=choice.finish_reason,
                stop_reason=choice.stop_reason,
            )
            for index, choice in enumerate(choices)
        ],
        usage=counter.usage(),
    )
    return Response(whole.model_dump_json(), media_type="application/json")


async def _token_ids(service: Service, body: CompletionRequest) -> list[list[int]]:
    prompts = body.prompts()
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    if not texts:
        return [prompt for prompt in prompts if not isinstance(prompt, str)]
    # Prompts are all texts or all token ids.
    return await service.tokenize_all(texts, body.add_special_tokens)


async def _events(
    stream: RequestStream, heading: Heading, body: CompletionRequest, counter: UsageCounter
) -> AsyncIterator[bytes]:
    """A chunk for every output, and one with the usage at the end if that is wanted."""
    offsets: defaultdict[int, _Offsets] = defaultdict(_Offsets)  # by choice
    async for output in stream:
        counter.note(output)
        logprobs = None
        if output.logprobs is not None:
            logprobs = _logprobs(output.logprobs, offsets[output.index])
        choice = CompletionChoice(
            index=output.index,
            text=output.text,
            logprobs=logprobs,
            finish_reason=output.finish_reason,
            stop_reason=output.stop_reason,
        )
        yield event(
            CompletionResponse(
                id=heading.id,
                created=heading.created,
                model=heading.model,
                choices=[choice],
                usage=counter.usage() if body.wants_continuous_usage else None,
            )
        )
    if body.wants_usage:
        yield event(
            CompletionResponse(
                id=heading.id,
                created=heading.created,
                model=heading.model,
                choices=[],
                usage=counter.usage(),
            )
        )


class _Offsets:
    """Where the tokens of one choice begin in its text.

    A character may take several tokens: those after its first begin where it begins.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._num_characters = 0

    def next(self, token: bytes) -> int:
        """The offset of the next token, whose bytes are given."""
        begin = self._num_characters
        self._num_characters += len(self._decoder.decode(token))
        return begin


def _logprobs(entries: Sequence[TokenLogprob], offsets: _Offsets) -> CompletionLogprobs:
    """The parallel lists of the tokens that come next in a choice."""
    return CompletionLogprobs(
        text_offset=[offsets.next(entry.bytes) for entry in entries],
        token_logprobs=[entry.logprob for entry in entries],
        tokens=[entry.token for entry in entries],
        top_logprobs=[
            {**{top.token: top.logprob for top in entry.top}, entry.token: entry.logprob}
            for entry in entries
        ],
    )

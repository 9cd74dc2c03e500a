"""POST /v1/completions: texts or token ids, continued."""

from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter, Request, Response

from ..engine.errors import BadRequestError
from ..engine.request_stream import RequestStream
from ..engine.sampling_params import SamplingParams
from .completion_choices import ChoiceWriter, Prompt
from .protocol import CompletionRequest
from .responses import ANSWERS_OF_GENERATION, CompletionChoice, CompletionResponse, Usage
from .service import Heading, Service, ServiceOfApp, UsageCounter, collect
from .sse import EventStream, event, until_disconnect

router = APIRouter()

_UNSUPPORTED = ("suffix", "prompt_embeds")


@router.post(
    "/v1/completions",
    response_model=CompletionResponse,
    responses=ANSWERS_OF_GENERATION,
)
async def create_completion(
    body: CompletionRequest, request: Request, service: ServiceOfApp
) -> Response:
    """Continue one or more prompts, streaming or not."""
    heading = Heading.of(request, body, "cmpl", service.served_name(body.model))
    body.check_stream_options()
    body.check_unsupported(_UNSUPPORTED)
    service.unknown_fields.note("/v1/completions", body)
    params = _sampling_params(service, body)
    given = body.prompts()
    prompts, checked = await service.prepared(
        request,
        heading,
        len(given) * params.n,
        lambda: prepare_prompts(service, body, given, params),
    )
    token_ids = [prompt.token_ids for prompt in prompts]
    counter = UsageCounter(token_ids, params.n, counts_output=body.max_tokens != 0)
    stream = service.start(heading, body, token_ids, checked)
    writers = [
        ChoiceWriter(body, prompts[index // params.n], index, service.engine.tokenizer)
        for index in range(len(prompts) * params.n)
    ]
    if body.streams:
        events = _events(stream, heading, body, counter, writers)
        return EventStream(events, stream.close)
    choices = await until_disconnect(request.receive, collect(stream, len(writers), counter))
    written = [writer.write(choice) for writer, choice in zip(writers, choices, strict=True)]
    whole = _response(heading, written, counter.usage())
    return Response(whole.model_dump_json(), media_type="application/json")


def _sampling_params(service: Service, body: CompletionRequest) -> SamplingParams:
    """The engine's parameters. An echoed prompt is judged if its log-probabilities are wanted."""
    if body.max_tokens == 0 and not body.echo:
        raise BadRequestError(
            "max_tokens must be at least 1, got 0. Only with `echo` may it be 0.", "max_tokens"
        )
    judged = body
    if body.echo and body.logprobs is not None:
        counts = [body.logprobs, body.prompt_logprobs or 0]
        most = -1 if -1 in counts else max(counts)
        judged = body.model_copy(update={"prompt_logprobs": most})
    max_tokens = 1 if body.max_tokens == 0 else body.max_tokens
    return judged.sampling_params(max_tokens, body.logprobs, defaults=service.defaults)


async def prepare_prompts(
    service: Service,
    body: CompletionRequest,
    given: list[str | list[int]],
    params: SamplingParams,
) -> tuple[list[Prompt], list[SamplingParams]]:
    """The prompts, and the parameters for each. Raises BadRequestError for what does not fit."""
    texts = [service.prompts.cut(prompt, body) for prompt in given if isinstance(prompt, str)]
    if body.truncate_prompt_tokens is None:
        for text in texts:
            service.prompts.check_length(len(text), "prompt")
    # Prompts are all texts or all token ids.
    encoded = await service.prompts.encode(texts, body.add_special_tokens)
    encoded = encoded or [prompt for prompt in given if not isinstance(prompt, str)]
    kept = [service.prompts.truncate(ids, body, body.max_tokens) for ids in encoded]
    checked = await service.check(body, kept, params)
    tokenizer = service.engine.tokenizer

    def put_together() -> list[Prompt]:
        prompts = []
        for prompt, whole, own in zip(given, encoded, kept, strict=True):
            if isinstance(prompt, str) and len(own) == len(whole):
                prompts.append(Prompt.of_text(prompt, own, tokenizer))
            elif body.echo:
                prompts.append(Prompt.of_tokens(own, tokenizer, body.skip_special_tokens))
            else:
                prompts.append(Prompt("", own))  # nobody sees its text
        return prompts

    num_decoded = sum(map(len, kept)) if body.echo else 0
    return await service.prompts.apart(num_decoded, put_together), checked


async def _events(
    stream: RequestStream,
    heading: Heading,
    body: CompletionRequest,
    counter: UsageCounter,
    writers: Sequence[ChoiceWriter],
) -> AsyncIterator[bytes]:
    """A chunk for every output, and one with the usage at the end if that is wanted."""
    async for output in stream:
        counter.note(output)
        choice = writers[output.index].write(output)
        usage = counter.usage() if body.wants_continuous_usage else None
        yield event(_response(heading, [choice], usage))
    if body.wants_usage:
        yield event(_response(heading, [], counter.usage()))


def _response(
    heading: Heading, choices: list[CompletionChoice], usage: Usage | None
) -> CompletionResponse:
    return CompletionResponse(
        id=heading.id, created=heading.created, model=heading.model, choices=choices, usage=usage
    )

"""What all generating routes share: the engine, the template, and the life of one answer."""

import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Depends, Request

from ..engine.async_engine import AsyncEngine
from ..engine.chat_prompts import ChatPrompts
from ..engine.errors import NotFoundError
from ..engine.generation_defaults import GenerationDefaults
from ..engine.outputs import RequestOutput, TokenLogprob
from ..engine.request_stream import RequestStream
from ..engine.sampling_params import SamplingParams
from ..engine.telemetry import RequestOrigin
from .chat_formats import ChatFormats
from .prompts import PromptEncoder
from .protocol import GenerationRequest
from .request_timeout import shortest, timeout_of
from .responses import PromptTokensDetails, Usage
from .sse import until_disconnect
from .tenants import TenantSalts
from .unknown_fields import UnknownFields

Made = TypeVar("Made")


class Service:
    """One served model, and how its requests are read."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        defaults: GenerationDefaults,
        chats: ChatPrompts,
        formats: ChatFormats,
        tenants: TenantSalts | None,
    ) -> None:
        self.engine = engine
        self.defaults = defaults
        self.chats = chats
        self.formats = formats
        self._tenants = tenants
        self.prompts = PromptEncoder(engine)
        self.unknown_fields = UnknownFields()

    def served_name(self, wanted: str | None) -> str:
        """The name to answer with. Raises NotFoundError for a model that is not served here."""
        names = self.engine.info.served_names
        if not wanted:
            return names[0]
        if wanted not in names:
            raise NotFoundError(
                f"The model `{wanted}` does not exist. Served here: {', '.join(names)}.", "model"
            )
        return wanted

    async def prepared(
        self,
        request: Request,
        heading: "Heading",
        num_choices: int,
        prepare: Callable[[], Coroutine[Any, Any, Made]],
    ) -> Made:
        """What `prepare` makes of a request, as long as it has a client, and time.

        Its choices have their room in the queue meanwhile, and still when this returns: `start`
        it before anything else is awaited. Raises OverloadedError or EngineDeadError, with nothing
        begun, TimedOutError, ClientGoneError, and what `prepare` raises.
        """
        time_left = self._timeout_s(heading)
        if time_left is not None:
            time_left = max(0.0, time_left - (time.monotonic() - heading.arrived_at))
        with self.engine.preparing(num_choices):
            return await until_disconnect(request.receive, prepare(), time_left)

    async def check(
        self, body: GenerationRequest, prompts: Sequence[list[int]], params: SamplingParams
    ) -> list[SamplingParams]:
        """The parameters for each prompt. Raises BadRequestError for prompts that do not fit, or
        a form that cannot be had; OverloadedError if too many forms are asked for.
        """
        with body.in_its_own_names():
            checked = self.engine.validate(prompts, params)
            await self.engine.check_structured(params)
        return [self._bounded(one) for one in checked]

    def start(
        self,
        heading: "Heading",
        body: GenerationRequest,
        prompts: Sequence[list[int]],
        params: Sequence[SamplingParams],
    ) -> RequestStream:
        """Hand prompts to the engine, with what `check` made of their parameters.

        Raises BadRequestError, OverloadedError or EngineDeadError, with nothing begun.
        """
        return self.engine.generate(
            heading.engine_id,
            prompts,
            params,
            priority=body.priority or 0,
            cache_salt=self._cache_salt(heading.key_digest, body.cache_salt or ""),
            public_id=heading.id,
            arrived_at=heading.arrived_at,
            timeout_s=self._timeout_s(heading),
            origin=heading.origin,
        )

    def _timeout_s(self, heading: "Heading") -> float | None:
        return shortest(heading.timeout_s, self.engine.settings.request_timeout)

    def _cache_salt(self, key_digest: bytes, own_salt: str) -> str:
        return own_salt if self._tenants is None else self._tenants.salt(key_digest, own_salt)

    def _bounded(self, params: SamplingParams) -> SamplingParams:
        """At most as many tokens as the defaults allow, where a request asks for all there is."""
        longest = self.defaults.max_new_tokens
        if longest is None or params.max_tokens is None or params.max_tokens <= longest:
            return params
        return msgspec.structs.replace(params, max_tokens=longest)


@dataclass(frozen=True)
class Heading:
    """What every part of one answer bears. `engine_id` is unique even if a client's id is not."""

    id: str
    engine_id: str
    created: int
    model: str
    arrived_at: float
    timeout_s: float | None  # what the client gives it
    origin: RequestOrigin
    key_digest: bytes = field(repr=False)

    @classmethod
    def of(cls, request: Request, body: GenerationRequest, kind: str, model: str) -> "Heading":
        """For a request that has just arrived; `kind` is cmpl or chatcmpl.

        Raises BadRequestError if the time that it may take is none.
        """
        shown = f"{kind}-{body.request_id or request.state.request_id}"
        return cls(
            id=shown,
            engine_id=f"{shown}-{secrets.token_hex(8)}",
            created=int(time.time()),
            model=model,
            arrived_at=time.monotonic(),
            timeout_s=timeout_of(request.headers),
            origin=RequestOrigin(
                key=getattr(request.state, "key_label", ""),
                traceparent=request.headers.get("traceparent", ""),
                tracestate=request.headers.get("tracestate", ""),
            ),
            key_digest=getattr(request.state, "key_digest", b""),
        )


class UsageCounter:
    """Adds up the tokens of an answer from its outputs."""

    def __init__(
        self, prompts: Sequence[list[int]], num_choices_each: int, *, counts_output: bool = True
    ) -> None:
        self._counts_output = counts_output
        self._num_prompt_tokens = sum(len(prompt) for prompt in prompts)
        self._num_choices_each = num_choices_each
        self._generated: dict[int, int] = {}
        self._cached: dict[int, int] = {}

    def note(self, output: RequestOutput) -> None:
        """Take an output into account."""
        self._generated[output.index] = output.num_output_tokens * self._counts_output
        # Further choices find what the first one computed: that saved the client nothing.
        if output.index % self._num_choices_each == 0:
            self._cached[output.index] = output.num_cached_tokens

    def usage(self) -> Usage:
        """The usage so far."""
        generated = sum(self._generated.values())
        return Usage(
            prompt_tokens=self._num_prompt_tokens,
            completion_tokens=generated,
            total_tokens=self._num_prompt_tokens + generated,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=sum(self._cached.values())),
        )


@dataclass
class WholeChoice:
    """A choice put together from its outputs."""

    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] | None = None
    prompt_logprobs: Sequence[TokenLogprob | None] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    @property
    def text(self) -> str:
        """All of its text."""
        return "".join(self.texts)

    def add(self, output: RequestOutput) -> None:
        """Append an output."""
        self.texts.append(output.text)
        self.token_ids.extend(output.token_ids)
        self.prompt_logprobs = self.prompt_logprobs or output.prompt_logprobs
        if output.logprobs is not None:
            self.logprobs = self.logprobs or []
            self.logprobs.extend(output.logprobs)
        self.finish_reason, self.stop_reason = output.finish_reason, output.stop_reason


async def collect(
    stream: RequestStream, num_choices: int, counter: UsageCounter
) -> list[WholeChoice]:
    """The whole choices of a request; cancels it if this is itself cancelled."""
    choices = [WholeChoice() for _ in range(num_choices)]
    try:
        async for output in stream:
            counter.note(output)
            choices[output.index].add(output)
    finally:
        stream.close()
    return choices


async def _service_of(request: Request) -> Service:
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


ServiceOfApp = Annotated[Service, Depends(_service_of)]
"""The app's service, as a parameter of a route."""

"""`octavo.LLM`: the same engine in the caller's own process, for offline use."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .assembler import OutputAssembler
from .build import load_tokenizer, plan_model
from .chat_prompts import ChatPrompts
from .core import EngineCore
from .errors import BadRequestError, RequestFailedError
from .grammars import Grammars
from .load_core import load_core
from .messages import SequenceDelta
from .outputs import Completion, RequestOutput, TokenLogprob
from .prepare import bad_word_ids, make_sequences, validate_params, validate_prompt
from .progress import progress_bar
from .sampling_params import SamplingParams
from .settings import Settings
from .template_input import TemplateInput

logger = logging.getLogger(__name__)

Prompt = str | Sequence[int]
Message = Mapping[str, Any]
Conversation = Sequence[Message]


class LLM:
    """A model loaded into this process.

    `model` is a folder, a .gguf file, a Hugging Face name, or None for the embedded default;
    further keyword arguments are fields of `Settings` (`max_model_len=2048`, `dtype="float32"` …).
    Raises ModelError or ConfigurationError. Not for use by several threads at once.
    """

    def __init__(self, model: str | None = None, **settings: Any) -> None:
        overrides = settings if model is None else {"model": model, **settings}
        self.settings = Settings.load(overrides)
        planned = plan_model(self.settings)
        self.config = planned.config
        self.plan = planned.plan
        self.model_config = planned.model
        self.tokenizer = load_tokenizer(planned, self.settings)
        self._chats = ChatPrompts(self.tokenizer, trusts_requests=True)
        self._grammars = Grammars(lambda: (self.tokenizer, planned.model.vocab_size))
        self._core, self.startup_seconds = load_core(planned.config, self._grammars)
        self._num_requests = 0
        self._is_running = False

    @property
    def core(self) -> EngineCore:
        """The step loop's body, for whoever wants to look at queues and blocks."""
        return self._core

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_progress_bar: bool = True,
    ) -> list[list[Completion]]:
        """Complete prompts (texts or token ids), all in one continuous batch.

        Returns, for each prompt, its `params.n` choices. `params` is one for all or one for each.
        Raises BadRequestError before anything runs, RequestFailedError if the engine fails.
        """
        batch = _as_batch(prompts)
        each = _params_for_each(params, len(batch))
        run = _Run(self, [self._encode(prompt) for prompt in batch], each)
        total = sum(one.n for one in each)
        with progress_bar(total, use_progress_bar) as advance:
            for _ in run.outputs(advance):
                pass
        return run.completions()

    def chat(
        self,
        conversations: Conversation | Sequence[Conversation],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        use_progress_bar: bool = True,
    ) -> list[list[Completion]]:
        """Answer conversations: each a list of messages `{"role": …, "content": …}`.

        As `generate`, after the model's chat template, or the one given. Calls of tools are left
        in the text. Raises BadRequestError if there is no template, or it refuses the messages.
        """
        prompts: list[Prompt] = []
        for messages in _as_conversations(conversations):
            given = TemplateInput(
                messages,
                tools=tools,
                add_generation_prompt=add_generation_prompt and not continue_final_message,
                continue_final_message=continue_final_message,
                variables=chat_template_kwargs or {},
            )
            text = self._chats.render(given, chat_template)
            prompts.append(self.tokenizer.encode(text, add_special_tokens=False))
        return self.generate(prompts, params, use_progress_bar=use_progress_bar)

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None
    ) -> Iterator[RequestOutput]:
        """Complete one prompt, giving out text as it is made. Closing the iterator cancels it."""
        run = _Run(self, [self._encode(prompt)], [params or SamplingParams()])
        yield from run.outputs(lambda: None)

    def _encode(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt, add_special_tokens=True)
        return list(prompt)

    def _next_id(self) -> str:
        self._num_requests += 1
        return f"offline-{self._num_requests}"


class _Run:
    """One call of `generate`: its sequences from submission to the last token."""

    def __init__(
        self, llm: LLM, prompts: list[list[int]], params: Sequence[SamplingParams]
    ) -> None:
        self._llm = llm
        vocab_size = llm.model_config.vocab_size
        most = llm.settings.max_logprobs
        checked = [
            validate_prompt(
                ids,
                validate_params(one, vocab_size=vocab_size, max_logprobs=most),
                vocab_size=vocab_size,
                max_model_len=llm.config.max_model_len,
            )
            for ids, one in zip(prompts, params, strict=True)
        ]
        for one in checked:
            if one.structured is not None:
                llm._grammars.compile(one.structured)
        self._choices: list[list[_Choice]] = []
        self._open: dict[str, _Choice] = {}
        self._submits = []
        for ids, one in zip(prompts, checked, strict=True):
            banned = bad_word_ids(one.bad_words, llm.tokenizer)
            sequences = make_sequences(llm._next_id(), ids, one, llm.tokenizer, banned)
            choices = []
            for index, sequence in enumerate(sequences):
                choice = _Choice(OutputAssembler(llm.tokenizer, ids, one, index))
                self._open[sequence.request_id] = choice
                choices.append(choice)
            self._choices.append(choices)
            self._submits.extend(sequences)

    def outputs(self, on_choice_end: Callable[[], None]) -> Iterator[RequestOutput]:
        """Run to the end; on an early close or an error everything still open is cancelled."""
        core = self._llm.core
        if self._llm._is_running:
            raise RequestFailedError(
                "another call of this LLM is under way: end or close its iterator first"
            )
        self._llm._is_running = True
        try:
            for submit in self._submits:
                core.add(submit)
            while self._open:
                for delta in core.step().deltas:
                    output = self._take(delta)
                    if output is not None:
                        yield output
                        if output.finish_reason is not None:
                            on_choice_end()
        finally:
            core.cancel(list(self._open))
            core.drain()
            self._llm._is_running = False

    def completions(self) -> list[list[Completion]]:
        """The finished choices of each prompt."""
        return [[choice.completion() for choice in choices] for choices in self._choices]

    def _take(self, delta: SequenceDelta) -> RequestOutput | None:
        choice = self._open.get(delta.request_id)
        if choice is None:
            return None
        if delta.error is not None:
            raise RequestFailedError(delta.error)
        output = choice.assembler.push(delta)
        if output is None:
            return None
        choice.outputs.append(output)
        if output.finish_reason is not None:
            del self._open[delta.request_id]
            if delta.finish_reason is None:  # a stop string: the engine does not know
                self._llm.core.cancel([delta.request_id])
        return output


class _Choice:
    """The outputs of one choice so far."""

    def __init__(self, assembler: OutputAssembler) -> None:
        self.assembler = assembler
        self.outputs: list[RequestOutput] = []

    def completion(self) -> Completion:
        last = self.outputs[-1]
        assert last.finish_reason is not None
        logprobs: list[TokenLogprob] = []
        for output in self.outputs:
            logprobs.extend(output.logprobs or ())
        return Completion(
            index=last.index,
            text="".join(output.text for output in self.outputs),
            token_ids=tuple(token for output in self.outputs for token in output.token_ids),
            logprobs=tuple(logprobs) if last.logprobs is not None else None,
            finish_reason=last.finish_reason,
            stop_reason=last.stop_reason,
            num_prompt_tokens=last.num_prompt_tokens,
            num_cached_tokens=last.num_cached_tokens,
            prompt_logprobs=self.outputs[0].prompt_logprobs,
        )


def _as_batch(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    if isinstance(prompts, str):
        return [prompts]
    items = list(prompts)
    if items and all(isinstance(item, int) for item in items):
        return [[item for item in items if isinstance(item, int)]]
    return [item for item in items if not isinstance(item, int)]


def _as_conversations(
    conversations: Conversation | Sequence[Conversation],
) -> list[Conversation]:
    single = [item for item in conversations if isinstance(item, Mapping)]
    if len(single) == len(conversations):
        return [single]
    return [item for item in conversations if not isinstance(item, Mapping)]


def _params_for_each(
    params: SamplingParams | Sequence[SamplingParams] | None, count: int
) -> Sequence[SamplingParams]:
    if params is None:
        return [SamplingParams()] * count
    if isinstance(params, SamplingParams):
        return [params] * count
    if len(params) != count:
        raise BadRequestError(f"{count} prompts but {len(params)} sampling parameters", "params")
    return params

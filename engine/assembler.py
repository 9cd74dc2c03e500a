"""From token ids to what the user sees: text, stop strings, log-probabilities of one choice."""

from collections.abc import Sequence

from .detokenizer import Detokenizer, StopStringMatcher
from .messages import SequenceDelta, TokenScore
from .outputs import RequestOutput, TokenLogprob, TopLogprob
from .sampling_params import SamplingParams
from .tokenizer import Tokenizer


class OutputAssembler:
    """Collects the deltas of one choice and gives out the parts that are safe to show.

    Text is withheld while it may be half a character or the beginning of a stop string; tokens and
    log-probabilities are withheld with it, so that every output has text or ends the choice.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_token_ids: Sequence[int],
        params: SamplingParams,
        index: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._index = index
        self._prompt_token_ids = prompt_token_ids
        self._wants_logprobs = params.logprobs is not None
        self._detokenizer = Detokenizer(
            tokenizer,
            skip_special_tokens=params.skip_special_tokens,
            shown=params.shown_special_tokens,
        )
        eos = () if params.ignore_eos else tokenizer.eos_token_ids
        self._stop_token_ids = frozenset((*eos, *params.stop_token_ids))
        self._matcher = (
            StopStringMatcher(params.stop, include=params.include_stop_str_in_output)
            if params.stop
            else None
        )
        self._min_tokens = params.min_tokens
        self._pending_ids: list[int] = []
        self._pending_logprobs: list[TokenLogprob] = []
        self._wants_prompt_logprobs = params.prompt_logprobs is not None
        self._prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
        self.num_output_tokens = 0
        self.num_cached_tokens = 0

    def push(self, delta: SequenceDelta) -> RequestOutput | None:
        """Take one delta. Returns what may be shown, or None while everything is withheld.

        If a stop string completes, the output ends the choice although the engine may go on: the
        caller then cancels the sequence there.
        """
        if self.num_output_tokens == 0:  # later, an engine that goes on after another may tell more
            self.num_cached_tokens = max(self.num_cached_tokens, delta.num_cached_tokens)
        self.num_output_tokens += len(delta.token_ids)
        self._pending_ids.extend(delta.token_ids)
        if self._wants_logprobs:
            self._pending_logprobs.extend(map(self._logprob, delta.token_ids, delta.scores))
        if self._wants_prompt_logprobs and delta.token_ids:
            self._wants_prompt_logprobs = False
            self._prompt_logprobs = self._judge_prompt(delta.prompt_scores)
        text = self._detokenizer.push(self._visible(delta))
        finish_reason, stop_reason = delta.finish_reason, delta.stop_reason
        ended = finish_reason is not None
        if ended:
            text += self._detokenizer.flush()
        matched: str | None = None
        if self._matcher is not None:
            if self.num_output_tokens >= self._min_tokens:
                text, matched = self._matcher.push(text)
            if ended and matched is None:
                text += self._matcher.flush()
        if matched is not None:
            return self._output(text, "stop", matched)
        if not text and not ended:
            return None
        return self._output(text, finish_reason, stop_reason)

    def _judge_prompt(self, scores: Sequence[TokenScore]) -> tuple[TokenLogprob | None, ...]:
        """The prompt's tokens with their scores, which the first one has none of."""
        judged = map(self._logprob, self._prompt_token_ids[1:], scores)
        return (None, *judged)

    def _visible(self, delta: SequenceDelta) -> list[int]:
        """The delta's tokens without a stop token that ended the sequence."""
        ids = list(delta.token_ids)
        if delta.finish_reason == "stop" and ids and ids[-1] in self._stop_token_ids:
            ids.pop()
        return ids

    def _output(
        self, text: str, finish_reason: str | None, stop_reason: int | str | None
    ) -> RequestOutput:
        output = RequestOutput(
            index=self._index,
            text=text,
            token_ids=tuple(self._pending_ids),
            logprobs=tuple(self._pending_logprobs) if self._wants_logprobs else None,
            finish_reason=finish_reason,
            stop_reason=stop_reason,
            num_prompt_tokens=len(self._prompt_token_ids),
            num_cached_tokens=self.num_cached_tokens,
            num_output_tokens=self.num_output_tokens,
            prompt_logprobs=self._prompt_logprobs,
        )
        self._prompt_logprobs = None
        self._pending_ids.clear()
        self._pending_logprobs.clear()
        return output

    def _logprob(self, token_id: int, score: TokenScore) -> TokenLogprob:
        return TokenLogprob(
            token_id=token_id,
            logprob=score.logprob,
            token=self._tokenizer.token_text(token_id),
            bytes=self._tokenizer.token_bytes(token_id),
            top=tuple(
                TopLogprob(
                    other,
                    logprob,
                    self._tokenizer.token_text(other),
                    self._tokenizer.token_bytes(other),
                )
                for other, logprob in score.top
            ),
        )

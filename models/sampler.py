"""From logits to tokens, for all rows of a step at once.

The order is vLLM's: log-probabilities of the unchanged logits; grammar, allowed ids, bad words,
minimum length, logit bias; repetition, frequency and presence penalties; then the most likely
token, or temperature, min_p, top_k with top_p, and a draw.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .batch import SampledToken
from .random_numbers import gumbel_noise
from .sampling_spec import SamplingSpec
from .token_masks import PendingMasks

NUCLEUS_CANDIDATES = 256
LOWEST_LOGPROB = -9999.0
_NEVER = float("-inf")


# One is made for each row of every step, and a named tuple is made fast.
class SamplingRow(NamedTuple):
    """One sequence that draws a token: how, where, and what it has seen.

    `position` is the index in the whole sequence of the token to be drawn. `output_token_ids` may
    lack the newest tokens, but not for a `spec` that looks at them (`reads_output`).
    """

    request_id: str
    spec: SamplingSpec
    position: int
    prompt_token_ids: Sequence[int]
    output_token_ids: Sequence[int]

    @property
    def num_output_tokens(self) -> int:
        """Tokens drawn before this one."""
        return self.position - len(self.prompt_token_ids)


@dataclass(frozen=True, slots=True)
class Draw:
    """The tokens of a step: `token_ids` [rows] int64, on the device or on their way from there.

    `copied` is set in the latter case, and must be waited for before they are read. Of the rows
    that want log-probabilities, `scored` in this order: `own` [scored] of the tokens drawn, `best`
    and `best_ids` [scored, width] of the likeliest.
    """

    rows: Sequence[SamplingRow]
    token_ids: Tensor
    scored: Sequence[int] = ()
    own: Tensor | None = None
    best: Tensor | None = None
    best_ids: Tensor | None = None
    copied: torch.cuda.Event | None = None

    def tokens(self) -> list[SampledToken]:
        """The same on the host; waits for the device."""
        if self.copied is not None:
            self.copied.synchronize()
        token_ids = self.token_ids.tolist()
        if self.own is None:
            return [
                SampledToken(row.request_id, token_id)
                for row, token_id in zip(self.rows, token_ids, strict=True)
            ]
        scores = self._scores()
        return [
            SampledToken(row.request_id, token_id, *scores.get(i, (None, None)))
            for i, (row, token_id) in enumerate(zip(self.rows, token_ids, strict=True))
        ]

    def _scores(self) -> dict[int, tuple[float, tuple[tuple[int, float], ...]]]:
        if self.own is None:
            return {}
        own = self.own.tolist()
        empty: list[list[float]] = [[]] * len(own)
        values = empty if self.best is None else self.best.tolist()
        ids = empty if self.best_ids is None else self.best_ids.tolist()
        result = {}
        for line, i in enumerate(self.scored):
            count = self.rows[i].spec.logprobs or 0
            top = zip(map(int, ids[line][:count]), map(finite, values[line][:count]), strict=True)
            result[i] = (finite(own[line]), tuple(top))
        return result


def draw(logits: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
    """One token a row, int64 [rows], from logits [rows, vocab] whose tokens all may be drawn."""
    drawn = [i for i, row in enumerate(rows) if not row.spec.greedy]
    if drawn:
        every = len(drawn) == len(rows)
        part = logits if every else logits[drawn]
        chosen = [rows[i] for i in drawn]
        part /= torch.tensor([[row.spec.temperature] for row in chosen], device=logits.device)
        _truncate(part, chosen)
        keys = [(row.spec.seed, row.position) for row in chosen]
        part += gumbel_noise(keys, part.shape[1], part.device)
        if not every:
            logits[drawn] = part
    return logits.argmax(dim=-1)


def sample(
    logits: Tensor,
    rows: Sequence[SamplingRow],
    draw: Callable[[Tensor, Sequence[SamplingRow]], Tensor] = draw,
    masks: PendingMasks | None = None,
) -> Draw:
    """Draw one token a row from float32 logits [rows, vocab], which are overwritten.

    `draw` takes the tokens once the logits are restricted and penalised; `masks` are what grammars
    allow.
    """
    scored = [i for i, row in enumerate(rows) if row.spec.logprobs is not None]
    raw = logits[scored].log_softmax(dim=-1) if scored else None
    if masks is not None:
        masks.apply(logits)
    restrict(logits, rows)
    penalise(logits, rows)
    token_ids = draw(logits, rows)
    if raw is None:
        return Draw(rows, token_ids)
    own = raw.gather(1, token_ids[scored][:, None]).flatten()
    width = max(rows[i].spec.logprobs or 0 for i in scored)
    best = raw.topk(width, dim=-1) if width else None
    return Draw(
        rows,
        token_ids,
        scored,
        own,
        None if best is None else best.values,
        None if best is None else best.indices,
    )


def restrict(logits: Tensor, rows: Sequence[SamplingRow]) -> None:
    """Forbid and favour single tokens."""
    banned: list[tuple[int, int]] = []
    biased: list[tuple[int, int, float]] = []
    for i, row in enumerate(rows):
        spec = row.spec
        if not spec.restricts:
            continue
        if spec.allowed_token_ids is not None:
            ids = torch.tensor(spec.allowed_token_ids, device=logits.device)
            allowed = logits[i, ids]
            logits[i].fill_(_NEVER)
            logits[i, ids] = allowed
        for word in spec.bad_words:
            if _is_about_to_complete(word, row.output_token_ids):
                banned.append((i, word[-1]))
        if row.num_output_tokens < spec.min_tokens:
            banned.extend((i, token_id) for token_id in spec.banned_until_min)
        biased.extend((i, token_id, bias) for token_id, bias in spec.logit_bias)
    if banned:
        where = torch.tensor(banned, device=logits.device)
        logits[where[:, 0], where[:, 1]] = _NEVER
    if biased:
        where = torch.tensor([entry[:2] for entry in biased], device=logits.device)
        bias = torch.tensor([entry[2] for entry in biased], device=logits.device)
        logits.index_put_((where[:, 0], where[:, 1]), bias, accumulate=True)


def _is_about_to_complete(word: tuple[int, ...], output: Sequence[int]) -> bool:
    beginning = word[:-1]
    return not beginning or tuple(output[-len(beginning) :]) == beginning


def penalise(logits: Tensor, rows: Sequence[SamplingRow]) -> None:
    """Repetition counts prompt and output, frequency and presence the output only."""
    for i, row in enumerate(rows):
        spec = row.spec
        if not spec.penalises:
            continue
        line = logits[i]
        output = torch.tensor(row.output_token_ids, dtype=torch.int64, device=logits.device)
        if spec.repetition_penalty != 1.0:
            prompt = torch.tensor(row.prompt_token_ids, dtype=torch.int64, device=logits.device)
            seen = torch.unique(torch.cat((prompt, output)))
            values = line[seen]
            penalty = spec.repetition_penalty
            line[seen] = torch.where(values > 0, values / penalty, values * penalty)
        if len(output):
            ids, counts = torch.unique(output, return_counts=True)
            line[ids] -= spec.frequency_penalty * counts + spec.presence_penalty


def _truncate(logits: Tensor, rows: Sequence[SamplingRow]) -> None:
    """Forbid the unlikely tokens: below min_p of the best, beyond top_k, outside top_p."""
    min_p = [(i, row.spec.min_p) for i, row in enumerate(rows) if row.spec.min_p > 0.0]
    if min_p:
        where = [i for i, _ in min_p]
        part = logits[where]
        floor = torch.tensor([[math.log(share)] for _, share in min_p], device=logits.device)
        logits[where] = part.masked_fill(part < part.amax(dim=-1, keepdim=True) + floor, _NEVER)
    vocab = logits.shape[1]
    for i, row in enumerate(rows):
        top_k, top_p = row.spec.top_k, row.spec.top_p
        if 0 < top_k < vocab or top_p < 1.0:
            _keep_top(logits[i], top_k if 0 < top_k < vocab else vocab, top_p)


def _keep_top(line: Tensor, top_k: int, top_p: float) -> None:
    """Keep the `top_k` best of a row [vocab], of those the fewest that hold `top_p` together.

    Tokens that tie with the last one kept are kept as well. The vocabulary is sorted as a whole
    only if its best `NUCLEUS_CANDIDATES` do not settle it.
    """
    vocab = line.shape[0]
    for width in (min(top_k, max(NUCLEUS_CANDIDATES, top_k if top_k < vocab else 0)), top_k):
        best = line.topk(width).values
        if top_p >= 1.0:
            threshold = best[-1]
            break
        total = line.logsumexp(0) if top_k == vocab else best.logsumexp(0)
        before = (best - total).exp().cumsum(0)
        outside = (before >= top_p).nonzero()
        if len(outside) or width == top_k:
            threshold = best[outside[0, 0]] if len(outside) else best[-1]
            break
    line.masked_fill_(line < threshold, _NEVER)


def finite(logprob: float) -> float:
    """JSON has no infinities; OpenAI's API uses -9999 for "impossible"."""
    return logprob if math.isfinite(logprob) else LOWEST_LOGPROB

"""How one request's tokens are drawn: plain values, already validated. No torch."""

from dataclasses import dataclass, field

GREEDY_EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    """Parameters of the sampler; `seed` has 64 bits. `banned_until_min` are the ids that would stop
    the request before `min_tokens`; `bad_words` are token sequences that must not be completed."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    min_tokens: int = 0
    banned_until_min: tuple[int, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()
    allowed_token_ids: tuple[int, ...] | None = None
    bad_words: tuple[tuple[int, ...], ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    greedy: bool = field(init=False)  # the most likely token is always taken
    penalises: bool = field(init=False)  # tokens seen before count
    restricts: bool = field(init=False)  # single tokens are forbidden or favoured

    def __post_init__(self) -> None:
        """Settle once what each step asks."""
        object.__setattr__(self, "greedy", self.temperature < GREEDY_EPSILON)
        penalties = (self.presence_penalty, self.frequency_penalty, self.repetition_penalty)
        object.__setattr__(self, "penalises", penalties != (0.0, 0.0, 1.0))
        restricts = self.allowed_token_ids is not None or bool(
            self.bad_words or self.min_tokens or self.logit_bias
        )
        object.__setattr__(self, "restricts", restricts)

    @property
    def reads_output(self) -> bool:
        """Whether the tokens drawn so far count."""
        return self.penalises or bool(self.bad_words)

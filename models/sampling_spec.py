"""How one request's tokens are drawn: plain values, already validated. No torch."""

from dataclasses import dataclass

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

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature < GREEDY_EPSILON

    @property
    def reads_output(self) -> bool:
        """Whether the tokens drawn so far count."""
        return self.penalises or bool(self.bad_words)

    @property
    def penalises(self) -> bool:
        """Whether tokens seen before count."""
        return (
            self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
            or self.repetition_penalty != 1.0
        )

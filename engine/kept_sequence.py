"""A sequence under way, with all that another engine must know to go on with it."""

from dataclasses import dataclass, field

import msgspec

from .messages import Submit


@dataclass(slots=True, eq=False)
class KeptSequence:
    """One sequence, kept until it ends."""

    submit: Submit
    token_ids: list[int] = field(default_factory=list)  # all that came of it
    num_trial_tokens: int = 0  # that came from the present engine, as far as they count
    num_deaths: int = 0  # engines that died while they tried it, one after the other
    is_closed: bool = False

    def to_submit(self) -> Submit:
        """What an engine must know to go on after the tokens that came already."""
        if not self.token_ids:
            return self.submit
        params = msgspec.structs.replace(self.submit.params, prompt_logprobs=None)  # told already
        return msgspec.structs.replace(self.submit, params=params, output_token_ids=self.token_ids)

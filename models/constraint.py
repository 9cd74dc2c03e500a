"""What may decide which tokens a sequence draws. No torch."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.int32]
BITS = 32


class Constraint(Protocol):
    """Says which tokens may come next. Its owner tells it of each token that was drawn."""

    @property
    def vocab_size(self) -> int:
        """How many tokens there are: the width of the model's logits."""

    @property
    def is_active(self) -> bool:
        """Whether some token may not come next."""

    def fill(self, words: Words) -> None:
        """Clear bit i % 32 of word i // 32 for every token i that may not come next.

        All bits are set before. Called by one thread at a time, and not while the owner calls.
        """

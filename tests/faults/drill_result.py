"""What a drill counted: a row of the table in docs/reliability.md."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DrillResult:
    """A drill's counts. What is tried (a kill, a file, a request) is the drill's own to say.

    `requests_lost`: requests that neither ended as they should nor were refused with a reason.
    `blocks_leaked`: KV blocks that are held when nothing runs any more. `seeds`: those of the
    failures, with which they happen again. `note`: what was tried, and figures, in a few words.
    """

    name: str
    tried: int
    survived: int
    requests_lost: int = 0
    blocks_leaked: int = 0
    seeds: tuple[int, ...] = ()
    note: str = ""

    @property
    def is_passed(self) -> bool:
        """Whether all that was tried was survived, with nothing lost."""
        lost = self.requests_lost + self.blocks_leaked
        return self.tried > 0 and self.survived == self.tried and lost == 0

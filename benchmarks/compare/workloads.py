"""What is asked of every server."""

from dataclasses import dataclass, replace

from octavo.bench import RandomPrompts, SharedPrefix


@dataclass(frozen=True)
class ComparedWorkload:
    """A closed loop of `num_requests` requests, `concurrency` at a time."""

    name: str
    title: str
    concurrency: int
    num_requests: int
    prompts: RandomPrompts | SharedPrefix

    def scaled(self, num_requests: int, output_len: int) -> "ComparedWorkload":
        """The same with fewer, shorter requests: to see that everything runs."""
        return replace(
            self,
            num_requests=min(self.num_requests, num_requests),
            prompts=replace(self.prompts, output_len=min(self.prompts.output_len, output_len)),
        )


WORKLOADS: tuple[ComparedWorkload, ...] = (
    ComparedWorkload(
        name="W1",
        title="one at a time: 100 tokens in, 128 out",
        concurrency=1,
        num_requests=6,
        prompts=RandomPrompts(input_len=100, output_len=128),
    ),
    ComparedWorkload(
        name="W2",
        title="8 at a time: 100 in, 128 out",
        concurrency=8,
        num_requests=32,
        prompts=RandomPrompts(input_len=100, output_len=128),
    ),
    ComparedWorkload(
        name="W3",
        title="32 at a time: 200 in, 64 out",
        concurrency=32,
        num_requests=64,
        prompts=RandomPrompts(input_len=200, output_len=64),
    ),
    ComparedWorkload(
        name="W4",
        title="8 at a time: 800 shared and 24 of their own in, 32 out",
        concurrency=8,
        num_requests=32,
        prompts=SharedPrefix(prefix_len=800, num_prefixes=1, input_len=24, output_len=32),
    ),
)
WARM_UP = RandomPrompts(input_len=32, output_len=16)
"""One request before the first workload; its words are no prefix of any workload's."""

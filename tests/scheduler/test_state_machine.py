"""Any sequence of events keeps the invariants 3, 4, 5 and 7 of design.md, after every step.

The machine plays engine and runner. It keeps a row of block ids for each request as a runner would,
from what batches announce, and models the memory: every scheduled request must read exactly what
was computed of its own tokens. A step computes when it is scheduled and is delivered later, so that
with steps ahead the runner knows tokens that the scheduler does not know yet.
"""

from collections import Counter, deque

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from octavo.paged_cache import BlockPool
from octavo.scheduler import (
    Batch,
    BlockState,
    Request,
    RequestStatus,
    Scheduler,
    StopRule,
)

from .block_viewer import Viewer
from .fuzzed_requests import (
    CONFIGS,
    EOS,
    MAX_MODEL_LEN,
    STOP_ID,
    SUBMISSIONS,
    TENANTS,
    Config,
    Flight,
    Life,
    Submission,
)
from .modelled_memory import ModelledMemory

# What must have happened for the test to mean something.
ENOUGH = {"steps": 10_000, "preemptions": 100, "hits": 1000, "failures": 100}
ENOUGH |= {"ahead": 1000, "retracted": 20, "looks": 500}
MOST_RUNS = 6


class SchedulerMachine(RuleBasedStateMachine):
    num_steps = 0
    num_preemptions = 0
    num_hits = 0
    num_failures = 0
    num_ahead = 0
    num_retracted = 0
    num_looks = 0

    @initialize(config=CONFIGS)
    def start(self, config: Config) -> None:
        self.config = config
        self.pool = BlockPool(config.num_blocks, config.enable_prefix_caching)
        self.scheduler = Scheduler(
            self.pool,
            config.block_size,
            max_num_batched_tokens=config.max_num_batched_tokens,
            max_num_seqs=config.max_num_seqs,
            max_model_len=MAX_MODEL_LEN,
            long_prefill_token_threshold=config.long_prefill_token_threshold,
            watermark_blocks=config.watermark_blocks,
            policy=config.policy,
        )
        self.memory = ModelledMemory(self.pool, config)
        self.viewer: Viewer | None = Viewer(self.pool, self.scheduler)
        self.seen_version = 0  # of a watch that has ended
        self.lives: dict[str, Life] = {}
        self.num_arrivals = 0
        self.budget = config.max_num_batched_tokens
        self.has_whole_budget = True
        self.in_flight: deque[Flight] = deque()

    # Events.

    @rule(submissions=st.lists(SUBMISSIONS, min_size=1, max_size=6))
    def submit(self, submissions: list[Submission]) -> None:
        for submission in submissions:
            self.submit_one(submission)

    def submit_one(self, submission: Submission) -> None:
        self.num_arrivals += 1
        prompt, total = submission.prompt, submission.max_total_tokens
        request = Request(
            f"r{self.num_arrivals}",
            prompt,
            StopRule(
                max_tokens=submission.max_tokens,
                max_total_tokens=total,
                min_tokens=min(submission.min_tokens, submission.max_tokens),
                eos_token_ids=frozenset({EOS} if submission.honours_eos else ()),
                stop_token_ids=frozenset({STOP_ID}),
            ),
            priority=submission.priority,
            hash_extra=TENANTS[submission.tenant],
            use_prefix_cache=submission.use_prefix_cache,
        )
        most_computed = min(len(prompt) + submission.max_tokens, total) - 1
        can_finish = (
            0 < len(prompt) < total
            and -(-most_computed // self.config.block_size) <= self.config.num_blocks - 1
        )
        try:
            self.scheduler.add(request)
        except ValueError:
            assert not can_finish
            return
        assert can_finish
        priority = submission.priority if self.config.policy == "priority" else 0
        self.lives[request.request_id] = Life(
            request, submission.tenant, priority, self.num_arrivals
        )

    @precondition(lambda self: self.lives)
    @rule(pick=st.integers(0, 100))
    def cancel(self, pick: int) -> None:
        self.cancel_picked(pick)

    @rule()
    def cancel_unknown(self) -> None:
        assert not self.scheduler.cancel("nobody")

    @precondition(lambda self: self.lives)
    @rule(num_steps=st.integers(1, 12))
    def run(self, num_steps: int) -> None:
        for _ in range(num_steps):
            if self.take_step():
                self.deliver()
            self.books_agree()
            if self.viewer is not None and num_steps % 2:
                self.look_at_blocks()

    @precondition(lambda self: self.lives)
    @rule(picks=st.lists(st.integers(0, 100), max_size=2), fails=st.sampled_from([True, False]))
    def step_with_cancels_in_flight(self, picks: list[int], fails: bool) -> None:
        self.take_step()
        for pick in picks:
            if self.lives:
                self.cancel_picked(pick)
        self.break_newest_step() if fails else self.deliver()

    @precondition(lambda self: self.lives)
    @rule(
        cancels=st.lists(st.sampled_from([None, None, None, 0, 1, 5]), min_size=1, max_size=16),
        ending=st.sampled_from(["deliver", "deliver", "fail newest", "fail all"]),
        submission=st.none() | SUBMISSIONS,
    )
    def run_ahead(
        self, cancels: list[int | None], ending: str, submission: Submission | None
    ) -> None:
        """Keep two steps in flight; requests end, come and are cancelled meanwhile."""
        for number, pick in enumerate(cancels):
            if not self.in_flight and self.lives:
                self.take_step()
            if self.in_flight and self.scheduler.can_run_ahead:
                type(self).num_ahead += self.take_step()
            if pick is not None and self.lives:
                self.cancel_picked(pick)
            if submission is not None and number == 1:
                self.submit_one(submission)
            self.books_agree()
            if self.in_flight and number < len(cancels) - 1:
                self.deliver()
                self.books_agree()
        if ending == "fail newest" and self.in_flight:
            self.break_newest_step()
        while self.in_flight:
            self.break_newest_step() if ending == "fail all" else self.deliver()
            self.books_agree()

    @precondition(lambda self: self.lives and self.has_whole_budget and self.budget > 8)
    @rule()
    def retract(self) -> None:
        """The device had no room for the step."""
        self.take_step()
        flight = self.in_flight.pop()
        type(self).num_retracted += 1
        self.memory.spoil(flight.written)
        for request_id in flight.sampled:
            self.lives[request_id].forget_newest()
        running = [r for r in self.lives.values() if r.request.status is RequestStatus.RUNNING]
        sent_back = self.scheduler.retract(flight.batch)
        assert set(sent_back) == {life.request.request_id for life in running}
        self.budget = max(1, flight.batch.num_tokens // 2)
        self.has_whole_budget = False  # once is enough: with a small one nothing much happens
        assert self.scheduler.num_running == 0
        assert self.pool.num_used == 0

    @rule()
    def reset_prefix_cache(self) -> None:
        num_used = self.pool.num_used
        self.pool.reset_prefix_cache()
        assert (self.pool.num_cached, self.pool.num_used) == (0, num_used)

    @rule()
    def start_or_stop_watching(self) -> None:
        if self.viewer is None:
            self.viewer = Viewer(self.pool, self.scheduler, self.seen_version + 1)
        else:
            self.seen_version = self.viewer.version
            self.viewer.watch.stop()
            self.viewer = None

    @precondition(lambda self: self.viewer is not None)
    @rule()
    def look_at_blocks(self) -> None:
        """What changed since the last look, put together, is what there is."""
        running, watch = self.scheduler.running, self.viewer.watch
        shown = self.viewer.look()
        type(self).num_looks += bool(self.viewer.runs) and not self.viewer.is_full
        numbers = {watch.owner_number(r.request_id): r for r in running}
        assert len(numbers) == len(running)
        for block, (owner, state) in zip(self.memory.blocks.values(), shown, strict=True):
            assert state == BlockState.of(block)
            holders = {r for r in running if block in r.table.blocks}
            assert set(watch.holders_of(block.block_id)) == holders
            assert (numbers[owner] in holders) if holders else owner == 0
        num_shared = sum(state == BlockState.SHARED for _, state in shown)
        assert watch.num_shared == num_shared

    def teardown(self) -> None:
        """Whatever happened, what is left ends in bounded time, and an idle engine is empty."""
        if not hasattr(self, "scheduler"):
            return
        # Were each to run alone after all others, restarted by each of them: a generous bound.
        bound = sum(len(life.tokens) + 12 for life in self.lives.values()) * (len(self.lives) + 1)
        for _ in range(bound):
            if not self.scheduler.has_work:
                break
            self.take_step()
            self.deliver()
            self.books_agree()
        assert not self.scheduler.has_work
        assert not self.lives
        assert self.pool.num_free == self.pool.num_usable
        type(self).num_preemptions += self.scheduler.num_preemptions

    # Invariants.

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        self.pool.check_integrity()
        holders: Counter[int] = Counter()
        for life in self.lives.values():
            ids = life.request.table.block_ids()
            holders.update(ids)
            is_running = life.request.status is RequestStatus.RUNNING
            assert is_running == bool(ids)
            assert life.request.token_ids == life.tokens[: life.num_known]
            assert life.request.num_pending_tokens == len(life.tokens) - life.num_known
        for step in self.scheduler._in_flight._steps:
            holders.update(block.block_id for block in step.given_up)
        for flight in self.in_flight:
            assert all(block_id in holders for block_id, _ in flight.written), (
                "a block is free that a step in flight may still write"
            )
        assert 0 not in holders
        assert holders == Counter(
            {i: b.ref_count for i, b in self.memory.blocks.items() if b.ref_count}
        )
        num_waiting = sum(not life.request.table.blocks for life in self.lives.values())
        assert self.scheduler.num_waiting == num_waiting
        assert self.scheduler.num_running == len(self.lives) - num_waiting
        assert self.scheduler.has_work == bool(self.lives)

    # What engine and runner do.

    def take_step(self) -> bool:
        """Schedule, check every decision, and compute.

        Returns whether there was anything to compute, which only a step ahead may lack.
        """
        self.memory.begin_step()
        batch = self.scheduler.schedule()
        self.check_decisions(batch)
        if not batch.scheduled:
            return False
        type(self).num_steps += 1
        written = self.memory.compute(batch, self.lives)
        sampled = {}
        for item in batch.scheduled:
            if item.samples:
                life = self.lives[item.request_id]
                sampled[item.request_id] = life.sample()
                life.tokens.append(sampled[item.request_id])
        self.in_flight.append(Flight(batch, sampled, written))
        return True

    def check_decisions(self, batch: Batch) -> None:
        scheduled = [item.request_id for item in batch.scheduled]
        assert len(set(scheduled)) == len(scheduled)
        assert not set(scheduled) & set(batch.preempted)
        assert batch.num_tokens == sum(len(item.token_ids) for item in batch.scheduled)
        assert batch.num_tokens <= self.budget
        assert batch.num_prompt_tokens + batch.recomputed_tokens <= batch.num_tokens
        assert self.scheduler.num_running <= self.config.max_num_seqs
        assert set(batch.admitted) <= set(scheduled)
        assert not (batch.admitted and batch.preempted)
        type(self).num_hits += batch.prefix_hit_tokens

        lives = self.lives.values()
        running = [life for life in lives if life.request.status is RequestStatus.RUNNING]
        waiting = [life for life in lives if life.request.status is not RequestStatus.RUNNING]
        assert not lives or running or self.in_flight, "there is work, and nobody runs"
        wants_more = [life for life in running if not life.is_at_limit]
        if wants_more:  # the first in order makes progress, whatever else happens
            first = min(wants_more, key=lambda life: life.key)
            assert first.request.request_id in scheduled
        assert wants_more == running or self.in_flight
        assert not (batch.preempted and self.in_flight)
        for request_id in batch.preempted:  # never someone who goes before those who stay
            assert all(life.key < self.lives[request_id].key for life in running)
        for request_id in batch.admitted:  # never past someone who waits
            assert all(self.lives[request_id].key < life.key for life in waiting)
        cap = self.config.long_prefill_token_threshold
        if cap and len(lives) > 1:
            assert all(len(item.token_ids) <= cap for item in batch.scheduled)

    def deliver(self) -> None:
        """The tokens of the oldest step in flight become known."""
        flight = self.in_flight.popleft()
        alive = [request_id for request_id in flight.sampled if request_id in self.lives]
        updates = self.scheduler.update(flight.batch, flight.sampled)
        assert [update.request_id for update in updates] == alive
        for update in updates:
            life = self.lives[update.request_id]
            assert update.token_ids == [flight.sampled[update.request_id]]
            life.num_known += 1
            assert (update.finish_reason, update.stop_reason) == life.expected_end()
            if update.finish_reason is not None:
                self.bury(update.request_id)

    def break_newest_step(self) -> None:
        """The runner raised: anything may be in the slots that it was to write."""
        flight = self.in_flight.pop()
        type(self).num_failures += 1
        self.memory.spoil(flight.written)
        ended = self.scheduler.fail(flight.batch)
        assert ended == [i.request_id for i in flight.batch.scheduled if i.request_id in self.lives]
        for request_id in ended:
            self.bury(request_id)

    def cancel_picked(self, pick: int) -> None:
        request_id = list(self.lives)[pick % len(self.lives)]
        assert self.scheduler.cancel(request_id)
        self.bury(request_id)
        assert not self.scheduler.cancel(request_id)

    def bury(self, request_id: str) -> None:
        request = self.lives.pop(request_id).request
        assert request.status is RequestStatus.FINISHED
        assert request.table.blocks == []


def test_invariants_hold_after_every_step():
    for name in ENOUGH:
        setattr(SchedulerMachine, f"num_{name}", 0)
    # How much a run of examples comes to is chance; whether the invariants hold in it is not.
    # In CI Hypothesis would choose the same examples in each run.
    for _ in range(MOST_RUNS):
        run_state_machine_as_test(
            SchedulerMachine,
            settings=settings(
                max_examples=250,
                stateful_step_count=40,
                deadline=None,
                derandomize=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
        counts = {name: getattr(SchedulerMachine, f"num_{name}") for name in ENOUGH}
        print(counts)
        if all(counts[name] >= number for name, number in ENOUGH.items()):
            return
    raise AssertionError(f"{MOST_RUNS} runs came to {counts}, wanted are {ENOUGH}")

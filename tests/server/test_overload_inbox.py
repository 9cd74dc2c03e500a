"""Outputs that nobody takes are joined, one for each choice, and nothing of them is lost."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.errors import RequestFailedError
from octavo.engine.output_inbox import OutputInbox
from octavo.engine.outputs import RequestOutput, TokenLogprob
from octavo.engine.request_stream import RequestStream


def output(
    index: int, number: int, *, last: bool = False, logprobs: bool = False, first: bool = False
) -> RequestOutput:
    judged = TokenLogprob(number, -0.5, f"<{number}>", b"", ())
    return RequestOutput(
        index=index,
        text=f"<{number}>",
        token_ids=(number,),
        logprobs=(judged,) if logprobs else None,
        finish_reason="length" if last else None,
        stop_reason=None,
        num_prompt_tokens=3,
        num_cached_tokens=0,
        num_output_tokens=number + 1,
        prompt_logprobs=(None,) if first else None,
    )


def test_an_output_that_is_taken_at_once_stays_as_it_is() -> None:
    async def run() -> None:
        inbox = OutputInbox()
        one = output(0, 0)
        inbox.put_nowait(one)
        assert await inbox.get() is one
        assert len(inbox) == 0

    asyncio.run(run())


def test_twenty_thousand_outputs_that_nobody_takes_are_one_for_each_choice() -> None:
    async def run() -> None:
        inbox = OutputInbox()
        for number in range(10_000):
            for index in (0, 1):
                last = number == 9_999
                inbox.put_nowait(output(index, number, last=last, logprobs=True, first=not number))
                assert len(inbox) <= 2
        joined = await inbox.get()
        assert isinstance(joined, RequestOutput)
        assert joined.token_ids == tuple(range(10_000))
        assert joined.text == "".join(f"<{number}>" for number in range(10_000))
        assert joined.logprobs is not None
        assert [one.token_id for one in joined.logprobs] == [*range(10_000)]
        assert joined.prompt_logprobs == (None,)  # those came with the first one
        assert (joined.finish_reason, joined.num_output_tokens) == ("length", 10_000)
        assert len(inbox) == 1

    asyncio.run(run())


@given(
    st.lists(st.one_of(st.integers(0, 2), st.just("take")), max_size=60),
)
def test_whenever_it_is_read_each_choice_is_whole_and_in_order(steps: list[int | str]) -> None:
    async def run() -> None:
        inbox = OutputInbox()
        put: dict[int, list[int]] = {0: [], 1: [], 2: []}
        got: dict[int, list[int]] = {0: [], 1: [], 2: []}

        async def take() -> None:
            item = await inbox.get()
            assert isinstance(item, RequestOutput)
            got[item.index].extend(item.token_ids)
            assert item.num_output_tokens == len(got[item.index])

        for step in steps:
            if isinstance(step, int):
                inbox.put_nowait(output(step, len(put[step])))
                put[step].append(len(put[step]))
            elif len(inbox):
                await take()
        while len(inbox):
            await take()
        assert got == put

    asyncio.run(run())


def test_an_error_comes_after_what_was_there_before_it() -> None:
    async def run() -> None:
        inbox = OutputInbox()
        closed: list[bool] = []
        stream = RequestStream(inbox, 1, lambda: closed.append(True))
        inbox.put_nowait(output(0, 0))
        inbox.put_nowait(output(0, 1))
        inbox.put_nowait(RequestFailedError("the first"))
        inbox.put_nowait(RequestFailedError("the second"))
        assert (await stream.__anext__()).token_ids == (0, 1)
        with pytest.raises(RequestFailedError, match="the first"):
            await stream.__anext__()
        assert closed == [True]

    asyncio.run(run())


def test_a_reader_that_waits_is_woken() -> None:
    async def run() -> None:
        inbox = OutputInbox()
        reader = asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        assert not reader.done()
        one = output(0, 0)
        inbox.put_nowait(one)
        assert await asyncio.wait_for(reader, 10) is one

    asyncio.run(run())

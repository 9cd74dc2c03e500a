import asyncio
import re
from itertools import pairwise

import pytest

from octavo.bench import (
    BenchError,
    Endpoint,
    Limit,
    MultiTurn,
    RandomPrompts,
    run_closed_loop,
    run_open_loop,
    warm_up,
)
from octavo.bench.load import MAX_SUCCESSIVE_FAILURES

PROMPTS = RandomPrompts(input_len=4, output_len=3)


@pytest.fixture
def run(scripted):
    """Run a measurement against a scripted server: (result, what the server saw)."""

    def measure(script, start, metrics=None, **options):
        async def both():
            async with scripted(script, metrics) as server:
                return await start(Endpoint(server.url, "m", **options)), server

        return asyncio.run(both())

    return measure


@pytest.fixture
def closed_loop(run):
    def measure(script, *, workload=PROMPTS, concurrency=1, num=1, metrics=None, **options):
        def start(endpoint):
            limit = Limit(num_requests=num)
            return run_closed_loop(endpoint, workload, concurrency=concurrency, limit=limit)

        return run(script, start, metrics, **options)

    return measure


@pytest.fixture
def script(reply, stream):
    async def answer(body):
        return reply(stream([" one", " two", " three"]))

    return answer


def test_a_request_is_recorded(closed_loop, script) -> None:
    result, server = closed_loop(script, num=2)
    record = result.records[0]
    assert record.ok and record.text == " one two three" and record.finish_reason == "length"
    assert (record.prompt_tokens, record.output_tokens, record.cached_tokens) == (7, 3, 2)
    assert len(record.chunk_s) == 3 and len(record.itl_s) == 2
    times = [record.sent_s, *record.chunk_s, record.end_s, result.duration_s]
    assert all(a <= b for a, b in pairwise(times)) and times[0] >= 0
    assert server.num_connections == 2  # one for both requests, one for /metrics


def test_what_is_sent(closed_loop, script) -> None:
    _, server = closed_loop(script, api_key="k", extra_body={"top_k": 5})
    [body] = server.bodies
    assert len(body.pop("prompt").split()) == 4
    assert body == {
        "path": "/v1/completions",
        "model": "m",
        "max_tokens": 3,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        "top_k": 5,
    }
    assert server.headers[0]["authorization"] == "bearer k"


def test_ignore_eos_is_not_sent_when_it_is_off(closed_loop, script) -> None:
    _, server = closed_loop(script, ignore_eos=False)
    assert "ignore_eos" not in server.bodies[0]


def test_chat_conversations_grow_by_their_answers(closed_loop, reply, stream) -> None:
    async def answer(body):
        return reply(stream([f"answer {len(body['messages'])}"], api="chat"))

    workload = MultiTurn(turns=3, input_len=2, output_len=5)
    result, server = closed_loop(answer, workload=workload, num=6, api="chat")
    roles = [[message["role"] for message in body["messages"]] for body in server.bodies]
    user, assistant = "user", "assistant"
    whole = [[user], [user, assistant, user], [user, assistant, user, assistant, user]]
    assert roles == [*whole, *whole]
    assert server.bodies[2]["messages"][:3] == server.bodies[1]["messages"]
    assert server.bodies[2]["messages"][3] == {"role": "assistant", "content": "answer 3"}
    assert [record.turn for record in result.records] == [0, 1, 2, 0, 1, 2]
    assert server.bodies[0]["path"] == "/v1/chat/completions"


def test_completions_of_several_turns_extend_one_transcript(closed_loop, script) -> None:
    workload = MultiTurn(turns=2, input_len=2, output_len=5)
    _, server = closed_loop(script, workload=workload, num=2)
    first, second = (body["prompt"] for body in server.bodies)
    assert first.startswith("User: ") and first.endswith("\nAssistant:")
    assert second.startswith(first + "  one two three\nUser: ")


def test_streams_cut_at_any_byte_are_read(closed_loop, reply, stream) -> None:
    whole = b"".join(stream([" é", " 日本"]))

    async def answer(body):
        return reply([whole[n : n + 1] for n in range(len(whole))])

    result, _ = closed_loop(answer)
    assert result.records[0].text == " é 日本" and len(result.records[0].chunk_s) == 2


def test_without_usage_chunks_are_counted(closed_loop, reply, stream) -> None:
    async def answer(body):
        return reply(stream(["a", "b"], usage=False))

    record = closed_loop(answer)[0].records[0]
    assert (record.output_tokens, record.prompt_tokens, record.has_usage) == (2, 0, False)


def test_a_connection_that_the_server_dropped_between_requests_costs_none(
    closed_loop, reply, stream
) -> None:
    async def answer(body):
        return reply(stream(["a", "b"]), then_close=True)

    records = closed_loop(answer, num=4)[0].records
    assert [record.error for record in records] == [None] * 4


def test_failures_are_recorded_with_what_the_server_said(closed_loop, reply, stream) -> None:
    whole = stream(["a", "b"])
    replies = [
        (reply([b'{"error": {"message": "too long"}}'], status=400), "HTTP 400: too long"),
        (reply([b"<html>"], status=502), "HTTP 502: <html>"),
        (reply(whole[:1], drop=True), "RemoteProtocolError: .*before the answer's end"),
        (reply(whole[:1]), "ended without a finish reason"),
        (reply([*whole[:1], b'data: {"error": {"message": "died"}}\n\n']), "stream: died"),
        (reply(whole), None),
    ]
    answers = iter(replies)

    async def answer(body):
        return next(answers)[0]

    result, _ = closed_loop(answer, num=len(replies))
    for record, (_, error) in zip(result.records, replies, strict=True):
        assert record.ok if error is None else re.search(error, record.error), record.error


def test_silence_ends_a_request(closed_loop, reply, stream) -> None:
    async def answer(body):
        return reply(stream(["a", "b"])[:1], hang=True)

    [record] = closed_loop(answer, timeout_s=0.05)[0].records
    assert record.error == "ReadTimeout: nothing came for 0.05 s"
    assert len(record.chunk_s) == 1


def test_a_refused_connection_is_an_error_of_the_request() -> None:
    endpoint = Endpoint("http://127.0.0.1:1", "m")
    limit = Limit(num_requests=1)
    run = asyncio.run(run_closed_loop(endpoint, PROMPTS, concurrency=1, limit=limit))
    assert run.records[0].error is not None and "ConnectError" in run.records[0].error


def test_a_dead_server_ends_the_run() -> None:
    endpoint = Endpoint("http://127.0.0.1:1", "m")
    limit = Limit(duration_s=3600)
    run = asyncio.run(run_closed_loop(endpoint, PROMPTS, concurrency=2, limit=limit))
    assert MAX_SUCCESSIVE_FAILURES <= len(run.records) <= MAX_SUCCESSIVE_FAILURES + 1
    assert run.stopped_early == f"{MAX_SUCCESSIVE_FAILURES} requests in a row failed"


def test_a_closed_loop_keeps_just_so_many_open(closed_loop, reply, stream) -> None:
    are_three = asyncio.Event()
    seen = []

    async def answer(body):
        seen.append(body)
        if len(seen) == 3:
            are_three.set()
        await asyncio.wait_for(are_three.wait(), 30)  # fails unless three are open together
        return reply(stream(["a"]))

    result, server = closed_loop(answer, concurrency=3, num=11)
    assert server.most_open == 3
    assert len(result.records) == len(server.bodies) == 11
    assert all(record.ok for record in result.records)


def test_an_open_loop_sends_while_nothing_is_answered(run, reply, stream) -> None:
    are_all = asyncio.Event()
    seen = []

    async def answer(body):
        seen.append(body)
        if len(seen) == 6:
            are_all.set()
        await asyncio.wait_for(are_all.wait(), 30)
        return reply(stream(["a"]))

    limit = Limit(num_requests=6)
    result, server = run(
        answer, lambda to: run_open_loop(to, PROMPTS, request_rate=200.0, limit=limit)
    )
    assert server.most_open == 6
    assert all(record.ok and record.sent_s >= record.due_s for record in result.records)
    due = [record.due_s for record in result.records]
    assert due[0] == 0.0 and due == sorted(due) and len(set(due)) == 6


def test_later_turns_have_their_place_in_the_limit(run, script) -> None:
    workload = MultiTurn(turns=3, input_len=2, output_len=5)
    limit = Limit(num_requests=5)
    result, _ = run(
        script, lambda to: run_open_loop(to, workload, request_rate=float("inf"), limit=limit)
    )
    assert sorted(record.turn for record in result.records) == [0, 0, 1, 1, 2]


def test_a_failed_conversation_gives_its_later_turns_back(run, reply) -> None:
    async def fail(body):
        return reply([b"no"], status=500)

    workload = MultiTurn(turns=3, input_len=2, output_len=5)
    limit = Limit(num_requests=7)
    result, _ = run(fail, lambda to: run_closed_loop(to, workload, concurrency=2, limit=limit))
    assert len(result.records) == 7


def test_duration_ends_sending_but_not_reading(run, reply, stream) -> None:
    async def answer(body):
        return reply(stream(["a"]))

    limit = Limit(duration_s=0.2)
    result, _ = run(answer, lambda to: run_closed_loop(to, PROMPTS, concurrency=2, limit=limit))
    assert result.records and all(record.ok for record in result.records)
    assert max(record.sent_s for record in result.records) < 0.2


def test_gauges_are_sampled_while_it_runs(closed_loop, script) -> None:
    page = 'octavo_kv_cache_usage_perc{engine="0"} 0.25\noctavo_num_requests_running 2\n'
    is_asked = asyncio.Event()

    def metrics():
        is_asked.set()
        return page

    async def answer(body):
        await asyncio.wait_for(is_asked.wait(), timeout=10)
        return await script(body)

    result, _ = closed_loop(answer, num=4, metrics=metrics)
    assert (result.gauges[0].kv_usage, result.gauges[0].num_running) == (0.25, 2.0)


def test_progress_ends_with_everything_done(run, script) -> None:
    told = []
    limit = Limit(num_requests=3)
    run(
        script,
        lambda to: run_closed_loop(
            to, PROMPTS, concurrency=1, limit=limit, on_progress=told.append
        ),
    )
    assert (told[-1].num_done, told[-1].num_failed, told[-1].num_open) == (3, 0, 0)
    assert told[-1].num_chunks == 9


def test_warm_up_has_its_own_prompts_and_tells_of_a_failure(run, script, reply) -> None:
    _, server = run(script, lambda to: warm_up(to, PROMPTS, 2))
    warm = {body["prompt"] for body in server.bodies}
    measured = PROMPTS.conversations(0)
    assert len(warm) == 2 and not warm & {next(measured).turns[0].text for _ in range(50)}

    async def fail(body):
        return reply([b'{"error": {"message": "no such model"}}'], status=404)

    with pytest.raises(BenchError, match="no such model"):
        run(fail, lambda to: warm_up(to, PROMPTS, 1))


def test_limits_must_be_given_and_positive() -> None:
    for values in ({}, {"num_requests": 0}, {"duration_s": 0.0}):
        with pytest.raises(BenchError):
            Limit(**values)

"""`octavo serve` as a whole: many streams at once, the engine's death, starting and stopping."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from octavo import LLM, SamplingParams

from ..conftest import StartServer


async def stream_text(client: httpx.AsyncClient, prompt: str, max_tokens: int) -> str:
    body = {
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
    }
    text = ""
    async with client.stream("POST", "/v1/completions", json=body) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                text += json.loads(line[6:])["choices"][0]["text"]
    return text


def test_thirty_two_streams_at_once_say_what_each_says_alone(server, smollm2_gguf: Path) -> None:
    prompts = [f"Here are {number} facts about the number {number}:" for number in range(32)]

    async def all_at_once() -> list[str]:
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
            return await asyncio.gather(*(stream_text(client, p, 24) for p in prompts))

    served = asyncio.run(all_at_once())
    llm = LLM(str(smollm2_gguf), dtype="float32", device="cpu", kv_cache_memory="256MiB")
    params = SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True)
    alone = [llm.generate(p, params, use_progress_bar=False)[0][0].text for p in prompts]
    assert served == alone


def test_a_tight_cache_preempts_and_still_finishes_every_stream(
    start_server: StartServer, server
) -> None:
    prompts = [f"Letter number {number}. Dear reader," for number in range(8)]

    async def run(url: str) -> list[str]:
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            return await asyncio.gather(*(stream_text(client, p, 60) for p in prompts))

    flags = ("--dtype", "float32", "--num-blocks", "20", "--max-model-len", "300")
    with start_server(*flags) as tight:
        texts = asyncio.run(run(tight.url))
        assert tight.gauge("octavo_num_preemptions_total") > 0
        tight.wait_idle()
        assert "preempted" in tight.log_path.read_text()
    assert texts == asyncio.run(run(server.url))


def test_a_full_queue_answers_503_at_once(start_server: StartServer) -> None:
    flags = ("--max-num-seqs", "1", "--max-queued-requests", "1", "--dtype", "float32")

    async def flood(url: str) -> tuple[list[httpx.Response], list[httpx.Response]]:
        """The answers to one that runs and one that waits, and to those that come then."""
        body = {"prompt": "Hello", "max_tokens": 200, "temperature": 0, "ignore_eos": True}
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:

            async def ask() -> httpx.Response:
                return await client.post("/v1/completions", json=body)

            first = [asyncio.create_task(ask()) for _ in range(2)]
            while (await client.get("/load")).json()["server_load"] < 2:
                await asyncio.sleep(0.02)
            late = await asyncio.gather(*(ask() for _ in range(4)))
            return await asyncio.gather(*first), late

    with start_server(*flags) as small:
        first, late = asyncio.run(flood(small.url))
        assert [answer.status_code for answer in (*first, *late)] == [200] * 2 + [503] * 4
        for answer in late:
            assert int(answer.headers["retry-after"]) >= 1
            assert "queue is full" in answer.json()["error"]["message"]
        small.wait_idle()


def test_sigterm_ends_both_processes_with_code_0(start_server: StartServer) -> None:
    with start_server("--dtype", "float32") as server:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        (engine,) = map(int, children.read_text().split())
        assert server.stop() == 0
        assert not Path(f"/proc/{engine}").exists()


def test_an_engine_that_still_loads_does_not_outlive_its_front_end(
    smollm2_gguf: Path, wait_until: Callable[..., None]
) -> None:
    command = [sys.executable, "-m", "octavo", "serve", str(smollm2_gguf), "--port", "0"]
    front_end = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{front_end.pid}/task/{front_end.pid}/children")
    try:
        wait_until(lambda: bool(children.read_text().split()), 30)
        (engine,) = map(int, children.read_text().split())
    finally:
        front_end.kill()
        front_end.wait()
    wait_until(lambda: is_gone(engine), 60)


def is_gone(pid: int) -> bool:
    """Whether the process has ended; where nobody reaps orphans, a zombie has."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True
    return "State:\tZ" in status


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--max-model-len", "100000"), "longer than the model's context of 8192"),
        (("--num-blocks", "4", "--max-model-len", "100"), "use --max-model-len 48"),
        (("/does/not/exist.gguf",), "exist.gguf"),
        (("--port", "99999"), "--port"),
        (("--kv-cache-memory", "lots"), "--kv-cache-memory"),
    ],
)
def test_a_start_that_cannot_work_says_why_in_one_line(
    flags: tuple[str, ...], message: str
) -> None:
    command = [sys.executable, "-m", "octavo", "serve", *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr

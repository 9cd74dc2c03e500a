"""Long requests that want many times the KV cache: they are preempted, and all come to an end."""

from typing import Any

import pytest

from ..conftest import StartServer
from .drill_result import DrillResult
from .engine_faults import Streams

pytestmark = pytest.mark.slow

BLOCK_SIZE = 16
MAX_MODEL_LEN = 1024


def bodies_of(requests: int, seed: int, max_tokens: int) -> list[dict[str, Any]]:
    """Requests that grow long; every fourth has a long prompt that others share."""
    shared = "Many come with the same words. " * 8
    return [
        {
            "prompt": (shared if i % 4 == 0 else "") + f"{seed}: request {i}",
            "max_tokens": max_tokens + i,
            "ignore_eos": True,
            "seed": seed + i,
            "temperature": 0.9,
        }
        for i in range(requests)
    ]


def drill(requests: int, max_tokens: int, seed: int, start_server: StartServer) -> DrillResult:
    """The same requests with a cache for a few of them, and with one for all."""
    flags = ("--deterministic", "--max-model-len", str(MAX_MODEL_LEN))
    roomy = requests * MAX_MODEL_LEN // BLOCK_SIZE + 1
    with start_server(*flags, "--num-blocks", str(roomy)) as server:
        quiet = Streams(server.url, bodies_of(requests, seed, max_tokens))
        quiet.run()
    small = MAX_MODEL_LEN // BLOCK_SIZE * 2 + 1
    with start_server(*flags, "--num-blocks", str(small)) as server:
        crowded = Streams(server.url, bodies_of(requests, seed, max_tokens))
        crowded.run()
        server.wait_idle()
        preemptions = int(server.gauge("octavo_num_preemptions_total"))
        blocks = int(server.gauge("octavo_kv_blocks_used"))
    lost = [i for i in range(requests) if crowded.texts[i] != quiet.texts[i]]
    needed = requests * max_tokens // BLOCK_SIZE
    return DrillResult(
        name="KV cache exhausted by long requests",
        tried=requests,
        survived=requests - len(lost),
        requests_lost=len(lost),
        blocks_leaked=blocks,
        seeds=(seed,) if lost else (),
        note=f"{needed} blocks wanted of {small - 1}, {preemptions} preemptions; texts equal to "
        "those with room for all",
    )


def test_all_come_to_an_end(start_tiny: StartServer) -> None:
    result = drill(24, 300, 3, start_tiny)
    assert result.is_passed, result
    assert " 0 preemptions" not in result.note

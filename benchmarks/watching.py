"""What the dashboard costs: 100,000 blocks, 64 streams, somebody watching or nobody.

    python -m benchmarks.watching [--windows 6] [--seconds 10] [--json FILE]

A server with a small random model serves 64 streams without end. Windows with and without a watcher
alternate; in each the CPU time of both server processes per generated token is taken. A third
kind of window has a headless Chromium with the page open, which tells how long its frames took.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec

from benchmarks.machine import describe_machine
from octavo.bench.startup import free_port
from octavo.engine.live_view import LiveView
from octavo.engine.messages import GetFrame
from octavo.paged_cache import BlockPool
from octavo.scheduler import Request, Scheduler, StopRule

NUM_STREAMS = 64
MAX_TOKENS = 1500
TICKS = os.sysconf("SC_CLK_TCK")
CLOSE_TIMEOUT_S = 30


@dataclass(frozen=True)
class Window:
    """A stretch of serving. CPU in milliseconds per thousand tokens, of both processes."""

    kind: str
    seconds: float
    tokens: int
    front_end_ms: float
    engine_ms: float

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds


def save_model(folder: Path) -> None:
    """A random Llama of 11 million parameters with one token a byte; a block of it is 24 KiB."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    torch.manual_seed(20)
    config = transformers.LlamaConfig(
        vocab_size=256,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=1,
        max_position_embeddings=4096,
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))


class Server:
    """`octavo serve` with the model in `folder`."""

    def __init__(self, folder: Path, num_blocks: int) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "octavo", "serve", str(folder), "--port", str(port)]
        command += ["--num-blocks", str(num_blocks + 1), "--max-num-seqs", str(NUM_STREAMS)]
        command += ["--max-model-len", "4096", "--log-level", "warning"]
        self._process = subprocess.Popen(command)

    async def wait_ready(self, client: httpx.AsyncClient) -> None:
        while True:
            assert self._process.poll() is None, "octavo serve ended"
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)

    def cpu_seconds(self) -> tuple[float, float]:
        """Of the front end and of the engine, since they started."""
        front_end = self._process.pid
        children = Path(f"/proc/{front_end}/task/{front_end}/children").read_text().split()
        return _cpu_seconds(front_end), sum(_cpu_seconds(int(child)) for child in children)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(CLOSE_TIMEOUT_S)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Load:
    """Streams without end; counts the tokens that come."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.num_tokens = 0

    async def run(self, number: int) -> None:
        for turn in range(10**9):
            body = {
                "prompt": f"Stream {number} in turn {turn}: " + "the same words again. " * 8,
                "max_tokens": MAX_TOKENS + 7 * number,  # so that they do not end together
                "ignore_eos": True,
                "stream": True,
                "return_token_ids": True,
            }
            async with self._client.stream("POST", "/v1/completions", json=body) as answer:
                async for chunk in answer.aiter_raw():
                    self.num_tokens += chunk.count(b"data: {")


async def measure(server: Server, load: Load, kind: str, seconds: float) -> Window:
    """What a window of serving costs."""
    tokens, (front_end, engine), began = load.num_tokens, server.cpu_seconds(), time.monotonic()
    await asyncio.sleep(seconds)
    tokens = load.num_tokens - tokens
    spent, (front_end_now, engine_now) = time.monotonic() - began, server.cpu_seconds()
    per_thousand = 1e6 / tokens
    return Window(
        kind,
        round(spent, 3),
        tokens,
        round((front_end_now - front_end) * per_thousand, 1),
        round((engine_now - engine) * per_thousand, 1),
    )


@asynccontextmanager
async def watcher(client: httpx.AsyncClient) -> AsyncIterator[dict[str, int]]:
    """Somebody who reads the stream and does nothing with it."""
    read = {"bytes": 0, "frames": 0}

    async def look() -> None:
        async with client.stream("GET", "/dashboard/events") as answer:
            async for chunk in answer.aiter_raw():
                read["bytes"] += len(chunk)
                read["frames"] += chunk.count(b'"type":"frame"')

    task = asyncio.create_task(look())
    try:
        yield read
    finally:
        task.cancel()


async def frames_in_chromium(url: str, seconds: float) -> dict[str, float]:
    """Durations of the map's drawing in a headless Chromium, milliseconds."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = await browser.new_page(viewport={"width": 1600, "height": 1000})
        await page.goto(url + "/dashboard")
        await asyncio.sleep(3.0)  # the first frames tell every cell, and compile
        cpu, began = chromium_cpu_seconds(), time.monotonic()
        await asyncio.sleep(seconds)
        spent = time.monotonic() - began
        cpu = {kind: now - cpu[kind] for kind, now in chromium_cpu_seconds().items()}
        times = await page.evaluate("[...document.querySelector('block-map').frameTimes]")
        await browser.close()
    times.sort()
    return {
        **{f"{kind}_percent_of_a_core": round(100 * cpu[kind] / spent, 1) for kind in cpu},
        "frames": len(times),
        "median_ms": round(median(times), 2),
        "p95_ms": round(times[int(len(times) * 0.95)], 2),
        "max_ms": round(times[-1], 2),
    }


def chromium_cpu_seconds() -> dict[str, float]:
    """Of the processes that lay pages out and that paint (in software, where there is no GPU)."""
    seconds = {"renderer": 0.0, "gpu-process": 0.0}
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes()
            for kind in seconds:
                if b"chromium" in words and f"--type={kind}".encode() in words:
                    seconds[kind] += _cpu_seconds(int(folder.name))
        except (OSError, ValueError):
            continue  # no process, or one that is gone
    return seconds


def frame_cost(num_blocks: int) -> dict[str, float]:
    """Milliseconds of the engine's thread for a frame, with so many blocks and 64 requests."""
    pool = BlockPool(num_blocks + 1)
    scheduler = Scheduler(
        pool, 16, max_num_batched_tokens=4096, max_num_seqs=NUM_STREAMS, max_model_len=4096
    )
    lives = {}
    for number in range(NUM_STREAMS):
        name = f"cmpl-{number}"
        rule = StopRule(max_tokens=3000, max_total_tokens=4096)
        scheduler.add(Request(name, range(1000 * number, 1000 * number + 40), rule))
        lives[name] = SimpleNamespace(queued_at=1.0, scheduled_at=1.0, first_token_at=1.0)
    view = LiveView(pool, scheduler, 16, lives, lambda: ())
    encode = msgspec.msgpack.Encoder().encode
    since, costs = 0, []
    for _ in range(100):
        for _ in range(5):  # steps between two frames
            batch = scheduler.schedule()
            scheduler.update(batch, {item.request_id: 7 for item in batch.scheduled})
        began = time.thread_time()
        frame = view.frame(GetFrame(since, 1))
        encode(frame)
        costs.append(1e3 * (time.thread_time() - began))
        since = frame.version
    return {"first_ms": round(costs[0], 2), "median_ms": round(median(costs[1:]), 3)}


async def run(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder))
        server = Server(Path(folder), options.blocks)
        limits = httpx.Limits(max_connections=None)
        try:
            async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
                await server.wait_ready(client)
                load = Load(client)
                tasks = [asyncio.create_task(load.run(i)) for i in range(NUM_STREAMS)]
                await asyncio.sleep(options.seconds)  # until all run
                windows, read, watched_s = [], {"bytes": 0, "frames": 0}, 0.0
                for _ in range(options.windows):
                    windows.append(await measure(server, load, "nobody", options.seconds))
                    async with watcher(client) as seen:
                        await asyncio.sleep(1.0)  # the first frame tells every cell
                        before = dict(seen)
                        windows.append(await measure(server, load, "watched", options.seconds))
                        watched_s += windows[-1].seconds
                        read = {key: read[key] + seen[key] - before[key] for key in read}
                    await asyncio.sleep(6.0)  # the engine watches on for a while
                drawing = await frames_in_chromium(server.url, options.seconds)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            server.stop()
    return {
        "machine": asdict(describe_machine()),
        "blocks": options.blocks,
        "streams": NUM_STREAMS,
        "windows": [asdict(window) for window in windows],
        "summary": summary(windows),
        "stream": {
            "frames_per_s": round(read["frames"] / watched_s, 2),
            "bytes_per_s": round(read["bytes"] / watched_s),
        },
        "chromium": drawing,
        "engine_frame": frame_cost(options.blocks),
    }


def summary(windows: list[Window]) -> dict[str, float]:
    """Medians, and what watching adds in per cent of a core."""
    by_kind = {
        kind: [window for window in windows if window.kind == kind]
        for kind in ("nobody", "watched")
    }
    cost = {
        kind: {
            part: median(getattr(window, part) for window in ones)
            for part in ("front_end_ms", "engine_ms")
        }
        for kind, ones in by_kind.items()
    }
    rate = {kind: median(window.tokens_per_s for window in ones) for kind, ones in by_kind.items()}
    extra = {
        part: (cost["watched"][part] - cost["nobody"][part]) * rate["watched"] / 1e6 * 100
        for part in ("front_end_ms", "engine_ms")
    }
    return {
        "tokens_per_s_nobody": round(rate["nobody"], 1),
        "tokens_per_s_watched": round(rate["watched"], 1),
        "throughput_ratio": round(rate["watched"] / rate["nobody"], 4),
        "extra_front_end_percent_of_a_core": round(extra["front_end_ms"], 2),
        "extra_engine_percent_of_a_core": round(extra["engine_ms"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=100_000)
    parser.add_argument("--windows", type=int, default=6, help="of each kind")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a window")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    result = asyncio.run(run(options))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    for part in ("summary", "stream", "chromium", "engine_frame"):
        print(part, json.dumps(result[part]))


if __name__ == "__main__":
    main()

"""The server's own view while it is measured: KV usage and queue lengths from /metrics."""

import asyncio
from time import perf_counter

import httpx

from .endpoint import Endpoint, authorization
from .records import GaugeSample

PREFIXES = ("octavo_", "vllm:")
_KV_USAGE = "kv_cache_usage_perc"
_RUNNING = "num_requests_running"
_WAITING = "num_requests_waiting"


def parse_gauges(text: str, at_s: float) -> GaugeSample | None:
    """The gauges in a Prometheus text page, or None if it has none of them.

    Queue lengths of several engines are added up; of their KV usages the highest counts.
    """
    found: dict[str, list[float]] = {}
    for line in text.splitlines():
        prefix = next((p for p in PREFIXES if line.startswith(p)), None)
        if prefix is None:
            continue
        name, _, value = line.removeprefix(prefix).rpartition(" ")
        name = name.partition("{")[0]
        if name in (_KV_USAGE, _RUNNING, _WAITING):
            found.setdefault(name, []).append(float(value))
    if not found:
        return None
    return GaugeSample(
        at_s=at_s,
        kv_usage=max(found[_KV_USAGE]) if _KV_USAGE in found else None,
        num_running=sum(found[_RUNNING]) if _RUNNING in found else None,
        num_waiting=sum(found[_WAITING]) if _WAITING in found else None,
    )


class GaugeSampler:
    """Asks /metrics every `interval_s` until cancelled, or until it has nothing to tell."""

    def __init__(self, endpoint: Endpoint, epoch: float, interval_s: float = 1.0) -> None:
        self._url = endpoint.root + "/metrics"
        self._headers = authorization(endpoint.api_key)
        self._is_https = endpoint.root.startswith("https:")
        self._epoch = epoch
        self._interval_s = interval_s
        self.samples: list[GaugeSample] = []

    async def sample_forever(self) -> None:
        """Fill `samples`; returns if the first page has no gauge that is understood."""
        async with httpx.AsyncClient(
            headers=self._headers, timeout=10, verify=self._is_https, trust_env=False
        ) as client:
            while True:
                sample = await self._sample(client)
                if sample is not None:
                    self.samples.append(sample)
                elif not self.samples:
                    return
                await asyncio.sleep(self._interval_s)

    async def _sample(self, client: httpx.AsyncClient) -> GaugeSample | None:
        try:
            answer = await client.get(self._url)
        except httpx.HTTPError:  # a busy server may be late; a gap in the plot shows it
            return None
        if answer.status_code != 200:
            return None
        return parse_gauges(answer.text, perf_counter() - self._epoch)

"""The metrics that operators ask for beyond vLLM's: each moves with what it counts."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from octavo.server.metric_catalog import CATALOG

from ..conftest import ServerProcess, StartServer
from .conftest import paused_engine

KEYS = ("sk-one", "sk-two")
NUM_BLOCKS = 24


@pytest.fixture(scope="module")
def measured(start_server: StartServer) -> Iterator:
    """A small server that measures everything."""
    arguments = ("--api-key", ",".join(KEYS), "--admin-key", "sk-admin", "--metrics-by-key")
    sizes = ("--num-blocks", str(NUM_BLOCKS), "--max-num-seqs", "4", "--max-model-len", "256")
    lives = ("--kv-cache-metrics", "--kv-cache-metrics-sample", "1")
    policy = ("--scheduling-policy", "priority", "--max-queued-requests", "6")
    with start_server(*arguments, *sizes, *lives, *policy) as server:
        yield server
        server.wait_idle()


def summed(samples: Mapping[str, float], name: str, **labels: str) -> float:
    """The sum of the samples with this name and these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        value
        for sample, value in samples.items()
        if sample.split("{")[0] == name and all(text in sample for text in wanted)
    )


@pytest.fixture
def counted(measured) -> Callable[..., float]:
    """The same of a scrape that has everything."""
    return lambda name, **labels: summed(measured.full_metrics(), name, **labels)


def auth(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def complete(server, key: str = KEYS[0], **body: object) -> httpx.Response:
    body = {"prompt": "Hello", "max_tokens": 4, "ignore_eos": True, **body}
    return server.post("/v1/completions", json=body, headers=auth(key))


def load(server) -> int:
    """How many choices are open."""
    return server.get("/load", headers=auth(KEYS[0])).json()["server_load"]


def complete_in_a_crowd(server) -> httpx.Response:
    """What comes when as many choices are open as may be."""
    crowd = {"prompt": "Hello", "n": 10, "temperature": 1, "max_tokens": 200, "stream": True}
    with (
        paused_engine(server),
        httpx.stream(
            "POST",
            f"{server.url}/v1/completions",
            json={**crowd, "ignore_eos": True},
            headers=auth(KEYS[0]),
            timeout=60,
        ) as running,
    ):
        assert running.status_code == 200
        assert load(server) == 10
        answer = complete(server)
    server.wait_idle()
    return answer


def test_what_is_exported_is_what_the_catalogue_says(measured) -> None:
    assert complete(measured).status_code == 200
    families = {
        family.name: family for family in text_string_to_metric_families(measured.full_scrape())
    }
    for metric in CATALOG:
        family = families[metric.name if metric.is_bare else f"octavo_{metric.name}"]
        assert (family.type, family.documentation) == (metric.kind, metric.text)
        common = set() if metric.is_bare else {"model_name", "engine"}
        labels = {label for sample in family.samples for label in sample.labels}
        assert labels - {"le"} == common | set(metric.labels), metric.name
    client_library = ("process_", "python_")
    ours = {name for name in families if not name.startswith(client_library)}
    assert ours == {m.name if m.is_bare else f"octavo_{m.name}" for m in CATALOG}


@pytest.mark.parametrize(
    ("reason", "status", "send"),
    [
        ("invalid", 400, lambda s: complete(s, prompt=[-1])),
        ("invalid", 400, lambda s: complete(s, max_tokens="x")),
        ("unauthorized", 401, lambda s: complete(s, "sk-none")),
        ("not_found", 404, lambda s: complete(s, model="gpt-4")),
        ("not_found", 404, lambda s: s.get("/v1/nothing", headers=auth(KEYS[0]))),
        ("too_large", 413, lambda s: complete(s, prompt="x" * (9 * 1024**2))),
        ("invalid", 400, lambda s: complete(s, n=20, temperature=1)),
        ("queue_full", 503, lambda s: complete_in_a_crowd(s)),
    ],
)
def test_a_refusal_counts_by_its_reason(
    reason: str, status: int, send: Callable[..., httpx.Response], measured, counted
) -> None:
    before = {name: counted("octavo_requests_rejected_total", reason=name) for name in REASONS}
    assert send(measured).status_code == status
    after = {name: counted("octavo_requests_rejected_total", reason=name) for name in REASONS}
    assert after == {**before, reason: before[reason] + 1}


REASONS = ("invalid", "unauthorized", "not_found", "too_large", "queue_full", "not_ready")


def test_probes_count_as_no_requests(measured, counted) -> None:
    before = counted("http_requests_total")
    for path in ("/livez", "/readyz", "/health", "/ping", "/version", "/metrics"):
        assert measured.get(path).status_code == 200
    assert counted("http_requests_total") == before


def test_answers_count_by_route_method_and_status(measured, counted) -> None:
    route = {"handler": "/v1/models/{name:path}", "method": "GET"}
    for path, status in (("nobody", "404"), ("SmolLM2-135M-Instruct", "200")):
        before = counted("http_requests_total", **route, status=status)
        measured.get(f"/v1/models/{path}", headers=auth(KEYS[0]))
        assert counted("http_requests_total", **route, status=status) == before + 1


def test_tokens_count_by_key_and_prompts_once(measured, counted) -> None:
    key = {"key": hashlib.sha256(KEYS[1].encode()).hexdigest()[:12]}
    answer = complete(measured, KEYS[1], n=3, temperature=1, prompt=["Hello", "Hello there"])
    usage = answer.json()["usage"]
    measured.wait_idle()
    assert counted("octavo_requests_by_key_total", **key) == 2
    assert counted("octavo_prompt_tokens_by_key_total", **key) == usage["prompt_tokens"]
    assert counted("octavo_generation_tokens_by_key_total", **key) == 24
    assert KEYS[1] not in measured.get("/metrics").text


@pytest.mark.parametrize("reason", ["client_gone", "operator"])
def test_an_aborted_request_counts_by_its_reason(
    reason: str, measured, counted, wait_until
) -> None:
    body = {"prompt": "Hello", "max_tokens": 250, "ignore_eos": True, "stream": True}

    def num_aborted() -> float:
        return summed(measured.metrics(), "octavo_requests_aborted_total", reason=reason)

    def is_aborted() -> bool:
        """False if it was over before the engine stood still."""
        before = num_aborted()
        with httpx.stream(
            "POST", measured.url + "/v1/completions", json=body, headers=auth(KEYS[0]), timeout=60
        ) as answer:
            lines = answer.iter_lines()
            next(lines)
            with paused_engine(measured):
                if not load(measured):
                    return False
                if reason == "operator":
                    everything, key = {"all": True}, auth("sk-admin")
                    ended = measured.post("/abort_requests", json=everything, headers=key)
                    assert ended.json() == {"aborted": 1}
                    assert [line for line in lines if '"finish_reason":"abort"' in line]
                else:
                    answer.close()
                    wait_until(lambda: num_aborted() > before, 30)
        measured.wait_idle()
        assert counted("octavo_requests_aborted_total", reason=reason) == before + 1
        return True

    wait_until(is_aborted, 60)


def test_waiting_requests_count_by_priority(measured, counted, wait_until) -> None:
    long = {"max_tokens": 250, "prompt": "A", "ignore_eos": True}

    def is_seen() -> bool:
        """False if no scrape came while they waited."""
        threads = [
            threading.Thread(
                target=complete, args=(measured,), kwargs={**long, "priority": priority}
            )
            for priority in (*[-1] * 4, 3, 3, 99)
        ]
        with paused_engine(measured):  # until all are there
            for thread in threads:
                thread.start()
            wait_until(lambda: load(measured) == len(threads), 30)
        has_been = False
        while not has_been and load(measured):
            samples = measured.full_metrics()
            name = "octavo_num_requests_waiting_by_priority"
            found = [summed(samples, name, priority=priority) for priority in ("3", "10")]
            has_been = found == [2, 1]
            waiting = summed(samples, "octavo_num_requests_waiting")
            by_reason = summed(samples, "octavo_num_requests_waiting_by_reason")
            assert waiting == by_reason == summed(samples, name)
        for thread in threads:
            thread.join()
        return has_been

    wait_until(is_seen, 120)
    measured.wait_idle()
    assert counted("octavo_num_requests_waiting_by_priority") == 0


def test_block_lives_are_measured_when_content_is_evicted(measured, counted) -> None:
    for number in range(4):  # each fills half of the blocks with content of its own
        prompt = list(range(1000 * (number + 1), 1000 * (number + 1) + 200))
        assert complete(measured, prompt=prompt).status_code == 200
    measured.wait_idle()
    lives = counted("octavo_kv_block_lifetime_seconds_count")
    assert lives == counted("octavo_kv_block_evictions_total") > 0
    idle = counted("octavo_kv_block_idle_before_evict_seconds_sum")
    assert 0 < idle <= counted("octavo_kv_block_lifetime_seconds_sum")


@contextmanager
def hung_engine(server: ServerProcess, max_tokens: int) -> Iterator[Iterator[str]]:
    """The engine stands still after the first line of a stream, whose further lines are given."""
    body = {"prompt": "Hello", "max_tokens": max_tokens, "ignore_eos": True, "stream": True}
    url = server.url + "/v1/completions"
    with httpx.stream("POST", url, json=body, timeout=120) as answer:
        lines = answer.iter_lines()
        next(lines)
        with paused_engine(server):
            yield lines


def test_a_hung_engine_does_not_cost_the_scrape(start_server: StartServer, wait_until) -> None:
    with start_server("--engine-timeout", "600") as server:
        with hung_engine(server, max_tokens=8000):
            wait_until(lambda: server.gauge("octavo_last_step_age_seconds") > 1.0, 20)
            text = server.get("/metrics").text
        assert "octavo_last_step_age_seconds{" in text
        assert "octavo_generation_tokens_total{" in text
        assert "octavo_kv_blocks_used{" not in text  # only the engine knows
        server.wait_idle()
        assert server.gauge("octavo_engine_restarts_total") == 0


def test_health_tells_of_an_engine_that_hangs_until_it_is_replaced(
    start_server: StartServer, wait_until
) -> None:
    with start_server("--engine-timeout", "10") as server:

        def is_told() -> bool:
            """Or over, and only the counter tells of it."""
            is_healthy = server.get("/health").status_code == 200
            return not is_healthy or server.gauge("octavo_engine_restarts_total") == 1

        with hung_engine(server, max_tokens=1000) as lines:
            wait_until(is_told, 60)
            assert list(lines)[-2] == "data: [DONE]"
        assert server.get("/health").status_code == 200
        assert server.gauge("octavo_engine_restarts_total") == 1

"""A real Prometheus scrapes a real server under load, and is asked all that the dashboards ask."""

import json
import math
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="prometheus (Debian package) is missing"
    ),
]

KEYS = ("key-of-one", "key-of-two")
ADMIN_KEY = "key-of-the-operator"
RATE_INTERVAL = "6s"
NUM_SCRAPES = 6  # from when everything has happened once
DEADLINE_S = 90.0
FLAGS = (
    # So few blocks that eight requests preempt each other and cached blocks are evicted soon.
    *("--num-blocks", "60", "--block-size", "4"),
    *("--max-model-len", "128", "--max-num-seqs", "8"),
    *("--max-queued-requests", "3", "--scheduling-policy", "priority"),
    *("--max-body-bytes", "16384", "--metrics-by-key"),
    *("--kv-cache-metrics", "--kv-cache-metrics-sample", "1.0"),
    *("--api-key", ",".join(KEYS), "--admin-key", ADMIN_KEY),
)
# What has to have happened, so that no expression is empty for want of events.
EVENTS = (
    *("octavo_num_preemptions_total", "octavo_recomputed_tokens_total"),
    *("octavo_kv_block_evictions_total", "octavo_prefix_cache_hits_total"),
    *("octavo_kv_block_reuse_gap_seconds_count", "octavo_kv_block_lifetime_seconds_count"),
    'octavo_requests_rejected_total reason="queue_full"',
    'octavo_requests_rejected_total reason="invalid"',
    'octavo_requests_rejected_total reason="unauthorized"',
    'octavo_requests_rejected_total reason="too_large"',
    'octavo_requests_aborted_total reason="client_gone"',
    'octavo_requests_aborted_total reason="operator"',
)


class Load:
    """Clients that keep a server more than busy, in ways good and bad, until they are stopped."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=120)
        self._stopped = threading.Event()
        self._failures: list[Exception] = []
        works = [self._complete] * 11 + [self._leave, self._answer_in_form, self._err, self._abort]
        self._threads = [
            threading.Thread(target=self._repeat, args=(work, number))
            for number, work in enumerate(works)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._client.close()
        assert not self._failures

    def _repeat(self, work: Callable[[int, int], None], number: int) -> None:
        turn = 0
        try:
            while not self._stopped.wait(0.05 if turn else 0):  # a pace, for answers come at once
                work(number, turn)
                turn += 1
        except Exception as error:
            self._failures.append(error)

    def _body(self, number: int, turn: int, **more: Any) -> dict[str, Any]:
        shared = f"Rule {turn % 5}: the answer to each question is a list of short words."
        return {
            "prompt": f"{shared} Question {turn} of {number}:",
            "max_tokens": 24,
            "ignore_eos": True,
            "priority": (number + turn) % 3,
            **more,
        }

    def _post(self, number: int, path: str, body: Any, **options: Any) -> int:
        headers = {"Authorization": f"Bearer {KEYS[number % 2]}"}
        return self._client.post(path, json=body, headers=headers, **options).status_code

    def _complete(self, number: int, turn: int) -> None:
        n = 2 if turn % 4 == 3 else 1
        status = self._post(number, "/v1/completions", self._body(number, turn, n=n))
        assert status in (200, 503)

    def _leave(self, number: int, turn: int) -> None:
        headers = {"Authorization": f"Bearer {KEYS[0]}"}
        body = self._body(number, turn, stream=True, priority=-1)
        with self._client.stream("POST", "/v1/completions", json=body, headers=headers) as answer:
            next(answer.iter_lines())

    def _answer_in_form(self, number: int, turn: int) -> None:
        schema = {"type": "object", "properties": {f"field{turn}": {"type": "integer"}}}
        status = self._post(
            number,
            "/v1/chat/completions",
            {
                "messages": [{"role": "user", "content": "A small object, please."}],
                "max_tokens": 20,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "small", "schema": schema},
                },
            },
        )
        assert status in (200, 503)

    def _err(self, number: int, turn: int) -> None:
        assert self._client.get("/v1/models").status_code == 401
        assert self._post(number, "/v1/completions", {"prompt": "x", "temperature": -1}) == 400
        assert self._post(number, "/v1/nothing", {}) == 404
        assert self._post(number, "/v1/completions", {"prompt": "x" * 20000}) == 413

    def _abort(self, number: int, turn: int) -> None:
        admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
        body = self._body(number, turn, stream=True, priority=-1)
        with self._client.stream("POST", "/v1/completions", json=body, headers=admin) as answer:
            lines = answer.iter_lines()
            if answer.status_code == 200:
                chunk = json.loads(next(lines).removeprefix("data: "))
                ended = self._client.post(
                    "/abort_requests", json={"request_ids": [chunk["id"]]}, headers=admin
                )
                assert ended.status_code == 200, ended.text
            assert [*lines]


@dataclass
class Monitored:
    """A server that was under load, and the Prometheus that watched."""

    prometheus: httpx.Client
    began: float
    ended: float
    exposition: str

    def ask(self, path: str, **parameters: Any) -> Any:
        """`data` of Prometheus' answer."""
        answer = self.prometheus.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def values(self, expression: str) -> list[float]:
        """All values but NaN that the expression had while there was load."""
        found = self.ask(
            "/api/v1/query_range", query=expression, start=self.began, end=self.ended, step=1
        )
        numbers = [float(value) for series in found["result"] for _, value in series["values"]]
        return [number for number in numbers if not math.isnan(number)]


@contextmanager
def running_prometheus(
    folder: Path, deploy: Path, target: str, wait_until: Callable[..., None]
) -> Iterator[httpx.Client]:
    """Prometheus with the committed configuration, but faster and with this target alone."""
    config = yaml.safe_load((deploy / "prometheus/prometheus.yml").read_text())
    config["global"] = {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    config["rule_files"] = [str(deploy / "prometheus" / name) for name in config["rule_files"]]
    [job] = [job for job in config["scrape_configs"] if job["job_name"] == "octavo"]
    job["static_configs"] = [{"targets": [target]}]
    config["scrape_configs"] = [job]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def address() -> str | None:
        assert process.poll() is None, (folder / "log.txt").read_text()
        found = re.search(r'Listening on" address=(\S+)', (folder / "log.txt").read_text())
        return found[1] if found else None

    try:
        wait_until(lambda: address() is not None, 30)
        with httpx.Client(base_url=f"http://{address()}", timeout=30) as client:
            wait_until(lambda: client.get("/-/ready").status_code == 200, 30)
            yield client
    finally:
        process.terminate()
        process.wait(timeout=30)


def happened(samples: dict[str, float], event: str) -> bool:
    """Whether a sample with the event's name and label is above 0."""
    name, _, label = event.partition(" ")
    return any(
        value > 0 for key, value in samples.items() if key.split("{")[0] == name and label in key
    )


@pytest.fixture(scope="module")
def monitored(
    start_server: Callable[..., Any],
    wait_until: Callable[..., None],
    deploy: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Monitored]:
    folder = tmp_path_factory.mktemp("prometheus")
    with start_server(*FLAGS) as server:
        target = server.url.removeprefix("http://")
        with running_prometheus(folder, deploy, target, wait_until) as prometheus:
            load = Load(server.url)
            began = time.time()
            load.start()
            try:

                def missing() -> list[str]:
                    samples = server.metrics()
                    return [event for event in EVENTS if not happened(samples, event)]

                def scrapes_since(start: float) -> int:  # those that failed are not counted
                    query = f"sum_over_time(up[{time.time() - start:.0f}s])"
                    answer = prometheus.get("/api/v1/query", params={"query": query}).json()
                    result = answer["data"]["result"]
                    return int(result[0]["value"][1]) if result else 0

                wait_until(lambda: not missing(), DEADLINE_S, lambda: f"not yet: {missing()}")
                happened_at = time.time() - 1
                wait_until(lambda: scrapes_since(happened_at) >= NUM_SCRAPES, DEADLINE_S)
                exposition = ""

                def is_complete() -> bool:  # an engine that is late is left out of an answer
                    nonlocal exposition
                    exposition = server.get("/metrics").text
                    return "octavo_kv_blocks_used" in exposition

                wait_until(is_complete, DEADLINE_S)
            finally:
                load.stop()
            yield Monitored(prometheus, began, time.time(), exposition)


@pytest.fixture(scope="module")
def variables(monitored: Monitored, dashboards, interpolate) -> dict[str, list[str]]:
    """What Grafana finds for the dashboards' variables, in their order."""
    [definitions] = {
        tuple(dashboard.variable(name)["definition"] for name in ("model", "instance"))
        for dashboard in dashboards
    }
    found: dict[str, list[str]] = {}
    for name, definition in zip(("model", "instance"), definitions, strict=True):
        selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", definition).groups()
        selector = interpolate(selector, found, RATE_INTERVAL)
        found[name] = monitored.ask(f"/api/v1/label/{label}/values", **{"match[]": selector})
    return found


def test_the_variables_find_the_server_and_its_model(monitored, variables) -> None:
    assert variables["model"] == ["SmolLM2-135M-Instruct"]
    [instance] = variables["instance"]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", instance)


def test_every_expression_of_every_panel_returns_data(
    monitored: Monitored, dashboards, variables, interpolate
) -> None:
    empty = [
        f"{dashboard.name} / {title}: {expression}"
        for dashboard in dashboards
        for title, expression in dashboard.expressions()
        if not monitored.values(interpolate(expression, variables, RATE_INTERVAL))
    ]
    assert not empty, "\n".join(empty)


def test_expressions_still_work_with_several_servers_chosen(
    monitored: Monitored, dashboards, variables, interpolate
) -> None:
    more = {name: [*values, "another.one:1"] for name, values in variables.items()}
    for dashboard in dashboards:
        for _, expression in dashboard.expressions():
            assert monitored.values(interpolate(expression, more, RATE_INTERVAL)), expression


def test_what_is_a_share_lies_between_0_and_1(
    monitored: Monitored, dashboards, variables, interpolate
) -> None:
    checked = 0
    for dashboard in dashboards:
        for panel in dashboard.panels():
            if panel["fieldConfig"]["defaults"]["unit"] == "percentunit":
                for target in panel["targets"]:
                    query = interpolate(target["expr"], variables, RATE_INTERVAL)
                    values = monitored.values(query)
                    assert min(values) >= 0 and max(values) <= 1, panel["title"]
                    checked += 1
    assert checked >= 5


def test_the_committed_rules_are_loaded_and_evaluate_without_error(
    monitored: Monitored, alerts
) -> None:
    def rules() -> list[dict[str, Any]]:
        return [r for group in monitored.ask("/api/v1/rules")["groups"] for r in group["rules"]]

    assert [rule["name"] for rule in rules()] == [alert["alert"] for alert in alerts]
    assert {rule["health"] for rule in rules()} == {"ok"}, rules()


def families(exposition: str) -> dict[str, str]:
    """The exported metrics and their types."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", exposition, re.MULTILINE))


def names_in(expressions: list[str], exported: set[str]) -> set[str]:
    """The metrics that PromQL expressions name: no functions, labels, strings or keywords."""
    found: set[str] = set()
    for expression in expressions:
        bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|on) ?\([^)]*\)", "", expression)
        words = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?![a-zA-Z0-9_:]|\s*\()", bare)
        found |= {word for word in words if "_" in word or word in exported}
    return found


def test_every_metric_named_is_exported_and_every_one_exported_is_shown_or_listed(
    monitored: Monitored, dashboards, alerts, deploy
) -> None:
    types = families(monitored.exposition)
    samples = {
        name + suffix
        for name, kind in types.items()
        for suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }
    on_panels = names_in([e for d in dashboards for _, e in d.expressions()], samples)
    in_alerts = names_in([alert["expr"] for alert in alerts], samples)
    assert len(on_panels) > 50 and len(in_alerts) > 10
    assert on_panels | in_alerts <= samples

    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in on_panels} | on_panels
    text = (deploy / "grafana/not-on-panels.txt").read_text()
    lines = [line.split(maxsplit=1) for line in text.splitlines() if not line.startswith("#")]
    assert all(len(line) == 2 for line in lines), "each name needs a reason"
    assert set(types) - shown == {name for name, _ in lines}

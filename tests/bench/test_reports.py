import json
import re
from html.parser import HTMLParser

import pytest

from octavo.bench import GaugeSample, Load, RequestRecord, Run, summarise
from octavo.bench.report import Report, to_json, to_markdown, to_text
from octavo.bench.report_html import to_html


def run(load: Load, *, gauges: bool = True, error: str | None = None) -> Run:
    records = [
        RequestRecord(
            sent_s=n / 10,
            due_s=n / 10,
            end_s=n / 10 + 0.5,
            chunk_s=(n / 10 + 0.2, n / 10 + 0.5),
            prompt_tokens=9,
            output_tokens=2,
            cached_tokens=None,
            has_usage=True,
            finish_reason="length",
            turn=0,
            text="</script>&",
            error=error if n == 0 else None,
        )
        for n in range(20)
    ]
    samples = [GaugeSample(float(n), 0.1 * n, 2.0, 0.0) for n in range(3)] if gauges else []
    return Run(load, "2026-01-02T03:04:05+00:00", 2.4, tuple(records), tuple(samples))


def report(*runs: Run) -> Report:
    settings = {"model": "m<1>", "base_url": "http://h:1", "seed": 0}
    return Report("Octavo bench", settings, {"octavo": "9"}, runs, [summarise(r) for r in runs])


ONE = report(run(Load(concurrency=4)))
SEVERAL = report(*(run(Load(concurrency=n), error="HTTP 500: <b>") for n in (1, 4, 16)))
RATES = report(*(run(Load(request_rate=r), gauges=False) for r in (2.0, float("inf"))))


def test_the_text_has_the_usual_labels_and_values() -> None:
    lines = dict(re.split(r"\s{2,}", line) for line in to_text(ONE).splitlines()[3:])
    assert lines["Successful requests"] == "20"
    assert lines["Total input tokens"] == "180"
    assert lines["Output token throughput (tok/s)"] == "16.67"
    assert lines["Median TTFT (ms)"] == "200.00"
    assert lines["P99 ITL (ms)"] == "300.00"
    assert "Request goodput (req/s)" not in lines  # no limits were given


def test_errors_are_shown() -> None:
    assert "! concurrency 4: 1 failed: HTTP 500: <b>" in to_text(SEVERAL)
    assert "concurrency 4: 1 failed: HTTP 500: <b>" in to_markdown(SEVERAL)
    assert "HTTP 500: &lt;b&gt;" in to_html(SEVERAL)


def test_markdown_has_one_column_a_run() -> None:
    rows = [line for line in to_markdown(SEVERAL).splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {5}
    assert rows[0].split("|")[2:5] == [" concurrency 1 ", " concurrency 4 ", " concurrency 16 "]


def test_json_has_everything() -> None:
    whole = json.loads(to_json(SEVERAL))
    assert whole["settings"]["model"] == "m<1>" and whole["versions"] == {"octavo": "9"}
    first = whole["runs"][0]
    assert first["load"]["concurrency"] == 1 and first["started_at"].startswith("2026-01-02")
    assert first["summary"]["ttft"]["percentiles_ms"]["50"] == pytest.approx(200)
    assert len(first["requests"]) == 20 and first["requests"][3]["chunk_s"] == [0.5, 0.8]
    assert first["requests"][0]["error"] == "HTTP 500: <b>"
    assert first["gauges"][2]["kv_usage"] == pytest.approx(0.2)
    rates = json.loads(to_json(RATES), parse_constant=pytest.fail)  # no Infinity, no NaN
    assert rates["runs"][1]["load"]["request_rate"] == "inf"


class _Page(HTMLParser):
    VOID = frozenset({"meta", "br", "line", "rect", "circle", "path", "polygon"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("shown", [ONE, SEVERAL, RATES], ids=["one", "several", "rates"])
def test_the_page_needs_nothing_from_outside(shown: Report) -> None:
    text = to_html(shown)
    page = _Page()
    page.feed(text)
    assert page.open == [] and page.links == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert "url(" not in text and "@import" not in text
    assert "m&lt;1&gt;" in text and "prefers-color-scheme:dark" in text


def test_the_page_has_the_charts_of_each_run_and_of_the_sweep() -> None:
    def titles(shown: Report) -> set[str]:
        return set(re.findall(r"<title>([^<]*)</title>", to_html(shown)))

    over_time = {"KV cache usage over time", "Requests in the server over time"}
    assert over_time < titles(ONE) and "Output token throughput" not in titles(ONE)
    assert over_time | {"Output token throughput"} < titles(SEVERAL)
    assert not over_time & titles(RATES)


def test_a_run_in_which_everything_failed_still_has_a_report() -> None:
    record = run(Load(concurrency=1), error="broken").records[0]
    failed = report(Run(Load(concurrency=1), "2026-01-02T03:04:05+00:00", 0.5, (record,)))
    assert "1 failed: broken" in to_text(failed)
    assert "broken" in to_html(failed) and json.loads(to_json(failed))
